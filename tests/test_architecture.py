"""Who may import whom, and what the command line may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cislens

ROOT = Path(cislens.__file__).parent

# Lower layers first. A package imports itself, lower layers and the ground, never its own
# layer's other packages and never a higher one.
LAYERS = [
    {"genome"},
    {"signal", "nn"},
    {"motifs"},
    {"sequence"},
    {"models"},
    {"objectives"},
    {"training", "representations"},
    {"effects"},
    {"evaluation"},
    {"report", "scale"},
    {"cli"},
]
# Modules that anything may import; they import no layer.
GROUND = {
    "engines",
    "errors",
    "extras",
    "files",
    "parquet_pages",
    "prefetch",
    "progress",
    "randomness",
    "untrusted",
    "example",
    "recipes",
}
WITHOUT_TORCH = {"genome", "signal", "motifs", "sequence", "recipes", "example", "cli"}
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def imported_parts(path: Path, top_level_only: bool = False) -> set[str]:
    """First parts of the modules that a file imports, `cislens.` removed."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "cislens":
            names += [f"cislens.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return {name.removeprefix("cislens.").split(".")[0] for name in names}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


def violations(package: str, parts: set[str]) -> set[str]:
    if package in GROUND:
        return parts & set(RANK)
    return {part for part in parts & set(RANK) if part != package and RANK[part] >= RANK[package]}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert package in set(RANK) | GROUND, f"{package} has no place in the layers"
    assert violations(package, imported_parts(path)) == set()


def test_the_import_rule_fires_on_an_upward_import() -> None:
    assert violations("genome", {"signal", "numpy"}) == {"signal"}
    assert violations("models", {"nn", "genome", "objectives"}) == {"objectives"}
    assert violations("recipes", {"training"}) == {"training"}
    assert violations("effects", {"evaluation"}) == {"evaluation"}


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if path.relative_to(ROOT).parts[0] in WITHOUT_TORCH],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_ground_and_command_line_load_no_torch(path: Path) -> None:
    heavy = {"torch", "lightning", "models", "nn", "objectives", "training"}
    assert imported_parts(path, top_level_only=True) & heavy == set()


@pytest.mark.parametrize("code", ["import cislens", "import cislens.cli.app"])
def test_import_leaves_the_heavy_libraries_alone(code: str) -> None:
    """Help takes a blink: of all libraries it loads typer and what typer needs."""
    heavy = (
        "{'torch','lightning','zarr','matplotlib','sklearn','scipy','polars','numpy','pydantic'}"
    )
    check = f"{code}, sys; print(*sorted({heavy} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; {check}"], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""
