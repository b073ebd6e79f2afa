"""The `cislens` command: one verb a module, one clear message for a user's mistake."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    model,
    predict,
    report,
    risk,
    train,
    variants,
)
from cislens.errors import CislensError, CollapseError
from cislens.logs import logged, tell
from cislens.usage import memory_high_water, processor_seconds, workers_high_water

app = typer.Typer(
    name="cislens",
    help="Learn, judge and use representations of regulatory DNA.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
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
app.command("risk")(risk.command)
app.add_typer(model.app, name="model")
app.command("doctor")(doctor.command)


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
        context.with_resource(_told(context.invoked_subcommand))
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("cislens").setLevel(logging.INFO)


@contextmanager
def _told(verb: str | None) -> Iterator[None]:
    """Tell the structured log how the verb began and ended, and what it used."""
    tell("began", verb=verb, cislens=__version__, arguments=sys.argv[1:])
    began, error = time.monotonic(), None
    try:
        yield
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        tell(
            "ended", verb=verb, error=error, seconds=round(time.monotonic() - began, 3),
            processor_seconds=round(processor_seconds(), 3), memory_bytes=memory_high_water(),
            workers_memory_bytes=workers_high_water(),
        )  # fmt: skip


def main() -> None:
    """Run the command line; one message and exit code 2 on a user's mistake, 3 on a collapse."""
    # Threads that spin while they wait take the cores from whatever else runs on the machine:
    # measured, one busy neighbor made training on two cores 30 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except CislensError as error:
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": str(error)}))
        typer.echo(f"error: {error}", err=True)
        sys.exit(3 if isinstance(error, CollapseError) else 2)
    except OSError as error:
        # A folder where a file should be, a path below a file, no permission, no space.
        if error.filename is None:
            raise
        typer.echo(f"error: {error.filename}: {error.strerror}.", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
