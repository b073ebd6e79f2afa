"""The attributions of the regions of a genome, from a trained model to a folder of files.

The maps are made first. Seqlets and logos are made of them, also of those of a finished folder.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

import cislens
from cislens.effects.attribution.files import Maps, contributions, write_dynseq, write_modisco
from cislens.effects.attribution.logos import LOGO_WIDTH, strongest, write_logo
from cislens.effects.attribution.parts import (
    EXTRAS,
    FORMAT,
    MANIFEST,
    MAPS,
    WORK,
    Parts,
    finished_maps,
    require_same,
)
from cislens.effects.attribution.plan import Plan
from cislens.effects.attribution.seqlets import find_seqlets, name_seqlets, write_seqlets
from cislens.files import atomic_path, claimed, clear_partial, read_json, write_atomic
from cislens.progress import track as progress

SCHEMA_VERSION = 1
# Regions between two marks: what a run that is killed must do again at most.
_AT_ONCE: Mapping[str, int] = {"saliency": 64, "integrated_gradients": 4, "ism": 1, "entropy": 1}
_UNIT = {"entropy": "certainty (nats)"}


def run(plan: Plan) -> dict[str, Any]:
    """Attribute every window and write the folder; see docs/formats.md#attribution-folder.

    Started again after it was killed it goes on. A folder whose maps are finished gets the
    seqlets and logos that it lacks, and is left as it is if it lacks none.

    Returns:
        The manifest of the folder.

    Raises:
        CislensError: as `Plan.check`, or for a folder of other settings.
    """
    plan.check()
    settings, work = plan.settings(), plan.out / WORK
    manifest = _finished(plan.out)
    if manifest is not None and not _lacking(plan, manifest) and not work.exists():
        return manifest
    with claimed(work, "attributing into"):
        clear_partial(plan.out)
        manifest = _finished(plan.out) or _make_maps(plan, settings)
        require_same(manifest["settings"], settings, plan.out)
        if lacking := _lacking(plan, manifest):
            manifest = _make_extras(plan, manifest, lacking)
        shutil.rmtree(work)
    return manifest


def _finished(out: Path) -> dict[str, Any] | None:
    """The manifest of a folder whose maps are whole."""
    path = out / MANIFEST
    return read_json(path, "manifest of the maps") if path.exists() else None


def _lacking(plan: Plan, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for of `Extras.asked` and is not there, or is made of something else."""
    made = manifest["extras"]
    return {name: how for name, how in plan.extras.asked.items() if made.get(name) != how}


def _make_maps(plan: Plan, settings: Mapping[str, Any]) -> dict[str, Any]:
    shape = (len(plan.windows), 4, plan.shown_width)
    at_once = _AT_ONCE[plan.question.method]
    parts = Parts(plan.out / WORK, settings, shape, at_once)
    for rows in progress(parts.missing(), f"{plan.question.method} (x{at_once} regions)"):
        parts.put(rows, plan.attributions(rows))
    out, windows, sizes = plan.out, plan.shown, plan.genome.chrom_sizes
    maps = (parts.hypothetical_n4L, parts.one_hot_n4L)
    write_modisco(out, windows, *maps, sizes)
    write_dynseq(out / "contributions.bw", windows, *maps, sizes)
    scored = windows.with_columns(
        score=pl.Series(np.array(parts.scores_n2[:, 0])),
        reference=pl.Series(np.array(parts.scores_n2[:, 1])),
    )
    scored = scored.with_columns(pl.col("score", "reference").fill_nan(None))
    write_atomic(out / "regions.tsv", scored.write_csv(separator="\t"))
    manifest = {
        "format": FORMAT, "schema_version": SCHEMA_VERSION, "cislens": cislens.__version__,
        "regions": shape[0], "width": shape[2], "settings": settings,
    }  # fmt: skip
    return _write_manifest(out, manifest, {}, None)


def _make_extras(
    plan: Plan, manifest: Mapping[str, Any], lacking: Mapping[str, Any]
) -> dict[str, Any]:
    """Seqlets and logos of finished maps. The manifest says before that they are begun."""
    out, windows, extras = plan.out, plan.shown, plan.extras
    made = {**manifest["extras"], **dict.fromkeys(lacking)}
    number = None if "seqlets" in lacking else manifest.get("seqlets")
    manifest = _write_manifest(out, manifest, made, number)
    maps = finished_maps(out)
    if "seqlets" in lacking:
        seqlets = find_seqlets(*maps)
        if extras.motifs is not None:
            seqlets = name_seqlets(seqlets, maps[1], extras.motifs.motifs)
        write_seqlets(out / EXTRAS["seqlets"], seqlets, windows)
        number = len(seqlets)
    if "logos" in lacking:
        unit = _UNIT.get(plan.question.method, "contribution")
        with atomic_path(out / EXTRAS["logos"]) as aside:
            aside.mkdir()
            _write_logos(aside, windows, *maps, count=extras.logos, unit=unit)
    return _write_manifest(out, manifest, {**made, **lacking}, number)


def _write_manifest(
    out: Path, manifest: Mapping[str, Any], extras: Mapping[str, Any], seqlets: int | None
) -> dict[str, Any]:
    """The manifest with other extras; the same ones in whatever order give the same bytes."""
    whole = [name for name in EXTRAS if extras.get(name) is not None]
    files = [*MAPS, *(EXTRAS[name] for name in whole if name != "logos")]
    if "logos" in whole:
        files += sorted(f"logos/{path.name}" for path in (out / EXTRAS["logos"]).iterdir())
    ours = ("files", "seqlets", "extras", "settings")
    written = {name: value for name, value in manifest.items() if name not in ours}
    written |= {"files": files} | ({} if seqlets is None else {"seqlets": seqlets})
    written["extras"] = {name: extras[name] for name in EXTRAS if name in extras}
    written["settings"] = manifest["settings"]
    write_atomic(out / MANIFEST, json.dumps(written, indent=1) + "\n")
    return written


def _write_logos(
    folder: Path,
    windows: pl.DataFrame,
    hypothetical_n4L: Maps,
    one_hot_n4L: npt.NDArray[Any],
    *,
    count: int,
    unit: str,
) -> None:
    """One SVG for each of the regions with the strongest stretch, numbered from the strongest."""
    rows = [slice(row, row + 1) for row in range(len(windows))]
    found = [strongest(contributions(hypothetical_n4L[r], one_hot_n4L[r])[0]) for r in rows]
    order = sorted(range(len(found)), key=lambda row: (-found[row][1], row))
    for number, row in enumerate(order[:count], 1):
        start = found[row][0]
        stretch = slice(start, start + LOGO_WIDTH)
        drawn = hypothetical_n4L[row, :, stretch] * one_hot_n4L[row, :, stretch]
        place = windows.row(row, named=True)
        first = place["start"] + start
        title = f"{place['name']}  {place['chrom']}:{first + 1:,}-{first + drawn.shape[1]:,}"
        name = f"{number:03d}_{place['chrom']}_{first}_{first + drawn.shape[1]}.svg"
        write_logo(folder / name, drawn, first=first, title=title, unit=unit)
