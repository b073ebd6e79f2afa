"""What the import of Basenji's records will do, with every check that needs no full reading."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.genome.reference import Genome
from cislens.signal.basenji import SPLITS, BasenjiFolder, RecordFile, RecordShape, record_shape
from cislens.signal.layout import Shape, array_layouts, schema_version
from cislens.signal.plan import SPECIES_NAME
from cislens.signal.shards import ArrayLayout
from cislens.signal.tracks import TrackTable, track_table

# A shard of the store is held in memory until it is written.
_SHARD_BYTES = 1 << 28
_MOST_SHARD_ROWS = 512
_END_BYTES = 1 << 20


@dataclass(frozen=True)
class BasenjiSource:
    """Records of one species, the tracks of their targets, and the genome they come from."""

    species: str
    folder: BasenjiFolder
    tracks: TrackTable
    genome: Genome | None = None


@dataclass(frozen=True)
class ImportPlan:
    """All that determines the store; `describe` is what a dry run prints.

    Attributes:
        record: sizes of the records. shape: of the store's windows.
        shard_rows: windows in a shard of the store.
    """

    sources: tuple[BasenjiSource, ...]
    record: RecordShape
    dtypes: dict[str, str]
    shape: Shape
    shard_rows: int

    @property
    def extra(self) -> int:
        """bp that a window of the store reaches beyond its record, at either side."""
        return (self.shape.length - self.record.length) // 2

    def layouts(self, source: BasenjiSource, rows: int) -> dict[str, ArrayLayout]:
        """The arrays of one species, if it has `rows` windows."""
        return array_layouts(self.shape, rows, len(source.tracks), self.shard_rows)

    def record_of(self, source: BasenjiSource) -> RecordShape:
        """Sizes of the records of one species; types may differ."""
        return replace(self.record, dtype=self.dtypes[source.species])

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What determines the store's bytes. Record files are known by their size and ends."""
        return {
            "schema_version": schema_version("float16"),
            **asdict(self.shape),
            "stride": None,
            "seed": None,
            "split": {"from": "records"},
            "shard_rows": self.shard_rows,
            "species": {source.species: self._inputs(source) for source in self.sources},
        }

    @cached_property
    def digest(self) -> str:
        """sha256 of the recipe."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Sizes and counts, ready for JSON."""
        return {
            **asdict(self.shape),
            "bins": self.shape.bins,
            "species": {
                source.species: {
                    "folder": str(source.folder.path),
                    "tracks": len(source.tracks),
                    "groups": source.tracks.groups(),
                    "files": {
                        name: sum(file.split == name for file in source.folder.files)
                        for name in SPLITS
                    },
                    "records": source.folder.expected(),
                    "stored_as": np.dtype(self.dtypes[source.species]).name,
                    "placed": source.folder.windows is not None,
                    "genome": str(source.genome.path) if source.genome else None,
                }
                for source in self.sources
            },
        }

    def _inputs(self, source: BasenjiSource) -> dict[str, Any]:
        rows = source.tracks.frame.to_dicts()
        for row in rows:
            # JSON has no infinity, and a folder is no part of what a track is.
            row |= {"file": Path(row["file"]).name, "clip": str(row["clip"])}
        genome, windows = source.genome, source.folder.windows
        return {
            "genome": {"name": genome.name, "sha256": genome.digest} if genome else None,
            "windows": _table_digest(windows) if windows is not None else None,
            "tracks": rows,
            "records": [_known_by(file) for file in source.folder.files],
        }


