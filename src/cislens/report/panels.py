"""Which panels each section of the page holds, with their titles and counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from cislens.report.figures import experts as expert_figures
from cislens.report.figures import intervals
from cislens.report.figures.canvas import Picture
from cislens.report.figures.loci import locus_panel
from cislens.report.figures.training import curve
from cislens.report.inputs import ExpertUse, ReportInput, Values
from cislens.report.words import counted, grouped, main_comparisons, number

# Title of a training panel, the line below it, and the logged metrics that it shows.
_CURVES = (
    ("Loss", "lower is better", ("loss", "poisson")),
    ("Pearson, pooled", "over all bins of all windows, per track", ("pearson_pooled",)),
    ("Pearson, window", "inside each window, then averaged", ("pearson_window",)),
    ("Expert balance", "1 when all experts are used alike", ("balance",)),
    ("Species told apart", "mutual information of species and expert, nats",
     ("mutual_information",)),
)  # fmt: skip

_OF_GATES = "share of the gate weight"


@dataclass(frozen=True)
class Panel:
    """A picture with its title and the line below it."""

    title: str
    sub: str
    picture: Picture


def forests(run: ReportInput) -> list[Panel]:
    """One forest panel per (task, metric), main comparison first; one axis per metric."""
    kinds = {arm: run.kind(arm) for name in ("arm", "baseline") for arm in run.verdicts[name]}
    main = main_comparisons(run)
    limits = {
        metric: intervals.forest_limits(
            *(frame.filter(pl.col("metric") == metric) for frame in (run.verdicts, main))
        )
        for metric in run.verdicts["metric"].unique()
    }
    panels = []
    for task, metric in run.tasks():
        rows = _of(run.verdicts, task, metric)
        if rows.is_empty():
            continue
        judged = set(_of(main, task, metric)["baseline"])
        rows = rows.sort(~pl.col("baseline").is_in(list(judged)), maintain_order=True)
        arms, rivals = (rows[name].unique(maintain_order=True) for name in ("arm", "baseline"))
        held = metric
        if len(arms) == 1 and len(rivals) > 1:
            held += f" of {arms[0]}, minus baseline"
        elif len(rivals) == 1:
            held += f", minus {rivals[0]}"
        sub = ", ".join(filter(None, (held, _counts(rows))))
        picture = intervals.forest(rows, kinds, judged, limits[metric])
        panels.append(Panel(task, sub, picture))
    return panels


def score_panels(run: ReportInput) -> list[Panel]:
    """One panel of scores per (task, metric), best arm first; each has its own axis."""
    panels = []
    for task, metric in run.tasks():
        rows = _of(run.primary_scores, task, metric).sort(
            "point", descending=True, nulls_last=True, maintain_order=True
        )
        if len(rows):
            known = _counts(_of(run.verdicts, task, metric))
            sub = ", ".join(filter(None, (metric, known)))
            picture = intervals.scores(rows, intervals.score_limits(rows))
            panels.append(Panel(task, sub, picture))
    return panels


def curve_panels(run: ReportInput) -> list[Panel]:
    """Loss, both Pearson correlations, and how the experts are used.

    A correlation is drawn per species, where it was logged so; the loss for all together.
    """
    if run.training is None:
        return []
    name = pl.col("metric").str.splitn("/", 2)
    rows = run.training.with_columns(
        metric=name.struct.field("field_0"), species=name.struct.field("field_1")
    ).filter(pl.col("value").is_finite())
    panels = []
    for title, sub, metrics in _CURVES:
        shown = rows.filter(pl.col("metric").is_in(metrics))
        by_species = shown.filter(pl.col("species").is_not_null())
        together = shown.filter(pl.col("species").is_null())
        shown = together if title == "Loss" or by_species.is_empty() else by_species
        if len(shown):
            panels.append(Panel(title, sub, curve(shown, title)))
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
    """Of the encoder, then of the decoder: load per layer, then a map per layer and label.

    The maps by species and by group of tracks say how undecided the router was and how much the
    expert tells about the label.
    """
    use = run.experts
    if use is None:
        return []
    parts = [part for part in (use, use.decoder) if part is not None]
    panels = []
    for part in parts:
        title = "Decoder" if part.groups else "Every layer"
        what = "tokens" if part.groups else "bins"
        whole = expert_figures.load_map(part.layers, part.load_XE, "layer")
        panels.append(Panel(title, f"share of the routed {what}", whole))
        panels += _label_maps(part, "Species", "species", part.species, part.species_XSE)
        if part.group_XGE is not None:
            panels += _label_maps(part, "Groups", "group", part.groups, part.group_XGE)
    return panels


def _label_maps(
    use: ExpertUse, title: str, what: str, names: Sequence[str], share_XRE: Values
) -> list[Panel]:
    if len(names) < 2:
        return []
    panels = []
    for layer, (name, share_RE) in enumerate(zip(use.layers, np.asarray(share_XRE), strict=True)):
        nats = expert_figures.information(share_RE)
        said = [f"entropy {number(use.entropy_X[layer], 2)}"] if len(use.entropy_X) else []
        said.append(f"information {number(nats, 3)} nats")
        picture = expert_figures.load_map(names, share_RE, what)
        panels.append(Panel(f"{title} in {name}: {', '.join(said)}", _OF_GATES, picture))
    return panels


def _of(frame: pl.DataFrame, task: str, metric: str) -> pl.DataFrame:
    return frame.filter(pl.col("task") == task, pl.col("metric") == metric)


def _counts(rows: pl.DataFrame) -> str:
    """`n 1,234 in 56 groups`, as far as the verdict rows say."""
    known = {
        name: int(rows[name].drop_nulls().to_numpy()[0])
        for name in ("n_test", "blocks")
        if name in rows.columns and rows[name].drop_nulls().len()
    }
    text = [f"n {grouped(known['n_test'])}"] if "n_test" in known else []
    text += [f"in {grouped(known['blocks'])} groups"] if "blocks" in known else []
    return " ".join(text)
