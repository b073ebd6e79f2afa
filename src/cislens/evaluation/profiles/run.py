"""An evaluation: every run and baseline over a split once, then tables from the sums.

Folder, each file written whole or not at all:

    recipe.yaml                              what was asked for
    sums/<arm>/seed<r>/<species>.<part>.npz  `WindowSums`; what is there is not computed again
    profiles.parquet, differences.parquet    see `tables`
    evaluation.json                          facts and notes of the page
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from cislens import __version__
from cislens.effects.averaging import Averaging
from cislens.errors import CislensError
from cislens.evaluation.profiles.arms import (
    Trained,
    open_predictor,
    require_same_targets,
)
from cislens.evaluation.profiles.baselines import BASELINES
from cislens.evaluation.profiles.lineage import lineage_of
from cislens.evaluation.profiles.passes import (
    block_kind,
    blocks_of,
    predict_baseline,
    predict_run,
    rows_of,
)
from cislens.evaluation.profiles.scoring import seeds_of
from cislens.evaluation.profiles.sums import WindowSums
from cislens.evaluation.profiles.tables import Judged, difference_table, score_table
from cislens.files import atomic_path, claimed, write_atomic
from cislens.genome.codes import decode
from cislens.recipes.reading import Section, check_claim, claim_folder
from cislens.signal.store import ProfileStore
from cislens.untrusted import inner_name

Part = Literal["train", "valid", "test"]
_MAY_GROW = ("arms", "weights")
_TRAINED_ON = "These are windows of the train part: nothing here says how a model generalizes."
_CHOSEN_ON = (
    "These are windows of the valid part: checkpoints, and the penalties and least rates of "
    "baselines, were chosen on them, so that all of them do better here than on new windows."
)


class EvaluateRecipe(Section):
    """What is evaluated on what; the same folder never holds results of another.

    Attributes:
        arms: name -> run or model folder of each seed; the first arm is what others are held
            against.
        weights: name -> sha256 of each seed's weights.
        average: views that are averaged: rc, shift, both or none.
    """

    store: Path
    store_digest: str
    arms: dict[str, list[Path]]
    weights: dict[str, list[str]]
    split: Part = "test"
    average: str = "none"
    draws: int = Field(2000, ge=100)
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What came out; `scores` and `differences` as `tables` describes them."""

    scores: pl.DataFrame
    differences: pl.DataFrame
    facts: dict[str, Any]
    notes: list[str]


def plan(recipe: EvaluateRecipe, averaging: Averaging) -> dict[str, Any]:
    """What an evaluation would do, with every check of its input; nothing is written."""
    store, arms = _opened(recipe)
    predictors = {
        name: [open_predictor(trained, store, averaging) for trained in runs]
        for name, runs in arms.items()
    }
    rows = {species: rows_of(store, species, recipe.split) for species in store.species}
    tracks = {
        name: {species: len(ids) for species, ids in found[0].tracks.items()}
        for name, found in predictors.items()
    }
    windows = sum(
        len(rows[species]) * averaging.views
        for found in predictors.values() for one in found for species in one.tracks
    )  # fmt: skip
    return {
        "split": recipe.split,
        "first_bases": {
            species: decode(store.sequence(species, found[:1])[0, store.margin :][:60])
            for species, found in rows.items() if len(found)
        },
        "windows": {species: len(found) for species, found in rows.items()},
        "blocks": {species: len(set(blocks_of(store, species, found).tolist()))
                   for species, found in rows.items()},
        "arms": {name: {"seeds": len(runs), "tracks": tracks[name]} for name, runs in arms.items()},
        "baselines": list(BASELINES),
        "views": averaging.views,
        "bases_to_predict": windows * store.length,
    }  # fmt: skip


def evaluate(recipe: EvaluateRecipe, averaging: Averaging, out: Path) -> Evaluation:
    """Evaluate every arm and baseline into `out`; what is complete there is kept.

    Raises:
        CislensError: if `out` holds an evaluation of something else, an arm does not fit the
            store, or the store has no window to judge on or to choose baselines on.
    """
    store, arms = _opened(recipe)
    for runs in arms.values():  # before anything is written
        for trained in runs:
            open_predictor(trained, store, averaging)
    check_claim(out, recipe, _MAY_GROW)
    with claimed(out, "evaluating into"):
        claim_folder(out, recipe, _MAY_GROW)
        for name, runs in arms.items():
            for number, trained in enumerate(runs):
                folder = out / "sums" / name / f"seed{number}"
                predict_run(trained, store, averaging, recipe.split, folder)
        for species in store.species:
            for name in BASELINES:
                predict_baseline(
                    name, store, species, recipe.split, recipe.seed, out / "sums" / name / "seed0"
                )
        found = _judged(recipe, store, arms, out)
        notes = [_TRAINED_ON] if recipe.split == "train" else _unknown(arms, store)
        if recipe.split == "valid":
            notes = [_CHOSEN_ON, *notes]
        return _written(recipe, store, found, notes, out)


