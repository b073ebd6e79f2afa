"""The table of measured tracks: what each is, where its file lies, how it is scaled."""

import csv
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.files import require_file

SumStat = Literal["sum", "mean"]
ClipMode = Literal["soft", "hard", "none"]
Uncovered = Literal["auto", "zero", "baseline"]

# Names that Basenji's target tables use for our columns.
_BASENJI = {"identifier": "id", "genome": "species", "clip_soft": "clip"}
_REQUIRED = ("id", "file", "species")


@dataclass(frozen=True)
class Track:
    """One row of a track table.

    Attributes:
        id: unique name; the key of every join.
        file: path of a bigWig.
        species: key of the genome that the coordinates belong to.
        assay: e.g. `ATAC`, `CHIP`, `CAGE`.
        group: the assay group that experts and summaries use; the assay unless given.
        strand: `+`, `-` or `.`.
        strand_pair: id of the same assay's track on the other strand; empty if unstranded.
        scale: factor on the values; negative turns a minus strand stored below zero around.
        sum_stat: a bin is the `sum` or the `mean` of its bases.
        clip: where clipping begins, in scaled units per bin; infinite for none.
        clip_mode: `soft` (square root above `clip`), `hard` (cut at +-`clip`) or `none`.
        uncovered: what a base without a value means: `zero`, `baseline` (unmeasured: takes the
            median of the window's measured bases) or `auto` (zero if the file leaves its zeros
            out, as count tracks do; else baseline).
    """

    id: str
    file: str
    species: str
    assay: str = "unknown"
    group: str = ""
    biosample: str = ""
    strand: str = "."
    strand_pair: str = ""
    scale: float = 1.0
    sum_stat: SumStat = "sum"
    clip: float = math.inf
    clip_mode: ClipMode = "none"
    uncovered: Uncovered = "auto"
    description: str = ""


_COLUMNS = tuple(field.name for field in fields(Track))
_NUMBERS = ("scale", "clip")
_CHOICES: dict[str, tuple[str, ...]] = {
    "sum_stat": get_args(SumStat),
    "clip_mode": get_args(ClipMode),
    "uncovered": get_args(Uncovered),
    "strand": ("+", "-", "."),
}


