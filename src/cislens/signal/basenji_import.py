"""Basenji's records into a profile store: one pass, a shard at a time, resumable.

The store grows in `<out>.partial/store`. When both shards of some windows are on disk a marker in
`<out>.partial/done/<species>` says so, and how many records of each file were read by then; an
import that was interrupted goes on behind them.
"""

import errno
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

import cislens
from cislens.errors import CislensError
from cislens.files import claimed, write_atomic
from cislens.genome.codes import Codes, N
from cislens.progress import track as progress
from cislens.signal.basenji import SPLITS, UNPLACED, decode_record
from cislens.signal.basenji_plan import BasenjiSource, ImportPlan
from cislens.signal.checks import Written, write_checks
from cislens.signal.layout import schema_version
from cislens.signal.resuming import begin, keeps, open_finished, publish
from cislens.signal.shards import create_array, write_shard
from cislens.signal.store import (
    FORMAT,
    MANIFEST,
    ProfileStore,
    file_entries,
    manifest_text,
    partial_folder,
    species_folder,
    write_tables,
)
from cislens.signal.tfrecord import read_records

logger = logging.getLogger("cislens")


def import_basenji(out: str | os.PathLike[str], plan: ImportPlan) -> ProfileStore:
    """Import what was planned; a store of the same plan that exists already is opened instead.

    An import that was killed, or ended by a full disk, goes on where it stopped when it is
    started again with the same plan; what another plan left behind is discarded with a warning
    in the log. The bytes do not depend on interruptions.

    Raises:
        CislensError: if `out` exists and is something else, another import of it is running, the
            disk is full, or for a record: a wrong checksum, another shape than the first one's, a
            value that is not finite, a sequence that is not the genome's, or more or fewer
            records than the folder says. File and record are named.
    """
    out = Path(out)
    partial = partial_folder(out)
    if out.exists():
        return open_finished(out, plan.digest)
    with claimed(partial, "building"):
        try:
            if not keeps(partial, plan.digest):
                begin(partial, plan.digest, plan.recipe)
            for source in plan.sources:
                _Import(partial, plan, source).run()
            _finish(partial, plan)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise CislensError(
                f"the disk is full: what was imported is kept in {partial}; free some space and "
                "run the same command again."
            ) from error
        return publish(partial, out)


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

    def __init__(self, partial: Path, plan: ImportPlan, source: BasenjiSource) -> None:
        self.plan, self.source = plan, source
        self.record = plan.record_of(source)
        self.store = partial / "store"
        self.folder = species_folder(self.store, source.species)
        self.done = partial / "done" / source.species
        self.windows = source.folder.windows
        layouts = plan.layouts(source, plan.shard_rows)
        self.codes = np.empty((plan.shard_rows, *layouts["sequence"].row_shape), np.uint8)
        self.targets = np.empty((plan.shard_rows, *layouts["targets"].row_shape), np.float16)

    def run(self) -> None:
        """Read all records that no marker has, then write the tables and the arrays' metadata."""
        if (self.done / "all.json").exists():
            return
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
                self._mark("last", at)
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
        self._mark("all", at)

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

    def _mark(self, name: str, at: _Progress) -> None:
        """Say what is on disk, in whole shards or, by the name `all`, in all."""
        write_atomic(self.done / f"{name}.json", json.dumps(asdict(at)))

    def _resumed(self) -> _Progress:
        last = self.done / "last.json"
        if not last.exists():
            return _Progress(0, {}, [])
        at = _Progress(**json.loads(last.read_text()))
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


def _finish(partial: Path, plan: ImportPlan) -> None:
    """Write the manifest: the store is whole when it exists."""
    store = partial / "store"
    written: dict[str, Written] = {}
    species = {}
    for source in plan.sources:
        marker = json.loads((partial / "done" / source.species / "all.json").read_text())
        written |= marker["written"]
        species[source.species] = _entry(store, plan, source, marker["counts"])
    digests = write_checks(store, written)
    recipe = plan.recipe
    params = ("length", "bin_size", "crop", "margin", "stride", "seed", "split", "shard_rows")
    manifest = {
        "format": FORMAT,
        "schema_version": schema_version("float16"),
        "cislens": cislens.__version__,
        "plan_digest": plan.digest,
        "params": {name: recipe[name] for name in params},
        "species": species,
        "files": file_entries(store, digests),
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
