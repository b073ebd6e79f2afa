"""What a profile store will hold, with every check of its inputs, before any work is done."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from cislens.errors import CislensError, nearest
from cislens.files import file_digest
from cislens.genome.codes import decode
from cislens.genome.intervals import tile
from cislens.genome.reference import Genome, report_ambiguous
from cislens.genome.splits import split_by_chromosome, split_windows
from cislens.signal.bigwig import summarize
from cislens.signal.blacklist import Blacklist
from cislens.signal.inputs import chromosome_names, n_fraction, resolve
from cislens.signal.layout import Shape, Values, array_layouts, schema_version
from cislens.signal.shards import ArrayLayout
from cislens.signal.tracks import Track, TrackTable, track_table

MAX_N_FRACTION = 0.5
# A unit of work holds about this many bases a track, and at most this many windows.
_UNIT_BASES = 1 << 23
_UNIT_WINDOWS = 512
# Bases x tracks that one core turns into bins in a second, measured; for the estimate only.
_BASES_A_SECOND = 2e8
SPECIES_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class SplitSpec:
    """How windows are divided into train, valid and test.

    A species with chromosomes named in `valid` and `test` (species -> names) is split by
    chromosome; others by contiguous blocks of `block_bp` (by default 16 windows), joined where
    they are homologous, in `fractions`. Of chromosomes named in `exclude` there are no windows.
    """

    fractions: Mapping[str, float] = field(
        default_factory=lambda: {"train": 0.8, "valid": 0.1, "test": 0.1}
    )
    block_bp: int | None = None
    valid: Mapping[str, list[str]] = field(default_factory=dict)
    test: Mapping[str, list[str]] = field(default_factory=dict)
    exclude: Mapping[str, list[str]] = field(default_factory=dict)

    def excluded(self, species: str, genome: Genome) -> list[str]:
        """The chromosomes without windows.

        Raises:
            CislensError: if the genome does not have one.
        """
        excluded = self.exclude.get(species, [])
        for chrom in excluded:
            if chrom not in genome.chrom_sizes:
                raise CislensError(
                    f"split: exclude names chromosome {chrom!r}, which {genome.path} does not "
                    f"have. {nearest(chrom, genome.chrom_sizes)}"
                )
        return list(excluded)


@dataclass(frozen=True)
class SpeciesPlan:
    """The part of one species.

    Attributes:
        windows: chrom, start, end, block, split; in the order of the arrays' rows.
        tracks: with `uncovered` resolved.
        chrom_names: track id -> chromosome of the genome -> its name in the track's file.
        name_reports: track id -> what was renamed or left out, where anything was.
        blacklist: regions where values are clipped to the window's baseline.
        tiled, dropped_n, dropped_split: windows at first, then left out for too many N, then
            left out by the split.
    """

    genome: Genome
    windows: pl.DataFrame
    tracks: TrackTable
    chrom_names: dict[str, dict[str, str]]
    name_reports: dict[str, str]
    ambiguous: dict[str, dict[str, int]]
    track_digests: dict[str, str]
    tiled: int
    dropped_n: int
    dropped_split: int
    first_bases: str
    blacklist: Blacklist | None = None


@dataclass(frozen=True)
class ProfilePlan:
    """Everything a build does, resolved; `describe` is what a dry run prints.

    `values` is what a bin is stored as: a float16, or a code of `cislens.signal.quantization`.
    """

    shape: Shape
    stride: int
    seed: int
    split: SplitSpec
    species: dict[str, SpeciesPlan]
    values: Values = "float16"

    @property
    def params(self) -> dict[str, Any]:
        """The settings that the manifest names; `values` only where they are codes."""
        coded = {} if self.values == "float16" else {"values": self.values}
        return {
            **asdict(self.shape),
            "stride": self.stride,
            "seed": self.seed,
            "split": asdict(self.split),
            "shard_rows": self.shard_rows,
            **coded,
        }

    @cached_property
    def shard_rows(self) -> int:
        """Windows in a shard, the unit of work."""
        return max(1, min(_UNIT_WINDOWS, _UNIT_BASES // self.shape.length))

    def layouts(self, species: str) -> dict[str, ArrayLayout]:
        """The arrays of one species by name."""
        part = self.species[species]
        rows, tracks = part.windows.height, len(part.tracks)
        return array_layouts(self.shape, rows, tracks, self.shard_rows, self.values)

    @property
    def total_bytes(self) -> int:
        """Size of all arrays on disk."""
        return sum(
            layout.total_bytes for name in self.species for layout in self.layouts(name).values()
        )

    @property
    def track_bases(self) -> int:
        """Values to read: bases of all windows times tracks."""
        windows = (part.windows.height * len(part.tracks) for part in self.species.values())
        return sum(windows) * self.shape.length

    def recipe(self) -> dict[str, Any]:
        """What determines the store's bytes: sizes, split and the digests of every input."""
        return {
            "schema_version": schema_version(self.values),
            **self.params,
            "species": {name: _inputs(part) for name, part in self.species.items()},
        }

    @property
    def digest(self) -> str:
        """sha256 of the recipe."""
        return hashlib.sha256(json.dumps(self.recipe(), sort_keys=True).encode()).hexdigest()

    def describe(self, workers: int = 1) -> dict[str, Any]:
        """Counts, sizes, estimates, resolved names and first bases, ready for JSON."""
        return {
            "bins": self.shape.bins,
            "stride": self.stride,
            "bytes": self.total_bytes,
            "estimated_seconds": round(self.track_bases / _BASES_A_SECOND / workers, 1),
            "species": {
                name: {
                    "genome": str(part.genome.path),
                    "tracks": len(part.tracks),
                    "groups": part.tracks.groups(),
                    "windows": part.windows.height,
                    "split": dict(sorted(part.windows["split"].value_counts().iter_rows())),
                    "tiled": part.tiled,
                    "dropped_n": part.dropped_n,
                    "dropped_split": part.dropped_split,
                    "chromosome_names": part.name_reports,
                    "ambiguous_bases": part.ambiguous,
                    "blacklisted_regions": part.blacklist.count if part.blacklist else 0,
                    "first_bases": part.first_bases,
                }
                for name, part in self.species.items()
            },
        }


