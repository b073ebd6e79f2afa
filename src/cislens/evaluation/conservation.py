"""How conserved the place of a variant is: the baseline that every score of harm has to beat.

Shapes: n variants, L base pairs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.arms.features import LAST, ByView
from cislens.evaluation.tasks.task import Fold, Task
from cislens.genome.chromosomes import match_names
from cislens.representations.contract import Features, Kind
from cislens.signal.bigwig import read_windows, summarize

_FLANK = 10  # bp to either side over which conservation is averaged


@dataclass(frozen=True)
class ConservationBaseline:
    """A bigWig of conservation as the source of an arm's features; see `arms.features.Source`.

    It knows neither allele, so that it can say how much a variant matters and not in which
    direction.
    """

    task: Task
    path: Path

    name = "conservation"
    kind: Kind = "composition"
    parameters = 0
    views = (LAST,)

    @cached_property
    def digest(self) -> str:
        """sha256 of what the header of the file says of its values."""
        return hashlib.sha256(f"conservation/1/{summarize(self.path)}".encode()).hexdigest()

    def features(self, fold: Fold, views: Sequence[str]) -> ByView:
        """Features (n, D) of the variants of a fold of the task."""
        return {LAST: conservation_features(self.task, fold, self.path)}


def conservation_features(task: Task, fold: Fold, path: Path) -> Features:
    """(n, 3): the value at a variant's first base, the mean over 21 bp around it, both 0 where the
    file has none, and whether it has one at the variant.

    Raises:
        CislensError: if the task has no places, the file is no bigWig, or it covers none of the
            task's chromosomes.
    """
    places = task.examples.select("example_id", "chrom", "pos")
    if places["pos"].null_count() or places["chrom"].null_count():
        raise CislensError(f"task {task.card.name} does not say where its variants lie.")
    sizes = summarize(path).chrom_sizes
    chroms = places["chrom"].unique(maintain_order=True).to_list()
    renamed = match_names(chroms, sizes, f"task {task.card.name}").rename(places)
    wanted = pl.DataFrame({"example_id": fold.ids}).join(
        renamed, on="example_id", how="left", maintain_order="left"
    )
    # Chromosomes that the file does not hold were dropped, and have no values.
    wanted = wanted.with_columns(pl.col("chrom").fill_null(""), pl.col("pos").fill_null(1))
    starts = wanted["pos"].to_numpy() - 1 - _FLANK
    around_nL = read_windows(path, wanted["chrom"].to_list(), starts, 2 * _FLANK + 1)
    known_nL = np.isfinite(around_nL)
    filled_nL = np.where(known_nL, around_nL, 0.0)
    mean_n = filled_nL.sum(1) / np.maximum(known_nL.sum(1), 1)
    columns = [filled_nL[:, _FLANK], mean_n, known_nL[:, _FLANK]]
    return np.stack(columns, axis=1).astype(np.float32)
