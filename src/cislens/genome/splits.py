"""Train, valid and test parts that share no base and no duplicated stretch of the genome."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_array

from cislens.errors import CislensError, nearest
from cislens.genome.homology import components
from cislens.genome.minimizers import Ints, Words, sketch
from cislens.genome.reference import Genome
from cislens.randomness import generator

logger = logging.getLogger("cislens")

TRAIN, VALID, TEST = "train", "valid", "test"

# A component with a larger part of the rows is not balanced but put to train.
_LARGEST_COMPONENT = 0.1
_K = 15
_KMERS_PER_WINDOW = 256
# Two windows are homologous over a large part if this fraction of the k-mers of one is in the
# other: a whole window at an identity of 0.86 (0.86^15 = 0.1), half of one at 0.90.
_CONTAINMENT = 0.1
# Blocks go together if this fraction of the windows of one has homologs in the other.
_LARGE_PART = 0.25
# k-mers in more places are of repeats, which join nothing; in more windows they are not counted.
_MOST_BLOCKS, _MOST_WINDOWS = 8, 1000
_LEAST_SHARED = 8


def balanced_folds(
    cluster: Sequence[int] | Ints,
    fractions: Mapping[str, float],
    seed: int,
    strata: Sequence[object] | npt.NDArray[np.generic] | None = None,
) -> npt.NDArray[np.str_]:
    """Split rows (n,) into named parts, a cluster always in one part.

    The largest cluster goes first, each to the part where the counts of rows, and of the rows of
    every stratum, come nearest to `fractions` in squared error; the seed orders clusters of one
    size. A cluster with more than a tenth of the rows goes to "train", where there is such a
    part, and the log says so.

    Raises:
        CislensError: if the fractions are not positive or do not sum to 1.
    """
    labels, rows = np.unique(np.asarray(cluster), return_inverse=True)
    columns = [np.ones(len(rows))]
    if strata is not None:
        _values, stratum = np.unique(np.asarray(strata), return_inverse=True)
        columns += [(stratum == value).astype(np.float64) for value in range(stratum.max() + 1)]
    counts = np.stack([np.bincount(rows, column, len(labels)) for column in columns], 1)
    names = np.array(list(fractions))
    return names[_fill(counts, np.bincount(rows), fractions, seed)[rows]]


def _fill(
    counts: npt.NDArray[Any], members: Ints, fractions: Mapping[str, float], seed: int
) -> npt.NDArray[np.int64]:
    """The part of each cluster, given its counts (clusters, quantities), rows first.

    `members` is the number of units that a cluster joins; a unit alone may be of any size.
    """
    shares = np.array(list(fractions.values()), float)
    if len(shares) == 0 or (shares <= 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise CislensError(
            f"the fractions of a split must be positive and sum to 1, not {dict(fractions)}."
        )
    whole = counts.sum(0)
    target = shares[:, None] * whole
    # Each quantity counts in units of its own total, so that a rare stratum is balanced too.
    scale = 1 / np.maximum(whole, 1)
    filled = np.zeros_like(target)
    part = np.zeros(len(counts), np.int64)
    order = generator(seed, "folds").permutation(len(counts))
    order = order[np.argsort(-counts[order, 0], kind="stable")]
    for cluster in order.tolist():
        added = counts[cluster]
        large = added[0] > _LARGEST_COMPONENT * whole[0] and members[cluster] > 1
        if large and TRAIN in fractions:
            chosen = list(fractions).index(TRAIN)
            logger.warning(
                "%d of %d rows are joined by homology; they all go to train", added[0], whole[0]
            )
        else:
            before, after = (filled - target) * scale, (filled + added - target) * scale
            chosen = int(np.argmin((after**2 - before**2).sum(1)))
        part[cluster] = chosen
        filled[chosen] += added
    return part


def split_by_chromosome(
    windows: pl.DataFrame, valid: Sequence[str], test: Sequence[str]
) -> pl.DataFrame:
    """Windows with `block` (number of the chromosome) and `split`: valid, test, the rest train.

    Raises:
        CislensError: if a chromosome is named twice, has no window, or a part stays empty.
    """
    present = windows["chrom"].unique(maintain_order=True).to_list()
    for name in (*valid, *test):
        if name not in present:
            raise CislensError(f"no window lies on {name!r}. {nearest(name, present)}")
    both = sorted(set(valid) & set(test))
    if both:
        raise CislensError(f"{both[0]!r} is named for both valid and test.")
    chrom = pl.col("chrom")
    split = (
        pl.when(chrom.is_in(list(valid))).then(pl.lit(VALID))
        .when(chrom.is_in(list(test))).then(pl.lit(TEST))
        .otherwise(pl.lit(TRAIN))
    )  # fmt: skip
    number = chrom.replace_strict(present, list(range(len(present))), return_dtype=pl.Int64)
    return _checked(windows.with_columns(block=number, split=split), (TRAIN, VALID, TEST))


def split_windows(
    genome: Genome,
    windows: pl.DataFrame,
    fractions: Mapping[str, float],
    block_bp: int,
    seed: int,
    margin: int = 0,
) -> pl.DataFrame:
    """Windows with `block` (number of a stretch of about `block_bp` bp) and `split`, some dropped.

    Blocks go whole to a part, and two blocks go together if a quarter of the windows of one are
    homologous to windows of the other over a large part, on either strand. k-mers found in more
    than eight blocks count as repeats and join nothing, so that Alu or Ty elements do not chain
    the genome. Dropped, and counted in the log, are windows that with `margin` bp on both sides
    touch blocks of two parts, and windows that are, repeats included, homologous over a large
    part to a window of a part named earlier in `fractions` (so name train first).

    Raises:
        CislensError: for an unknown chromosome, blocks too short for the windows, fractions that
            do not sum to 1, or a part that stays empty.
    """
    if windows.is_empty():
        raise CislensError("there are no windows to split.")
    width = int((windows["end"] - windows["start"]).to_numpy().max())
    if block_bp < width + 2 * margin:
        raise CislensError(
            f"blocks of {block_bp} bp cannot hold windows of {width} bp with {margin} bp on both "
            f"sides; choose blocks of several windows."
        )
    blocks = _Blocks(genome, windows, block_bp)
    used, number = np.unique(blocks.of(blocks.centers), return_inverse=True)
    content = _Content(genome, windows, blocks, width)
    cluster = components(len(used), _joined(number, content.duplicated()))
    counts = np.bincount(cluster[number])[:, None]
    part_of_block = np.full(blocks.count, -1)
    part_of_block[used] = _fill(counts, np.bincount(cluster), fractions, seed)[cluster]
    part = part_of_block[used][number]

    inside = np.ones(len(windows), bool)
    for edge in (blocks.starts - margin, blocks.ends + margin - 1):
        touched = part_of_block[blocks.of(edge)]
        inside &= (touched == part) | (touched == -1)  # -1: a block without windows
    copied = content.copied(part, inside)
    logger.info(
        "split: of %d windows %d touch two parts, %d are copies of windows of another part",
        len(windows), (~inside).sum(), copied.sum(),
    )  # fmt: skip
    split = windows.with_columns(
        block=pl.Series(used[number]), split=pl.Series(np.array(list(fractions))[part])
    )
    return _checked(split.filter(pl.Series(inside & ~copied)), tuple(fractions))


def _joined(block: Ints, pairs: Ints) -> Ints:
    """Pairs of blocks, given pairs of windows, that share a large part of the windows of one."""
    size = np.bincount(block)
    ends = block[pairs]
    # Each window of a block counts once for each other block.
    one_way = np.stack([pairs[:, 0], ends[:, 0], ends[:, 1]], 1)[ends[:, 0] != ends[:, 1]]
    one_way = np.unique(one_way, axis=0)
    between, shared = np.unique(one_way[:, 1:], axis=0, return_counts=True)
    joined: Ints = between[shared >= _LARGE_PART * size[between[:, 0]]]
    return joined


class _Blocks:
    """Stretches of the chromosomes, numbered through; the last of each takes the remainder."""

    def __init__(self, genome: Genome, windows: pl.DataFrame, block_bp: int) -> None:
        self.block_bp = block_bp
        self.starts, self.ends = windows["start"].to_numpy(), windows["end"].to_numpy()
        self.centers = (self.starts + self.ends) // 2
        self.chroms = windows["chrom"].unique(maintain_order=True).to_list()
        many = [max(genome.size(chrom) // block_bp, 1) for chrom in self.chroms]
        self.count = sum(many)
        row_chrom = windows["chrom"].replace_strict(
            self.chroms, list(range(len(self.chroms))), return_dtype=pl.Int64
        )
        self.chrom_of_row: Ints = row_chrom.to_numpy()
        self.many = np.array(many)
        self.first = np.concatenate([[0], np.cumsum(many)[:-1]]).astype(np.int64)

    def of(self, positions: Ints) -> Ints:
        """The block of one position per window, on the window's chromosome."""
        return self.on(self.chrom_of_row, positions)

    def on(self, chrom: int | Ints, positions: Ints) -> Ints:
        """The block of positions on a chromosome, given by its number."""
        local: Ints = np.clip(positions // self.block_bp, 0, self.many[chrom] - 1)
        numbered: Ints = self.first[chrom] + local
        return numbered


class _Content:
    """Which sketched k-mers each window has, as a sparse (windows, k-mers) table of ones."""

    def __init__(self, genome: Genome, windows: pl.DataFrame, blocks: _Blocks, width: int) -> None:
        self.blocks = blocks
        scale = max(width // _KMERS_PER_WINDOW, 1)
        rows: list[Ints] = []
        kmers: list[Words] = []
        spread: list[tuple[Words, Ints]] = []
        for number, chrom in enumerate(blocks.chroms):
            hashes, places = sketch(genome.chromosome(chrom), _K, scale)
            here = np.flatnonzero(blocks.chrom_of_row == number)
            first = np.searchsorted(places, blocks.starts[here])
            count = np.searchsorted(places, blocks.ends[here] - _K + 1) - first
            count = np.maximum(count, 0)
            offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            rows.append(np.repeat(here, count))
            kmers.append(hashes[np.repeat(first, count) + offset])
            spread.append((hashes, blocks.on(number, places)))
        known, column = np.unique(np.concatenate(kmers), return_inverse=True)
        shape = (len(windows), len(known))
        table = csr_array((np.ones(len(column), np.int32), (np.concatenate(rows), column)), shape)
        table.sum_duplicates()
        table.data[:] = 1
        self.table = table
        self.size = np.diff(table.indptr)
        self.copies = _block_counts(known, spread)

    def duplicated(self) -> Ints:
        """Pairs of windows (m, 2) of different blocks that share a large part beyond repeats."""
        few = (self.copies > 1) & (self.copies <= _MOST_BLOCKS)
        pairs = self._alike(
            self.table[:, few], np.arange(len(self.size)), np.arange(len(self.size))
        )
        a, b = pairs.T
        blocks = self.blocks
        same_locus = (
            (blocks.chrom_of_row[a] == blocks.chrom_of_row[b])
            & (blocks.starts[a] < blocks.ends[b])
            & (blocks.starts[b] < blocks.ends[a])
        )
        apart: Ints = pairs[~same_locus]
        return apart

    def copied(self, part: Ints, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Windows that share a large part with a window of an earlier part; among `inside`."""
        common = np.asarray(self.table.sum(0)) <= _MOST_WINDOWS
        table = self.table[:, common]
        found = np.zeros(len(self.size), bool)
        for later in range(1, int(part.max(initial=0)) + 1):
            rows = np.flatnonzero(inside & (part == later))
            earlier = np.flatnonzero(inside & (part < later))
            found[self._alike(table, rows, earlier)[:, 0]] = True
        return found

    def _alike(self, table: csr_array, left: Ints, right: Ints) -> Ints:
        shared = (table[left] @ table[right].T).tocoo()
        a, b = left[shared.coords[0]], right[shared.coords[1]]
        needed = np.maximum(_CONTAINMENT * np.minimum(self.size[a], self.size[b]), _LEAST_SHARED)
        alike = (shared.data >= needed) & (a != b)
        pairs: Ints = np.stack([a[alike], b[alike]], 1)
        return pairs


def _block_counts(known: Words, spread: Sequence[tuple[Words, Ints]]) -> Ints:
    """In how many blocks each k-mer occurs, in a window or not."""
    hashes = np.concatenate([hashes for hashes, _ in spread])
    blocks = np.concatenate([blocks for _, blocks in spread])
    column = np.searchsorted(known, hashes)
    column[column == len(known)] = 0
    in_window = known[column] == hashes if len(known) else np.zeros(len(hashes), bool)
    pairs = np.unique(np.stack([column[in_window], blocks[in_window]]), axis=1)
    counts: Ints = np.bincount(pairs[0], minlength=len(known))
    return counts


def _checked(split: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    empty = sorted(set(names) - set(split["split"]))
    if empty:
        raise CislensError(
            f"no window is left for {empty[0]}: {len(split)} windows in "
            f"{split['block'].n_unique()} blocks are too few; use smaller blocks or more windows."
        )
    return split
