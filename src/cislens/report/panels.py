"""Which panels each section of the page holds, with their titles and counts."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from cislens.report.figures import experts as expert_figures
from cislens.report.figures import intervals
from cislens.report.figures.canvas import Picture
from cislens.report.figures.loci import locus_panel
from cislens.report.figures.training import curve
from cislens.report.inputs import KINDS, ReportInput
from cislens.report.words import counted, grouped

_CURVES = {
    "loss": ("Loss", "lower is better"),
    "pearson_pooled": ("Pearson, pooled", "over all bins of all windows, per track"),
    "pearson_window": ("Pearson, window", "inside each window, then averaged"),
}


@dataclass(frozen=True)
class Panel:
    """A picture with its title and the line below it."""

    title: str
    sub: str
    picture: Picture


def forests(run: ReportInput) -> list[Panel]:
    """One forest panel per (task, metric); panels of one metric share their axis."""
    kinds = {arm: run.kind(arm) for arm in run.verdicts["arm"].unique()}
    limits = {
        metric: intervals.forest_limits(run.verdicts.filter(pl.col("metric") == metric), kinds)
        for metric in run.verdicts["metric"].unique()
    }
    panels = []
    for task, metric in run.tasks():
        rows = _of(run.verdicts, task, metric)
        if rows.is_empty():
            continue
        rank = pl.Series([KINDS.index(kinds[arm]) for arm in rows["arm"]], dtype=pl.Int64)
        rows = rows.with_columns(_rank=rank).sort(
            "_rank", "difference", descending=[False, True], nulls_last=True, maintain_order=True
        )
        rivals = rows["baseline"].unique(maintain_order=True).to_list()
        held = f"{metric}, minus {rivals[0]}" if len(rivals) == 1 else f"{metric}, paired"
        sub = ", ".join(filter(None, (held, _counts(run, task, metric))))
        picture = intervals.forest(rows.drop("_rank"), kinds, limits[metric])
        panels.append(Panel(task, sub, picture))
    return panels


def score_panels(run: ReportInput) -> list[Panel]:
    """One panel of scores per (task, metric), best arm first; each has its own axis."""
    panels = []
    for task, metric in run.tasks():
        rows = _of(run.scores, task, metric).sort(
            "point", descending=True, nulls_last=True, maintain_order=True
        )
        if len(rows):
            sub = ", ".join(filter(None, (metric, _counts(run, task, metric))))
            picture = intervals.scores(rows, intervals.score_limits(rows))
            panels.append(Panel(task, sub, picture))
    return panels


def curve_panels(run: ReportInput) -> list[Panel]:
    """Loss, both Pearson correlations, and the balance terms of the experts."""
    if run.training is None:
        return []
    present = run.training["metric"].unique(maintain_order=True).to_list()
    balance = [name for name in present if name.startswith("balance")]
    panels = []
    for name in [*(key for key in _CURVES if key in present), *balance]:
        title, sub = _CURVES.get(name, (_balance(name), "how unevenly experts are used"))
        rows = run.training.filter(pl.col("metric") == name, pl.col("value").is_finite())
        if len(rows):
            panels.append(Panel(title, sub, curve(rows)))
    return panels


def locus_panels(run: ReportInput) -> list[Panel]:
    """One panel per locus, all its tracks stacked."""
    panels = []
    for locus in run.loci:
        if not locus.tracks:
            continue
        where = f"{locus.chrom}:{grouped(locus.start + 1)}-{grouped(locus.end)}"
        shown = [locus.species, f"{grouped(locus.bins)} bins of {counted(locus.bin_size, 'base')}"]
        if locus.annotations is not None:
            shown.append(f"bars below are {locus.annotated_as}")
        if locus.title:
            shown.insert(0, where)
        panels.append(Panel(locus.title or where, ", ".join(shown), locus_panel(locus)))
    return panels


def expert_panels(run: ReportInput) -> list[Panel]:
    """Load per layer over all species, then one species map per layer."""
    use = run.experts
    if use is None:
        return []
    load = np.asarray(use.load, dtype=float)
    panels = [
        Panel("Every layer", "mean over species", expert_figures.load_map(
            use.layers, load.mean(1), "layer"))
    ]  # fmt: skip
    if len(use.species) > 1:
        panels += [
            Panel(f"Species in {layer}", "one row per species",
                  expert_figures.load_map(use.species, load[index], "species"))
            for index, layer in enumerate(use.layers)
        ]  # fmt: skip
    return panels


def _balance(metric: str) -> str:
    """`balance_switch` as a title: Balance, switch."""
    opening, _, rest = metric.partition("_")
    return f"{opening.capitalize()}, {rest.replace('_', ' ')}" if rest else opening.capitalize()


def _of(frame: pl.DataFrame, task: str, metric: str) -> pl.DataFrame:
    return frame.filter(pl.col("task") == task, pl.col("metric") == metric)


def _counts(run: ReportInput, task: str, metric: str) -> str:
    """`n 1 234 in 56 groups`, as far as it is known."""
    rows = _of(run.scores, task, metric)
    known = {
        name: rows[name].drop_nulls().max() for name in ("n", "blocks") if name in rows.columns
    }
    text = f"n {grouped(float(str(known['n'])))}" if known.get("n") is not None else ""
    if text and known.get("blocks") is not None:
        text += f" in {grouped(float(str(known['blocks'])))} groups"
    return text
