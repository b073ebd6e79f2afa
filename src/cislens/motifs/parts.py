"""The table of a store's regions: their composition, homologs and parts of the split.

Dimensions: R region, L base pair, C cell type.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

from cislens.errors import CislensError, nearest
from cislens.genome.codes import Codes, N, gc_content
from cislens.genome.homology import components, homology_pairs
from cislens.genome.reference import Genome
from cislens.genome.sampling import cpg_observed_expected
from cislens.genome.splits import TEST, TRAIN, VALID, split_by_chromosome, split_windows
from cislens.recipes.regions import RegionSplit

PARTS = (TRAIN, VALID, TEST)
# Regions are homologs if so much of the shorter one aligns with so many equal bases.
_IDENTITY, _COVERAGE = 0.8, 0.5
# Regions in a block that is split as a whole: enough for a context, if there are many.
_BLOCK_REGIONS, _LEAST_BLOCKS = 256, 60


@dataclass(frozen=True)
class Parted:
    """Regions with their composition and part, some left out.

    Attributes:
        regions: `region_id, chrom, start, end, split, block, gc, cpg, repeat_fraction, called,
            homology`; `called` is the number of bases that are not N.
        row: of each in the table that was parted.
        block_bp: length of the blocks; None for a split by chromosomes.
        dropped_split: left out because they touch two parts, or copy a region of another part.
        dropped_homologs: left out of valid and test for a homolog in an earlier part.
    """

    regions: pl.DataFrame
    row: npt.NDArray[np.int64]
    block_bp: int | None
    dropped_split: int
    dropped_homologs: int


def part_regions(
    genome: Genome, regions: pl.DataFrame, split: RegionSplit, margin: int, seed: int
) -> Parted:
    """Split regions by named chromosomes or by blocks; homologs never lie in two parts.

    Clusters of homologs are the connected components of pairs with 80 % identity over half of a
    region. Of a cluster that reaches over parts, the members in train stay, else those in valid.

    Args:
        regions: `region_id, chrom, start, end`, sorted, all of one width.
        margin: bp at either side that must not lie in another part's block.

    Raises:
        CislensError: for fractions that do not name train, valid and test, an unknown chromosome,
            or a part that stays empty.
    """
    numbered = regions.select("region_id", "chrom", "start", "end").with_row_index("row")
    block_bp = None
    if split.valid or split.test:
        _require_chromosomes(numbered, split)
        parted = split_by_chromosome(numbered, split.valid, split.test)
    else:
        if set(split.fractions) != set(PARTS):
            raise CislensError(
                f"split: fractions are of {', '.join(split.fractions)}; give train, valid and "
                "test, or name chromosomes for valid and test."
            )
        fractions = {part: split.fractions[part] for part in PARTS}
        block_bp = _block_bp(genome, numbered)
        parted = split_windows(genome, numbered, fractions, block_bp, seed, margin)
    codes_RL = region_codes(genome, parted)
    parted = parted.with_columns(**_composition(genome, parted, codes_RL))
    cluster = _homologs(codes_RL, seed)
    rank = parted["split"].replace_strict(list(PARTS), range(len(PARTS)), return_dtype=pl.Int64)
    first = np.full(int(cluster.max(initial=0)) + 1, len(PARTS))
    np.minimum.at(first, cluster, rank.to_numpy())
    kept = rank.to_numpy() == first[cluster]
    _names, homology = np.unique(cluster[kept], return_inverse=True)
    whole = parted.filter(pl.Series(kept)).with_columns(
        homology=pl.Series(homology, dtype=pl.Int64)
    )
    _require_parts(whole)
    return Parted(
        whole.drop("row"),
        whole["row"].to_numpy().astype(np.int64),
        block_bp,
        regions.height - parted.height,
        parted.height - whole.height,
    )


def part_cells(cells: tuple[str, ...], split: RegionSplit) -> list[str]:
    """The part of each cell type: valid and test as named, the others train.

    Raises:
        CislensError: for an unknown cell type, one named twice, or none left for train.
    """
    for name in (*split.valid_cells, *split.test_cells):
        if name not in cells:
            raise CislensError(
                f"split: there is no cell type {name!r} to keep from training. "
                f"{nearest(name, cells)}"
            )
    both = sorted(set(split.valid_cells) & set(split.test_cells))
    if both:
        raise CislensError(f"split: cell type {both[0]!r} is named for both valid and test.")
    named = {VALID: split.valid_cells, TEST: split.test_cells}
    parts = [next((part for part, of in named.items() if cell in of), TRAIN) for cell in cells]
    if TRAIN not in parts:
        raise CislensError("split: every cell type is held out; leave one for training.")
    return parts


def region_codes(genome: Genome, regions: pl.DataFrame, margin: int = 0) -> Codes:
    """Codes (R, width + 2 * margin) of regions of one width; N beyond a chromosome's ends."""
    width = int(regions["end"][0] - regions["start"][0]) + 2 * margin
    return genome.windows(regions["chrom"], regions["start"] - margin, width)


