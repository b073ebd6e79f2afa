"""The attributions of the regions of a genome, from a trained model to a folder of files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import cislens
from cislens.effects.attribution.files import contributions, write_dynseq, write_modisco
from cislens.effects.attribution.logos import LOGO_WIDTH, strongest, write_logo
from cislens.effects.attribution.parts import FORMAT, MANIFEST, WORK, Parts, require_same
from cislens.effects.attribution.plan import Plan
from cislens.effects.attribution.seqlets import find_seqlets, name_seqlets, write_seqlets
from cislens.files import atomic_path, claimed, clear_partial, write_atomic
from cislens.progress import track as progress

SCHEMA_VERSION = 1
# Regions between two marks: what a run that is killed must do again at most.
_AT_ONCE: Mapping[str, int] = {"saliency": 64, "integrated_gradients": 4, "ism": 1, "entropy": 1}
_UNIT = {"entropy": "certainty (nats)"}


def run(plan: Plan) -> dict[str, Any]:
    """Attribute every window and write the folder; see docs/effects.md for its files.

    Started again after it was killed it goes on; a folder that is finished is left as it is.

    Returns:
        The manifest of the folder.

    Raises:
        CislensError: as `Plan.check`, or for a folder of other settings.
    """
    plan.check()
    with claimed(plan.out, "attributing into"):
        clear_partial(plan.out)
        settings = plan.settings()
        done = plan.out / MANIFEST
        if done.exists():
            manifest: dict[str, Any] = json.loads(done.read_text())
            require_same(manifest.get("settings", {}), settings, plan.out)
            return manifest
        shape = (len(plan.windows), 4, plan.shown_width)
        at_once = _AT_ONCE[plan.question.method]
        parts = Parts(plan.out / WORK, settings, shape, at_once)
        for rows in progress(parts.missing(), f"{plan.question.method} (x{at_once} regions)"):
            parts.put(rows, plan.attributions(rows))
        made = _write(plan, parts)
        manifest = {
            "format": FORMAT, "schema_version": SCHEMA_VERSION, "cislens": cislens.__version__,
            "regions": shape[0], "width": shape[2], **made, "settings": settings,
        }  # fmt: skip
        write_atomic(done, json.dumps(manifest, indent=1) + "\n")
        parts.remove()
    return manifest


def _write(plan: Plan, parts: Parts) -> dict[str, Any]:
    """The files of a folder, and what the manifest says of them."""
    out, windows, extras = plan.out, plan.shown, plan.extras
    maps = (parts.hypothetical_n4L, parts.one_hot_n4L)
    files = [path.name for path in write_modisco(out, windows, *maps, plan.genome.chrom_sizes)]
    write_dynseq(out / "contributions.bw", windows, *maps, plan.genome.chrom_sizes)
    scored = windows.with_columns(
        score=pl.Series(np.array(parts.scores_n2[:, 0])),
        reference=pl.Series(np.array(parts.scores_n2[:, 1])),
    )
    scored = scored.with_columns(pl.col("score", "reference").fill_nan(None))
    write_atomic(out / "regions.tsv", scored.write_csv(separator="\t"))
    made: dict[str, Any] = {"files": [*files, "contributions.bw", "regions.tsv"]}
    if extras.seqlets:
        seqlets = find_seqlets(*maps)
        if extras.motifs is not None:
            seqlets = name_seqlets(seqlets, parts.one_hot_n4L, extras.motifs.motifs)
        write_seqlets(out / "seqlets.bed", seqlets, windows)
        made = {"files": [*made["files"], "seqlets.bed"], "seqlets": len(seqlets)}
    if extras.logos:
        unit = _UNIT.get(plan.question.method, "contribution")
        with atomic_path(out / "logos") as aside:
            aside.mkdir()
            _write_logos(aside, windows, parts, extras.logos, unit)
            logos = sorted(f"logos/{path.name}" for path in aside.iterdir())
        made["files"] += logos
    return made


def _write_logos(folder: Path, windows: pl.DataFrame, parts: Parts, count: int, unit: str) -> None:
    """One SVG for each of the regions with the strongest stretch, numbered from the strongest."""
    hypothetical_n4L, one_hot_n4L = parts.hypothetical_n4L, parts.one_hot_n4L
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
