"""`cislens doctor`: whether cislens can work on this machine, and what to do if not."""

import typer

from cislens.cli.options import AsJson, answer


def command(as_json: AsJson = False) -> None:
    """Look for what is broken: libraries, data, disk, settings. Exit code 2 if nothing can work.

    Each finding comes with what to do. Then versions, devices, and which extras are whole.
    """
    from cislens.cli.doctor_report import examine, text

    report = examine()
    answer(report, as_json, text(report))
    if not report["works"]:
        raise typer.Exit(2)
