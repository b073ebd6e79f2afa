"""A folder of predicted tracks as a page: what was predicted, by what, and how it is spread."""

from pathlib import Path
from typing import Any

import polars as pl

from cislens.effects.track_run import MANIFEST, TRACKS
from cislens.files import read_json
from cislens.report.evidence import Section
from cislens.report.manifest import Table, groups
from cislens.report.templates import render
from cislens.report.words import counted, grouped, number
from cislens.signal.bigwig import summarize
from cislens.untrusted import inside

_TRACKS = (
    "Mean and largest value are per base, over the bins that were predicted. To see them along "
    "the genome, write a browser page: cislens report FOLDER --browser --genome GENOME."
)


def render_predictions(folder: Path) -> str:
    """The HTML text of the page of a folder that `cislens predict` wrote."""
    manifest = read_json(folder / MANIFEST, "manifest of the prediction")
    settings: dict[str, Any] = manifest["settings"]
    table = pl.read_csv(folder / TRACKS, separator="\t", infer_schema=False, quote_char=None)
    models = counted(len(settings["models"]), "model")
    count, bins = counted(len(table), "track"), counted(manifest["bins"], "bin")
    parts = [
        Section("tracks", "Tracks", _TRACKS, "Nothing was predicted.",
                tables=[_tracks(folder, table)]),
        Section("files", "Files", "Each is described in the file formats of the documentation.",
                "There are no files.", tables=[_files(folder, manifest["files"])]),
    ]  # fmt: skip
    return render(
        "results.html.j2",
        title="Predicted tracks",
        headline=[
            f"{count} of {settings['species']} over {bins} of {manifest['genome']}, by {models}."
        ],
        facts=[
            ("Species", settings["species"]), ("Genome", manifest["genome"]),
            ("Bin", f"{manifest['bin_size']} bp"), ("Bins", grouped(manifest["bins"])),
            ("Averaged over", settings["average"]), ("Device", settings["device"]),
            ("Windows padded with N", grouped(manifest["windows_padded_with_n"])),
        ],
        sections=[*((part.key, part.title) for part in parts), ("manifest", "Manifest")],
        skip="tracks",
        parts=parts,
        manifest=groups(manifest),
    )  # fmt: skip


def _tracks(folder: Path, table: pl.DataFrame) -> Table:
    rows = []
    for row in table.iter_rows(named=True):
        mean, top = "\u2013", "\u2013"
        if row.get("file"):
            found = summarize(inside(folder, row["file"], folder / TRACKS))
            mean = number(found.total / found.covered, 4) if found.covered else mean
            top = number(found.maximum, 4) if found.covered else top
        known = [row.get(name) or "" for name in ("assay", "target", "group", "description")]
        rows.append((row["id"], *known, mean, top))
    columns = ("Track", "Assay", "Target", "Group", "Description", "Mean", "Largest")
    return Table("Predicted tracks", columns, rows)


def _files(folder: Path, names: list[str]) -> Table:
    rows = []
    for name in names:
        path = inside(folder, name, folder / MANIFEST)
        parts = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
        rows.append((name, grouped(sum(part.stat().st_size for part in parts))))
    return Table("Files", ("File", "Bytes"), rows)
