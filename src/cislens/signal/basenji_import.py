"""Basenji's records into a profile store: one pass, a shard at a time, resumable.

A unit of work is one species; see `cislens.signal.resuming`. Within it, when both shards of some
windows are on disk, `<out>.partial/done/<species>/last.json` says so, and how many records of each
file were read by then; an import that was interrupted goes on behind them.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

import cislens
from cislens.engines import Engine
from cislens.errors import CislensError
from cislens.files import write_atomic
from cislens.genome.codes import Codes, N
from cislens.progress import track as progress
from cislens.remote import local
from cislens.signal.basenji import SPLITS, UNPLACED, decode_record
from cislens.signal.basenji_plan import BasenjiSource, ImportPlan
from cislens.signal.checks import Written, write_checks
from cislens.signal.layout import schema_version
from cislens.signal.manifests import MANIFEST, file_entries, manifest_text, species_folder
from cislens.signal.resuming import DoUnit, accepted, build
from cislens.signal.shards import create_array, write_shard
from cislens.signal.store import FORMAT, ProfileStore, write_tables
from cislens.signal.tfrecord import read_records

logger = logging.getLogger("cislens")


def import_basenji(
    out: str | os.PathLike[str], plan: ImportPlan, engine: Engine | None = None
) -> ProfileStore:
    """Import what was planned; a store of the same plan that exists already is opened instead.

    Raises:
        CislensError: as `resuming.build`, if `out` exists and is something else, or for a record:
            a wrong checksum, another shape than the first one's, a value that is not finite, a
            sequence that is not the genome's, or more or fewer records than the folder says. File
            and record are named.
    """
    out = local(out, "an import")
    if out.exists():
        store = ProfileStore.open(out)
        return accepted(store, store.manifest["plan_digest"] == plan.digest, "profile")
    build(out, BasenjiBuilder(plan), engine)
    return ProfileStore.open(out)


@dataclass(frozen=True)
class BasenjiBuilder:
    """How a planned import is done; see `cislens.signal.resuming.Builder`."""

    plan: ImportPlan
    doing: str = "importing"

    @property
    def digest(self) -> str:
        return self.plan.digest

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.plan.recipe

    def units(self) -> Sequence[str]:
        return [source.species for source in self.plan.sources]

    def unit_bytes(self, unit: str) -> int:
        """As far as the folder says how many records it has."""
        source = self._source(unit)
        rows = sum((source.folder.expected() or {}).values())
        return sum(layout.total_bytes for layout in self.plan.layouts(source, rows).values())

    def begin(self, store: Path) -> None:
        """Nothing: all there is belongs to a species, or needs every one."""

    def worker(self, store: Path) -> DoUnit:
        return lambda unit: asdict(_Import(store, self.plan, self._source(unit)).run())

    def finish(self, store: Path, markers: Mapping[str, Mapping[str, Any]]) -> None:
        """The checksums of rows, and last the manifest."""
        _finish(store, self.plan, markers)

    def _source(self, species: str) -> BasenjiSource:
        return next(source for source in self.plan.sources if source.species == species)


@dataclass
class _Progress:
    """Shards written so far, what is known of them, and the records read of each file."""

    shards: int
    written: dict[str, Written]
    counts: list[int]

    @property
    def rows(self) -> int:
        return sum(self.counts)


class _Import:
    """The import of one species."""

    def __init__(self, store: Path, plan: ImportPlan, source: BasenjiSource) -> None:
        self.plan, self.source = plan, source
        self.record = plan.record_of(source)
        self.store = store
        self.folder = species_folder(self.store, source.species)
        self.last = store.parent / "done" / source.species / "last.json"
        self.windows = source.folder.windows
        layouts = plan.layouts(source, plan.shard_rows)
        self.codes = np.empty((plan.shard_rows, *layouts["sequence"].row_shape), np.uint8)
        self.targets = np.empty((plan.shard_rows, *layouts["targets"].row_shape), np.float16)

    def run(self) -> _Progress:
        """Read all records that were not read, then write the tables and the arrays' metadata."""
        at = self._resumed()
        held = 0
        total = sum((self.source.folder.expected() or {}).values()) or None
        what = f"importing {self.source.species}"
        for number, where, data in progress(
            self._records(at.counts), what, total=total and total - at.rows
        ):
            at.counts += [0] * (number + 1 - len(at.counts))
            self._check_split(at.rows, self.source.folder.files[number].split, where)
            codes, targets = decode_record(data, self.record, self.source.tracks, where)
            self.codes[held] = self._extended(codes, at.rows, where)
            self.targets[held] = targets
            at.counts[number] += 1
            held += 1
            if held == self.plan.shard_rows:
                self._write(at, held)
                write_atomic(self.last, json.dumps(asdict(at)))
                held = 0
        if held:
            self._write(at, held)
        at.counts += [0] * (len(self.source.folder.files) - len(at.counts))
        self._check_counts(at)
        for name, layout in self.plan.layouts(self.source, at.rows).items():
            # Of a run that ended between here and the marker; zarr does not write over it.
            (self.folder / name / "zarr.json").unlink(missing_ok=True)
            create_array(self.folder / name, layout)
        write_tables(self.folder, self.source.tracks, self._windows(at))
        return at

    def _records(self, counts: list[int]) -> Iterator[tuple[int, str, bytes]]:
        """File, name and data of each record behind the first `counts` ones of the files."""
        read = list(counts)
        for number, file in enumerate(self.source.folder.files):
            if number < len(read) - 1:
                continue
            before = read[number] if number < len(read) else 0
            for record, data in enumerate(read_records(file.path)):
                if record >= before:
                    yield number, f"{file.path} record {record}", data

    def _check_split(self, row: int, split: str, where: str) -> None:
        """Records without a line of their own would take the place of others."""
        if self.windows is None:
            return
        expected = self.windows["split"][row] if row < self.windows.height else "no"
        if expected != split:
            counts = self.source.folder.expected()
            raise CislensError(
                f"{where} is for {split}, but {self.source.folder.path / 'sequences.bed'} has "
                f"{expected} window in its place (it lists {counts}); a record file is missing "
                "or too many."
            )

    def _extended(self, codes: Codes, row: int, where: str) -> Codes:
        """Codes of the store's window with its margin: the genome's, else N around the record."""
        beyond = self.plan.extra + self.plan.shape.margin
        if self.source.genome is None or self.windows is None:
            return np.pad(codes, beyond, constant_values=N)
        chrom, start, end, _ = self.windows.row(row)
        found = self.source.genome.fetch(chrom, start - beyond, end + beyond)
        differ = np.flatnonzero(found[beyond : beyond + codes.size] != codes)
        if differ.size:
            raise CislensError(
                f"{where}: its sequence differs from {chrom}:{start}-{end} of "
                f"{self.source.genome.path} at {differ.size:,} of {codes.size:,} bases, first at "
                f"{chrom}:{start + differ[0]}; give the very assembly the data were made from."
            )
        return found

    def _write(self, at: _Progress, rows: int) -> None:
        layouts = self.plan.layouts(self.source, at.rows)
        for name, values in (("sequence", self.codes), ("targets", self.targets)):
            folder, layout = self.folder / name, layouts[name]
            file = layout.shard_file(folder, at.shards).relative_to(self.store)
            at.written[str(file)] = write_shard(folder, layout, at.shards, values[:rows])
        at.shards += 1

    def _resumed(self) -> _Progress:
        if not self.last.exists():
            return _Progress(0, {}, [])
        at = _Progress(**json.loads(self.last.read_text()))
        logger.info("resuming %s behind %d records", self.source.species, at.rows)
        return at

    def _check_counts(self, at: _Progress) -> None:
        found = self._counts_by_split(at)
        for split, count in (self.source.folder.expected() or {}).items():
            if count != found[split]:
                raise CislensError(
                    f"{self.source.folder.path} has {found[split]} records for {split}, its "
                    f"tables say {count}; a record file is missing or too many."
                )
        given = {file.split for file in self.source.folder.files}
        for split, count in found.items():
            if not count and split in given:
                raise CislensError(
                    f"the record files of {self.source.folder.path} for {split} hold no record; "
                    "fetch them again, or remove them to import the other parts alone."
                )
            if not count:
                logger.warning("%s has no record for %s", self.source.folder.path, split)

    def _counts_by_split(self, at: _Progress) -> dict[str, int]:
        found = dict.fromkeys(SPLITS, 0)
        for file, count in zip(self.source.folder.files, at.counts, strict=True):
            found[file.split] += count
        return found

    def _windows(self, at: _Progress) -> pl.DataFrame:
        """The store's windows: those of the records, grown to the store's length."""
        length, extra = self.plan.shape.length, self.plan.extra
        if self.windows is None:
            counts = self._counts_by_split(at)
            rows = np.arange(at.rows, dtype=np.int64)
            return pl.DataFrame(
                {
                    "chrom": pl.Series([UNPLACED] * at.rows, dtype=pl.String),
                    "start": rows * length,
                    "end": (rows + 1) * length,
                    "block": rows,
                    "split": pl.Series([s for s in SPLITS for _ in range(counts[s])]),
                }
            )
        grown = self.windows.with_columns(
            pl.col("start") - extra, pl.col("end") + extra, block=pl.Series(_blocks(self.windows))
        )
        return grown.select("chrom", "start", "end", "block", "split")


