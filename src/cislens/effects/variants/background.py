"""Background variants: substitutions that nobody chose, alike to the input's by their place.

Each background variant is a substitution at a random place of the chromosomes that the input
lies on. The background has the input's proportions of strata: the substitution (A>C, A>G, ...),
the GC content of the surroundings in tenths, and, where genes are given, the distance to the
nearest transcription start.

Dimensions: n variant.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.genome.annotation import promoters
from cislens.genome.codes import BASES, N, encode, gc_content
from cislens.genome.reference import Genome
from cislens.randomness import generator

logger = logging.getLogger("cislens")

Ints = npt.NDArray[np.int64]

SURROUNDINGS = 201
GC_BINS = 10
TSS_EDGES = (1_000, 10_000, 100_000)
TSS_BINS = len(TSS_EDGES) + 1
_CELLS = GC_BINS * TSS_BINS
_OTHER = 16  # in place of a substitution: insertions, deletions and exchanges of several bases
_DRAWN_AT_ONCE = 1 << 16
_ROUNDS = 48
_IN_VAIN = 8  # rounds that fill nothing before a stratum counts as not there
_MOST_BITS = 1 << 28


class Census:
    """What the input's variants are like and where they lie, in memory that their number leaves.

    Args:
        genome: the variants' own.
        genes: columns of `annotation.read_genes` under the genome's names; distances to
            transcription starts count only if given.
    """

    def __init__(self, genome: Genome, genes: pl.DataFrame | None = None) -> None:
        self.genome = genome
        self.counts = np.zeros((_OTHER + 1, _CELLS), np.int64)
        self.chroms: dict[str, None] = {}
        self._tss = None if genes is None else starts_by_chromosome(genes)
        self._taken = _Taken(genome)

    def add(self, variants: pl.DataFrame) -> None:
        """Count more variants (`chrom, pos, ref, alt`, ref as in the genome)."""
        if variants.is_empty():
            return
        chroms, first = variants["chrom"], variants["pos"].to_numpy() - 1
        cells, _ = self.cells(chroms, first)
        np.add.at(self.counts, (substitutions(variants), cells), 1)
        self.chroms.update(dict.fromkeys(chroms.unique(maintain_order=True).to_list()))
        self._taken.add(chroms, first, variants["ref"].str.len_bytes().to_numpy().astype(np.int64))

    def cells(self, chroms: pl.Series, first: Ints) -> tuple[Ints, npt.NDArray[np.uint8]]:
        """The cell (n,) of GC and distance of positions (0-based), and the base (n,) there."""
        half = SURROUNDINGS // 2
        codes = self.genome.windows(chroms, first - half, SURROUNDINGS)
        gc = np.minimum((gc_content(codes) * GC_BINS).astype(np.int64), GC_BINS - 1)
        base = codes[:, half].copy()
        base[(codes == N).sum(1) > half] = N  # too little around it to tell what it is like
        return gc * TSS_BINS + self._distances(chroms, first), base

    def free(self, chroms: pl.Series, first: Ints) -> npt.NDArray[np.bool_]:
        """Whether no variant of the input covers a position; a few free ones may be refused."""
        return ~self._taken.holds(chroms, first)

    def _distances(self, chroms: pl.Series, first: Ints) -> Ints:
        bins = np.full(len(first), TSS_BINS - 1, np.int64)
        if self._tss is None:
            return bins
        names = chroms.to_numpy()
        for chrom in chroms.unique().to_list():
            rows = np.flatnonzero(names == chrom)
            starts = self._tss.get(chrom)
            if starts is not None:
                distance = distance_to(starts, first[rows])
                bins[rows] = np.searchsorted(TSS_EDGES, distance, side="right")
        return bins


@dataclass(frozen=True)
class Background:
    """Background variants and how well they match.

    Attributes:
        variants: `chrom, pos, ref, alt` in genome order, each position once.
        wanted: how many were asked for; fewer are there where the genome has no more.
        relaxed: how many match the substitution, but not the distance or the GC content.
    """

    variants: pl.DataFrame
    wanted: int
    relaxed: int


def draw_background(census: Census, size: int, seed: int) -> Background:
    """Substitutions in the proportions of the input's strata, none on a variant of the input.

    Strata get whole numbers of variants by largest remainder. A stratum that random places do not
    fill is filled without regard for the distance, then for the GC content. An input without any
    substitution is matched by its places, all twelve substitutions alike.

    Raises:
        CislensError: if the input has no variant, or the genome has no free place at all.
    """
    wanted = _wanted(census.counts, size)
    rng = generator(seed, "variant background", size)
    picked: dict[int, tuple[str, int, int, int]] = {}
    relaxed = 0
    for level, coarse in enumerate((_exact, _without_distance, _anywhere)):
        before = len(picked)
        _fill(census, wanted, coarse, rng, picked)
        relaxed += (len(picked) - before) if level else 0
        if not wanted.any():
            break
    if not picked:
        raise CislensError(
            f"{census.genome.path} has no free place for background variants on the chromosomes "
            "of the input; use --background 0 for scores without percentiles."
        )
    if len(picked) < size:
        logger.warning("only %d of %d background variants found a place", len(picked), size)
    if relaxed:
        logger.info("%d of %d background variants match less closely", relaxed, len(picked))
    return Background(_table(census, picked), size, relaxed)


def substitutions(variants: pl.DataFrame) -> Ints:
    """4 * ref + alt (n,) of substitutions of one called base, 16 of all other variants."""
    single = variants.select(
        (pl.col("ref").str.len_bytes() == 1) & (pl.col("alt").str.len_bytes() == 1)
    ).to_series()
    kind = np.full(len(variants), _OTHER, np.int64)
    rows = np.flatnonzero(single.to_numpy())
    if len(rows):
        part = variants[rows]
        ref, alt = encode("".join(part["ref"])), encode("".join(part["alt"]))
        called = (ref != N) & (alt != N)
        kind[rows[called]] = 4 * ref[called].astype(np.int64) + alt[called]
    return kind


def distance_to(starts: Ints, first: Ints) -> Ints:
    """Bases (n,) from each position to the nearest of sorted transcription starts."""
    after = np.searchsorted(starts, first)
    right = np.abs(starts[np.minimum(after, len(starts) - 1)] - first)
    left = np.abs(first - starts[np.maximum(after - 1, 0)])
    nearest: Ints = np.minimum(left, right)
    return nearest


def starts_by_chromosome(genes: pl.DataFrame) -> dict[str, Ints]:
    """Sorted transcription starts, 0-based."""
    placed = promoters(genes, 0, 1).select("chrom", "tss").unique().sort("tss")
    return {
        str(chrom): part["tss"].to_numpy().astype(np.int64)
        for (chrom,), part in placed.group_by("chrom")
    }


def _wanted(counts: Ints, size: int) -> Ints:
    """(16, cells) how many background variants each stratum gets, `size` in all."""
    share = counts[:_OTHER].astype(np.float64)
    if not share.any():
        places = counts[_OTHER].astype(np.float64)
        share[[4 * ref + alt for ref in range(4) for alt in range(4) if ref != alt]] = places
    if not share.any():
        raise CislensError("there is no variant to match a background to.")
    exact = size * share / share.sum()
    found: Ints = np.floor(exact).astype(np.int64)
    rest = np.argsort((found - exact).ravel(), kind="stable")[: size - int(found.sum())]
    found.ravel()[rest] += 1
    return found


def _exact(cells: Ints) -> Ints:
    return cells


def _without_distance(cells: Ints) -> Ints:
    return cells // TSS_BINS * TSS_BINS


def _anywhere(cells: Ints) -> Ints:
    return cells * 0


def _fill(
    census: Census,
    wanted: Ints,
    coarse: Callable[[Ints], Ints],
    rng: np.random.Generator,
    picked: dict[int, tuple[str, int, int, int]],
) -> None:
    """Fill what is `wanted`, which is counted down, from random places; cells as `coarse` says."""
    chroms = list(census.chroms)
    names = pl.Series(chroms, dtype=pl.String)
    ends = np.cumsum([census.genome.size(chrom) for chrom in chroms])
    starts = np.concatenate([[0], ends[:-1]])
    cell_of = coarse(np.arange(_CELLS))
    in_vain = 0
    for _round in range(_ROUNDS):
        if not wanted.any() or in_vain == _IN_VAIN:
            return
        drawn = np.unique(rng.integers(0, ends[-1], min(_DRAWN_AT_ONCE, int(ends[-1]))))
        drawn = rng.permutation(drawn)
        which = np.searchsorted(ends, drawn, side="right")
        first = drawn - starts[which]
        chrom = names.gather(which)
        cells, base = census.cells(chrom, first)
        usable = (base != N) & census.free(chrom, first)
        usable &= np.array([place not in picked for place in drawn.tolist()])
        before = len(picked)
        for ref, cell in _open(wanted, cell_of):
            rows = np.flatnonzero(usable & (base == ref) & (cell_of[cells] == cell))
            needs = _needs(wanted, ref, cell_of == cell, rng)
            for row, (alt, own) in zip(rows, needs, strict=False):  # whichever ends first
                picked[int(drawn[row])] = (chroms[which[row]], int(first[row]), ref, alt)
                wanted[4 * ref + alt, own] -= 1
        in_vain = in_vain + 1 if len(picked) == before else 0


def _open(wanted: Ints, cell_of: Ints) -> list[tuple[int, int]]:
    """Reference base and coarse cell of what is still wanted."""
    kinds, cells = np.nonzero(wanted)
    return sorted(set(zip((kinds // 4).tolist(), cell_of[cells].tolist(), strict=True)))


def _needs(
    wanted: Ints, ref: int, cells: npt.NDArray[np.bool_], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Alternate base and own cell of each variant still wanted, in random order."""
    part = np.where(cells, wanted[4 * ref : 4 * ref + 4], 0)
    alts, own = np.nonzero(part)
    times = part[alts, own]
    needs = list(zip(np.repeat(alts, times).tolist(), np.repeat(own, times).tolist(), strict=True))
    return [needs[index] for index in rng.permutation(len(needs)).tolist()]


