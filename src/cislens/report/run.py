"""A training run as one self-contained page: its loss, its monitors, and why it was stopped."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cislens.files import manifest_format, read_parquet, require_file
from cislens.models.saving import load_profile_model
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.report.browser import embedded, views_of_loci
from cislens.report.inputs import Locus, ReportInput
from cislens.report.loci import learned_part, validation_loci
from cislens.report.manifest import Table, groups
from cislens.report.monitors import monitor_panels, term_panels
from cislens.report.panels import curve_panels
from cislens.report.templates import render
from cislens.report.words import grouped, number
from cislens.signal.store import FORMAT as PROFILES
from cislens.signal.store import ProfileStore
from cislens.training.collapse import collapse_message, read_collapse
from cislens.training.fit import Run

_SECTIONS = (
    ("training", "Training"),
    ("monitors", "Monitors"),
    ("collapse", "Collapse"),
    ("tracks", "Tracks"),
    ("manifest", "Manifest"),
)
_METRICS = "metrics.parquet"
_SPECIES = 4  # of which a region is shown


def render_run(folder: Path) -> str:
    """The HTML text of the page of a folder that `cislens train` has written, finished or not.

    Raises:
        MissingFileError: if the folder or its metrics are missing.
        CislensError: if one of its files is damaged.
    """
    training = read_parquet(require_file(folder, "run folder") / _METRICS, "metrics of the run")
    recipe = read_recipe(folder / "recipe.yaml", TrainRecipe)
    run, collapse = Run.open(folder), read_collapse(folder)
    step = int(training["step"].to_numpy().max(initial=0))
    manifest = {} if run is None else dict(run.manifest)
    manifest["recipe"] = json.loads(recipe.model_dump_json())
    loci = watched_loci(folder)
    browser = embedded(views_of_loci(loci)) if loci else None
    return render(
        "run.html.j2",
        allowed=browser.allowed if browser else (),
        browser=browser,
        sections=_SECTIONS,
        skip="curves",
        title="A training run",
        headline=_headline(folder, run, collapse, step),
        facts=_facts(recipe, run),
        curves=[*curve_panels(_input(training)), *term_panels(training)],
        monitors=monitor_panels(training),
        collapse=None if collapse is None else _collapse(collapse),
        checkpoint=None if collapse is None else collapse["checkpoint"],
        manifest=groups(manifest),
    )


def watched_loci(folder: Path) -> list[Locus]:
    """Validation windows as a finished run's model sees them; none unless it predicts profiles."""
    run = Run.open(folder)
    if run is None:
        return []
    recipe = read_recipe(folder / "recipe.yaml", TrainRecipe)
    if run.manifest["objective"] != "profile" or manifest_format(recipe.store) != PROFILES:
        return []
    model, store = load_profile_model(run.model_folder), ProfileStore.open(recipe.store)
    shown = [name for name in store.species if name in model.config.tracks][:_SPECIES]
    return [
        locus
        for name in shown
        for locus in validation_loci(model, learned_part(store, name, model), name)
    ]


def _input(training: pl.DataFrame) -> ReportInput:
    """The curves of a bench's report are those of a run."""
    none = {"task": pl.String, "metric": pl.String, "arm": pl.String}
    numbers = dict.fromkeys(("point", "low", "high"), pl.Float64)
    judged = dict.fromkeys(("difference", "diff_low", "diff_high", "p_holm", "mde"), pl.Float64)
    verdicts = {**none, **numbers, "baseline": pl.String, **judged, "verdict": pl.String}
    scores = {**none, "kind": pl.String, **numbers}
    return ReportInput(
        "", pl.DataFrame(schema=verdicts), pl.DataFrame(schema=scores), training=training
    )


def _headline(
    folder: Path, run: Run | None, collapse: Mapping[str, Any] | None, step: int
) -> list[str]:
    if collapse is not None:
        said = f"The model collapsed; the run was stopped at step {grouped(collapse['step'])}."
        return [said, collapse_message(folder, collapse)]
    if run is None:
        return [f"The run is not finished; it was last validated at step {grouped(step)}."]
    chosen, steps = run.manifest["selection"]["step"], run.manifest["ledger"]["steps"]
    return [f"Trained for {grouped(steps)} steps; its weights are those of step {grouped(chosen)}."]


def _facts(recipe: TrainRecipe, run: Run | None) -> list[tuple[str, str]]:
    facts = [("Steps", grouped(recipe.training.steps)), ("Seed", str(recipe.seed))]
    if run is None:
        return facts
    ledger = run.manifest["ledger"]
    facts += [
        ("Objective", str(run.manifest["objective"])),
        ("Parameters", grouped(ledger["parameters"])),
        ("Trained on", f"{ledger['bases'] / 1e6:.0f} Mb of windows"),
        ("Training time", f"{ledger['train_seconds']:.0f} s on {run.manifest['device']}"),
    ]
    if "flops" in ledger:
        facts.append(("Compute", f"{ledger['flops']:.3g} FLOPs"))
    return facts


def _collapse(report: Mapping[str, Any]) -> Table:
    """The rules that were broken; what both validations saw of each."""
    before, last = report["validations"]
    rows = [
        (
            rule["metric"], f"{rule['side']} {number(rule['stop'])}",
            number(before["values"][rule["metric"]]), number(last["values"][rule["metric"]]),
            rule["meaning"],
        )
        for rule in report["rules"]
    ]  # fmt: skip
    columns = ("Metric", "Stopped", f"Step {before['step']}", f"Step {last['step']}", "Meaning")
    return Table("Rules that were broken", columns, rows)
