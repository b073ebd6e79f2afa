"""Nothing stands in the docs that is neither run nor held against the code."""

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel, ValidationError
from tests.docs.blocks import KINDS, ROOT, RUN, Block, blocks

import cislens
from cislens.cli.app import app
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.regions import RegionRecipe
from cislens.recipes.schema import BenchRecipe, TrainRecipe
from cislens.recipes.sequence import SequenceRecipe
from cislens.recipes.task_recipe import TaskRecipe

BLOCKS = list(blocks())
COMMAND: Any = typer.main.get_command(app)
RECIPES: tuple[type[BaseModel], ...] = (
    TrainRecipe, BenchRecipe, TaskRecipe, DataRecipe, RegionRecipe, SequenceRecipe,
)  # fmt: skip


def of(*kinds: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind in kinds]


def unread(block: Block) -> list[str]:
    """Why no schema takes a block; a piece of a recipe may lack keys, but have none too many."""
    values, reasons = yaml.safe_load(block.text), []
    for kind in RECIPES:
        given = {"model": "space-plus-tiny", **values} if kind is TrainRecipe else values
        if kind is TrainRecipe and "init_from" in values:
            given = values
        try:
            kind.model_validate(given, context={"folder": Path()})
        except ValidationError as error:
            wrong = [each for each in error.errors() if each["type"] != "missing"]
            if wrong:
                reasons.append(f"{kind.__name__}: {wrong[0]['loc']} {wrong[0]['msg']}")
                continue
        return []
    return reasons


def unknown(command: str) -> str | None:
    """A verb or option of a `cislens` command that is not there."""
    words = shlex.split(command.split(" || ")[0], comments=True)
    start = next(
        (i for i, word in enumerate(words) if word in ("cislens", "cislens.cli.app")), None
    )
    if start is None:
        return None
    found = COMMAND
    rest = words[start + 1 :]
    while hasattr(found, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in found.commands:
            return rest[0]
        found, rest = found.commands[rest[0]], rest[1:]
    known = {option for param in found.params for option in [*param.opts, *param.secondary_opts]}
    used = [word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return next((option for option in used if option not in known | {"--help"}), None)


def test_every_block_is_of_a_kind_that_says_what_becomes_of_it() -> None:
    assert [f"{block.where}: {block.kind!r}" for block in BLOCKS if block.kind not in KINDS] == []
    # Most are run: a page that is only shown teaches what may no longer be so.
    assert len(of("bash", "python", "yaml")) > len(of("sh", "py", "text"))


def test_files_that_are_written_are_used() -> None:
    lines = [line for block in of("bash") for line in block.commands()]
    named = [block.name for block in BLOCKS if block.name]
    assert len(named) > 8
    assert [name for name in named if not any(name in line for line in lines)] == []


def test_lines_that_are_run_begin_as_the_runner_expects() -> None:
    lines = [(block.where, line) for block in of("bash") for line in block.commands()]
    assert len(lines) > 60
    assert [each for each in lines if not each[1].startswith(RUN)] == []


@pytest.mark.parametrize("block", of("yaml"), ids=lambda block: block.where)
def test_recipes_are_read_by_the_schema(block: Block) -> None:
    assert unread(block) == []


def test_a_recipe_with_a_wrong_key_is_noticed() -> None:
    wrong = Block(ROOT / "README.md", 1, "yaml", "training: {stepps: 3}\n")
    assert len(unread(wrong)) == len(RECIPES)


def test_verbs_and_options_exist() -> None:
    commands = [(b.where, line) for b in of("bash", "sh") for line in b.commands()]
    assert [(where, wrong) for where, line in commands if (wrong := unknown(line))] == []
    assert unknown("cislens trian r.yaml") == "trian"
    assert unknown("cislens data verify s --jsn") == "--jsn"


def names_of(module: str) -> set[str]:
    """What a module of cislens defines, without importing it, which would take seconds."""
    if module == "cislens":
        return set(cislens.__all__)
    path = ROOT / "src" / module.replace(".", "/")
    tree = ast.parse((path.with_suffix(".py")).read_text())
    return {getattr(node, "name", "") for node in tree.body} | {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_programs_import_what_is_there() -> None:
    imported = [
        (block.where, str(node.module), alias.name)
        for block in of("python", "py")
        for node in ast.walk(ast.parse(block.text, block.where))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("cislens")
        for alias in node.names
    ]
    assert len(imported) > 10
    assert [each for each in imported if each[2] not in names_of(each[1])] == []


def test_json_is_json() -> None:
    for block in of("json"):
        json.loads(block.text)


def test_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text().split("## Symptoms")[0]
    quoted = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    # Texts that go on in the next line are joined, as Python joins them.
    joint = re.compile(r'"\s*\n\s*f?"')
    sources = sorted((ROOT / "src/cislens").rglob("*.py"))
    said = "\n".join(joint.sub("", path.read_text()) for path in sources)
    assert len(quoted) >= 15
    assert [message for message in quoted if message not in said] == []
