"""What is checked before a prediction into files begins; nothing is written here."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cislens.effects.averaging import read_averaging
from cislens.effects.devices import Precision, resolve_device
from cislens.effects.ensemble import Ensemble
from cislens.effects.tiling import Tiling, as_regions, tile_regions
from cislens.effects.track_files import FORMATS
from cislens.effects.track_model import model_digest
from cislens.effects.track_run import FORMAT, MANIFEST, PARTS, SETTINGS, TRACKS, Prediction
from cislens.engines import Reopened
from cislens.errors import CislensError, nearest
from cislens.genome.reference import Genome


def plan_prediction(
    models: Sequence[str | os.PathLike[str]],
    genome: Genome,
    regions: str | os.PathLike[str] | pl.DataFrame | None,
    out: str | os.PathLike[str],
    *,
    species: str | None = None,
    tracks: str | None = None,
    average: str = "rc",
    device: str = "auto",
    precision: Precision = "fp32",
    trim: int | None = None,
    batch_size: int = 8,
    formats: Sequence[str] = ("bigwig",),
) -> Prediction:
    """Check everything about a prediction into files; nothing is written.

    Args:
        models: model folders; several are an ensemble.
        regions: BED file or table; the whole genome if None.
        out: folder. One in which the same prediction was begun is gone on with.

    Raises:
        CislensError: as `tracks.predict`; and if `out` holds a prediction of another model,
            genome or other settings, or other files of these names, or the disk lacks space.
    """
    averaging = read_averaging(average)
    place = resolve_device(device)
    kinds = _formats(formats)
    opened = Reopened(Ensemble.of, list(models), species, tracks, trim)
    ensemble = opened.thing
    where = as_regions(regions, genome)
    tiling = tile_regions(
        genome, where.frame, bin_size=ensemble.bin_size, length=ensemble.length, trim=ensemble.trim
    )
    settings = {
        "models": [model_digest(model) for model in models],
        "genome": genome.digest,
        "bins": _tiling_digest(tiling),
        "species": ensemble.species,
        "tracks": ensemble.tracks.frame["id"].to_list(),
        "average": str(averaging),
        "device": place.type,
        "precision": precision,
        "trim": ensemble.trim,
        "batch_size": batch_size,
        "formats": list(kinds),
    }
    prediction = Prediction(
        opened, genome, where, tiling, averaging, Path(out), kinds, device, precision,
        batch_size, settings,
    )  # fmt: skip
    _require_place(prediction)
    _require_different(prediction)
    return prediction


def _formats(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in FORMATS:
            raise CislensError(
                f"--format {name!r} is none of {', '.join(FORMATS)}. {nearest(name, FORMATS)}"
            )
    if not names:
        raise CislensError(f"no format was given; choose among {', '.join(FORMATS)}.")
    return tuple(kind for kind in FORMATS if kind in names)


def _require_place(prediction: Prediction) -> None:
    """Refuse a folder that holds something else, or a disk that is too small."""
    out, settings = prediction.out, prediction.settings
    if out.exists() and not out.is_dir():
        raise CislensError(f"{out} is a file; give a folder to write to.")
    begun, finished = out / PARTS / SETTINGS, out / MANIFEST
    names = prediction.files  # refuses ids that meet in one name
    if finished.exists():
        manifest = _read(finished)
        if manifest.get("format") != FORMAT:
            raise CislensError(f"{out} holds something else, by {finished}; choose another folder.")
        _require_same(out, manifest.get("settings"), settings)
        lost = [name for name in names if not (out / name).exists()]
        if lost:
            raise CislensError(f"{finished} names {lost[0]}, which is gone; remove {finished}.")
        return
    if begun.exists():
        _require_same(out, _read(begun), settings)
    else:
        foreign = [name for name in (*names, TRACKS) if (out / name).exists()]
        if foreign:
            raise CislensError(f"{out / foreign[0]} exists already; choose another folder.")
    home = next(each for each in (out, *out.absolute().parents) if each.exists())
    free = shutil.disk_usage(home).free
    if free < 2 * prediction.bytes:
        raise CislensError(
            f"{out} needs about {2 * prediction.bytes:,} bytes and {free:,} are free; choose fewer "
            "regions or tracks, or another disk."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CislensError(f"{path} is damaged or no file of cislens; choose another folder.")
    return found


def _require_different(prediction: Prediction) -> None:
    """Refuse a model that is given twice: it would count twice, and the spread be too small."""
    models, digests = prediction.ensemble.models, prediction.settings["models"]
    for place, digest in enumerate(digests):
        first = digests.index(digest)
        if first < place:
            raise CislensError(
                f"{models[first].name} and {models[place].name} are the same model; give each "
                "model of an ensemble once."
            )


def _require_same(out: Path, found: Any, settings: dict[str, Any]) -> None:
    held = found if isinstance(found, dict) else {}
    other = [name for name in settings if held.get(name) != settings[name]]
    if other:
        raise CislensError(
            f"{out} holds a prediction with other {', '.join(other)}; choose another folder, or "
            "remove this one to begin anew."
        )


def _tiling_digest(tiling: Tiling) -> str:
    digest = hashlib.sha256(json.dumps(dict(tiling.chrom_sizes)).encode())
    for array in (tiling.run_K, tiling.first_K, tiling.stop_K):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
