"""What the runs of a bench were trained on."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cislens.errors import CislensError
from cislens.evaluation.contestants import load_representations, training_stores
from cislens.evaluation.track_scores import TrackEmbedding, TrackLanguageEmbedding
from cislens.models.mixture import MixtureModel
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel
from cislens.models.saving import TrainedModel, save_model
from cislens.models.sequence import SequenceModel, SequenceModelConfig
from cislens.motifs.store import RegionStore
from cislens.recipes.schema import BenchRecipe
from cislens.representations.encoder import EncoderEmbedding
from cislens.representations.language import LanguageEmbedding
from cislens.sequence.store import SequenceStore
from cislens.signal.datacard import DataCard
from cislens.signal.tracks import Track, track_table

_MASKED, _BLIND = {"name": "masked"}, {"name": "distillation", "masked": 0.0}


def run_of(folder: Path, *stores: Any) -> Path:
    """A finished run without a model; of several stores, as of a mixture."""
    known = [{"path": str(store.path), "digest": store.digest} for store in stores]
    folder.mkdir()
    more = {"stores": known} if len(known) > 1 else {}
    (folder / "manifest.json").write_text(json.dumps({"store": known[0], **more}))
    return folder


def test_all_stores_of_a_mixture_are_what_its_run_was_trained_on(
    region_store: RegionStore, sequence_store: SequenceStore, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    one = run_of(tmp_path / "one", region_store)
    both = run_of(tmp_path / "both", sequence_store, region_store)
    found = training_stores(BenchRecipe(runs={"one": one, "both": both}))
    assert [store.digest for store in found] == [region_store.digest, sequence_store.digest]
    # The named store comes first; what a run has seen beside it is not forgotten.
    named = BenchRecipe(runs={"both": both}, store=region_store.path)
    assert [store.digest for store in training_stores(named)] == [
        region_store.digest, sequence_store.digest,
    ]  # fmt: skip
    assert not caplog.records
    manifest = json.loads((both / "manifest.json").read_text())
    manifest["stores"][0]["path"] = str(tmp_path / "nowhere")
    (both / "manifest.json").write_text(json.dumps(manifest))
    with caplog.at_level(logging.WARNING, logger="cislens"):
        assert [store.digest for store in training_stores(named)] == [region_store.digest]
    assert "nothing is known of what these were trained on: both" in caplog.text


def test_a_run_of_another_store_than_the_named_one_is_refused(
    region_store: RegionStore, sequence_store: SequenceStore, tmp_path: Path
) -> None:
    run = run_of(tmp_path / "run", region_store)
    with pytest.raises(CislensError, match="was trained on another store"):
        load_representations(BenchRecipe(runs={"run": run}, store=sequence_store.path))


def trained(folder: Path, model: TrainedModel, objective: dict[str, Any]) -> Path:
    """A finished run of a model, with the recipe that says what it was trained for."""
    folder.mkdir()
    card = DataCard(512, track_table([Track(id="a", species="human", file="a.bw")]))
    save_model(model, folder / "model", "card", {"data.json": card.to_json()})
    recipe = {"store": "store", "model": "own", "training": {"steps": 1}, "objective": objective}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    (folder / "manifest.json").write_text(json.dumps({"store": {"path": "", "digest": ""}}))
    return folder


def test_a_run_is_judged_by_all_that_it_was_trained_for(tmp_path: Path) -> None:
    profile = ProfileModel(preset_config("findna-plus-tiny", {"human": ["a"]}))
    sequence = SequenceModel(SequenceModelConfig(encoder=profile.config.encoder))
    mixed = MixtureModel.of({"profile": profile, "masked": sequence})
    parts = [{"objective": {"name": "profile"}}, {"objective": _MASKED}]
    runs = {
        "masked": trained(tmp_path / "masked", sequence, _MASKED),
        "blind": trained(tmp_path / "blind", sequence, _BLIND),
        "profile": trained(tmp_path / "profile", profile, {"name": "profile"}),
        "mixed": trained(tmp_path / "mixed", mixed, {"name": "mixture", "parts": parts}),
    }
    found = load_representations(BenchRecipe(runs=runs))
    assert [type(each) for each in found] == [
        LanguageEmbedding, EncoderEmbedding, TrackEmbedding, TrackLanguageEmbedding,
    ]  # fmt: skip
    assert [each.name for each in found] == list(runs)
