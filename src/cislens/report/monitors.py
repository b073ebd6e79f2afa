"""What a run on sequence alone watched: panels with the limits that would have stopped it."""

import polars as pl

from cislens.report.figures.training import curve
from cislens.report.panels import Panel
from cislens.training.collapse import MARKOV, rule_of

# Title, the line below it, and the metrics that share the panel with what each line is.
_MONITORS = (
    ("Nats per hidden base", "outside of repeats; lower is better",
     {"masked/nats_unique": None}),
    ("Hidden bases told right", "share of them", {"masked/accuracy": None}),
    ("Effective rank", "of the vectors of windows, share of what is possible",
     {"rankme_share": None}),
    ("Spread", "of the vectors at length 1; 1 when even", {"feature_std": None}),
    ("Teacher, all windows", "entropy of its mean answer, over ln K", {"teacher/marginal": None}),
    ("Teacher, one window", "mean entropy of its answers, over ln K",
     {"teacher/sharpness": None}),
    ("Teacher, between windows", "what its answers tell of the window, over ln K",
     {"teacher/information": None}),
    ("Composition", "share of the vectors' variance that it explains",
     {"composition_share": None}),
    ("GC content", "R\u00b2 of ridge regression on the vectors", {"gc_r2": None}),
    ("Nearest neighbors", "AUROC of the probe's intervals",
     {"knn/auroc": "vectors", "knn/gc_auroc": "GC alone"}),
    ("Student and teacher", "cosine of their vectors", {"agreement": None}),
    ("Student from teacher", "relative distance of their weights", {"distance": None}),
)  # fmt: skip
_TERMS = ("masked", "latent", "pooled", "koleo", "contrast")


def monitor_panels(training: pl.DataFrame | None) -> list[Panel]:
    """One panel per monitor that was measured; in a mixture, of each part.

    Args:
        training: the metrics of a run; step 0 is the model before it was trained.
    """
    if training is None:
        return []
    rows = _by_part(training)
    rows = rows.filter(pl.col("value").is_finite())
    untrained = {row["name"]: row["value"] for row in rows.filter(step=0, split="valid").to_dicts()}
    panels = []
    for part in rows["part"].unique(maintain_order=True):
        mine = rows.filter(part=part, split="valid")
        for title, sub, lines in _MONITORS:
            shown = mine.filter(pl.col("metric").is_in(list(lines))).with_columns(
                species=pl.col("metric").replace_strict(lines, return_dtype=pl.String)
            )
            if len(shown):
                limits = _limits(str(shown["name"][0]), untrained)
                panels.append(Panel(_titled(title, part), sub, curve(shown, title, limits)))
    return panels


def term_panels(training: pl.DataFrame) -> list[Panel]:
    """One panel per loss term of the objectives on sequence alone, before it was weighted."""
    rows = _by_part(training).filter(pl.col("value").is_finite(), pl.col("step") > 0)
    rows = rows.with_columns(species=pl.lit(None, dtype=pl.String))
    panels = []
    for part in rows["part"].unique(maintain_order=True):
        for term in _TERMS:
            shown = rows.filter(part=part, metric=term)
            if len(shown):
                title = _titled(f"Term {term}", part)
                panels.append(Panel(title, "before its weight", curve(shown, title)))
    return panels


def _by_part(training: pl.DataFrame) -> pl.DataFrame:
    """The rows with the part of a mixture, empty without one, apart from the metric."""
    parted = training["metric"].str.extract_groups(r"^(?:(.*)\.)?([^.]*)$").struct.unnest()
    return training.rename({"metric": "name"}).with_columns(
        part=parted.to_series(0).fill_null(""), metric=parted.to_series(1)
    )


def _limits(name: str, untrained: dict[str, float]) -> dict[str, float]:
    rule = rule_of(name, untrained)
    if rule is None:
        return {}
    warn = {} if rule.warn is None else {"warned": rule.warn}
    part, dot, _ = name.rpartition(".")
    if rule.warn is not None and rule.warn == untrained.get(f"{part}{dot}{MARKOV}"):
        warn = {"order-2 Markov": rule.warn}
    return warn if rule.stop is None else {**warn, "stopped": rule.stop}


def _titled(title: str, part: str) -> str:
    return f"{part}: {title}" if part else title
