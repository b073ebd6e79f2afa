"""Predicted tracks of arbitrary regions, as arrays.

Bins lie on a grid that starts at base 0 of each chromosome, and so do the windows that are shown
to the model. The value of a bin is therefore a function of the model and the genome alone: it
does not depend on the region it was asked for in, or on the batch.

Dimensions: R bin, B window, W base pair with margin, N bin of a window, T track.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from cislens.effects.averaging import Averaging, averaged_rates, read_averaging
from cislens.effects.devices import Precision
from cislens.effects.ensemble import Ensemble, Model
from cislens.effects.tiling import Regions, Tiling, as_regions, tile_regions
from cislens.effects.track_model import TrackModel
from cislens.genome.codes import Codes
from cislens.genome.reference import Genome, open_genome
from cislens.models.profile import ProfileModel
from cislens.prefetch import Prefetched
from cislens.progress import track as progress
from cislens.signal.datacard import DataCard
from cislens.signal.tracks import TrackTable

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RegionTracks:
    """Predicted tracks of one genome's regions.

    Attributes:
        values_RT: mean signal per base over each bin, in the unit of the track's own file
            (scale and soft clip undone), whatever its `sum_stat`. Of several models the mean.
        bins: `chrom, start, end` of each row, 0-based half-open, by chromosome and start, each
            bin once. The last bin of a chromosome ends where the chromosome does.
        tracks: one row per column of the values.
        species, genome, bin_size: what was predicted.
        chrom_sizes: of the genome.
        spread_RT: standard deviation over the models of an ensemble; None for a single model.
        padded: windows that reached over a chromosome's end and were filled with N there.
    """

    values_RT: Values
    bins: pl.DataFrame
    tracks: TrackTable
    species: str
    genome: str
    bin_size: int
    chrom_sizes: Mapping[str, int]
    spread_RT: Values | None = None
    padded: int = 0

    def region(self, chrom: str, start: int, end: int) -> "RegionTracks":
        """The bins that overlap one region."""
        inside = (pl.col("chrom") == chrom) & (pl.col("end") > start) & (pl.col("start") < end)
        mask = self.bins.select(inside).to_series()
        rows = mask.to_numpy()
        spread_RT = None if self.spread_RT is None else self.spread_RT[rows]
        return replace(
            self, values_RT=self.values_RT[rows], bins=self.bins.filter(mask), spread_RT=spread_RT
        )

    def table(self) -> pl.DataFrame:
        """One row per bin and track: `chrom, start, end, track, value` and, if any, `spread`."""
        ids = self.tracks.frame["id"]
        rows = np.repeat(np.arange(self.bins.height), len(ids))
        columns = {
            "track": ids.gather(np.tile(np.arange(len(ids)), self.bins.height)),
            "value": pl.Series(self.values_RT.ravel()),
        }
        if self.spread_RT is not None:
            columns["spread"] = pl.Series(self.spread_RT.ravel())
        return self.bins[rows].with_columns(**columns)


def predict(
    model: Model | Sequence[Model],
    genome: Genome | str | os.PathLike[str],
    regions: Regions | pl.DataFrame | str | os.PathLike[str] | None = None,
    *,
    species: str | None = None,
    tracks: str | None = None,
    average: str = "rc",
    device: str = "auto",
    precision: Precision = "fp32",
    trim: int | None = None,
    batch_size: int = 8,
) -> RegionTracks:
    """Predict tracks of a species over regions, or over a whole genome, into memory.

    For whole genomes of many tracks see `track_plan.plan_prediction`, which needs little memory.
    Regions are widened to whole bins; beyond a chromosome's ends windows hold N.

    Args:
        model: a model, its folder, or several of them as an ensemble, whose mean and spread are
            given.
        genome: of the species; a FASTA or 2bit file.
        regions: columns chrom, start, end; they may overlap. Or a BED file.
        species: needed where the model has several.
        tracks: which tracks, such as `assay == "ATAC"`; see `signal.query`.
        average: views averaged: `rc`, `shift`, both with a comma, or `none`.
        trim: bins at either end of a window that are not used; the model's crop if None.

    Raises:
        CislensError: for models that do not fit together, an unknown species, track, chromosome
            or device, or a region that is empty or beyond its chromosome.
    """
    averaging = read_averaging(average)
    ensemble = Ensemble.of(model, species, tracks, trim)
    reference = genome if isinstance(genome, Genome) else open_genome(Path(genome))
    where = as_regions(regions, reference).frame
    return _predict(ensemble, reference, where, averaging, device, precision, batch_size)


def predict_tracks(
    model: ProfileModel,
    genome: Genome,
    regions: pl.DataFrame,
    species: str,
    tracks: TrackTable,
    *,
    length: int,
    batch_size: int = 8,
    average_strands: bool = False,
    shifts: tuple[int, ...] = (0,),
) -> RegionTracks:
    """Predict every track of a species over regions, in fp32 where the model lies; see `predict`.

    Args:
        tracks: the species' tracks as the model was trained on them, in any order.
        length: bases the model was trained on.
        average_strands: average with the prediction for the reverse complement, bins turned and
            strand pairs swapped, before scale and clip are undone.
        shifts: bp by which windows are moved; the predictions are averaged.

    Raises:
        CislensError: as `predict`, or for a length that does not fit the model.
    """
    ensemble = Ensemble.of(TrackModel(model, DataCard(length, tracks)), species)
    where = as_regions(regions, genome).frame
    averaging = Averaging(average_strands, shifts)
    return _predict(ensemble, genome, where, averaging, None, "fp32", batch_size)


def _predict(
    ensemble: Ensemble,
    genome: Genome,
    regions: pl.DataFrame,
    averaging: Averaging,
    device: str | None,
    precision: Precision,
    batch_size: int,
) -> RegionTracks:
    bin_size = ensemble.bin_size
    tiling = tile_regions(
        genome, regions, bin_size=bin_size, length=ensemble.length, trim=ensemble.trim
    )
    shape = (tiling.rows, len(ensemble.tracks))
    values_RT = np.empty(shape, np.float32)
    spread_RT = np.empty(shape, np.float32) if len(ensemble.models) > 1 else None
    batches = [
        slice(first, min(first + batch_size, tiling.windows))
        for first in range(0, tiling.windows, batch_size)
    ]
    with ensemble.running(device, precision) as place:
        for rows, values_TR, spread_TR in predicted_batches(
            ensemble, genome, tiling, batches, averaging, place, show=True
        ):
            values_RT[rows] = values_TR.T
            if spread_RT is not None and spread_TR is not None:
                spread_RT[rows] = spread_TR.T
    return RegionTracks(
        values_RT, tiling.bins(0, tiling.rows), ensemble.tracks, ensemble.species, genome.name,
        bin_size, genome.chrom_sizes, spread_RT, tiling.padded,
    )  # fmt: skip


class _Windows(Prefetched[Codes]):
    """The windows of each batch, (B, W)."""

    def __init__(
        self, genome: Genome, tiling: Tiling, batches: Sequence[slice], margin: int
    ) -> None:
        self.genome, self.tiling, self.batches, self.margin = genome, tiling, batches, margin
        self.starts_W = tiling.starts() - margin

    def __len__(self) -> int:
        return len(self.batches)

    def batch(self, epoch: int, step: int) -> Codes:
        part = self.batches[step]
        width = self.tiling.length + 2 * self.margin
        return self.genome.windows(self.tiling.names(part), self.starts_W[part], width)


def predicted_batches(
    ensemble: Ensemble,
    genome: Genome,
    tiling: Tiling,
    batches: Sequence[slice],
    averaging: Averaging,
    place: torch.device,
    show: bool = False,
) -> Iterator[tuple[slice, Values, Values | None]]:
    """Rows, (T, R) values and (T, R) spread of each batch of windows, in order.

    The windows of the next batches are cut while one is predicted.

    Args:
        place: where the ensemble is `running`.
        show: draw a bar.
    """
    windows = _Windows(genome, tiling, batches, averaging.margin)
    cut: Iterable[Codes] = windows.epoch(0)
    if show:
        cut = progress(cut, f"predict {ensemble.species}", len(batches))
    for part, codes_BW in zip(batches, cut, strict=True):
        values_TBN, spread_TBN = ensemble.values(codes_BW, averaging, place)
        window_R, bin_R = tiling.places(part)
        rows = slice(int(tiling.row_W[part.start]), int(tiling.row_W[part.stop]))
        spread_TR = None if spread_TBN is None else spread_TBN[:, window_R, bin_R]
        yield rows, values_TBN[:, window_R, bin_R], spread_TR


def view_rates(
    model: ProfileModel,
    codes_BW: Codes,
    margin: int,
    species: str,
    pair: torch.Tensor | None,
    averaging: Averaging,
) -> Values:
    """(B, N, T) rates of the central bins of windows with a margin, averaged over views."""
    training = model.training
    model.eval()
    try:
        device = next(model.parameters()).device

        def rates(x_B4L: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = model(x_B4L, species, crop=True)
            return found

        rate_BTN = averaged_rates(rates, codes_BW, margin, pair, averaging, device)
        values: Values = rate_BTN.transpose(1, 2).cpu().numpy()
        return values
    finally:
        model.train(training)