def _block_bp(genome: Genome, regions: pl.DataFrame) -> int:
    """Length of blocks with 256 regions on average, or fewer so that there are about 60 blocks."""
    total = sum(genome.size(chrom) for chrom in regions["chrom"].unique().to_list())
    blocks = max(regions.height / _BLOCK_REGIONS, min(_LEAST_BLOCKS, regions.height))
    width = int(regions["end"][0] - regions["start"][0])
    return max(int(total / blocks), 16 * width)


def _composition(genome: Genome, regions: pl.DataFrame, codes_RL: Codes) -> dict[str, pl.Series]:
    return {
        "gc": pl.Series(gc_content(codes_RL)),
        "cpg": pl.Series(cpg_observed_expected(codes_RL)),
        "repeat_fraction": pl.Series(_repeats(genome, regions)),
        "called": pl.Series((codes_RL != N).sum(1), dtype=pl.Int64),
    }


def _repeats(genome: Genome, regions: pl.DataFrame) -> npt.NDArray[np.float64]:
    """The share of each region in lower case."""
    share = np.zeros(regions.height)
    chroms = regions["chrom"].to_numpy()
    starts = regions["start"].to_numpy()
    width = int(regions["end"][0] - starts[0])
    for chrom in regions["chrom"].unique(maintain_order=True).to_list():
        here = np.flatnonzero(chroms == chrom)
        masked = genome.soft_mask(chrom, 0, genome.size(chrom))
        share[here] = sliding_window_view(masked, width)[starts[here]].mean(1)
    return share


def _homologs(codes_RL: Codes, seed: int) -> npt.NDArray[np.int64]:
    found = homology_pairs(list(codes_RL), seed)
    near = (found.identity >= _IDENTITY) & (found.coverage >= _COVERAGE)
    return components(len(codes_RL), found.pairs[near])


def _require_chromosomes(regions: pl.DataFrame, split: RegionSplit) -> None:
    """Refuse a split by chromosomes that gives one of the parts none."""
    for part, chroms in ((VALID, split.valid), (TEST, split.test)):
        if not chroms:
            raise CislensError(
                f"split: no chromosome is named for {part}; name some for both valid and test, or "
                "neither, to split by fractions."
            )
    present = regions["chrom"].unique(maintain_order=True).to_list()
    if set(present) <= {*split.valid, *split.test}:
        raise CislensError(
            f"split: every chromosome with regions ({', '.join(present[:5])}) is named for valid "
            "or test; leave one for training."
        )


def _require_parts(regions: pl.DataFrame) -> None:
    empty = [part for part in PARTS if part not in set(regions["split"])]
    if empty:
        raise CislensError(
            f"no region is left for {empty[0]}: of {regions.height:,} regions all that would lie "
            "there are homologs of regions in another part. Name other chromosomes."
        )
