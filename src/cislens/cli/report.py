"""`cislens report`: a bench folder to one self-contained page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli.options import AsJson, answer

if TYPE_CHECKING:
    from cislens.report.inputs import ReportInput


def command(
    folder: Annotated[Path, typer.Argument(help="Folder that `cislens bench` wrote.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Page to write; FOLDER/report.html unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a bench again, e.g. after an update of cislens."""
    page = out or folder / "report.html"
    write(folder, page)
    answer({"report": str(page)}, as_json)


def write(folder: Path, page: Path) -> "ReportInput":
    """Collect what the folder holds and write its page."""
    from cislens.report.collect import collect
    from cislens.report.page import write_report

    run = collect(folder)
    write_report(run, page)
    return run


def show_verdicts(run: "ReportInput") -> None:
    """Print the verdict table on stdout."""
    from rich.console import Console

    from cislens.report.terminal import verdict_table

    Console().print(verdict_table(run))