def plan_profile_store(
    genomes: Mapping[str, Genome],
    tracks: TrackTable,
    *,
    length: int,
    bin_size: int,
    crop: int = 0,
    margin: int = 3,
    stride: int | None = None,
    split: SplitSpec | None = None,
    seed: int = 0,
    blacklist: Mapping[str, Blacklist] | None = None,
    values: Values = "float16",
) -> ProfilePlan:
    """Check every input and decide on the windows; nothing is written.

    Windows of `length` bp are tiled every `stride` bp (by default so that the bins of neighbours
    meet), those with more than half N are left out, and the rest is split.

    Args:
        genomes: species -> genome; the species of the track table.
        bin_size: bp; divides `length`. `crop` bins at either side have no target.
        margin: bp stored at either side of a window, for shifts; beyond a chromosome it is N.
        blacklist: species -> regions where values are clipped to the window's baseline.
        values: what a bin is stored as; see `ProfilePlan`.

    Raises:
        CislensError: for sizes that do not fit, a window longer than every chromosome, an
            unknown species, a file that is missing, truncated or not a bigWig, chromosome names
            that do not match, or a track that reaches beyond its chromosome.
    """
    shape = _checked_shape(length, bin_size, crop, margin)
    stride = shape.bins * bin_size if stride is None else stride
    split = split or SplitSpec()
    _check_species(genomes, tracks, split)
    blacklist = blacklist or {}
    _check_named("blacklist", blacklist, genomes)
    species = {
        name: _plan_species(name, genome, tracks.for_species(name), shape, stride, split, seed)
        for name, genome in genomes.items()
    }
    species = {name: replace(part, blacklist=blacklist.get(name)) for name, part in species.items()}
    return ProfilePlan(shape, stride, seed, split, species, values)


def _checked_shape(length: int, bin_size: int, crop: int, margin: int) -> Shape:
    if bin_size < 1 or length < 1 or length % bin_size:
        raise CislensError(
            f"length {length} is not a positive multiple of bin_size {bin_size}; choose "
            f"{nearest_lengths(length, bin_size)}."
        )
    if crop < 0 or margin < 0:
        raise CislensError(f"crop {crop} and margin {margin} must not be negative.")
    shape = Shape(length, bin_size, crop, margin)
    if shape.bins < 1:
        raise CislensError(
            f"crop {crop} leaves none of the {length // bin_size} bins of a window; "
            f"choose at most {(length // bin_size - 1) // 2}."
        )
    return shape


def nearest_lengths(length: int, step: int) -> str:
    """The multiples of `step` around a length that is none, for an error."""
    step = max(step, 1)
    below = max(length, 0) // step * step
    return " or ".join(f"{at}" for at in (below, below + step) if at)


def _check_species(genomes: Mapping[str, Genome], tracks: TrackTable, split: SplitSpec) -> None:
    _check_named("split", (*split.valid, *split.test, *split.exclude), genomes)
    _check_named("track table", tracks.species(), genomes)
    for name in genomes:
        if not SPECIES_NAME.fullmatch(name):
            raise CislensError(
                f"species name {name!r} cannot name a folder; use letters, digits, _, . and -."
            )
        if name not in tracks.species():
            raise CislensError(f"species {name!r} has a genome but no track in the track table.")


