"""Building a profile store: in parallel, resumable, the same bytes whoever does it.

A unit of work is one shard of one species: its sequences and its targets. How units are shared,
marked and resumed is in `cislens.signal.resuming`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import cislens
from cislens.engines import Engine, LocalEngine
from cislens.errors import CislensError
from cislens.files import write_atomic
from cislens.genome.codes import Codes
from cislens.genome.reference import Genome
from cislens.remote import Address, place
from cislens.signal.bigwig import read_windows
from cislens.signal.blacklist import Blacklist, calm
from cislens.signal.checks import Written, write_checks
from cislens.signal.layout import Values
from cislens.signal.manifests import MANIFEST, file_entries, manifest_text, species_folder
from cislens.signal.plan import ProfilePlan, SplitSpec, plan_profile_store
from cislens.signal.quantization import quantize
from cislens.signal.remote_build import build_remote, is_there
from cislens.signal.resuming import DoUnit, UnitsLeft, accepted, build
from cislens.signal.shards import ArrayLayout, create_array, write_shard
from cislens.signal.sharing import WHOLE, Part
from cislens.signal.store import FORMAT, ProfileStore, write_tables
from cislens.signal.tracks import Track, TrackTable
from cislens.signal.transforms import LOWEST, NotFiniteError, to_float16, transform


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
    return build_planned(out, plan, LocalEngine(workers))


def build_planned(
    out: str | os.PathLike[str], plan: ProfilePlan, engine: Engine | None = None
) -> ProfileStore:
    """Build what was planned; a store of the same plan that exists already is opened instead.

    Raises:
        CislensError: as `resuming.build`, or if `out` exists and is something else.
    """
    build_part(out, plan, engine)
    return ProfileStore.open(out)


def build_part(
    out: str | os.PathLike[str],
    plan: ProfilePlan,
    engine: Engine | None = None,
    part: Part = WHOLE,
) -> UnitsLeft | None:
    """Build a share of what was planned; what is left to others, None if the store is whole.

    Raises:
        CislensError: as `build_planned`.
    """
    out = place(out)
    if is_there(out):
        store = ProfileStore.open(out)
        accepted(store, store.manifest["plan_digest"] == plan.digest, "profile")
        return None
    builder = ProfileBuilder(plan)
    if isinstance(out, Address):
        return build_remote(out, builder, engine, part)
    return build(out, builder, engine, part)


@dataclass(frozen=True)
class _Unit:
    species: str
    shard: int


@dataclass(frozen=True)
class ProfileBuilder:
    """How a planned profile store is made; see `cislens.signal.resuming.Builder`."""

    plan: ProfilePlan
    doing: str = "building"

    @property
    def digest(self) -> str:
        return self.plan.digest

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.plan.recipe()

    def units(self) -> Sequence[str]:
        return [
            f"{name}.{shard}"
            for name in self.plan.species
            for shard in range(self.plan.layouts(name)["targets"].shards)
        ]

    def unit_bytes(self, unit: str) -> int:
        one = _unit(unit)
        return sum(
            layout.shard_bytes(one.shard) for layout in self.plan.layouts(one.species).values()
        )

    def begin(self, store: Path) -> None:
        for name, part in self.plan.species.items():
            folder = species_folder(store, name)
            for key, layout in self.plan.layouts(name).items():
                create_array(folder / key, layout)
            write_tables(folder, part.tracks, part.windows)

    def worker(self, store: Path) -> DoUnit:
        return lambda unit: _build_unit(store, _job(store, self.plan, _unit(unit)))

    def finish(self, store: Path, markers: Mapping[str, Mapping[str, Any]]) -> None:
        """The checksums of rows, and last the manifest."""
        written: dict[str, Written] = {}
        for marker in markers.values():
            written |= marker
        files = file_entries(store, write_checks(store, written))
        write_atomic(store / MANIFEST, manifest_text(_manifest(self.plan, files)))


def _unit(name: str) -> _Unit:
    species, shard = name.rsplit(".", 1)
    return _Unit(species, int(shard))


@dataclass(frozen=True)
class _Job:
    """All that a worker needs for one unit; small enough to send to a process."""

    folder: Path
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


def _job(store: Path, plan: ProfilePlan, unit: _Unit) -> _Job:
    part, layouts = plan.species[unit.species], plan.layouts(unit.species)
    first, last = layouts["targets"].span(unit.shard)
    windows = part.windows[first:last]
    return _Job(
        folder=species_folder(store, unit.species),
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


def _build_unit(store: Path, job: _Job) -> dict[str, Written]:
    """Write both shards of a unit; returns what is known of each file."""
    written = {}
    for name, rows in (("sequence", _sequence(job)), ("targets", _targets(job))):
        file = job.layouts[name].shard_file(job.folder / name, job.shard)
        written[str(file.relative_to(store))] = write_shard(
            job.folder / name, job.layouts[name], job.shard, rows
        )
    return written


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
