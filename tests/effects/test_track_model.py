from pathlib import Path

import pytest

from cislens.effects.track_model import TrackModel, as_track_model
from cislens.errors import CislensError


def test_a_model_folder_and_its_run_folder_are_the_same_model(model_folder: Path) -> None:
    model, run = TrackModel.load(model_folder), TrackModel.load(model_folder.parent)
    assert model.card.to_json() == run.card.to_json()
    assert model.net.config == run.net.config
    assert as_track_model(model) is model


def test_the_only_species_need_not_be_named(model_folder: Path) -> None:
    model = TrackModel.load(model_folder)
    assert model.species(None) == "yeast"
    assert model.tracks("yeast").frame["id"].to_list() == ["a"]
    assert model.central_bins == 1024 // 128


def test_a_species_that_the_model_lacks_is_refused(model_folder: Path) -> None:
    with pytest.raises(CislensError, match=r"no species 'yeest'\. Did you mean 'yeast'"):
        TrackModel.load(model_folder).species("yeest")
