"""Regions of a genome whose signal is an artifact, as ENCODE lists them, and what is done there."""

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.files import file_digest
from cislens.genome.chromosomes import match_names
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import Genome
from cislens.signal.transforms import Values

# Reads beside a region pile up too; the width is that of Basenji's data reader.
_BESIDE = 20


@dataclass(frozen=True)
class Blacklist:
    """Regions with 20 bp at either side, by chromosome (m, 2), 0-based half-open.

    Attributes:
        digest: sha256 of the file.
    """

    regions: dict[str, npt.NDArray[np.int64]]
    digest: str

    @property
    def count(self) -> int:
        """Number of regions on chromosomes of the genome."""
        return sum(len(found) for found in self.regions.values())

    def inside(self, chrom: str, start: int, length: int) -> npt.NDArray[np.bool_]:
        """Which of the bases (length,) from `start` on lie in a region."""
        found = np.zeros(length, bool)
        for left, right in (self.regions.get(chrom, np.empty((0, 2), np.int64)) - start).tolist():
            if right > 0 and left < length:
                found[max(left, 0) : right] = True
        return found


def read_blacklist(path: str | os.PathLike[str], genome: Genome) -> Blacklist:
    """Read a BED file of regions; its chromosome names are matched to the genome's.

    Raises:
        CislensError: if the file is damaged or has no chromosome of the genome.
    """
    table = read_intervals(os.fspath(path))
    names = match_names(table["chrom"].unique(maintain_order=True), genome.chrom_sizes, str(path))
    table = names.rename(table)
    table = table.with_columns(pl.col("start") - _BESIDE, pl.col("end") + _BESIDE)
    regions = {
        str(chrom): part.select("start", "end").to_numpy().astype(np.int64)
        for (chrom,), part in table.group_by("chrom", maintain_order=True)
    }
    return Blacklist(regions, file_digest(path))


def calm(
    values: Values,
    blacklist: Blacklist,
    chroms: npt.NDArray[np.object_],
    starts: npt.NDArray[np.int64],
) -> None:
    """Clip values per base (n, L) inside regions to their window's baseline b, to [-|b|, |b|].

    The baseline is the median of the window's measured bases, 0 if none is; what is not
    measured (NaN) stays so. In place.
    """
    for row, (chrom, start) in enumerate(zip(chroms.tolist(), starts.tolist(), strict=True)):
        inside = blacklist.inside(chrom, start, values.shape[1])
        if inside.any():
            measured = values[row, ~np.isnan(values[row])]
            limit = abs(np.median(measured)) if measured.size else np.float32(0)
            values[row, inside] = np.clip(values[row, inside], -limit, limit)
