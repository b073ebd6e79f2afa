"""What was found of variants, and the tables of it.

Dimensions: n variant, T track.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.signal.tracks import TrackTable

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VariantScores:
    """Scores of variants, row by row as they were given.

    Attributes:
        variants: `chrom, pos, ref, alt` and whatever else was given; `gene` and `tss_distance`
            (bp, below 0 upstream of the gene) where genes were given, null without one near.
        tracks: what was predicted, one row per column of the scores of tracks; None for a model
            of sequence alone.
        by_track: score name -> (n, T) float32; NaN where there is none.
        scalars: score name -> (n,) float32; NaN where there is none.
    """

    variants: pl.DataFrame
    tracks: TrackTable | None
    by_track: Mapping[str, Values]
    scalars: Mapping[str, Values]

    def __len__(self) -> int:
        return self.variants.height

    def table(self) -> pl.DataFrame:
        """One row per variant: the variants' columns, a number per scalar, a list per track score.

        The lists have a fixed length, the tracks in their order. What is not there is null.
        """
        columns = [pl.Series(name, values).fill_nan(None) for name, values in self.scalars.items()]
        columns += [_lists(name, values) for name, values in self.by_track.items()]
        return self.variants.with_columns(columns)

    def tidy(self) -> pl.DataFrame:
        """One row per variant and track: `row`, the variants' columns, `track`, a column a score.

        `row` counts the variants from 0. Scalars repeat for each track; without tracks there is
        one row per variant and no column `track`.
        """
        scalars = [pl.Series(name, values).fill_nan(None) for name, values in self.scalars.items()]
        wide = self.variants.with_columns(scalars).with_row_index("row")
        if self.tracks is None:
            return wide
        ids, n = self.tracks.frame["id"].to_list(), len(self)
        long = wide[np.repeat(np.arange(n), len(ids))]
        return long.with_columns(
            pl.Series("track", ids * n, dtype=pl.String),
            *(pl.Series(k, v.reshape(-1)).fill_nan(None) for k, v in self.by_track.items()),
        )


def _lists(name: str, values_nT: Values) -> pl.Series:
    kind = pl.Array(pl.Float32, values_nT.shape[1])
    lists = pl.Series(name, np.ascontiguousarray(values_nT), dtype=kind)
    absent = pl.Series(np.isnan(values_nT).all(1))
    return pl.select(pl.when(~absent).then(lists).alias(name)).to_series()
