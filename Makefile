# `make demo` and `make test` need Debian with python3 (3.11 or newer) and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= cislens-demo
DEMO_ARGS ?=

.PHONY: demo test docs dist lowest lint clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/cislens demo --out $(OUT) $(DEMO_ARGS)

test: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet -e '.[docs]'
	touch $@

# The site, below site/: warnings are errors (--quiet would hide them), and no network is asked.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

# Wheel and source archive below dist/: the same bytes wherever and whenever they are built.
dist: $(VENV)/installed-test
	rm -rf dist
	env -u SOURCE_DATE_EPOCH $(BIN)/python -m build --no-isolation
	cd dist && sha256sum *

lowest:
	.ci/lowest

clean:
	rm -rf $(VENV) build dist site *.egg-info