def _judged(
    recipe: EvaluateRecipe, store: ProfileStore, arms: Mapping[str, list[Trained]], out: Path
) -> list[Judged]:
    """For each species the sums of every arm on the same tracks and windows."""
    found = []
    for species in store.species:
        runs: dict[str, list[WindowSums]] = {}
        for name, each in arms.items():
            paths = [
                out / "sums" / name / f"seed{number}" / f"{species}.{recipe.split}.npz"
                for number in range(len(each))
            ]
            if all(path.exists() for path in paths):
                runs[name] = [WindowSums.load(path) for path in paths]
        if not runs:
            continue
        every = [sums for each in runs.values() for sums in each]
        table = store.tracks(species).frame.select("id", "group")
        shared = set.intersection(*(set(sums.tracks) for sums in every))
        tracks = {name: group for name, group in table.rows() if name in shared}
        if not tracks:
            raise CislensError(
                f"no track of {species} is predicted by all of {', '.join(runs)}; evaluate them "
                "into folders of their own."
            )
        kept_W = ~np.any([sums.seen_W for sums in every], axis=0)
        if not kept_W.any():
            raise CislensError(
                f"all {len(kept_W)} {recipe.split} windows of {species} resemble windows that a "
                "model was trained on; nothing is left to judge on."
            )
        baselines: dict[str, dict[str, WindowSums]] = {
            part: {
                name: WindowSums.load(out / "sums" / name / "seed0" / f"{species}.{part}.npz")
                for name in BASELINES
            }
            for part in ("valid", recipe.split)
        }
        chosen_on = {name: sums.take(tuple(tracks)) for name, sums in baselines["valid"].items()}
        judged = {
            name: [sums.take(tuple(tracks), kept_W) for sums in each]
            for name, each in {
                **runs, **{name: [sums] for name, sums in baselines[recipe.split].items()}
            }.items()
        }  # fmt: skip
        require_same_targets(judged, species)
        found.append(
            Judged(
                species, tracks, tuple(runs), judged, chosen_on,
                blocks_of(store, species, every[0].rows[kept_W]),
                left_out=len(table) - len(tracks), seen=int((~kept_W).sum()),
            )
        )  # fmt: skip
    if not found:
        raise CislensError(f"{store.path} has no {recipe.split} window that an arm predicts.")
    return found


def _unknown(arms: Mapping[str, list[Trained]], store: ProfileStore) -> list[str]:
    names = [
        name
        for name, runs in arms.items()
        if not all(lineage_of(trained.run, store).whole for trained in runs)
    ]
    if not names:
        return []
    return [
        f"It is not known what {', '.join(names)} was trained on, or a model before it: windows "
        "that it has seen may be among those it is judged on."
    ]


def _written(
    recipe: EvaluateRecipe,
    store: ProfileStore,
    judged: list[Judged],
    notes: list[str],
    out: Path,
) -> Evaluation:
    scores, scored = score_table(judged, recipe.draws, recipe.seed)
    differences = difference_table(judged, scored)
    notes = [*notes, *(note for each in judged for note in each.notes())]
    missing = [name for name in store.species if name not in {each.species for each in judged}]
    if missing:
        notes.append(f"Not evaluated, as no arm predicts it: {', '.join(missing)}.")
    facts = {
        "split": recipe.split,
        "average": recipe.average,
        "windows": {each.species: len(each.block_W) for each in judged},
        "blocks": {each.species: len(set(each.block_W.tolist())) for each in judged},
        "block_kinds": {each.species: block_kind(store, each.species) for each in judged},
        "tracks": {each.species: len(each.tracks) for each in judged},
        "seeds": {name: len(runs) for name, runs in recipe.arms.items()},
        "draws": recipe.draws,
        "seed": recipe.seed,
        "store": {"path": str(recipe.store), "digest": recipe.store_digest},
        "arms": {name: [str(path) for path in runs] for name, runs in recipe.arms.items()},
        "weights": recipe.weights,
        "cislens": __version__,
    }
    for name, table in (("profiles", scores), ("differences", differences)):
        with atomic_path(out / f"{name}.parquet") as aside:
            table.write_parquet(aside)
    write_atomic(out / "evaluation.json", json.dumps({"facts": facts, "notes": notes}, indent=1))
    return Evaluation(scores, differences, facts, notes)


def _opened(recipe: EvaluateRecipe) -> tuple[ProfileStore, dict[str, list[Trained]]]:
    store = ProfileStore.open(recipe.store)
    taken = [name for name in recipe.arms if name in BASELINES]
    if taken:
        raise CislensError(f"{taken[0]!r} is the name of a baseline; choose another name.")
    if not any(len(rows_of(store, species, recipe.split)) for species in store.species):
        raise CislensError(f"profile store {store.path} has no window in split {recipe.split!r}.")
    for name in recipe.arms:  # folders are named after arms
        inner_name(name, "the recipe")
    seeds_of(recipe.arms)
    arms = {name: [Trained.find(path) for path in runs] for name, runs in recipe.arms.items()}
    return store, arms
