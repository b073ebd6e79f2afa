import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from cislens.errors import CislensError
from cislens.files import file_digest
from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.models.saving import load_model, save_model
from cislens.recipes.schema import Training, TrainRecipe
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.store import ProfileStore
from cislens.signal.tracks import Track, track_table
from cislens.training.ancestor import load_ancestor, track_card
from cislens.training.fit import Run, fit
from cislens.training.start import model_for, start_of

TINY = {"dim": 24, "stem_dim": 8, "depth": 1, "heads": 2}
OLD = "yeast-atac-nfr"
Recipes = Callable[..., TrainRecipe]


def old_model() -> ProfileModel:
    """A model with one of the store's four tracks, and with a species that the store has not."""
    tracks = {
        "yeast": HeadTracks([OLD], ["accessibility"]),
        "worm": HeadTracks(["worm-dnase"], ["accessibility"]),
    }
    torch.manual_seed(5)
    model = build_model(preset_config("space-plus-tiny", tracks, **TINY))
    # Not zero, as they are at the start: what a decoder adds must be told apart from nothing.
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="module")
def old_folder(tmp_path_factory: pytest.TempPathFactory, small_store: ProfileStore) -> Path:
    known = [track for track in small_store.tracks("yeast").rows() if track.id == OLD]
    worm = Track("worm-dnase", "worm.bw", "worm", group="accessibility", scale=0.25)
    folder = tmp_path_factory.mktemp("old") / "model"
    card = DataCard(1024, track_table([*known, worm]))
    save_model(old_model(), folder, "# old\n", {FILE_NAME: card.to_json()})
    return folder


@pytest.fixture(scope="module")
def recipe_of(small_store: ProfileStore, old_folder: Path) -> Recipes:
    def make(**changes: object) -> TrainRecipe:
        training = Training(steps=6, batch_size=8, validate_every=3, ema_decay=0.5)
        given = {"store": small_store.path, "init_from": old_folder, "training": training}
        return TrainRecipe.model_validate(given | changes)

    return make


@pytest.fixture(scope="module")
def unfrozen(recipe_of: Recipes, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(recipe_of(), tmp_path_factory.mktemp("runs") / "unfrozen")


def rates(model: ProfileModel, species: str) -> torch.Tensor:
    x = torch.nn.functional.one_hot(torch.arange(2048).view(2, 1024) * 7 % 5 % 4, 4)
    with torch.no_grad():
        return model.eval()(x.transpose(1, 2).float(), species)


def test_what_a_store_adds_is_appended_and_nothing_else_changes(
    recipe_of: Recipes, small_store: ProfileStore
) -> None:
    old, new = old_model(), model_for(recipe_of(), small_store)
    assert new.species == ("yeast", "worm", "fly")
    assert new.config.tracks["yeast"] == (OLD, "yeast-atac-cutsites", "yeast-atac-mononuc")
    assert new.config.groups["yeast"] == ("accessibility", "accessibility", "nucleosome")
    assert new.config.tracks["worm"] == ("worm-dnase",)
    assert torch.equal(rates(new, "yeast")[:, :1], rates(old, "yeast"))
    assert torch.equal(rates(new, "worm"), rates(old, "worm"))
    kept = new.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in old.state_dict().items())


def test_additions_are_a_function_of_the_seed(
    recipe_of: Recipes, small_store: ProfileStore
) -> None:
    first, again = (model_for(recipe_of(), small_store).heads[2].weight for _ in range(2))
    other = model_for(recipe_of(seed=1), small_store).heads[2].weight
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("batches", ["mixed", "alternate"])
def test_training_with_the_old_part_frozen_moves_the_new_one_alone(
    recipe_of: Recipes, small_store: ProfileStore, tmp_path: Path, batches: str
) -> None:
    changes = {"batches": batches, "ema_decay": 0.9}
    training = recipe_of().training.model_copy(update=changes).model_dump()
    recipe = recipe_of(freeze="old", training=training)
    start = start_of(recipe, small_store)
    assert start.ancestor is not None
    trained = {name for name, value in start.model.named_parameters() if value.requires_grad}
    assert trained == dict(start.model.named_parameters()).keys() - start.ancestor.parameters
    run = fit(recipe, tmp_path / "run")
    before, new = start.model.state_dict(), load_model(run.model_folder)
    after = new.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved <= trained
    assert {"encoder.codes.2", "heads.2.weight", "heads.3.weight"} <= moved
    old = old_model()
    assert torch.equal(rates(new, "yeast")[:, :1], rates(old, "yeast"))
    assert torch.equal(rates(new, "worm"), rates(old, "worm"))
    assert run.manifest["ledger"]["trained_parameters"] < 0.2 * run.manifest["ledger"]["parameters"]


