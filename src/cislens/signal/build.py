"""Building a profile store: in parallel, resumable, the same bytes for any number of workers.

The store grows in `<out>.partial/store`. A unit of work is one shard of one species; when its
shards are on disk, a marker in `<out>.partial/done` says so. The last step writes the manifest
and renames the store to `<out>`, so that nothing half-written ever has that name.
"""

import errno
import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import cislens
from cislens.errors import CislensError
from cislens.files import claimed, write_atomic
from cislens.genome.codes import Codes
from cislens.genome.reference import Genome
from cislens.progress import track as progress
from cislens.signal.bigwig import read_windows
from cislens.signal.blacklist import Blacklist, calm
from cislens.signal.checks import Written, write_checks
from cislens.signal.layout import Values
from cislens.signal.plan import ProfilePlan, SplitSpec, plan_profile_store
from cislens.signal.quantization import quantize
from cislens.signal.resuming import begin, keeps, open_finished, publish
from cislens.signal.shards import ArrayLayout, create_array, write_shard
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
from cislens.signal.tracks import Track, TrackTable
from cislens.signal.transforms import LOWEST, NotFiniteError, to_float16, transform

# Below this many values to read, threads are done before new processes have started.
_PROCESSES_PAY = 4_000_000_000

logger = logging.getLogger("cislens")


def build_profile_store(
    out: str | os.PathLike[str],
    genomes: Mapping[str, Genome],
    tracks: TrackTable,
    *,
    length: int,
    bin_size: int,
    crop: int = 0,
    margin: int = 3,
    stride: int | None = None,
    split: SplitSpec | None = None,
    workers: int = 1,
    seed: int = 0,
    blacklist: Mapping[str, Blacklist] | None = None,
    values: Values = "float16",
) -> ProfileStore:
    """Plan and build a store; the arguments are those of `plan_profile_store`.

    Raises:
        CislensError: as `plan_profile_store` and `build_planned`.
    """
    plan = plan_profile_store(
        genomes, tracks, length=length, bin_size=bin_size, crop=crop, margin=margin,
        stride=stride, split=split, seed=seed, blacklist=blacklist, values=values,
    )  # fmt: skip
    return build_planned(out, plan, workers=workers)


def build_planned(
    out: str | os.PathLike[str], plan: ProfilePlan, *, workers: int = 1
) -> ProfileStore:
    """Build what was planned; a store of the same plan that exists already is opened instead.

    A build that was killed, or ended by a full disk, goes on where it stopped when it is started
    again with the same plan; what another plan left behind is discarded with a warning in the
    log. The bytes do not depend on `workers` or on interruptions.

    Raises:
        CislensError: if `out` exists and is something else, another build of it is running, or
            the disk is full.
    """
    out = Path(out)
    partial = partial_folder(out)
    if out.exists():
        return open_finished(out, plan.digest)
    with claimed(partial, "building"):
        try:
            _prepare(partial, plan)
            todo = _unfinished(partial, plan)
            _require_space(out, plan, todo)
            _run(partial, plan, todo, workers)
            _finish(partial, plan)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise _disk_full(out, plan, partial) from error
        except BrokenProcessPool as error:
            raise CislensError(
                f"a worker that built {out} was ended by the system, perhaps for lack of memory; "
                f"run the same command again with fewer than {workers} workers, it resumes."
            ) from error
        return publish(partial, out)


@dataclass(frozen=True)
class _Unit:
    species: str
    shard: int


@dataclass(frozen=True)
class _Job:
    """All that a worker needs for one unit; small enough to send to a process."""

    folder: Path
    marker: Path
    shard: int
    layouts: dict[str, ArrayLayout]
    genome: Genome
    chroms: npt.NDArray[np.object_]
    starts: npt.NDArray[np.int64]
    length: int
    margin: int
    bin_size: int
    crop: int
    tracks: list[Track]
    chrom_names: dict[str, dict[str, str]]
    blacklist: Blacklist | None


