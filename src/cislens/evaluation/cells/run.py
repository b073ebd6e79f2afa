"""Open or closed: embeddings of (sequence, cell type) pairs against what is simpler.

A logistic head is fitted for every arm on pairs of training regions and training cell types, its
penalty chosen on validation regions, and judged where the regions, the cell types, or both are
new. Folder, each file written whole or not at all:

    recipe.yaml                        what was asked for
    cells.parquet, differences.parquet one row per part, metric and arm (pair of arms)
    evaluation.json                    facts and notes
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from cislens import __version__
from cislens.errors import CislensError
from cislens.evaluation.cells import features as known
from cislens.evaluation.cells.examples import JUDGED, PARTS, Pairs, draw_pairs
from cislens.evaluation.cells.features import Features, FeaturesOf
from cislens.evaluation.heads.linear import fit_linear
from cislens.evaluation.multiplicity import holm
from cislens.evaluation.profiles.arms import Trained
from cislens.evaluation.statistics import Predictions, resample
from cislens.files import atomic_path, claimed, write_atomic
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.saving import load_model
from cislens.motifs.store import RegionStore
from cislens.recipes.reading import Section, check_claim, claim_folder

METRICS = ("auroc", "auprc")
BASELINES = ("composition", "kmers", "motifs", "cell-mean", "neighbors", "cell-mean+neighbors")
_STRONGEST = "cell-mean+neighbors"

Parts = dict[str, Features]


class CellRecipe(Section):
    """What is judged on what; the same folder never holds results of another.

    Attributes:
        arms: name -> run or model folder of each seed.
        weights: name -> sha256 of each seed's weights.
        pairs: at most so many of each part.
    """

    store: Path
    store_digest: str
    arms: dict[str, list[Path]]
    weights: dict[str, list[str]]
    pairs: int = Field(10_000, ge=100)
    draws: int = Field(2000, ge=100)
    seed: int = 0


@dataclass(frozen=True)
class CellEvaluation:
    """What came out.

    Attributes:
        scores: `part, metric, arm, value, low, high, seeds, pairs, open, blocks`.
        differences: `part, metric, arm, baseline, difference, diff_low, diff_high, p, p_holm`;
            Holm's correction runs over all of them.
    """

    scores: pl.DataFrame
    differences: pl.DataFrame
    facts: dict[str, Any]
    notes: list[str]


def plan(recipe: CellRecipe) -> dict[str, Any]:
    """What an evaluation would do, with every check of its input; nothing is written."""
    store, models = _opened(recipe)
    pairs = {part: draw_pairs(store, part, recipe.pairs, recipe.seed) for part in PARTS}
    return {
        "arms": {name: len(each) for name, each in models.items()},
        "baselines": list(BASELINES),
        "pairs": {part: len(each) for part, each in pairs.items()},
        "open": {part: round(float(each.open_N.mean()), 3) for part, each in pairs.items()},
        "cells": store.cells.select("cell_id", "split").to_dicts(),
    }


def evaluate_cells(recipe: CellRecipe, out: Path) -> CellEvaluation:
    """Judge every arm and baseline into `out`.

    Raises:
        CislensError: if `out` holds an evaluation of something else, a model was trained on
            other motifs or constants, or no cell type was held back.
    """
    store, models = _opened(recipe)
    check_claim(out, recipe)
    with claimed(out, "evaluating into"):
        claim_folder(out, recipe)
        seeds = max(len(each) for each in models.values())
        scores: dict[str, list[Parts]] = {}
        judged: dict[str, Pairs] = {
            part: draw_pairs(store, part, recipe.pairs, recipe.seed) for part in JUDGED
        }
        for seed in range(seeds):
            learned = {
                part: draw_pairs(store, part, recipe.pairs, recipe.seed + seed)
                for part in ("train", "valid")
            }
            pairs = {**learned, **judged}
            for name, parts in _arms(store, models, seed, pairs).items():
                scores.setdefault(name, []).append(_scored(parts, pairs))
        return _written(recipe, store, judged, scores, out)


def _arms(
    store: RegionStore, models: Mapping[str, list[MultimodalModel]], seed: int,
    pairs: Mapping[str, Pairs],
) -> dict[str, Parts]:  # fmt: skip
    """The features of every arm on every part, for one seed."""

    def on_all(of: FeaturesOf) -> Parts:
        return {part: of(each) for part, each in pairs.items()}

    simple: dict[str, Callable[[RegionStore], FeaturesOf]] = {
        "composition": known.composition, "kmers": known.kmers, "motifs": known.motifs,
        "cell-mean": known.cell_mean, "neighbors": known.neighbors,
    }  # fmt: skip
    arms = {name: on_all(make(store)) for name, make in simple.items()}
    arms[_STRONGEST] = _beside(arms["cell-mean"], arms["neighbors"])
    for name, trained in models.items():
        model = trained[min(seed, len(trained) - 1)]
        whole = on_all(known.joint(model, store, name))
        twin = on_all(known.joint(known.random_twin(model, seed), store, f"{name}-random"))
        arms[name] = whole
        arms[f"{name}-sequence"] = {
            part: known.sequence_part(each, model) for part, each in whole.items()
        }
        arms[f"{name}-random"] = twin
        arms[f"{name}+{_STRONGEST}"] = _beside(whole, arms[_STRONGEST])
    return arms


def _beside(left: Parts, right: Parts) -> Parts:
    return {part: np.concatenate([left[part], right[part]], axis=1) for part in left}


def _scored(parts: Parts, pairs: Mapping[str, Pairs]) -> Parts:
    """Logits (N, 1) of the judged parts, by a head that saw `train` and `valid` alone."""
    head = fit_linear(
        "binary", parts["train"], pairs["train"].open_N, parts["valid"], pairs["valid"].open_N,
        METRICS[0],
    )  # fmt: skip
    return {part: head.scores(parts[part]) for part in JUDGED}


def _written(
    recipe: CellRecipe, store: RegionStore, judged: Mapping[str, Pairs],
    scores: Mapping[str, list[Parts]], out: Path,
) -> CellEvaluation:  # fmt: skip
    values, differences = [], []
    for part, pairs in judged.items():
        predictions = Predictions(
            tuple(scores),
            np.stack([[seed[part] for seed in each] for each in scores.values()]),
            pairs.open_N[:, None].astype(np.float64),
            pairs.block_N,
        )
        for metric in METRICS:
            found = resample(predictions, metric, recipe.draws, recipe.seed)
            here = {"part": part, "metric": metric}
            for arm in scores:
                value = found.value(arm)
                values.append(
                    {
                        **here, "arm": arm, "value": value.point, "low": value.low,
                        "high": value.high, "seeds": len(scores[arm]), "pairs": len(pairs),
                        "open": float(pairs.open_N.mean()), "blocks": predictions.blocks,
                    }
                )  # fmt: skip
            for arm, baseline in _comparisons(recipe.arms):
                gap = found.difference(arm, baseline)
                differences.append({**here, "arm": arm, "baseline": baseline,
                                    "difference": gap.point, "diff_low": gap.low,
                                    "diff_high": gap.high, "p": gap.p})  # fmt: skip
    table = pl.DataFrame(differences)
    table = table.with_columns(p_holm=pl.Series(holm(table["p"].to_list())))
    facts = {
        "store": {"path": str(recipe.store), "digest": recipe.store_digest},
        "arms": {name: [str(path) for path in runs] for name, runs in recipe.arms.items()},
        "weights": recipe.weights,
        "cells": dict(store.cells.select("cell_id", "split").iter_rows()),
        "draws": recipe.draws,
        "seed": recipe.seed,
        "cislens": __version__,
    }
    notes = [
        "No arm is told how open the region is in the cell type that is asked for; all may read "
        "how open its neighbors are there, but for -sequence, composition, kmers and motifs.",
    ]
    frames = {"cells": pl.DataFrame(values), "differences": table}
    for name, frame in frames.items():
        with atomic_path(out / f"{name}.parquet") as aside:
            frame.write_parquet(aside)
    write_atomic(out / "evaluation.json", json.dumps({"facts": facts, "notes": notes}, indent=1))
    return CellEvaluation(frames["cells"], table, facts, notes)


def _comparisons(arms: Mapping[str, object]) -> list[tuple[str, str]]:
    """Each trained arm against what it should beat, and what it adds to the strongest baseline."""
    return [
        pair
        for name in arms
        for pair in (
            (name, f"{name}-random"), (name, f"{name}-sequence"), (name, _STRONGEST),
            (f"{name}+{_STRONGEST}", _STRONGEST),
        )
    ]  # fmt: skip


def _opened(recipe: CellRecipe) -> tuple[RegionStore, dict[str, list[MultimodalModel]]]:
    store = RegionStore.open(recipe.store)
    models: dict[str, list[MultimodalModel]] = {}
    for name, folders in recipe.arms.items():
        if name in BASELINES:
            raise CislensError(f"{name!r} is the name of a baseline; choose another name.")
        for folder in folders:
            path = Trained.find(folder).model_folder
            model = load_model(path)
            if not isinstance(model, MultimodalModel):
                raise CislensError(
                    f"{path} holds a {type(model).__name__}; cell types are told apart by "
                    "multi-modal models alone."
                )
            store.require_same(model.config.constants, model.config.motifs)
            models.setdefault(name, []).append(model)
    return store, models
