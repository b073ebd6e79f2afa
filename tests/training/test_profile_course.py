from pathlib import Path

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.evaluation.profiles.arms import Averaging, Trained, open_predictor
from cislens.models.saving import load_profile_model
from cislens.recipes.profiles import Objective
from cislens.recipes.schema import Training, TrainRecipe
from cislens.report.loci import learned_part
from cislens.signal.datacard import DataCard
from cislens.signal.store import ProfileStore
from cislens.training.fit import fit

TINY = {"preset": "basenji-tiny", "dim": 16, "depth": 1}


def recipe(store: ProfileStore, tracks: str) -> TrainRecipe:
    training = Training(steps=2, batch_size=4, validate_every=2)
    return TrainRecipe(
        store=store.path, model=TINY, objective=Objective(tracks=tracks), training=training
    )


def test_a_model_learns_the_tracks_that_a_query_asks_for(
    small_store: ProfileStore, tmp_path: Path
) -> None:
    wanted, *others = small_store.tracks("yeast").frame["id"].to_list()
    assert others
    run = fit(recipe(small_store, f'id == "{wanted}"'), tmp_path)
    model = load_profile_model(run.model_folder)
    assert model.config.tracks == {"yeast": (wanted,)}
    assert DataCard.read(run.model_folder).tracks.frame["id"].to_list() == [wanted]
    # What it has seen is known by the whole store, and it is judged on what it has learned.
    assert run.manifest["store"]["digest"] == small_store.digest
    judged = open_predictor(Trained(run.model_folder, run), small_store, Averaging())
    assert judged.tracks == {"yeast": (wanted,)}
    shown = learned_part(small_store, "yeast", model)
    assert shown.tracks("yeast").frame["id"].to_list() == [wanted]
    np.testing.assert_array_equal(
        shown.targets("yeast", [1]), small_store.targets("yeast", [1])[:, :, :1]
    )


def test_a_query_that_no_track_matches_is_refused(
    small_store: ProfileStore, tmp_path: Path
) -> None:
    with pytest.raises(CislensError, match="no track of"):
        fit(recipe(small_store, 'id == "nothing"'), tmp_path)