def _units(plan: ProfilePlan) -> list[_Unit]:
    return [
        _Unit(name, shard)
        for name in plan.species
        for shard in range(plan.layouts(name)["targets"].shards)
    ]


def _unfinished(partial: Path, plan: ProfilePlan) -> list[_Unit]:
    return [unit for unit in _units(plan) if not _marker(partial, unit).exists()]


def _unit_bytes(plan: ProfilePlan, units: list[_Unit]) -> int:
    return sum(
        layout.shard_bytes(unit.shard)
        for unit in units
        for layout in plan.layouts(unit.species).values()
    )


def _marker(partial: Path, unit: _Unit) -> Path:
    return partial / "done" / f"{unit.species}.{unit.shard}.json"


def _job(partial: Path, plan: ProfilePlan, unit: _Unit) -> _Job:
    part, layouts = plan.species[unit.species], plan.layouts(unit.species)
    first, last = layouts["targets"].span(unit.shard)
    windows = part.windows[first:last]
    return _Job(
        folder=species_folder(partial / "store", unit.species),
        marker=_marker(partial, unit),
        shard=unit.shard,
        layouts=layouts,
        genome=part.genome,
        chroms=windows["chrom"].to_numpy().astype(object),
        starts=windows["start"].to_numpy().astype(np.int64),
        length=plan.shape.length,
        margin=plan.shape.margin,
        bin_size=plan.shape.bin_size,
        crop=plan.shape.crop,
        tracks=part.tracks.rows(),
        chrom_names=part.chrom_names,
        blacklist=part.blacklist,
    )


def _build_unit(job: _Job) -> None:
    """Write both shards of a unit, then the marker with their digests."""
    written = {}
    for name, rows in (("sequence", _sequence(job)), ("targets", _targets(job))):
        written[name] = write_shard(job.folder / name, job.layouts[name], job.shard, rows)
    write_atomic(job.marker, json.dumps(written))


def _sequence(job: _Job) -> Codes:
    """Codes (n, length + 2 * margin); each chromosome's stretch is read once."""
    width = job.length + 2 * job.margin
    found = np.empty((job.starts.size, width), np.uint8)
    for chrom in dict.fromkeys(job.chroms.tolist()):
        here = np.flatnonzero(job.chroms == chrom)
        starts = job.starts[here] - job.margin
        left = int(starts.min())
        stretch = job.genome.fetch(chrom, left, int(starts.max()) + width)
        found[here] = np.lib.stride_tricks.sliding_window_view(stretch, width)[starts - left]
    return found


def _targets(job: _Job) -> npt.NDArray[np.float16 | np.uint8]:
    """Bins (n, bins, T) as they are stored; each track's windows are read in one call."""
    layout = job.layouts["targets"]
    found = np.empty((job.starts.size, *layout.row_shape), layout.dtype)
    for t, track in enumerate(job.tracks):
        names = job.chrom_names[track.id]
        chroms = np.array([names.get(chrom, chrom) for chrom in job.chroms])
        missing = 0.0 if track.uncovered == "zero" else np.nan
        values = read_windows(track.file, chroms, job.starts, job.length, missing=missing)
        if job.blacklist is not None:
            calm(values, job.blacklist, job.chroms, job.starts)
        try:
            bins = transform(values, track, bin_size=job.bin_size, crop=job.crop)
        except NotFiniteError as error:
            start = job.starts[error.row] + (job.crop + error.bin) * job.bin_size
            raise CislensError(f"{error} The bin begins at {chroms[error.row]}:{start}.") from None
        _refuse_negatives(bins, track, job, chroms)
        halves = to_float16(bins)
        found[:, :, t] = quantize(halves) if layout.dtype == "uint8" else halves
    return found