def _check_named(what: str, names: Iterable[str], genomes: Mapping[str, Genome]) -> None:
    for name in names:
        if name not in genomes:
            raise CislensError(
                f"the {what} names species {name!r}, which has no genome. {nearest(name, genomes)}"
            )


def _plan_species(
    name: str,
    genome: Genome,
    tracks: TrackTable,
    shape: Shape,
    stride: int,
    split: SplitSpec,
    seed: int,
) -> SpeciesPlan:
    resolved: list[Track] = []
    names: dict[str, dict[str, str]] = {}
    reports: dict[str, str] = {}
    for track in tracks.rows():
        summary = summarize(track.file)
        names[track.id], report = chromosome_names(track, summary, genome)
        if report:
            reports[track.id] = report
        resolved.append(resolve(track, summary))
    tiled = tile(genome.chrom_sizes, shape.length, stride)
    called = tiled.filter(pl.Series(n_fraction(genome, tiled) <= MAX_N_FRACTION))
    if called.is_empty():
        raise CislensError(
            f"all {tiled.height} windows of {genome.path} are more than half N; check the genome."
        )
    # Left out after the split: to exclude a chromosome moves no other window to another part.
    excluded = split.excluded(name, genome)
    windows = _split(name, genome, called, shape, split, seed)
    kept = windows.filter(~pl.col("chrom").is_in(excluded))
    empty = [part for part in split.fractions if part not in kept["split"]]
    if empty:
        raise CislensError(
            f"split of species {name!r}: exclude leaves no window for {empty[0]}; name fewer "
            "chromosomes."
        )
    windows, dropped_split = kept, called.height - windows.height
    first = windows.row(0, named=True)
    bases = decode(genome.fetch(first["chrom"], first["start"], first["start"] + 30))
    return SpeciesPlan(
        genome=genome,
        windows=windows,
        tracks=track_table(resolved),
        chrom_names=names,
        name_reports=reports,
        ambiguous=report_ambiguous(genome, genome.chrom_sizes),
        track_digests={track.id: file_digest(track.file) for track in resolved},
        tiled=tiled.height,
        dropped_n=tiled.height - called.height,
        dropped_split=dropped_split,
        first_bases=f"{first['chrom']}:{first['start']} {bases}",
    )


def _split(
    name: str, genome: Genome, windows: pl.DataFrame, shape: Shape, spec: SplitSpec, seed: int
) -> pl.DataFrame:
    valid, test = spec.valid.get(name, []), spec.test.get(name, [])
    if valid or test:
        _check_chromosomes(name, windows, valid, test)
    try:
        if valid or test:
            found = split_by_chromosome(windows, valid, test)
        else:
            block_bp = spec.block_bp or 16 * shape.length
            found = split_windows(genome, windows, spec.fractions, block_bp, seed, shape.margin)
    except CislensError as error:
        raise CislensError(f"split of species {name!r}: {error}") from None
    order = {chrom: i for i, chrom in enumerate(genome.chrom_sizes)}
    rank = pl.col("chrom").replace_strict(order, return_dtype=pl.Int64)
    return found.select("chrom", "start", "end", "block", "split").sort(rank, "start")


def _check_chromosomes(name: str, windows: pl.DataFrame, valid: list[str], test: list[str]) -> None:
    """Refuse named chromosomes that leave a part of the split without windows."""
    present = windows["chrom"].unique(maintain_order=True).to_list()
    if not {*valid, *test} <= set(present):
        return  # an unknown name has a message of its own
    left = [chrom for chrom in present if chrom not in {*valid, *test}]
    for part, chroms in (("valid", valid), ("test", test), ("train", left)):
        if not chroms:
            what = (
                "every chromosome is named for valid or test"
                if part == "train"
                else (f"chromosomes are named for {'test' if part == 'valid' else 'valid'} alone")
            )
            raise CislensError(
                f"split of species {name!r}: no window is left for {part}, {what}; the windows "
                f"lie on {', '.join(present)}. Name some for valid and test and leave some for "
                "train, or name none and divide by fractions."
            )


def _inputs(part: SpeciesPlan) -> dict[str, Any]:
    rows = [asdict(track) | {"file": Path(track.file).name} for track in part.tracks.rows()]
    for row in rows:
        row["clip"] = str(row["clip"])  # JSON has no infinity
        row["sha256"] = part.track_digests[row["id"]]
    table = part.windows.write_csv().encode()
    return {
        "genome": {"name": part.genome.name, "sha256": part.genome.digest},
        "blacklist": part.blacklist.digest if part.blacklist else None,
        "windows": {"rows": part.windows.height, "sha256": hashlib.sha256(table).hexdigest()},
        "tracks": rows,
    }
