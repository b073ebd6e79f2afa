"""The gene whose transcription start is nearest to a variant and in its window.

Positions are 0-based. Dimensions: n variant.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.effects.variants.windows import Ints, Layout
from cislens.errors import CislensError
from cislens.genome.annotation import promoters
from cislens.genome.chromosomes import match_names
from cislens.genome.reference import Genome


@dataclass(frozen=True)
class Starts:
    """Transcription starts by chromosome.

    Attributes:
        tss: chromosome -> sorted positions of the first transcribed bases.
        row: chromosome -> row of `genes` of each.
        genes: `name, strand` of every gene.
    """

    tss: dict[str, Ints]
    row: dict[str, Ints]
    genes: pl.DataFrame

    @classmethod
    def of(cls, genes: pl.DataFrame, genome: Genome) -> "Starts":
        """Of genes as `annotation.read_genes` gives them, under the genome's chromosome names.

        Raises:
            CislensError: if no gene lies on a chromosome of the genome.
        """
        missing = [c for c in ("chrom", "start", "end", "name", "strand") if c not in genes]
        if missing or not genes.height:
            raise CislensError(
                f"the table of genes has no {', '.join(missing) or 'row'}; give what "
                "`genome.annotation.read_genes` reads."
            )
        names = match_names(genes["chrom"].unique(maintain_order=True), genome.chrom_sizes, "genes")
        placed = promoters(names.rename(genes), 0, 1).with_row_index("row").sort("tss", "row")
        parts = {str(key[0]): part for key, part in placed.group_by("chrom", maintain_order=True)}
        tss = {chrom: part["tss"].to_numpy().astype(np.int64) for chrom, part in parts.items()}
        row = {chrom: part["row"].to_numpy().astype(np.int64) for chrom, part in parts.items()}
        return cls(tss, row, placed.sort("row").select("name", "strand"))

    def nearest(
        self, chroms: npt.NDArray[np.object_], first_n: Ints, start_n: Ints, layout: Layout
    ) -> tuple[Ints, Ints]:
        """Row in `genes` and start of the nearest gene (n,) each, -1 where none is in the window.

        A start is in the window if its base lies in a compared bin. Of two as near the one to
        the left counts, of several at one base the first in the table.
        """
        row_n, tss_n = np.full(len(first_n), -1), np.full(len(first_n), -1)
        low_n = start_n + layout.crop * layout.bin_size
        high_n = low_n + layout.central * layout.bin_size
        for chrom in set(chroms.tolist()) & set(self.tss):
            rows = np.flatnonzero(chroms == chrom)
            tss, first = self.tss[chrom], first_n[rows]
            after = np.searchsorted(tss, first)
            right = np.minimum(after, len(tss) - 1)
            left = np.searchsorted(tss, tss[np.maximum(after - 1, 0)])  # the first at that base
            best = np.full(len(rows), -1)
            distance = np.full(len(rows), np.iinfo(np.int64).max)
            for which in (left, right):
                inside = (tss[which] >= low_n[rows]) & (tss[which] < high_n[rows])
                nearer = inside & (np.abs(tss[which] - first) < distance)
                best = np.where(nearer, which, best)
                distance = np.where(nearer, np.abs(tss[which] - first), distance)
            found = best >= 0
            row_n[rows[found]] = self.row[chrom][best[found]]
            tss_n[rows[found]] = tss[best[found]]
        return row_n, tss_n

    def columns(self, row_n: Ints, tss_n: Ints, first_n: Ints) -> list[pl.Series]:
        """`gene` and `tss_distance`: bp from the start, below 0 upstream; null without a gene."""
        none = row_n < 0
        picked = self.genes[np.where(none, 0, row_n)]
        forward = (picked["strand"] == "+").to_numpy()
        distance = np.where(forward, first_n - tss_n, tss_n - first_n)
        absent = pl.Series(none)
        frame = pl.DataFrame({"gene": picked["name"], "tss_distance": distance})
        kept = frame.select(pl.when(~absent).then(pl.all()))
        return [kept["gene"], kept["tss_distance"]]