def _refuse_negatives(
    bins: npt.NDArray[np.float32], track: Track, job: _Job, chroms: npt.NDArray[Any]
) -> None:
    """Of a count below 0 the likelihood has no maximum; rounding may leave a little."""
    below = np.argwhere(bins < LOWEST)
    if below.size:
        row, at = below[0].tolist()
        start = job.starts[row] + (job.crop + at) * job.bin_size
        raise CislensError(
            f"track {track.id!r} ({track.file}) with scale {track.scale:g} is {bins[row, at]:.4g} "
            f"in the bin at {chroms[row]}:{start}, and profiles are counts. Give a negative scale "
            "if the file stores a minus strand below zero, exclude the chromosome (split: "
            "exclude), or leave the track out."
        )


def _run(partial: Path, plan: ProfilePlan, todo: list[_Unit], workers: int) -> None:
    if not todo:
        return
    with _executor(plan, min(workers, len(todo))) as executor:
        futures = [executor.submit(_build_unit, _job(partial, plan, unit)) for unit in todo]
        try:
            for future in progress(as_completed(futures), "building", total=len(futures)):
                future.result()
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def _executor(plan: ProfilePlan, workers: int) -> Executor:
    """Processes for large builds, threads for small ones: reading and pooling leave the GIL.

    Processes are spawned, as forking a process that has threads can hang.
    """
    if workers == 1 or plan.track_bases < _PROCESSES_PAY:
        return ThreadPoolExecutor(workers)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _prepare(partial: Path, plan: ProfilePlan) -> None:
    """Keep what an earlier run of this plan left, or start anew."""
    if keeps(partial, plan.digest):
        done = len(list((partial / "done").glob("*.json")))
        logger.info("resuming %s: %d of %d units are done", partial, done, len(_units(plan)))
        return
    for name, part in plan.species.items():
        folder = species_folder(partial / "store", name)
        for key, layout in plan.layouts(name).items():
            create_array(folder / key, layout)
        write_tables(folder, part.tracks, part.windows)
    begin(partial, plan.digest, plan.recipe())


def _finish(partial: Path, plan: ProfilePlan) -> None:
    """Write the manifest: the store is whole when it exists."""
    store = partial / "store"
    written: dict[str, Written] = {}
    for unit in _units(plan):
        for name, entry in json.loads(_marker(partial, unit).read_text()).items():
            layout = plan.layouts(unit.species)[name]
            folder = species_folder(store, unit.species) / name
            written[str(layout.shard_file(folder, unit.shard).relative_to(store))] = entry
    digests = write_checks(store, written)
    write_atomic(store / MANIFEST, manifest_text(_manifest(plan, file_entries(store, digests))))


def _manifest(plan: ProfilePlan, files: dict[str, Any]) -> dict[str, Any]:
    recipe, described = plan.recipe(), plan.describe()
    return {
        "format": FORMAT,
        "schema_version": recipe["schema_version"],
        "cislens": cislens.__version__,
        "plan_digest": plan.digest,
        "params": plan.params,
        "species": {
            name: {
                **{key: value for key, value in described["species"][name].items()
                   if key not in {"genome", "first_bases"}},
                "chrom_sizes": part.genome.chrom_sizes,
                "inputs": recipe["species"][name],
            }
            for name, part in plan.species.items()
        },
        "files": files,
    }  # fmt: skip


def _require_space(out: Path, plan: ProfilePlan, todo: list[_Unit]) -> None:
    needed = _unit_bytes(plan, todo)
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise CislensError(
            f"{out} needs {needed:,} more bytes, {free:,} are free on its disk; free some space "
            "or choose another path."
        )


def _disk_full(out: Path, plan: ProfilePlan, partial: Path) -> CislensError:
    units, left = _units(plan), _unfinished(partial, plan)
    needed = _unit_bytes(plan, left)
    return CislensError(
        f"the disk is full: {out} needs {plan.total_bytes:,} bytes, {needed:,} of them are still "
        f"to be written. {len(units) - len(left)} of {len(units)} units are done and kept in "
        f"{partial}; free some space and run the same command again."
    )
