"""Predicted tracks as files: bigWig, parquet and zarr, written stretch by stretch.

What is written at once is one stretch of bins, so memory does not grow with the genome.

Dimensions: R bin, T track, G track of one pass.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.effects.tracks import RegionTracks
from cislens.errors import CislensError
from cislens.files import atomic_path
from cislens.signal.bigwig import write_bigwig
from cislens.signal.tracks import TrackTable

Values = npt.NDArray[np.float32]

FORMATS = ("bigwig", "parquet", "zarr")
PARQUET, ZARR = "predictions.parquet", "predictions.zarr"

# bigWigs that are written at the same time; each is an open file.
_TOGETHER = 128
_ROW_GROUP = 1 << 16
_PLACES = ("chrom", "start", "end")


@dataclass(frozen=True)
class Stretch:
    """Some rows of a prediction.

    Attributes:
        bins: `chrom, start, end` of each row.
        values_TR: mean signal per base.
        spread_TR: of the models; None for a single model.
    """

    bins: pl.DataFrame
    values_TR: Values
    spread_TR: Values | None


@dataclass(frozen=True)
class Predicted:
    """A finished prediction that is read stretch by stretch, as often as needed.

    Attributes:
        stretches: gives the stretches in genome order, anew at each call.
        rows: bins. spread: whether there is one.
    """

    stretches: Callable[[], Iterator[Stretch]]
    rows: int
    spread: bool
    tracks: TrackTable
    species: str
    genome: str
    bin_size: int
    chrom_sizes: Mapping[str, int]


def file_names(tracks: TrackTable) -> list[str]:
    """What the files of each track are called: its id, `_` where a file name should not hold it.

    Raises:
        CislensError: if two ids give the same name.
    """
    names = [re.sub(r"[^\w.+-]", "_", name) for name in tracks.frame["id"]]
    seen: dict[str, str] = {}
    for name, track in zip(names, tracks.frame["id"], strict=True):
        if name in seen:
            raise CislensError(
                f"two track ids, {seen[name]!r} and {track!r}, would both be written to "
                f"{name}.bw; rename one."
            )
        seen[name] = track
    return names


def write_track_bigwigs(predicted: RegionTracks, folder: str | os.PathLike[str]) -> list[Path]:
    """Write one bigWig per track, `<id>.bw`, with the mean signal per base of each bin.

    The unit is that of the measured file, so both can be laid over each other in a browser.
    Characters of an id that a file name should not hold become `_`.

    Returns:
        The paths, in track order.

    Raises:
        CislensError: if two ids give the same file name.
    """
    paths = [Path(folder) / f"{name}.bw" for name in file_names(predicted.tracks)]
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


def output_names(tracks: TrackTable, formats: Collection[str], spread: bool) -> list[str]:
    """Files and folders that are written for some formats.

    Raises:
        CislensError: as `file_names`, or if two columns of a table would have one name.
    """
    found: list[str] = []
    if "parquet" in formats:
        _require_columns(tracks.frame["id"].to_list(), spread)
    for kind in formats:
        if kind == "bigwig":
            names = file_names(tracks)
            found += [f"{name}.bw" for name in names]
            found += [f"{name}.spread.bw" for name in names] if spread else []
        else:
            found.append(PARQUET if kind == "parquet" else ZARR)
    repeated = {name for name in found if found.count(name) > 1} if spread else set()
    if repeated:
        raise CislensError(
            f"two tracks would both be written to {sorted(repeated)[0]}; rename one."
        )
    return found


def _require_columns(ids: list[str], spread: bool) -> None:
    columns = [*_PLACES, *ids, *(f"{name}.spread" for name in ids if spread)]
    repeated = [name for name in columns if columns.count(name) > 1]
    if repeated:
        raise CislensError(
            f"{PARQUET} would have two columns {repeated[0]!r}; rename the track, or choose "
            "another format."
        )


def write_files(
    predicted: Predicted, folder: Path, formats: Collection[str], scratch: Path
) -> list[Path]:
    """Write a prediction in every format; each file appears whole or not at all.

    The same prediction gives the same bytes.

    Args:
        scratch: an existing folder for what is written on the way.

    Returns:
        The files and folders, as `output_names`.
    """
    paths: list[Path] = []
    if "bigwig" in formats:
        paths += _write_bigwigs(predicted, folder)
    if "parquet" in formats:
        paths += _write_parquet(predicted, folder, scratch / "parquet")
    if "zarr" in formats:
        paths += _write_zarr(predicted, folder)
    return paths


def _write_bigwigs(predicted: Predicted, folder: Path) -> list[Path]:
    names = file_names(predicted.tracks)
    kinds = ("", ".spread") if predicted.spread else ("",)
    paths = []
    for kind in kinds:
        for first in range(0, len(names), _TOGETHER):
            group = slice(first, first + _TOGETHER)
            files = [folder / f"{name}{kind}.bw" for name in names[group]]
            _write_group(predicted, files, group, kind == ".spread")
            paths += files
    return paths


def _write_group(predicted: Predicted, files: list[Path], group: slice, spread: bool) -> None:
    """One pass over the prediction for the tracks of a group."""
    from figwig import BigWigWriter

    sizes = dict(predicted.chrom_sizes)
    with ExitStack() as whole:
        asides = [whole.enter_context(atomic_path(path)) for path in files]
        with ExitStack() as opened:
            writers = [
                opened.enter_context(BigWigWriter(aside, sizes, n_jobs=1)) for aside in asides
            ]
            for stretch in predicted.stretches():
                values_TR = stretch.spread_TR if spread else stretch.values_TR
                assert values_TR is not None
                chroms = stretch.bins["chrom"].to_numpy()
                starts, ends = stretch.bins["start"].to_numpy(), stretch.bins["end"].to_numpy()
                for writer, values_R in zip(writers, values_TR[group], strict=True):
                    values_R = np.ascontiguousarray(values_R)
                    writer.write(chroms, starts, values_R, ends=ends, missing=np.nan)


def _write_parquet(predicted: Predicted, folder: Path, parts: Path) -> list[Path]:
    """One row per bin: `chrom, start, end`, a column per track, and its spread if there is one."""
    ids = predicted.tracks.frame["id"].to_list()
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    with atomic_path(folder / PARQUET) as aside:
        paths = []
        for number, stretch in enumerate(predicted.stretches()):
            columns = dict(zip(ids, map(pl.Series, stretch.values_TR), strict=True))
            if stretch.spread_TR is not None:
                named = [f"{name}.spread" for name in ids]
                columns |= dict(zip(named, map(pl.Series, stretch.spread_TR), strict=True))
            paths.append(parts / f"{number:08d}.parquet")
            stretch.bins.with_columns(**columns).write_parquet(paths[-1])
        # No pattern: the folder's own name may hold what looks like one.
        pl.scan_parquet(paths, glob=False).sink_parquet(aside, row_group_size=_ROW_GROUP)
    return [folder / PARQUET]


def _write_zarr(predicted: Predicted, folder: Path) -> list[Path]:
    """A group with values (and spread) of bins x tracks, and chrom, start and end of each bin."""
    import zarr

    rows, tracks = predicted.rows, len(predicted.tracks)
    names = list(predicted.chrom_sizes)
    place = {name: number for number, name in enumerate(names)}
    each = max(1, min(rows, (1 << 22) // tracks))
    with atomic_path(folder / ZARR) as aside:
        group = zarr.open_group(aside, mode="w", zarr_format=3)
        group.attrs.update(_attributes(predicted, names))
        arrays: dict[str, Any] = {}
        for name in ("values", "spread") if predicted.spread else ("values",):
            arrays[name] = group.create_array(
                name, shape=(rows, tracks), chunks=(each, tracks), dtype="float32"
            )
        for name, kind in (("chrom", "int32"), ("start", "int64"), ("end", "int64")):
            arrays[name] = group.create_array(name, shape=(rows,), chunks=(each,), dtype=kind)
        first = 0
        for stretch in predicted.stretches():
            part = slice(first, first + stretch.bins.height)
            first = part.stop
            chroms = stretch.bins["chrom"].replace_strict(place, return_dtype=pl.Int32)
            arrays["chrom"][part] = chroms.to_numpy()
            arrays["start"][part] = stretch.bins["start"].to_numpy()
            arrays["end"][part] = stretch.bins["end"].to_numpy()
            arrays["values"][part] = stretch.values_TR.T
            if stretch.spread_TR is not None:
                arrays["spread"][part] = stretch.spread_TR.T
    return [folder / ZARR]


def _attributes(predicted: Predicted, chroms: list[str]) -> dict[str, Any]:
    return {
        "format": "cislens predictions",
        "species": predicted.species,
        "genome": predicted.genome,
        "bin_size": predicted.bin_size,
        "chroms": chroms,
        "tracks": predicted.tracks.frame["id"].to_list(),
    }
