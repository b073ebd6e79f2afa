"""`cislens model`: the presets, and what a trained model folder holds."""

from pathlib import Path
from typing import Annotated

import typer

from cislens.cli.options import AsJson, answer

app = typer.Typer(help="List presets and inspect model folders.", no_args_is_help=True)


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