def _table(census: Census, picked: dict[int, tuple[str, int, int, int]]) -> pl.DataFrame:
    rank = {chrom: index for index, chrom in enumerate(census.genome.chrom_sizes)}
    rows = sorted(picked.values(), key=lambda row: (rank[row[0]], row[1]))
    return pl.DataFrame(
        [(chrom, first + 1, BASES[ref], BASES[alt]) for chrom, first, ref, alt in rows],
        schema={"chrom": pl.String, "pos": pl.Int64, "ref": pl.String, "alt": pl.String},
        orient="row",
    )


class _Taken:
    """Which bases are covered: one bit each, or one for several bases of a large genome."""

    def __init__(self, genome: Genome) -> None:
        ends = np.cumsum(list(genome.chrom_sizes.values()))
        self._offset = dict(zip(genome.chrom_sizes, np.append(0, ends[:-1]).tolist(), strict=True))
        self._exact = int(ends[-1]) <= _MOST_BITS
        self._mask = (1 << max(int(ends[-1]) - 1, 1).bit_length()) - 1
        if not self._exact:
            self._mask = _MOST_BITS - 1
        self._bits = np.zeros((self._mask + 8) // 8, np.uint8)

    def add(self, chroms: pl.Series, first: Ints, lengths: Ints) -> None:
        start = self._linear(chroms, first)
        total = np.cumsum(lengths)
        within = np.arange(int(total[-1])) - np.repeat(total - lengths, lengths)
        place = self._place(np.repeat(start, lengths) + within)
        np.bitwise_or.at(self._bits, place >> 3, (1 << (place & 7)).astype(np.uint8))

    def holds(self, chroms: pl.Series, first: Ints) -> npt.NDArray[np.bool_]:
        place = self._place(self._linear(chroms, first))
        held: npt.NDArray[np.bool_] = (
            self._bits[place >> 3] >> (place & 7).astype(np.uint8)
        ) & 1 == 1
        return held

    def _linear(self, chroms: pl.Series, first: Ints) -> Ints:
        offset = chroms.replace_strict(self._offset, return_dtype=pl.Int64)
        return offset.to_numpy() + first

    def _place(self, linear: Ints) -> Ints:
        if self._exact:
            return linear
        # An odd factor spreads neighbors over the bits; which bases share one does not matter.
        return (linear * 0x9E3779B1) >> 7 & self._mask