def plan_import(
    sources: Sequence[BasenjiSource],
    *,
    bin_size: int = 128,
    crop: int | None = None,
    length: int | None = None,
    margin: int = 3,
) -> ImportPlan:
    """Check sources against each other; only the first record of each is read.

    Args:
        bin_size, crop: of the records, where their statistics do not say them.
        length: bp of the store's windows, at least the records'; needs genomes and coordinates.
        margin: bp stored at either side for shifts; N where there is no genome.

    Raises:
        CislensError: for records that do not fit their tracks or each other, a genome without
            coordinates, a chromosome the genome does not have, or a length that does not fit.
    """
    if not sources:
        raise CislensError("no folder of records was given.")
    records: dict[str, RecordShape] = {}
    for source in sources:
        _check_source(source, records)
        records[source.species] = record_shape(
            source.folder, source.tracks, bin_size=bin_size, crop=crop
        )
        _check_windows(source.folder, records[source.species])
    first = next(iter(records.values()))
    for name, found in records.items():
        if replace(found, dtype=first.dtype) != first:
            raise CislensError(
                f"records of {name!r} have {found.length} bp and {found.bins} bins of "
                f"{found.bin_size} bp, those of {sources[0].species!r} {first.length}, "
                f"{first.bins} and {first.bin_size}; a store has one shape, import them apart."
            )
    if margin < 0:
        raise CislensError(f"margin {margin} must not be negative.")
    shape = _store_shape(sources, first, length, margin)
    tracks = max(len(source.tracks) for source in sources)
    row_bytes = sum(a.row_bytes for a in array_layouts(shape, 1, tracks, 1).values())
    shard_rows = max(1, min(_MOST_SHARD_ROWS, _SHARD_BYTES // row_bytes))
    named = tuple(_with_baseline(source) for source in sources)
    dtypes = {name: found.dtype for name, found in records.items()}
    return ImportPlan(named, first, dtypes, shape, shard_rows)


def _check_source(source: BasenjiSource, others: dict[str, RecordShape]) -> None:
    name, folder, genome = source.species, source.folder, source.genome
    if name in others:
        raise CislensError(f"species {name!r} is given twice; give each its own folder.")
    if not SPECIES_NAME.fullmatch(name):
        raise CislensError(
            f"species name {name!r} cannot name a folder; use letters, digits, _, . and -."
        )
    if genome is None:
        return
    if folder.windows is None:
        raise CislensError(
            f"{folder.path} has no sequences.bed, so its windows have no place in {genome.path}; "
            "add that file or leave the genome out."
        )
    for chrom in folder.windows["chrom"].unique(maintain_order=True):
        genome.size(chrom)


def _check_windows(folder: BasenjiFolder, record: RecordShape) -> None:
    if folder.windows is None:
        return
    wrong = folder.windows.filter(pl.col("end") - pl.col("start") != record.length)
    if wrong.height:
        chrom, start, end, _ = wrong.row(0)
        raise CislensError(
            f"{folder.path / 'sequences.bed'} has a window {chrom}:{start}-{end} of "
            f"{end - start} bp, the records have {record.length} bp; it belongs to other records."
        )


def _store_shape(
    sources: Sequence[BasenjiSource], record: RecordShape, length: int | None, margin: int
) -> Shape:
    length = record.length if length is None else length
    extra = length - record.length
    if extra < 0 or extra % (2 * record.bin_size):
        step = 2 * record.bin_size
        choices = [record.length, record.length + step]
        if extra > 0:
            choices = [length - extra % step, length - extra % step + step]
        raise CislensError(
            f"length {length} does not fit: windows keep the middle of records of "
            f"{record.length} bp and grow by whole bins of {record.bin_size} bp at both sides; "
            f"choose {choices[0]} or {choices[1]}."
        )
    for source in sources:
        if extra and source.genome is None:
            raise CislensError(
                f"windows of {length} bp are longer than the records of {source.species!r} "
                f"({record.length} bp); give the genome they come from."
            )
    return Shape(length, record.bin_size, record.crop + extra // (2 * record.bin_size), margin)


def _with_baseline(source: BasenjiSource) -> BasenjiSource:
    """Basenji's reader fills uncovered bases with the window's median."""
    rows = [
        replace(track, uncovered="baseline") if track.uncovered == "auto" else track
        for track in source.tracks.rows()
    ]
    return replace(source, tracks=track_table(rows))


def _known_by(file: RecordFile) -> dict[str, Any]:
    """Name, size and sha256 of the first and last MiB: a digest of all of it would read it twice.

    Compressed files end with a checksum of their content.
    """
    size = file.path.stat().st_size
    with file.path.open("rb") as handle:
        ends = handle.read(_END_BYTES)
        handle.seek(max(0, size - _END_BYTES))
        ends += handle.read()
    digest = hashlib.sha256(ends).hexdigest()
    return {"name": file.path.name, "split": file.split, "bytes": size, "sha256_ends": digest}


def _table_digest(windows: pl.DataFrame) -> dict[str, Any]:
    text = windows.write_csv().encode()
    return {"rows": windows.height, "sha256": hashlib.sha256(text).hexdigest()}
