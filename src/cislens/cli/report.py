"""`cislens report`: a bench folder, or a training run, to one self-contained page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli.options import AsJson, answer

if TYPE_CHECKING:
    from cislens.report.inputs import ReportInput


def command(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folder that `cislens bench` or `cislens train` wrote, or several benches."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Page to write; FOLDER/report.html, or leaderboard.html for several."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the page of a folder.

    Of a bench or a training run; of several benches, their leaderboard.
    """
    if len(folders) == 1:
        from cislens.report.run import is_run, write_run

        page = out or folders[0] / "report.html"
        (write_run if is_run(folders[0]) else write)(folders[0], page)
        answer({"report": str(page)}, as_json)
        return
    from cislens.report.leaderboard import leaderboard
    from cislens.report.page import write_report

    page = out or Path("leaderboard.html")
    run = leaderboard(folders)
    write_report(run, page)
    if as_json:
        assert run.ranks is not None
        answer({"report": str(page), "ranks": run.ranks.to_dicts()}, as_json)
    else:
        show_verdicts(run)
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