@dataclass(frozen=True)
class TrackTable:
    """Tracks in the order of the target's last axis; `frame` has one column per `Track` field.

    Raises:
        CislensError: for a repeated id, or a `strand_pair` that is unknown, lies in another
            species, has the same strand or does not point back.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        _check_pairs(self.rows())

    def __len__(self) -> int:
        return self.frame.height

    def rows(self) -> list[Track]:
        """The table as typed rows."""
        return [Track(**row) for row in self.frame.select(_COLUMNS).iter_rows(named=True)]

    def species(self) -> list[str]:
        """The species named in the table, in order of appearance."""
        return list(dict.fromkeys(self.frame["species"].to_list()))

    def for_species(self, name: str) -> "TrackTable":
        """The tracks of one species, in table order."""
        return TrackTable(self.frame.filter(pl.col("species") == name))

    def strand_permutation(self) -> npt.NDArray[np.int64]:
        """(T,) position of each track's strand pair, its own where it has none.

        Under reverse complement, `targets[..., permutation]` swaps the strands.
        """
        place = {name: i for i, name in enumerate(self.frame["id"].to_list())}
        return np.array(
            [place[t.strand_pair] if t.strand_pair else place[t.id] for t in self.rows()],
            dtype=np.int64,
        )


def track_table(tracks: Iterable[Track]) -> TrackTable:
    """A table from typed rows; a group that is not given is the assay."""
    rows = [asdict(track) | {"group": track.group or track.assay} for track in tracks]
    types = {name: pl.Float64 if name in _NUMBERS else pl.String for name in _COLUMNS}
    return TrackTable(pl.DataFrame(rows, schema=types))


def read_tracks(path: str | os.PathLike[str], species: str | None = None) -> TrackTable:
    """Read a tab-separated track table with a header line.

    `id`, `file` and `species` are needed, every other field of `Track` has a default. Basenji's
    target tables are accepted: `identifier`, `genome`, `clip_soft`, and `strand_pair` by `index`.
    Relative files are looked up beside the table. Columns that are not ours are ignored.

    Args:
        species: the species of every row, where the table names none or only numbers it.

    Raises:
        CislensError: naming the file, the line, what was found and what was expected.
    """
    path = require_file(path, "track table")
    with path.open(newline="", encoding="utf-8-sig") as handle:
        lines = list(csv.reader(handle, delimiter="\t"))
    if not lines:
        raise CislensError(f"{path} is empty; expected a header line with {', '.join(_REQUIRED)}.")
    header = [name.strip() for name in lines[0]]
    if "species" not in header and "genome" not in header and species is not None:
        header = [*header, "species"]
        lines = [[*line, species] if line else line for line in lines]
    _check_header(path, header)
    by_index: dict[str, str] = {}
    found: list[tuple[int, dict[str, str]]] = []
    for number, line in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in line):
            continue
        if len(line) != len(header):
            raise CislensError(
                f"{path} line {number} has {len(line)} columns, the header has {len(header)}; "
                "separate columns by single tabs."
            )
        row = {name: cell.strip() for name, cell in zip(header, line, strict=True)}
        by_index[row.get("index", "")] = row.get("id") or row.get("identifier", "")
        found.append((number, row))
    if not found:
        raise CislensError(f"{path} lists no tracks below its header line.")
    return track_table(
        _parse(row, f"{path} line {number}", path.parent, by_index, species)
        for number, row in found
    )


def _check_header(path: Path, header: list[str]) -> None:
    known = {_BASENJI.get(name, name) for name in header}
    for name in _REQUIRED:
        if name not in known:
            raise CislensError(
                f"{path} has no column {name!r}; its columns are {', '.join(header)}. "
                f"{nearest(name, header)}"
            )
    if {"clip", "clip_soft"} <= set(header):
        raise CislensError(
            f"{path} has both columns 'clip' and 'clip_soft'; keep one, a track is clipped once."
        )


def _parse(
    row: Mapping[str, str],
    where: str,
    folder: Path,
    by_index: Mapping[str, str],
    species: str | None,
) -> Track:
    values: dict[str, Any] = {}
    for name, text in row.items():
        column = _BASENJI.get(name, name)
        if column in _COLUMNS and text not in {"", "NA"}:
            values[column] = text
    for name in _REQUIRED:
        if name not in values:
            raise CislensError(f"{where} has no {name}.")
    for name in _NUMBERS:
        if name in values:
            values[name] = _number(values[name], f"{where}: {name}")
    if "clip" in values and "clip_mode" not in values:
        values["clip_mode"] = "soft" if "clip_soft" in row else "hard"
    for name, choices in _CHOICES.items():
        if name in values and values[name] not in choices:
            raise CislensError(
                f"{where}: {name} is {values[name]!r}, expected one of {', '.join(choices)}."
            )
    if "index" in row and "strand_pair" in values:
        values["strand_pair"] = by_index.get(values["strand_pair"], values["strand_pair"])
    if values.get("strand_pair") == values["id"]:
        del values["strand_pair"]
    if species is not None and values["species"].isdigit():
        values["species"] = species
    if "assay" not in values and ":" in values.get("description", ""):
        values["assay"] = values["description"].split(":")[0]
    values["file"] = str(folder / values["file"])
    return _check_numbers(Track(**values), where)


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CislensError(f"{what} is {text!r}, expected a number.") from None


def _check_numbers(track: Track, where: str) -> Track:
    if not math.isfinite(track.scale) or track.scale == 0:
        raise CislensError(f"{where}: scale is {track.scale:g}, expected a number other than 0.")
    if track.clip_mode != "none" and not 1 <= track.clip < math.inf:
        raise CislensError(
            f"{where}: clip is {track.clip:g} with clip_mode {track.clip_mode}, expected a number "
            "of at least 1."
        )
    return track


def _check_pairs(tracks: list[Track]) -> None:
    known: dict[str, Track] = {}
    for track in tracks:
        if track.id in known:
            raise CislensError(f"track id {track.id!r} is used twice; ids must be unique.")
        known[track.id] = track
    for track in tracks:
        if not track.strand_pair:
            continue
        what = f"track {track.id!r} names strand_pair {track.strand_pair!r}"
        if track.strand_pair not in known:
            hint = nearest(track.strand_pair, known)
            raise CislensError(f"{what}, which is not in the table. {hint}")
        pair = known[track.strand_pair]
        if pair.strand_pair != track.id:
            raise CislensError(
                f"{what}, whose own strand_pair is {pair.strand_pair or 'empty'!r}; "
                f"a pair must name each other."
            )
        if pair.species != track.species:
            raise CislensError(f"{what}, which belongs to species {pair.species!r}.")
        if track.strand == pair.strand and track.strand != ".":
            raise CislensError(f"{what}, and both are on strand {track.strand}.")
