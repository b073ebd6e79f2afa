"""Places that a model's neighborhoods are asked about while it trains.

Dimensions: B window, P place.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.files import read_parquet
from cislens.genome.annotation import promoters, read_genes
from cislens.genome.chromosomes import match_names
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import Genome

Ints = npt.NDArray[np.int64]

NEAR, FAR, NOT_ASKED = 1, 0, -1
_ANNOTATION = (".gtf", ".gff", ".gff3")


@dataclass(frozen=True)
class Probe:
    """Middles of intervals, or the starts of genes.

    Attributes:
        chrom_P, middle_P: number of the chromosome in the genome's order, and 0-based position;
            sorted by both.
    """

    chrom_P: Ints
    middle_P: Ints

    @classmethod
    def read(cls, path: Path) -> "Probe":
        """What `table` wrote."""
        table = read_parquet(path, "probe of the store")
        return cls(table["chrom"].to_numpy(), table["middle"].to_numpy())

    def table(self) -> pl.DataFrame:
        """`chrom, middle` as Int64."""
        return pl.DataFrame({"chrom": self.chrom_P, "middle": self.middle_P})

    def near(
        self,
        chrom_B: npt.NDArray[np.integer[Any]],
        center_B: npt.NDArray[np.integer[Any]],
        within: int,
    ) -> npt.NDArray[np.int8]:
        """1 where a middle lies at most `within` bp from a center (B,), else 0."""
        near_B = np.full(len(center_B), FAR, np.int8)
        for chrom in np.unique(chrom_B):
            here = np.flatnonzero(chrom_B == chrom)
            first, last = np.searchsorted(self.chrom_P, [chrom, chrom + 1])
            middles = self.middle_P[first:last]
            # The first middle that is not too far to the left must not be too far to the right.
            at = np.searchsorted(middles, center_B[here] - within)
            found = at < len(middles)
            close = middles[at[found]] <= center_B[here][found] + within
            near_B[here[found]] = np.where(close, NEAR, FAR)
        return near_B


def read_probe(path: Path, genome: Genome) -> Probe:
    """Read the middles of BED or narrowPeak, or where the genes of GTF or GFF3 start.

    Chromosome names are matched to the genome's.

    Raises:
        CislensError: as `read_intervals` and `read_genes`, if no chromosome is the genome's, or
            if an interval lies beyond its chromosome.
    """
    name = path.name.removesuffix(".gz").lower()
    if name.endswith(_ANNOTATION):
        table = promoters(read_genes(path), 0, 1).select("chrom", middle="tss")
    else:
        middle = (pl.col("start") + pl.col("end")) // 2
        table = read_intervals(path).select("chrom", middle=middle)
    names = match_names(table["chrom"].unique(maintain_order=True), genome.chrom_sizes, str(path))
    table = names.rename(table)
    size = pl.col("chrom").replace_strict(genome.chrom_sizes, return_dtype=pl.Int64)
    beyond = table.filter(pl.col("middle") >= size)
    if len(beyond):
        chrom, middle = beyond.row(0)
        raise CislensError(
            f"{path} has an interval with its middle at {chrom}:{middle:,}, and {chrom} of "
            f"{genome.path} ends at {genome.size(chrom):,}; is it of another assembly?"
        )
    order = {chrom: number for number, chrom in enumerate(genome.chrom_sizes)}
    number = pl.col("chrom").replace_strict(order, return_dtype=pl.Int64)
    table = table.with_columns(chrom=number).unique().sort("chrom", "middle")
    return Probe(table["chrom"].to_numpy(), table["middle"].to_numpy())