def test_a_frozen_encoder_keeps_weights_and_statistics_while_heads_move(
    recipe_of: Recipes, small_store: ProfileStore, tmp_path: Path
) -> None:
    recipe = recipe_of(freeze="encoder")
    before = model_for(recipe, small_store).state_dict()
    after = load_model(fit(recipe, tmp_path / "run").model_folder).state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("encoder.") for name in moved)
    assert "heads.0.weight" in moved
    assert any(name.startswith("decoder.") for name in moved)


def test_an_unfrozen_model_learns_and_remembers_all_tracks(
    recipe_of: Recipes, small_store: ProfileStore, unfrozen: Run
) -> None:
    before = model_for(recipe_of(), small_store).state_dict()
    model = load_model(unfrozen.model_folder)
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("running_mean" in name for name in moved)
    assert "heads.0.weight" in moved
    card = DataCard.read(unfrozen.model_folder).tracks
    assert card.frame.filter(species="worm")["scale"].to_list() == [0.25]
    found = {name: card.for_species(name).frame["id"].to_list() for name in card.species()}
    assert found == {name: list(ids) for name, ids in model.config.tracks.items()}


def test_a_run_descends_from_a_run_and_records_it(
    recipe_of: Recipes, unfrozen: Run, tmp_path: Path
) -> None:
    child = fit(recipe_of(init_from=unfrozen.folder, freeze="encoder"), tmp_path / "child")
    found = json.loads((child.folder / "manifest.json").read_text())["ancestor"]
    assert found["digest"] == file_digest(unfrozen.model_folder / "model.safetensors")
    assert found["freeze"] == "encoder"
    configs = [load_model(run.model_folder).config for run in (child, unfrozen)]
    assert configs[0] == configs[1]


def test_nothing_to_train_is_said(recipe_of: Recipes, unfrozen: Run, tmp_path: Path) -> None:
    with pytest.raises(CislensError, match="adds no species and no track"):
        fit(recipe_of(init_from=unfrozen.folder, freeze="old"), tmp_path / "child")


