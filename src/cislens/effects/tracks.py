"""Predicted tracks of arbitrary regions, as arrays and as bigWig.

Bins lie on a grid that starts at base 0 of each chromosome, and so do the windows that are shown
to the model. The value of a bin is therefore a function of the model and the genome alone: it
does not depend on the region it was asked for in, or on the batch.

Dimensions: R bin, B window, L base pair, N bin of a window, T track.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from cislens.effects.averaging import Averaging, averaged_rates
from cislens.effects.track_model import head_order
from cislens.errors import CislensError
from cislens.genome.codes import Codes
from cislens.genome.reference import Genome
from cislens.models.profile import ProfileModel
from cislens.progress import track as progress
from cislens.signal.bigwig import write_bigwig
from cislens.signal.tracks import TrackTable
from cislens.signal.transforms import untransform

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RegionTracks:
    """Predicted tracks of one genome's regions.

    Attributes:
        values_RT: mean signal per base over each bin, in the unit of the track's own file
            (scale and soft clip undone), whatever its `sum_stat`.
        bins: `chrom, start, end` of each row, 0-based half-open, by chromosome and start, each
            bin once. The last bin of a chromosome ends where the chromosome does.
        tracks: one row per column of the values.
        species, genome, bin_size: what was predicted.
        chrom_sizes: of the genome.
    """

    values_RT: Values
    bins: pl.DataFrame
    tracks: TrackTable
    species: str
    genome: str
    bin_size: int
    chrom_sizes: Mapping[str, int]

    def region(self, chrom: str, start: int, end: int) -> "RegionTracks":
        """The bins that overlap one region."""
        inside = (pl.col("chrom") == chrom) & (pl.col("end") > start) & (pl.col("start") < end)
        mask = self.bins.select(inside).to_series()
        return replace(self, values_RT=self.values_RT[mask.to_numpy()], bins=self.bins.filter(mask))


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
    """Predict every track of a species over regions, in fp32 on the model's device.

    Windows of `length` bases are laid so that their central bins (the model's crop removed) join
    without gap or overlap; beyond a chromosome's ends they hold N. Regions are widened to whole
    bins.

    Args:
        regions: columns chrom, start, end; they may overlap.
        species: one of the model's.
        tracks: the species' tracks as the model was trained on them, in any order.
        length: bases the model was trained on.
        average_strands: average with the prediction for the reverse complement, bins turned and
            strand pairs swapped, before scale and clip are undone.
        shifts: bp by which windows are moved; the predictions are averaged.

    Raises:
        CislensError: for an unknown species, track or chromosome, a region that is empty or
            beyond its chromosome, or a length that does not fit the model.
    """
    table = head_order(model, species, tracks)
    bin_size, crop = model.encoder.bin_size, model.config.crop
    central = length // bin_size - 2 * crop
    if length % bin_size or central < 1:
        raise CislensError(
            f"length {length} must be a multiple of the model's bin_size {bin_size} and longer "
            f"than the {2 * crop} bins it crops; give the length that the model was trained on."
        )
    bins = _bins(genome, regions, bin_size)
    # One window serves `central` consecutive bins; only those that a region touches are run.
    tiles = bins.select("chrom", tile=pl.col("bin") // central).unique(maintain_order=True)
    start = (tiles["tile"].to_numpy() * central - crop) * bin_size
    rows, columns = _places(bins, tiles, central)
    bins_BNT = np.empty((tiles.height, central, len(table)), np.float32)
    averaging = Averaging(average_strands, shifts)
    margin, pair = averaging.margin, torch.as_tensor(table.strand_permutation())
    everything = np.arange(tiles.height)
    batches = [everything[i : i + batch_size] for i in range(0, tiles.height, batch_size)]
    for part in progress(batches, f"predict {species}"):
        chroms, first = tiles["chrom"].gather(part), start[part] - margin
        codes_BW = genome.windows(chroms, first, length + 2 * margin)
        bins_BNT[part] = view_rates(model, codes_BW, margin, species, pair, averaging)
    rates_RT = bins_BNT[rows, columns]
    values_RT = np.empty_like(rates_RT)
    for index, row in enumerate(table.rows()):
        values_RT[:, index] = untransform(rates_RT[:, index], row, bin_size=bin_size)
    where, sizes = bins.drop("bin"), genome.chrom_sizes
    return RegionTracks(values_RT, where, table, species, genome.name, bin_size, sizes)


def write_track_bigwigs(predicted: RegionTracks, folder: str | os.PathLike[str]) -> list[Path]:
    """Write one bigWig per track, `<id>.bw`, with the mean signal per base of each bin.

    The unit is that of the measured file, so both can be laid over each other in a browser.
    Characters of an id that a file name should not hold become `_`.

    Returns:
        The paths, in track order.

    Raises:
        CislensError: if two ids give the same file name.
    """
    names = [re.sub(r"[^\w.+-]", "_", name) + ".bw" for name in predicted.tracks.frame["id"]]
    for name in names:
        if names.count(name) > 1:
            raise CislensError(f"two track ids would both be written to {name}; rename one.")
    paths = [Path(folder) / name for name in names]
    bins = predicted.bins
    for path, values_R in zip(paths, predicted.values_RT.T, strict=True):
        write_bigwig(
            path,
            predicted.chrom_sizes,
            bins["chrom"].to_numpy(),
            bins["start"].to_numpy(),
            bins["end"].to_numpy(),
            np.ascontiguousarray(values_R),
        )
    return paths


def _bins(genome: Genome, regions: pl.DataFrame, bin_size: int) -> pl.DataFrame:
    """`chrom, bin, start, end` of every grid bin that a region touches, in genome order."""
    for number, (chrom, start, end) in enumerate(regions.select("chrom", "start", "end").rows(), 1):
        size = genome.size(chrom)
        if not 0 <= start < end <= size:
            raise CislensError(
                f"region {number}, {chrom}:{start}-{end}: expected 0 <= start < end <= {size}, "
                f"the length of {chrom} in {genome.path}."
            )
    sizes = genome.chrom_sizes
    order = {chrom: rank for rank, chrom in enumerate(sizes)}
    return (
        regions.lazy()
        .select(
            "chrom",
            bin=pl.int_ranges(pl.col("start") // bin_size, (pl.col("end") - 1) // bin_size + 1),
        )
        .explode("bin")
        .unique()
        .sort(pl.col("chrom").replace_strict(order, return_dtype=pl.Int64), "bin")
        .with_columns(start=pl.col("bin") * bin_size)
        .with_columns(
            end=pl.min_horizontal(
                pl.col("start") + bin_size,
                pl.col("chrom").replace_strict(sizes, return_dtype=pl.Int64),
            )
        )
        .collect()
    )


def _places(
    bins: pl.DataFrame, tiles: pl.DataFrame, central: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Window and bin in it where each bin's prediction is found."""
    places = bins.select("chrom", "bin", tile=pl.col("bin") // central).join(
        tiles.with_row_index("row"), on=["chrom", "tile"], how="left", maintain_order="left"
    )
    column = places["bin"] - places["tile"] * central
    return places["row"].to_numpy().astype(np.int64), column.to_numpy()


def strand_rates(
    model: ProfileModel, codes_BL: Codes, species: str, pair: torch.Tensor | None
) -> Values:
    """(B, N, T) rates of the central bins; averaged over strands if `pair` is given."""
    return view_rates(model, codes_BL, 0, species, pair, Averaging(pair is not None))


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
