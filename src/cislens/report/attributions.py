"""A folder of attributions as a page: logos of the strongest regions, and a table of all.

Dimensions: n region, 4 channel A, C, G, T, L base.
"""

import heapq
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.effects.attribution.files import contributions
from cislens.effects.attribution.logos import strongest
from cislens.effects.attribution.parts import EXTRAS, FORMAT, MANIFEST
from cislens.errors import CislensError
from cislens.files import read_json, require_file
from cislens.report.evidence import Section
from cislens.report.figures.logo import bases_of, logo
from cislens.report.manifest import Table, groups
from cislens.report.panels import Panel
from cislens.report.templates import render
from cislens.report.words import counted, general, grouped

_LOGOS, _SHOWN, _MOST = 12, 60, 500
_LETTERS = (
    "The 60 bp around the 21 bp with the largest summed contribution, of the regions where that "
    "sum is largest. Letters below the line count against the score. Positions are 1-based."
)
_REGIONS = (
    "Every region with the model's score and the largest sum of 21 bp. A large contribution says "
    "what moves this model, not what moves the genome."
)
_SEQLETS = (
    "Stretches that stand out, and the motif that each is nearest to where motifs were given."
)
_SEQLET_NAMES = ("Place", "Name", "Attribution", "p", "Region")
_INSERTED = (
    "Change of the prediction when a motif is set into random sequence, with its 95 % interval, "
    "beside shuffled copies of the same motif."
)


def render_attributions(folder: Path) -> str:
    """The HTML text of the page of a folder that `cislens attribute` wrote.

    Raises:
        MissingFileError, CislensError: if one of its files is missing or damaged.
    """
    manifest = read_json(folder / MANIFEST, "manifest of the attributions")
    settings = manifest["settings"]
    if manifest["format"] != FORMAT:
        return _inserted(folder, manifest)
    regions = _table(folder / "regions.tsv")
    best = _strongest(folder, len(regions))
    parts = [
        Section("logos", "Strongest regions", _LETTERS, "There is no region.",
                _logo_panels(folder, regions, best), size="wide"),
        Section("regions", "Regions", _REGIONS, "There is no region.",
                tables=[_region_table(regions, best)]),
        Section("seqlets", "Seqlets", _SEQLETS, "None were asked for (--seqlets).",
                tables=_seqlet_tables(folder)),
    ]  # fmt: skip
    method = str(settings.get("method", "attribution")).replace("_", " ")
    count, width = counted(manifest["regions"], "region"), manifest["width"]
    return render(
        "results.html.j2",
        title="Attributions",
        headline=[f"{method.capitalize()} of {count}, {grouped(width)} bp each."],
        facts=[("Method", method), ("Regions", grouped(manifest["regions"])),
               ("Width", f"{grouped(width)} bp")],
        sections=[*((part.key, part.title) for part in parts), ("manifest", "Manifest")],
        skip="logos",
        parts=parts,
        manifest=groups(manifest),
    )  # fmt: skip


def _inserted(folder: Path, manifest: dict[str, Any]) -> str:
    table = _table(folder / "importance.tsv")
    rows = [[_number(value) for value in row] for row in table.iter_rows()]
    part = Section("motifs", "Motifs", _INSERTED, "No motif was set in.",
                   tables=[Table("Importance of motifs", table.columns, rows)])  # fmt: skip
    return render(
        "results.html.j2",
        title="Motifs set into random sequence",
        headline=[f"{counted(len(rows), 'motif')} set into random sequence."],
        facts=[],
        sections=[(part.key, part.title), ("manifest", "Manifest")],
        skip="motifs",
        parts=[part],
        manifest=groups(manifest),
    )


def _strongest(folder: Path, count: int) -> list[tuple[int, float]]:
    """Where the logo of each region begins in its window, and how strong it is."""
    both = zip(_rows(folder / "shap.npz"), _rows(folder / "ohe.npz"), strict=True)
    found = [strongest(contributions(shap[None], bases[None])[0], _SHOWN) for shap, bases in both]
    if len(found) != count:
        raise CislensError(
            f"{folder} has maps of {len(found)} regions, and {count} in regions.tsv; attribute "
            "them again."
        )
    return found


