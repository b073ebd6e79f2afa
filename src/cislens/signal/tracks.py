"""The table of measured tracks: what each is, where its file lies, how it is scaled."""

import csv
import io
import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.example import located
from cislens.files import require_file
from cislens.signal.groups import UNKNOWN, group_of, own_groups, parse_description
from cislens.untrusted import plain_bytes

SumStat = Literal["sum", "mean"]
ClipMode = Literal["soft", "hard", "none"]
Uncovered = Literal["auto", "zero", "baseline"]

# Names that Basenji's target tables use for our columns.
_BASENJI = {"identifier": "id", "genome": "species", "clip_soft": "clip"}
_REQUIRED = ("id", "file", "species")

logger = logging.getLogger("cislens")


@dataclass(frozen=True)
class Track:
    """One row of a track table.

    Attributes:
        id: unique name; the key of every join.
        file: path of a bigWig.
        species: key of the genome that the coordinates belong to.
        assay: e.g. `ATAC`, `CHIP`, `CAGE`.
        target: of a ChIP track, what was pulled down; `.` or empty if unknown.
        group: the assay group that experts and summaries use; by `groups.group_of` unless given.
        weight: factor of the track in the loss, at least 0.
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
    assay: str = UNKNOWN
    target: str = ""
    group: str = ""
    biosample: str = ""
    strand: str = "."
    strand_pair: str = ""
    scale: float = 1.0
    sum_stat: SumStat = "sum"
    clip: float = math.inf
    clip_mode: ClipMode = "none"
    uncovered: Uncovered = "auto"
    weight: float = 1.0
    description: str = ""


_COLUMNS = tuple(field.name for field in fields(Track))
_NUMBERS = ("scale", "clip", "weight")
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
        CislensError: for a repeated id, a weight below 0 or not finite, or a `strand_pair` that
            is unknown, lies in another species, has the same strand or does not point back.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        rows = self.rows()
        _check_weights(rows)
        _check_pairs(rows)

    def __len__(self) -> int:
        return self.frame.height

    def rows(self) -> list[Track]:
        """The table as typed rows."""
        return [Track(**row) for row in self.frame.select(_COLUMNS).iter_rows(named=True)]

    def species(self) -> list[str]:
        """The species named in the table, in order of appearance."""
        return list(dict.fromkeys(self.frame["species"].to_list()))

    def groups(self) -> dict[str, int]:
        """Number of tracks of each assay group, by name."""
        return dict(sorted(self.frame["group"].value_counts().iter_rows()))

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
    """A table from typed rows; a group that is not given is that of `groups.group_of`."""
    rows = [
        asdict(track) | {"group": track.group or group_of(track.assay, track.target).group}
        for track in tracks
    ]
    types = {name: pl.Float64 if name in _NUMBERS else pl.String for name in _COLUMNS}
    return TrackTable(pl.DataFrame(rows, schema=types))


def tracks_text(frame: pl.DataFrame) -> str:
    """A track table, and columns that were added to it, as a text table; what is empty is empty."""
    return frame.write_csv(separator="\t", quote_style="never")


def read_tracks(path: str | os.PathLike[str], species: str | None = None) -> TrackTable:
    """Read a tab-separated track table with a header line, plain or gzip.

    `id`, `file` and `species` are needed, every other field of `Track` has a default. Basenji's
    target tables are accepted: `identifier`, `genome`, `clip_soft`, `strand_pair` by `index`, and
    assay, target and biosample from `description`. Relative files are looked up beside the
    table. Columns that are not ours are ignored. An assay may be left out in all rows or in none.
    One that the group rule does not know is a group of its own, which the log says.

    Args:
        species: the species of every row, where the table names none or only numbers it.

    Raises:
        CislensError: naming the file, the line, what was found and what was expected.
    """
    path = require_file(path, "track table")
    try:
        lines = list(csv.reader(io.StringIO(_text(path), newline=""), delimiter="\t"))
    except csv.Error as error:
        raise CislensError(f"{path} is no table separated by tabs: {error}.") from None
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
    tracks = [
        _parse(row, f"{path} line {number}", path.parent, by_index, species)
        for number, row in found
    ]
    _check_rows(path, [number for number, _ in found], tracks)
    own = own_groups(tracks)
    if own:
        logger.info("%s: no group is known for %s; kept as groups of their own", path, own)
    return track_table(replace(track, assay=track.assay or UNKNOWN) for track in tracks)


def _text(path: Path) -> str:
    try:
        return plain_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CislensError(f"{path} is not UTF-8 text; is it a track table?") from None


def _check_rows(path: Path, lines: list[int], tracks: list[Track]) -> None:
    """What only the whole table shows, told by line."""
    seen: dict[str, int] = {}
    with_assay = [line for line, track in zip(lines, tracks, strict=True) if track.assay]
    for line, track in zip(lines, tracks, strict=True):
        if track.id in seen:
            raise CislensError(
                f"{path} line {line}: track id {track.id!r} is used twice, first in line "
                f"{seen[track.id]}; ids must be unique."
            )
        seen[track.id] = line
        if with_assay and not track.assay:
            raise CislensError(
                f"{path} line {line}: track {track.id!r} has no assay, while line "
                f"{with_assay[0]} has one; fill in the column 'assay', or write a description "
                "that begins with the assay and a colon."
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
    if "assay" not in values:
        values = {**parse_description(values.get("description", "")), **values}
    values.setdefault("assay", "")
    values["file"] = str(located(values["file"], folder))
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
    if not 0 <= track.weight < math.inf:
        raise CislensError(f"{where}: weight is {track.weight:g}, expected a number from 0 on.")
    return track


def _check_weights(tracks: list[Track]) -> None:
    for track in tracks:
        if not 0 <= track.weight < math.inf:
            raise CislensError(
                f"track {track.id!r} has weight {track.weight:g}, expected a number from 0 on."
            )


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
