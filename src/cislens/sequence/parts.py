"""Tiles of a genome and the part that each lies in.

Dimensions: T tile.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.files import manifest_format, require_file
from cislens.genome.codes import N
from cislens.genome.reference import Genome
from cislens.genome.splits import TEST, TRAIN, VALID, split_by_chromosome, split_windows
from cislens.motifs.store import FORMAT as REGIONS
from cislens.motifs.store import RegionStore
from cislens.recipes.sequence import SequenceSplit
from cislens.remote import Address, place
from cislens.sequence.store import FORMAT as SEQUENCES
from cislens.sequence.store import SequenceStore
from cislens.signal.store import ProfileStore

logger = logging.getLogger("cislens")

PARTS = (TRAIN, VALID, TEST)
COLUMNS = ("chrom", "start", "end", "split", "block")
# Short tiles would share too few k-mers to be found alike.
_SHORTEST_TILE = 4096
_BLOCK_TILES = 16
_PIECE = 1 << 22  # bp read at a time

AnyStore = ProfileStore | RegionStore | SequenceStore


def tile_genome(genome: Genome, window: int) -> tuple[pl.DataFrame, list[str]]:
    """Tiles `chrom, start, end, called` over a genome, and the chromosomes that are N throughout.

    A tile has max(window, 4096) bp, the last of a chromosome up to twice that, or the whole of a
    chromosome that is shorter; `called` is the number of its bases that are not N. There is none
    on a chromosome that is shorter than a window, or of which every base is N (the log says so).

    Raises:
        CislensError: if no tile is left.
    """
    long = [chrom for chrom, size in genome.chrom_sizes.items() if size >= window]
    if not long:
        largest = max(genome.chrom_sizes, key=lambda chrom: genome.chrom_sizes[chrom])
        raise CislensError(
            f"a window of {window:,} bp is longer than every chromosome of {genome.path} (the "
            f"longest, {largest}, has {genome.size(largest):,} bp); choose a shorter window."
        )
    frames = [_tiles(genome, chrom, tile_bp(window)) for chrom in long]
    called = [int(tiles["called"].sum()) for tiles in frames]
    empty = [chrom for chrom, bases in zip(long, called, strict=True) if not bases]
    if len(empty) == len(long):
        raise CislensError(
            f"every base of {genome.path} on chromosomes that are long enough for a window of "
            f"{window:,} bp is N, e.g. on {empty[0]}; check the genome."
        )
    if empty:
        logger.warning("%s: %s left out: every base is N", genome.path, ", ".join(empty[:5]))
    return pl.concat([tiles for tiles, bases in zip(frames, called, strict=True) if bases]), empty


def tile_bp(window: int) -> int:
    """Length of a tile for windows of `window` bp."""
    return max(window, _SHORTEST_TILE)


def part_tiles(
    species: str, genome: Genome, tiles: pl.DataFrame, split: SequenceSplit, window: int, seed: int
) -> pl.DataFrame:
    """Tiles as `chrom, start, end, split, block`, some left out; by chromosome or by blocks.

    Raises:
        CislensError: that names the species; as the functions of `genome.splits`.
    """
    valid, test = split.valid.get(species, []), split.test.get(species, [])
    try:
        if valid or test:
            _require_all_parts(tiles, valid, test)
            parted = split_by_chromosome(tiles, valid, test)
        else:
            block_bp = split.block_bp or _BLOCK_TILES * tile_bp(window)
            _require_long_blocks(tiles, block_bp)
            parted = split_windows(genome, tiles, split.fractions, block_bp, seed)
    except CislensError as error:
        raise CislensError(f"split of species {species!r}: {error}") from None
    # Left out after the split: to exclude a chromosome moves no other tile to another part.
    excluded = split.exclude.get(species, [])
    for chrom in excluded:
        genome.size(chrom)
    return parted.filter(~pl.col("chrom").is_in(excluded)).select(COLUMNS)


def taken_parts(
    species: str, genome: Genome, path: str | os.PathLike[str], split: SequenceSplit
) -> pl.DataFrame:
    """Stretches of a genome with the part that they have in a store, as `part_tiles` gives them.

    Raises:
        CislensError: if there is no such store, it lacks the species, or is of another assembly.
    """
    store = open_any_store(path)
    regions = isinstance(store, RegionStore)
    known = (store.species,) if isinstance(store, RegionStore) else store.species
    if species not in known:
        raise CislensError(
            f"split: {path} has no species {species!r}, whose parts are to be taken from it. "
            f"{nearest(species, known)}"
        )
    if isinstance(store, ProfileStore):
        store.require_placed(species, "a split taken from it")
    if isinstance(store, RegionStore):
        sizes, windows = store.chrom_sizes, region_stretches(store)
    else:
        sizes, windows = store.chrom_sizes(species), store.windows(species)
    _require_assembly(species, genome, sizes, path)
    windows = windows.filter(~pl.col("chrom").is_in(split.exclude.get(species, [])))
    order = {chrom: number for number, chrom in enumerate(genome.chrom_sizes)}
    rank = pl.col("chrom").replace_strict(order, return_dtype=pl.Int64, default=None)
    known_chroms = windows.filter(pl.col("chrom").is_in(list(order)))
    if known_chroms.is_empty():
        kind = "regions" if regions else "windows"
        raise CislensError(
            f"split: the {kind} of {path} lie on {windows['chrom'].unique().sort()[0]!r} and "
            f"others that {genome.path} does not have; they must be of one assembly."
        )
    ordered = known_chroms.sort(rank, "start")
    # Windows that overlap are cut, so that no base is in two of them.
    reached = pl.col("end").cum_max().shift(1).over("chrom").fill_null(0)
    cut = ordered.with_columns(start=pl.max_horizontal("start", reached))
    return cut.filter(pl.col("start") < pl.col("end")).select(COLUMNS)


def region_stretches(store: RegionStore) -> pl.DataFrame:
    """Stretches of a genome, `chrom, start, end, split, block`, by the regions that lie there.

    What lies between regions of one block is of their part. A stretch ends midway to the next
    one, or at the chromosome's end.
    """
    regions = store.regions.select(COLUMNS)
    run = pl.struct("chrom", "split", "block").rle_id()
    stretches = (
        regions.with_columns(run=run)
        .group_by("run", maintain_order=True)
        .agg(*(pl.col(name).first() for name in ("chrom", "start", "split", "block")),
             pl.col("end").max())
    )  # fmt: skip
    before = pl.col("end").shift(1).over("chrom")
    middle = (pl.col("start") + before) // 2
    stretches = stretches.with_columns(start=middle.fill_null(0))
    size = pl.col("chrom").replace_strict(store.chrom_sizes, return_dtype=pl.Int64)
    after = pl.col("start").shift(-1).over("chrom").fill_null(size)
    return stretches.with_columns(end=after).select(COLUMNS)


def open_any_store(path: str | os.PathLike[str]) -> AnyStore:
    """A profile, region or sequence store, whichever it is.

    Raises:
        MissingFileError: if there is nothing.
        CislensError: as their `open`.
    """
    path = place(path)
    if isinstance(path, Address):
        return ProfileStore.open(path)
    found = manifest_format(require_file(path, "store"))
    if found == REGIONS:
        return RegionStore.open(path)
    return SequenceStore.open(path) if found == SEQUENCES else ProfileStore.open(path)


def store_digest(path: Path) -> str:
    """The digest of any store, after checking it."""
    return open_any_store(path).digest


def _tiles(genome: Genome, chrom: str, width: int) -> pl.DataFrame:
    size = genome.size(chrom)
    start_T = np.arange(max(size // width, 1), dtype=np.int64) * width
    end_T = np.append(start_T[1:], size)
    called_T = end_T - start_T
    for left in range(0, size, _PIECE):
        uncalled = np.flatnonzero(genome.fetch(chrom, left, min(left + _PIECE, size)) == N) + left
        tile = np.minimum(uncalled // width, len(start_T) - 1)
        called_T -= np.bincount(tile, minlength=len(start_T))
    chroms = [chrom] * len(start_T)
    return pl.DataFrame({"chrom": chroms, "start": start_T, "end": end_T, "called": called_T})


def _require_long_blocks(tiles: pl.DataFrame, block_bp: int) -> None:
    longest = int((tiles["end"] - tiles["start"]).to_numpy().max(initial=0))
    if block_bp < longest:
        raise CislensError(
            f"block_bp: blocks of {block_bp:,} bp cannot hold the tiles in which windows are "
            f"divided, of up to {longest:,} bp; choose blocks of several tiles."
        )


def _require_all_parts(tiles: pl.DataFrame, valid: list[str], test: list[str]) -> None:
    """Refuse a split by chromosome that gives one of the parts none."""
    present = tiles["chrom"].unique(maintain_order=True).to_list()
    if not {*valid, *test} <= set(present):
        return  # an unknown name has a message of its own
    left = [chrom for chrom in present if chrom not in {*valid, *test}]
    for part, chroms in ((VALID, valid), (TEST, test), (TRAIN, left)):
        if not chroms:
            raise CislensError(
                f"no chromosome is left for {part}; windows lie on {', '.join(present[:5])}. Name "
                "some for valid and some for test and leave some for train, or name none and "
                "divide by fractions."
            )


def _require_assembly(
    species: str, genome: Genome, sizes: Mapping[str, int], path: str | os.PathLike[str]
) -> None:
    for chrom, size in sizes.items():
        if genome.chrom_sizes.get(chrom, size) != size:
            raise CislensError(
                f"split: {chrom} of {species!r} has {genome.chrom_sizes[chrom]:,} bp in "
                f"{genome.path} and {size:,} bp in {path}; they are different assemblies."
            )
