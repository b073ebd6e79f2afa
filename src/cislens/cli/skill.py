"""`cislens skill`: the packaged instructions for coding assistants."""

from pathlib import Path
from typing import Annotated

import typer

from cislens.errors import CislensError
from cislens.files import write_atomic

SKILL = Path(__file__).parent.parent / "SKILL.md"


def command(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder where an assistant looks for skills; SKILL.md there."),
    ] = None,
) -> None:
    """Print what a coding assistant should know.

    How to work with cislens, as a skill; or write it to a folder.
    """
    text = SKILL.read_text(encoding="utf-8")
    if out is None:
        typer.echo(text, nl=False)
        return
    path = out / SKILL.name
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise CislensError(f"{path} is there already and says something else; remove it first.")
    write_atomic(path, text)
    typer.echo(f"skill: {path}")
