"""Open or closed: embeddings of (sequence, cell type) pairs against what is simpler.

A logistic head is fitted for every arm on pairs of training regions and training cell types, its
penalty chosen on validation regions, and judged where the regions, the cell types, or both are
new. Folder, each file written whole or not at all:

    recipe.yaml                        what was asked for
    scores/seed<r>/<arm>.npz           see `scoring`
    cells.parquet, differences.parquet see `tables`
    evaluation.json                    facts and notes
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from cislens import __version__
from cislens.errors import CislensError
from cislens.evaluation.cells.examples import LEARNED, Candidates, Drawn, draw_parts
from cislens.evaluation.cells.scoring import read_scores, score_all, try_blind
from cislens.evaluation.cells.tables import BASELINES, make_tables, own_arms
from cislens.evaluation.profiles.arms import Trained
from cislens.evaluation.profiles.scoring import seeds_of
from cislens.files import atomic_path, claimed, read_json, read_parquet, write_atomic
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.mixture import part_of_kind
from cislens.models.saving import load_model
from cislens.motifs.store import RegionStore
from cislens.recipes.reading import Section, check_claim, claim_folder
from cislens.untrusted import inner_name

_MAY_GROW = ("arms", "weights")


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
    """What came out; `scores` and `differences` as `tables` describes them."""

    scores: pl.DataFrame
    differences: pl.DataFrame
    facts: dict[str, Any]
    notes: list[str]


def plan(recipe: CellRecipe) -> dict[str, Any]:
    """What an evaluation would do, with every check of its input; nothing is written."""
    store, models = _opened(recipe)
    drawn = draw_parts(Candidates(store), recipe.pairs, recipe.seed)
    return {
        "arms": {name: {"seeds": len(each)} for name, each in models.items()},
        "baselines": list(BASELINES),
        "pairs": {part: len(each) for part, each in drawn.parts.items()},
        "open": {part: round(each.open, 3) for part, each in drawn.parts.items()},
        "cells": store.cells.select("cell_id", "split").to_dicts(),
        "notes": drawn.notes,
    }


def evaluate_cells(recipe: CellRecipe, out: Path) -> CellEvaluation:
    """Judge every arm and baseline into `out`; what is complete there is kept.

    Raises:
        CislensError: if `out` holds an evaluation of something else, a model was trained on
            other motifs or constants, an arm is told what it is asked, or nothing can be judged.
    """
    check_claim(out, recipe, _MAY_GROW)
    stored = _stored(recipe, out)
    if stored is not None:
        return stored
    store, models = _opened(recipe)
    candidates = Candidates(store)
    drawn = draw_parts(candidates, recipe.pairs, recipe.seed)
    with claimed(out, "evaluating into"):
        claim_folder(out, recipe, _MAY_GROW)
        try_blind(store, models, next(iter(drawn.judged.values())))
        for seed in range(seeds_of(models)):
            learned = {
                part: candidates.draw(part, recipe.pairs, recipe.seed + seed) for part in LEARNED
            }
            score_all(store, models, seed, {**learned, **drawn.judged}, out)
        return _written(recipe, store, drawn, models, out)


def _written(
    recipe: CellRecipe, store: RegionStore, drawn: Drawn,
    models: Mapping[str, list[MultimodalModel]], out: Path,
) -> CellEvaluation:  # fmt: skip
    judged = drawn.judged
    own = [arm for name in models for arm in own_arms(name)]
    logits = {
        arm: [read_scores(out, seed, arm, judged) for seed in range(seeds_of(models))]
        for arm in (*BASELINES, *own)
    }
    scores = {
        part: {arm: [each[part] for each in seeds] for arm, seeds in logits.items()}
        for part in judged
    }
    values, differences = make_tables(
        scores, judged, {name: len(runs) for name, runs in models.items()}, recipe.draws,
        recipe.seed,
    )  # fmt: skip
    facts = {
        "store": {"path": str(recipe.store), "digest": recipe.store_digest},
        "arms": {name: [str(path) for path in paths] for name, paths in recipe.arms.items()},
        "weights": recipe.weights,
        "cells": dict(store.cells.select("cell_id", "split").iter_rows()),
        "judged_cells": {part: [str(store.cells["cell_id"][int(cell)]) for cell in each.cells]
                         for part, each in judged.items()},
        "pairs": recipe.pairs,
        "draws": recipe.draws,
        "seed": recipe.seed,
        "cislens": __version__,
    }  # fmt: skip
    for name, frame in (("cells", values), ("differences", differences)):
        with atomic_path(out / f"{name}.parquet") as aside:
            frame.write_parquet(aside)
    found = CellEvaluation(values, differences, facts, _notes(drawn, models))
    text = json.dumps({"facts": facts, "notes": found.notes}, indent=1)
    write_atomic(out / "evaluation.json", text)
    return found


def _notes(drawn: Drawn, models: Mapping[str, list[MultimodalModel]]) -> list[str]:
    notes = [
        "No arm is told how open the region is in the cell type that is asked for, which is tried "
        "by changing it; all may read how open its neighbors are there, but for -sequence, "
        "composition, kmers and motifs.",
        "Intervals are about other stretches of the genome, not about other cell types: of new "
        "ones, nothing is said beyond those that were held back.",
    ]
    single = [name for name, runs in models.items() if len(runs) == 1]
    if single:
        notes.append(
            f"{', '.join(single)}: a single run, so the noise of training is in no interval."
        )
    return notes + drawn.notes


def _stored(recipe: CellRecipe, out: Path) -> CellEvaluation | None:
    """The tables of `out`, if they are of these very arms."""
    path = out / "evaluation.json"
    if not path.exists():
        return None
    found = read_json(path, "evaluation of cells")
    if found.get("facts", {}).get("weights") != recipe.weights:
        return None
    scores, differences = (
        read_parquet(out / f"{name}.parquet", "table of the evaluation")
        for name in ("cells", "differences")
    )
    return CellEvaluation(scores, differences, found["facts"], found["notes"])


def _opened(recipe: CellRecipe) -> tuple[RegionStore, dict[str, list[MultimodalModel]]]:
    store = RegionStore.open(recipe.store)
    for name in recipe.arms:
        if name in BASELINES:
            raise CislensError(f"{name!r} is the name of a baseline; choose another name.")
        taken = set(own_arms(name)[1:]) & set(recipe.arms)
        if taken:
            raise CislensError(f"{taken.pop()!r} is what {name!r} is held against; rename it.")
    for name in recipe.arms:  # folders are named after arms
        inner_name(name, "the recipe")
    seeds_of(recipe.arms)
    models: dict[str, list[MultimodalModel]] = {}
    for name, folders in recipe.arms.items():
        for folder in folders:
            path = Trained.find(folder).model_folder
            loaded = load_model(path)
            model = part_of_kind(loaded, MultimodalModel)
            if model is None:
                raise CislensError(
                    f"{path} holds a {type(loaded).__name__}; cell types are told apart by "
                    "multi-modal models alone."
                )
            store.require_same(model.config.constants, model.config.motifs)
            models.setdefault(name, []).append(model)
    return store, models