def _blocks(windows: pl.DataFrame) -> npt.NDArray[np.int64]:
    """(n,) number of the run of overlapping or touching windows of one part that each lies in."""
    order = windows.with_row_index("row").sort("chrom", "split", "start")
    same = (pl.col("chrom") == pl.col("chrom").shift()) & (
        pl.col("split") == pl.col("split").shift()
    )
    joined = same & (pl.col("start") <= pl.col("end").shift())
    runs = order.select("row", run=(~joined.fill_null(False)).cum_sum().cast(pl.Int64) - 1)
    return runs.sort("row")["run"].to_numpy()


def _finish(store: Path, plan: ImportPlan, markers: Mapping[str, Mapping[str, Any]]) -> None:
    written: dict[str, Written] = {}
    species = {}
    for source in plan.sources:
        marker = markers[source.species]
        written |= marker["written"]
        species[source.species] = _entry(store, plan, source, marker["counts"])
    known = write_checks(store, written)
    recipe = plan.recipe
    params = ("length", "bin_size", "crop", "margin", "stride", "seed", "split", "shard_rows")
    manifest = {
        "format": FORMAT,
        "schema_version": schema_version("float16"),
        "cislens": cislens.__version__,
        "plan_digest": plan.digest,
        "params": {name: recipe[name] for name in params},
        "species": species,
        "files": file_entries(store, known),
    }
    write_atomic(store / MANIFEST, manifest_text(manifest))


def _entry(store: Path, plan: ImportPlan, source: BasenjiSource, counts: list[int]) -> Any:
    windows = pl.read_parquet(species_folder(store, source.species) / "windows.parquet")
    inputs = plan.recipe["species"][source.species]
    records = [
        {**file, "records": count} for file, count in zip(inputs["records"], counts, strict=True)
    ]
    return {
        "tracks": len(source.tracks),
        "groups": source.tracks.groups(),
        "windows": windows.height,
        "split": dict(sorted(windows["split"].value_counts().iter_rows())),
        "placed": source.folder.windows is not None,
        "tiled": windows.height,
        "dropped_n": 0,
        "dropped_split": 0,
        "chromosome_names": {},
        "ambiguous_bases": {},
        "chrom_sizes": source.genome.chrom_sizes if source.genome else {},
        "inputs": {**inputs, "records": records},
    }
