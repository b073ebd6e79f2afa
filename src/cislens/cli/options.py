"""Options that every verb shares, and the one way to answer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Resolve and check everything, print the plan, stop.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Seed = Annotated[int | None, typer.Option(help="Replaces the seed of the recipe.")]
Workers = Annotated[int, typer.Option(min=1, help="How many work at the same time.")]
EngineName = Annotated[
    str, typer.Option("--engine", help="local (processes) or ray (a cluster; extra scale).")
]
PartOf = Annotated[
    str,
    typer.Option(
        "--part",
        metavar="I/N",
        help="Do this share of the units, beside other processes; the last one finishes.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]


def packaged(names: Sequence[str], more: str = "") -> Any:
    """The argument that takes a recipe's path or a packaged name, which shells complete."""

    def beginning(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    text = f"Recipe (YAML), or a packaged one: {', '.join(names)}.{more}"
    return typer.Argument(help=text, autocompletion=beginning)


def given(path: Path | str) -> Path:
    """An input of the command line: `example:` and `core:` name data as in recipes.

    Raises:
        CislensError: if there is no such packaged file, or no data folder.
    """
    from cislens.example import located

    return located(str(path), Path())


def answer(result: dict[str, Any], as_json: bool, text: str | None = None) -> None:
    """Print a verb's result: one JSON object, or `text`, or its keys and values a line each."""
    if as_json:
        typer.echo(json.dumps(result, default=str))
    elif text is not None:
        typer.echo(text)
    else:
        for key, value in result.items():
            typer.echo(f"{key}: {_plain(value)}")


def _plain(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
