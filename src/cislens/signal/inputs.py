"""Checks of genomes and tracks against each other, before a store is built from them."""

import warnings
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, CislensWarning
from cislens.genome.chromosomes import match_names
from cislens.genome.codes import N
from cislens.genome.reference import Genome
from cislens.signal.bigwig import BigWigSummary
from cislens.signal.tracks import Track
from cislens.signal.transforms import NEGATIVE


def chromosome_names(
    track: Track, summary: BigWigSummary, genome: Genome
) -> tuple[dict[str, str], str]:
    """Genome chromosome -> the file's name for it; and the report, unless all names are the same.

    Raises:
        CislensError: if no name matches, or a chromosome of the file is longer than the genome's.
    """
    where = f"track {track.id!r} ({track.file})"
    matched = match_names(
        list(summary.chrom_sizes), list(genome.chrom_sizes), f"track {track.id!r}"
    )
    for found, known in matched.mapping.items():
        size, limit = summary.chrom_sizes[found], genome.chrom_sizes[known]
        if size > limit:
            raise CislensError(
                f"{where} has {found} of {size:,} bp, beyond the end of {known} of "
                f"{genome.path} at {limit:,} bp; is it of another assembly?"
            )
        if size < limit:
            warnings.warn(
                f"{where} has {found} of {size:,} bp, {known} of {genome.path} has {limit:,} bp; "
                "if it is of another assembly its values are misplaced.",
                CislensWarning,
            )
    same = matched.mapping == {name: name for name in summary.chrom_sizes}
    names = {known: found for found, known in matched.mapping.items()}
    return names, "" if same else matched.report


def resolve(track: Track, summary: BigWigSummary) -> Track:
    """The track with `uncovered` decided by its file.

    Raises:
        CislensError: if its sum is negative after the scale.
    """
    if summary.total * track.scale < 0:
        raise CislensError(
            f"track {track.id!r} ({track.file}) is negative on the whole after its scale of "
            f"{track.scale:g}; {NEGATIVE}"
        )
    if track.uncovered == "auto":
        track = replace(track, uncovered="zero" if summary.leaves_zeros_out else "baseline")
    return track


def n_fraction(genome: Genome, windows: pl.DataFrame) -> npt.NDArray[np.float64]:
    """Part of each window (n,) that is N."""
    fraction = np.empty(windows.height)
    chroms = windows["chrom"].to_numpy()
    start, end = windows["start"].to_numpy(), windows["end"].to_numpy()
    for chrom in windows["chrom"].unique(maintain_order=True):
        here = np.flatnonzero(chroms == chrom)
        uncalled = np.flatnonzero(genome.chromosome(chrom) == N)
        count = np.searchsorted(uncalled, end[here]) - np.searchsorted(uncalled, start[here])
        fraction[here] = count / (end[here] - start[here])
    return fraction
