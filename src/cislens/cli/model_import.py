"""`cislens model import` and `export`: weights in published key layouts, to and from a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, answer
from cislens.errors import CislensError, nearest

if TYPE_CHECKING:
    from cislens.models.profile import ProfileModel
    from cislens.models.published.files import Checkpoint
    from cislens.models.published.recognition import Kind
    from cislens.signal.tracks import TrackTable

Source = Annotated[Path, typer.Argument(help="Folder, or .safetensors, .bin or .pt file.")]
Out = Annotated[Path, typer.Option("--out", help="Model folder to write.")]
Targets = Annotated[
    list[str] | None,
    typer.Option("--targets", metavar="SPECIES=FILE", help="Track table of a head; repeatable."),
]
License = Annotated[
    str | None, typer.Option("--license", help="License of the weights, for the model card.")
]
Length = Annotated[int, typer.Option(min=1, help="Window, in bp.")]

imports = typer.Typer(help="Import published weights.", no_args_is_help=True)
exports = typer.Typer(help="Write weights as they are published.", no_args_is_help=True)


@imports.command("space")
def import_space(
    source: Source,
    out: Out,
    targets: Targets = None,
    license_name: License = None,
    length: Length = 131_072,
    as_json: AsJson = False,
) -> None:
    """Published weights of SPACE.

    Yang et al. 2025; positions as its weights were trained.
    """
    from cislens.models.published.importing import import_space as make

    tables, checkpoint = _read(source, out, targets)
    model = make(checkpoint, tables, length)
    _save(model, "space", checkpoint, out, tables, length, license_name, as_json)


@imports.command("enformer")
def import_enformer(
    source: Source,
    out: Out,
    positions: Annotated[
        str | None,
        typer.Option(
            help="Must be given. How position features were normalized in training: position "
            "(DeepMind's weights, converted) or feature-axis (trained by enformer-pytorch)."
        ),
    ] = None,
    targets: Targets = None,
    license_name: License = None,
    length: Length = 196_608,
    as_json: AsJson = False,
) -> None:
    """Weights of Enformer in the layout of enformer-pytorch.

    Avsec et al. 2021.
    """
    from cislens.models.published.importing import import_enformer as make

    known = ("position", "feature-axis")
    if positions is None:
        raise CislensError(
            "--positions is missing, and the file does not say it: give --positions position for "
            "weights converted from DeepMind's, --positions feature-axis for weights that "
            "enformer-pytorch trained (use_tf_gamma=False)."
        )
    if positions not in known:
        raise CislensError(f"--positions is {positions!r}. {nearest(positions, known)}")
    tables, checkpoint = _read(source, out, targets)
    model = make(checkpoint, positions, tables, length)  # type: ignore[arg-type]
    _save(model, "enformer", checkpoint, out, tables, length, license_name, as_json)


Model = Annotated[Path, typer.Argument(help="Model folder.")]
File = Annotated[
    Path, typer.Option("--out", help="File (.safetensors, .bin or .pt), or a new folder.")
]


@exports.command("space")
def export_space(model: Model, out: File, as_json: AsJson = False) -> None:
    """In the layout of the published SPACE."""
    _export(model, "space", out, as_json)


@exports.command("enformer")
def export_enformer(model: Model, out: File, as_json: AsJson = False) -> None:
    """In the layout of enformer-pytorch."""
    _export(model, "enformer", out, as_json)


def _read(
    source: Path, out: Path, targets: list[str] | None
) -> tuple["dict[str, TrackTable]", "Checkpoint"]:
    from cislens.models.published.files import read_checkpoint
    from cislens.models.saving import require_model_place

    require_model_place(out)  # before minutes of reading
    tables = _tables(targets or [])
    return tables, read_checkpoint(source)


def _tables(targets: list[str]) -> "dict[str, TrackTable]":
    from cislens.signal.tracks import read_tracks

    tables: dict[str, TrackTable] = {}
    for given in targets:
        species, sign, file = given.partition("=")
        if not (species and sign and file):
            raise CislensError(f"--targets is {given!r}, expected SPECIES=FILE.")
        if species in tables:
            raise CislensError(f"--targets names {species} twice; a species has one table.")
        table = read_tracks(file, species)
        if species not in table.species():
            raise CislensError(
                f"{file} has no tracks of {species}. {nearest(species, table.species())}"
            )
        tables[species] = table.for_species(species)
    return tables


def _save(
    model: "ProfileModel",
    kind: "Kind",
    checkpoint: "Checkpoint",
    out: Path,
    tables: "dict[str, TrackTable]",
    length: int,
    license_name: str | None,
    as_json: bool,
) -> None:
    from cislens.models.published.card import card_text
    from cislens.models.saving import save_model
    from cislens.signal.datacard import FILE_NAME, DataCard
    from cislens.signal.tracks import track_table

    beside = {}
    if tables:
        tracks = track_table(row for name in model.species for row in tables[name].rows())
        beside[FILE_NAME] = DataCard(length, tracks).to_json()
    card = card_text(model, kind, checkpoint, length, license_name, bool(tables))
    save_model(model, out, card, beside)
    made: dict[str, Any] = {
        "folder": str(out),
        "parameters": sum(value.numel() for value in model.parameters()),
        "tracks": {name: len(ids) for name, ids in model.config.tracks.items()},
        "positions": model.config.encoder.model_dump()["positions"],
        "sha256": checkpoint.sha256,
    }
    answer(made, as_json)


def _export(folder: Path, kind: "Kind", out: Path, as_json: bool) -> None:
    from cislens.models.published.exporting import export
    from cislens.models.saving import load_profile_model

    file = export(load_profile_model(folder), kind, out)
    answer({"file": str(file)}, as_json, str(file))
