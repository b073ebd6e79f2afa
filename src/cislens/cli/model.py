"""`cislens model`: presets, what a model folder holds, where it goes, and published weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli import model_hub, model_import
from cislens.cli.options import AsJson, answer
from cislens.errors import CislensError

if TYPE_CHECKING:
    from cislens.representations.contract import Representation

app = typer.Typer(
    help="Presets, model folders, and weights in other layouts.",
    no_args_is_help=True,
)
app.add_typer(model_import.imports, name="import")
app.add_typer(model_import.exports, name="export")
app.command("card")(model_hub.card)
app.command("push")(model_hub.push)
app.command("pull")(model_hub.pull)


@app.command("ls")
def list_presets(as_json: AsJson = False) -> None:
    """The presets by name with their shapes."""
    from cislens.models.presets import PRESETS

    answer(PRESETS, as_json)


@app.command("show")
def show(
    folder: Annotated[Path, typer.Argument(help="Model folder of a run.")],
    as_json: AsJson = False,
) -> None:
    """The configuration of a model folder, after checking that it loads."""
    from cislens.models.saving import load_model

    model = load_model(folder)
    answer(
        {
            "folder": str(folder),
            "parameters": sum(value.numel() for value in model.parameters()),
            **model.config.model_dump(mode="json"),
        },
        as_json,
    )


@app.command("check")
def check(
    folder: Annotated[Path, typer.Argument(help="Model folder, of a run or as published.")],
    family: Annotated[
        str | None, typer.Option("--family", help="Of a published model, e.g. gpn; else our own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for the faults that encoders are known for.

    On short sequences; also of adapters of published models.
    """
    from cislens.representations.conformance import check as conformance

    findings = conformance(_load(folder, family), reference=_load(folder, family))
    found = [{"check": finding.check, "message": finding.message} for finding in findings]
    if found and not as_json:
        lines = "\n".join(f"{finding['check']}: {finding['message']}" for finding in found)
        raise CislensError(f"{folder} does not conform:\n{lines}")
    answer({"folder": str(folder), "findings": found}, as_json, f"{folder}: no findings")
    if found:
        raise typer.Exit(2)


def _load(folder: Path, family: str | None) -> "Representation":
    from cislens.models.saving import load_model
    from cislens.representations.encoder import EncoderEmbedding
    from cislens.representations.huggingface.families import load_huggingface

    if family is not None:
        return load_huggingface(family, folder, folder.name)
    return EncoderEmbedding(load_model(folder).encoder, folder.name)
