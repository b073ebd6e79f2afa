"""The `cislens` command: one verb a module, one clear message for a user's mistake."""

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from cislens import __version__
from cislens.cli import (
    attribute,
    audit,
    bench,
    data,
    demo,
    doctor,
    embed,
    evaluate,
    export,
    model,
    predict,
    report,
    risk,
    serve,
    skill,
    train,
    variants,
)
from cislens.errors import CislensError, CollapseError
from cislens.files import FULL
from cislens.logs import logged, told

INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    name="cislens",
    help="Learn, judge and use representations of regulatory DNA.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.command)
app.add_typer(data.app, name="data")
app.command("train")(train.command)
app.command("audit")(audit.command)
app.command("bench")(bench.command)
app.command("embed")(embed.command)
app.command("evaluate")(evaluate.command)
app.command("predict")(predict.command)
app.command("variants")(variants.command)
app.command("attribute")(attribute.command)
app.command("report")(report.command)
app.command("serve")(serve.command)
app.command("risk")(risk.command)
app.command("export")(export.command)
app.add_typer(model.app, name="model")
app.command("doctor")(doctor.command)
app.command("skill")(skill.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cislens {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version."
    ),
    log: Path | None = typer.Option(
        None, "--log", help="Also write the log to this file, one JSON object a line."
    ),
) -> None:
    if log is not None:
        context.with_resource(logged(log))
        context.with_resource(told(str(context.invoked_subcommand), arguments=sys.argv[1:]))
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("cislens").setLevel(logging.INFO)


def help_asked_for(words: Sequence[str]) -> str | None:
    """The help of a verb, where the words are its names and `--help`; else None.

    It is what typer would print, before typer loads pydantic to read options: half of the time.
    """
    *names, last = words or [""]
    if last != "--help":
        return None
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name=app.info.name)
    for name in names:
        command = getattr(command, "commands", {}).get(name)
        if command is None:
            return None
        context = typer.Context(command, info_name=name, parent=context)
    return str(command.get_help(context))


def main() -> None:
    """Run the command line; one message and exit code 2 on a user's mistake, 3 on a collapse.

    Ctrl-C ends it with 130, as shells count it.
    """
    # Threads that spin while they wait take the cores from whatever else runs on the machine:
    # measured, one busy neighbor made training on two cores 30 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if (text := help_asked_for(sys.argv[1:])) is not None:
        typer.echo(text)
        return
    try:
        app()
    except CislensError as error:
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": str(error)}))
        typer.echo(f"error: {error}", err=True)
        sys.exit(3 if isinstance(error, CollapseError) else 2)
    except OSError as error:
        # A folder where a file should be, a path below a file, no permission, no space.
        full = error.errno in FULL
        if error.filename is None and not full:
            raise
        where = error.filename or "a disk that is written to"
        what = " Make room and run the same command again, it goes on." if full else ""
        typer.echo(f"error: {where}: {error.strerror}.{what}", err=True)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            typer.echo("interrupted: run the same command again, it goes on.", err=True)
        raise


if __name__ == "__main__":
    main()