def test_another_ancestor_in_the_same_place_is_refused_on_resuming(
    recipe_of: Recipes, old_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tmp_path / "parent"
    card = (old_folder / FILE_NAME).read_text()
    save_model(old_model(), parent, "# old\n", {FILE_NAME: card})
    with monkeypatch.context() as patch, pytest.raises(SystemError):
        patch.setattr("cislens.training.fit._finish", stop)
        fit(recipe_of(init_from=parent), tmp_path / "run")
    changed = old_model()
    torch.nn.init.zeros_(changed.heads[0].bias)
    save_model(changed, parent, "# other\n", {FILE_NAME: card})
    with pytest.raises(CislensError, match="began with another init_from"):
        fit(recipe_of(init_from=parent), tmp_path / "run")
    assert Run.open(tmp_path / "run") is None


def stop(*_: object) -> None:
    raise SystemError("pulled the plug")


def test_a_folder_without_a_model_is_explained(recipe_of: Recipes, tmp_path: Path) -> None:
    def refused(path: Path, match: str) -> None:
        with pytest.raises(CislensError, match=match):
            fit(recipe_of(init_from=path), tmp_path / "out")

    refused(tmp_path / "nowhere", "does not exist")
    (tmp_path / "some.ckpt").write_bytes(b"")
    refused(tmp_path / "some.ckpt", "is a file; name a run folder")
    (tmp_path / "unfinished").mkdir()
    refused(tmp_path / "unfinished", "neither a run folder nor a model folder")
    (tmp_path / "unfinished" / "recipe.yaml").write_text("store: x\n")
    refused(tmp_path / "unfinished", "it did not finish")


def test_a_damaged_or_foreign_model_is_explained(
    recipe_of: Recipes, old_folder: Path, tmp_path: Path
) -> None:
    def copy(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in old_folder.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        return folder

    cut = copy("cut")
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CislensError, match="is not a whole safetensors file"):
        fit(recipe_of(init_from=cut), tmp_path / "out")
    foreign = copy("foreign")
    (foreign / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CislensError, match="does not describe a model of cislens"):
        fit(recipe_of(init_from=foreign), tmp_path / "out")
    other = copy("other")
    config = json.loads((other / "config.json").read_text())
    config["config"]["encoder"]["depth"] = 2
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(CislensError, match=r"does not fit the model.*missing"):
        fit(recipe_of(init_from=other), tmp_path / "out")


def test_a_track_of_other_scale_needs_a_head_of_its_own(
    recipe_of: Recipes, old_folder: Path, small_store: ProfileStore, tmp_path: Path
) -> None:
    known = next(track for track in small_store.tracks("yeast").rows() if track.id == OLD)
    folder = tmp_path / "model"
    card = DataCard(1024, track_table([replace(known, scale=2.0)]))
    save_model(old_model(), folder, "# old\n", {FILE_NAME: card.to_json()})
    with pytest.raises(CislensError, match=r"has scale 1.0 in the store.*trained with 2.0"):
        fit(recipe_of(init_from=folder), tmp_path / "out")


def test_bins_of_another_size_are_refused(
    recipe_of: Recipes, small_store: ProfileStore, tmp_path: Path
) -> None:
    changes = {**TINY, "bin_size": 64}
    model = build_model(preset_config("space-plus-tiny", {"yeast": [OLD]}, **changes))
    save_model(model, tmp_path / "model", "# other bins\n")
    with pytest.raises(CislensError, match="has bins of 64 bp"):
        fit(recipe_of(init_from=tmp_path / "model"), tmp_path / "out")


def stranded_folder(folder: Path, store: ProfileStore, species: str) -> Path:
    """A model of two tracks that are strands of one assay; the store has the first, unpaired."""
    known = next(track for track in store.tracks("yeast").rows() if track.id == OLD)
    plus = replace(known, species=species, strand="+", strand_pair="minus")
    minus = replace(plus, id="minus", strand="-", strand_pair=OLD)
    tracks = {species: HeadTracks([OLD, "minus"], ["accessibility"] * 2, [1, 0])}
    model = build_model(preset_config("space-plus-tiny", tracks, **TINY))
    card = DataCard(1024, track_table([plus, minus]))
    save_model(model, folder, "# stranded\n", {FILE_NAME: card.to_json()})
    return folder


def test_a_strand_whose_partner_the_store_has_alone_becomes_single(
    recipe_of: Recipes, small_store: ProfileStore, tmp_path: Path
) -> None:
    folder = stranded_folder(tmp_path / "model", small_store, "yeast")
    tracks = start_of(recipe_of(init_from=folder), small_store).tracks
    found = {track.id: track for track in tracks.rows()}
    assert found["minus"].strand_pair == found[OLD].strand_pair == ""
    assert found["minus"].strand == "-"
    assert DataCard(1024, tracks).to_json()
    # Partners that name each other stay a pair.
    alone, ancestor = load_ancestor(folder, small_store, 0)
    nothing = ProfileStore.open(small_store.path)
    nothing.species = ()
    kept = track_card(alone, ancestor, nothing)
    assert kept.frame["strand_pair"].to_list() == ["minus", OLD]


def test_an_id_of_two_species_is_refused_before_training(
    recipe_of: Recipes, small_store: ProfileStore, tmp_path: Path
) -> None:
    folder = stranded_folder(tmp_path / "model", small_store, "worm")
    with pytest.raises(CislensError, match=f"worm and yeast would both have a track '{OLD}'"):
        fit(recipe_of(init_from=folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_decoder_made_for_other_bins_is_refused(
    recipe_of: Recipes, small_store: ProfileStore, tmp_path: Path
) -> None:
    bins = small_store.bins + 2
    tracks = {"yeast": HeadTracks([OLD], ["accessibility"])}
    model = build_model(preset_config("space-paper-tiny", tracks, bins=bins))
    save_model(model, tmp_path / "model", "# other windows\n")
    with pytest.raises(CislensError, match=f"made for {bins} central bins.* {small_store.bins};"):
        fit(recipe_of(init_from=tmp_path / "model"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_metrics_are_of_the_store_alone(unfrozen: Run) -> None:
    table = pl.read_parquet(unfrozen.metrics_path)
    species = {name.split("/")[1] for name in table["metric"] if name.startswith("poisson_nll/")}
    assert species == {"yeast", "fly"}