def _logo_panels(folder: Path, regions: pl.DataFrame, best: list[tuple[int, float]]) -> list[Panel]:
    order = heapq.nsmallest(_LOGOS, range(len(best)), key=lambda row: (-best[row][1], row))
    drawn: dict[int, Panel] = {}
    both = zip(_rows(folder / "shap.npz"), _rows(folder / "ohe.npz"), strict=True)
    for row, (shap, bases) in enumerate(both):
        if row in order:
            start, sum_ = best[row]
            inside = slice(start, start + _SHOWN)
            place = regions.row(row, named=True)
            values = contributions(shap[None, :, inside], bases[None, :, inside])[0]
            first = int(place["start"]) + start
            where = f"{place['chrom']}:{grouped(first + 1)}-{grouped(first + len(values))}"
            sub = f"{where}, strongest 21 bp {sum_:.3g}"
            picture = logo(bases_of(bases[:, inside]), values, str(place["chrom"]), first)
            drawn[row] = Panel(str(place["name"]), sub, picture)
    return [drawn[row] for row in order]


def _rows(path: Path) -> Iterator[npt.NDArray[Any]]:
    """The (4, L) rows of `arr_0`, one at a time."""
    try:
        with (
            zipfile.ZipFile(require_file(path, "attributions")) as archive,
            archive.open("arr_0.npy") as file,
        ):
            np.lib.format.read_magic(file)
            (count, *shape), _, dtype = np.lib.format.read_array_header_1_0(file)
            if len(shape) != 2 or shape[0] != 4 or dtype.hasobject:
                raise ValueError(f"an array of {dtype} {(count, *shape)}")
            size = int(np.prod(shape)) * dtype.itemsize
            for _ in range(count):
                yield np.frombuffer(file.read(size), dtype).reshape(shape)
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CislensError(
            f"{path} is no array of attributions ({error}); make it again."
        ) from None


def _region_table(regions: pl.DataFrame, best: list[tuple[int, float]]) -> Table:
    order = heapq.nsmallest(_MOST, range(len(best)), key=lambda row: (-best[row][1], row))
    rows = []
    for row in order:
        place = regions.row(row, named=True)
        where = f"{place['chrom']}:{int(place['start']) + 1}-{place['end']}"
        rows.append((place["name"], where, _number(place["score"]), _number(best[row][1])))
    title = "Regions" if len(best) <= _MOST else f"First {_MOST} of {grouped(len(best))} regions"
    return Table(title, ("Region", "Place", "Score", "Strongest 21 bp"), rows)


def _seqlet_tables(folder: Path) -> list[Table]:
    path = folder / EXTRAS["seqlets"]
    if not path.exists() or not path.stat().st_size:
        return []
    table = _table(path, header=False)
    p_value = pl.col(table.columns[7]).cast(pl.Float64, strict=False)
    rows = [
        (f"{row[0]}:{int(row[1]) + 1}-{row[2]}", row[3], _number(row[6]), _number(row[7]), row[8])
        for row in table.sort(p_value, nulls_last=True, maintain_order=True).iter_rows()
    ]
    title = f"First {_MOST} of {grouped(len(rows))}" if len(rows) > _MOST else "Seqlets"
    return [Table(title, _SEQLET_NAMES, rows[:_MOST])]


def _table(path: Path, header: bool = True) -> pl.DataFrame:
    return pl.read_csv(
        require_file(path, "table of the attributions"), separator="\t", infer_schema=False,
        has_header=header, quote_char=None,
    )  # fmt: skip


def _number(value: object) -> str:
    """A number of three digits; other text as it is."""
    if value is None or value == "":
        return "\u2013"
    try:
        return general(float(str(value)))
    except ValueError:
        return str(value)
