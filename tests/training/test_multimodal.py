"""Training on the regions of a small real store."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch import Callback

from cislens.cli.train_recipe import plan
from cislens.errors import CislensError
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.saving import load_model
from cislens.motifs.loader import RegionLoader
from cislens.motifs.negatives import Drawn, Pool
from cislens.motifs.store import RegionStore
from cislens.objectives.multimodal.objective import MultimodalObjective
from cislens.recipes.multimodal import TERMS, MultimodalTerms
from cislens.recipes.schema import Training, TrainRecipe
from cislens.signal.store import ProfileStore
from cislens.training import fit as fitting
from cislens.training.courses import course_of
from cislens.training.fit import Run, fit
from cislens.training.multimodal_course import to_tensors

PLUS: dict[str, Any] = {
    "preset": "genebert-plus-tiny",
    "encoder": {"dim": 16, "depth": 1, "heads": 2},
    "regions": {"dim": 16, "depth": 1, "heads": 2},
    "joint_dim": 16,
}
PAPER: dict[str, Any] = {
    "preset": "genebert-paper-tiny",
    "encoder": {"dim": 16, "depth": 1, "heads": 2, "k": 3},
    "regions": {"dim": 8, "depths": [1], "heads": [2]},
    "joint_dim": 16,
}
PUBLISHED = {"masked": 1.0, "next": 1.0, "match": 1.0}
OF_PAPER = MultimodalTerms(**{**dict.fromkeys(TERMS, 0.0), **PUBLISHED}, context=4)


@pytest.fixture
def recipe(region_store: RegionStore) -> TrainRecipe:
    return TrainRecipe(
        store=region_store.path,
        model=PLUS,
        objective=MultimodalTerms(context=4, next=0.5),
        training=Training(steps=10, batch_size=8, validate_every=4, ema_decay=0.5),
    )


@pytest.fixture(scope="module")
def run(region_store: RegionStore, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with every term."""
    recipe = TrainRecipe(
        store=region_store.path,
        model=PLUS,
        objective=MultimodalTerms(context=4, next=0.5),
        training=Training(steps=10, batch_size=8, validate_every=4, ema_decay=0.5),
    )
    return fit(recipe, tmp_path_factory.mktemp("run") / "run")


def changed(recipe: TrainRecipe, **changes: Any) -> TrainRecipe:
    return recipe.model_copy(update=changes)


def retrained(recipe: TrainRecipe, **changes: Any) -> TrainRecipe:
    return changed(recipe, training=recipe.training.model_copy(update=changes))


def continued(recipe: TrainRecipe, folder: Path, **changes: Any) -> TrainRecipe:
    return changed(recipe, model=None, init_from=folder, **changes)


class Interrupt(Callback):
    """Raises in the middle of an interval between two checkpoints."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *rest) -> None:  # type: ignore[no-untyped-def]
        if trainer.global_step == self.step:
            raise SystemError("pulled the plug")


def weights(run: Run) -> bytes:
    return (run.model_folder / "model.safetensors").read_bytes()


def states(run: Run) -> dict[str, torch.Tensor]:
    return load_model(run.model_folder).state_dict()


def resumed_as(recipe: TrainRecipe, whole: Run, folder: Path, patch: pytest.MonkeyPatch) -> None:
    make = fitting._trainer
    with patch.context() as inner, pytest.raises(SystemError, match="pulled the plug"):
        inner.setattr(fitting, "_trainer", lambda r, f, c: make(r, f, [*c, Interrupt(6)]))
        fit(recipe, folder)
    assert Run.open(folder) is None
    parts = fit(recipe, folder)
    assert weights(parts) == weights(whole)
    a, b = (pl.read_parquet(run.metrics_path) for run in (whole, parts))
    assert a.equals(b)
    assert parts.manifest["valid"] == whole.manifest["valid"]
    assert a.filter(split="valid")["step"].unique().sort().to_list() == [4, 8, 10]


def test_a_resumed_run_ends_with_the_same_bytes(
    recipe: TrainRecipe, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, running mean, hard negatives and measured gradients."""
    resumed_as(recipe, run, tmp_path / "parts", monkeypatch)


@pytest.mark.slow
def test_a_resumed_run_of_the_published_kind_ends_with_the_same_bytes(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="Swin comes with the extra multimodal")
    recipe = changed(recipe, model=PAPER, objective=OF_PAPER)
    resumed_as(recipe, fit(recipe, tmp_path / "whole"), tmp_path / "parts", monkeypatch)


def test_each_term_and_its_metrics_are_in_the_table(run: Run) -> None:
    metrics = pl.read_parquet(run.metrics_path)
    for split in ("train", "valid"):
        found = metrics.filter(split=split, step=10)
        assert {*TERMS, "loss"} <= set(found["metric"])
        assert not found["metric"].is_duplicated().any()
    assert {
        "masked/accuracy", "next/accuracy", "match/accuracy", "match/auroc", "match/gc_auroc",
        "match/gc_accuracy", "contrast/recall_at_1", "contrast/chance", "regions/r2",
        "regions/neighbor_r2", "regions/access_r2", "motifs/r2",
    } <= set(found["metric"])  # fmt: skip
    on_encoder = {f"gradient/encoder/{term}" for term in set(TERMS) - {"regions"}}
    on_regions = {f"gradient/regions/{term}" for term in ("regions", "match", "contrast")}
    measured = {name for name in found["metric"] if name.startswith("gradient/")}
    assert measured == on_encoder | on_regions
    assert found["value"].is_finite().all()
    assert metrics.filter(metric="match/gc_auroc")["value"].is_between(0.4, 0.6).all()
    weight = MultimodalTerms(next=0.5)
    total = sum(getattr(weight, row["metric"]) * row["value"]
                for row in found.iter_rows(named=True) if row["metric"] in TERMS)  # fmt: skip
    loss = found.filter(metric="loss")["value"].item()
    assert loss == pytest.approx(total, rel=1e-5)


def test_the_manifest_and_a_table_tell_what_composition_gives_away(run: Run) -> None:
    audit = pl.read_csv(run.folder / "shortcuts.tsv", separator="\t")
    assert audit.columns == ["task", "part", "rule", "auroc", "pairs"]
    assert audit.height == 2 * 2 * 3
    assert run.manifest["shortcuts"] == audit.to_dicts()
    assert run.manifest["objective"] == "multimodal"
    assert run.manifest["selection"]["metric"] == "loss"
    assert "headline" in run.manifest["selection"]
    card = (run.model_folder / "README.md").read_text()
    assert "Region store" in card
    assert "held-out (test)" in card


def test_the_kept_weights_are_those_of_the_best_validation(run: Run) -> None:
    rows = pl.read_parquet(run.metrics_path).filter(metric="loss", split="valid")
    assert run.manifest["selection"]["step"] == rows.sort("value")["step"][0]
    model = load_model(run.model_folder)
    assert isinstance(model, MultimodalModel)
    vectors = model.encoder(torch.zeros(1, 4, 200)).values_BND
    assert torch.isfinite(vectors).all()


def test_a_dry_run_shows_cells_regions_and_first_bases(
    recipe: TrainRecipe, region_store: RegionStore
) -> None:
    shown = plan(recipe)
    assert shown["store"] == str(region_store.path)
    cells = {part["split"]: part["cell_id"] for part in shown["cells"]}
    assert cells == {"train": ["partial", "whole"], "test": ["held-out"]}
    assert sum(part["count"] for part in shown["regions"]) == region_store.regions.height
    assert shown["motifs"] == 12
    assert shown["bases"] == 10 * 8 * 128
    assert 0 < shown["epochs"] < 1
    assert set(shown["first_window"]) <= set("ACGT")
    assert len(shown["first_window"]) == 60
    assert json.loads(json.dumps(shown)) == shown


@pytest.mark.parametrize("world", [2, 3])
def test_devices_share_a_batch_and_together_hold_all_of_it(recipe: TrainRecipe, world: int) -> None:
    batch = course_of(recipe).loader.batch(0, 0)
    whole = to_tensors(batch)
    assert whole is not None
    shares = [to_tensors(batch, rank, world) for rank in range(world)]
    for rank, share in enumerate(shares):
        assert share is not None
        mine = np.arange(8)[rank::world]
        for name in ("row_B", "cell_B", "target_BL", "codes_BL", "hidden_BL", "next_B", "gc_B"):
            assert torch.equal(getattr(share, name), getattr(whole, name)[mine]), name
        assert torch.equal(share.apart_BB, whole.apart_BB[mine])
        assert share.place_B is not None
        assert share.place_B.tolist() == mine.tolist()
        assert torch.equal(share.apart(), whole.apart_BB[mine][:, mine])
        for part in ("context", "other"):
            of_share, of_whole = getattr(share, part), getattr(whole, part)
            for name in ("row_BR", "motif_BRT", "access_BR", "offset_BR", "pad_BR", "center_B",
                         "hidden_BR", "access_hidden_BR", "gc_B"):  # fmt: skip
                found, expected = getattr(of_share, name), getattr(of_whole, name)
                assert torch.equal(found, expected[mine]), f"{part}.{name}"
            assert of_share.expression_BT is None
    assert not whole.apart_BB.diagonal().any()


def test_a_device_without_a_row_has_no_batch_and_the_others_all(recipe: TrainRecipe) -> None:
    """The last batch of a validation may be smaller than the number of devices."""
    course = course_of(recipe)
    sizes = [[batch.windows() for batch in course.passes(rank, 3)] for rank in range(3)]
    rows = (course.store.regions["split"] == "valid").sum()  # type: ignore[attr-defined]
    assert sum(map(sum, sizes)) == rows
    batch = course.loader.batch(0, 0)
    assert to_tensors(batch, rank=8, world=9) is None


def test_a_share_of_one_locus_has_a_finite_loss(recipe: TrainRecipe) -> None:
    course = course_of(recipe)
    share = to_tensors(course.loader.batch(0, 0), rank=1, world=8)
    losses = course.objective.loss(share)
    assert torch.isfinite(losses.total)


def test_training_goes_on_from_a_trained_model(
    recipe: TrainRecipe, run: Run, tmp_path: Path
) -> None:
    again = fit(retrained(continued(recipe, run.folder), steps=2, validate_every=1), tmp_path / "b")
    assert again.manifest["ancestor"]["path"] == str(run.model_folder)
    assert again.manifest["model"] == run.manifest["model"]
    losses = pl.read_parquet(again.metrics_path).filter(metric="loss", split="valid")
    fresh = pl.read_parquet(run.metrics_path).filter(metric="loss", split="valid")["value"]
    assert losses["value"][0] < fresh[0]
    assert plan(continued(recipe, run.folder))["init_from"] == str(run.model_folder)


def test_a_frozen_encoder_stays_bit_for_bit_and_the_rest_is_trained(
    recipe: TrainRecipe, run: Run, tmp_path: Path
) -> None:
    given = continued(recipe, run.folder, freeze="encoder")
    course = course_of(given)
    assert course.frozen == (course.objective.model.encoder,)
    before, after = states(run), states(fit(retrained(given, steps=2), tmp_path / "b"))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("encoder.")} <= same
    assert not {name for name in same if name.startswith("region_head")}
    with pytest.raises(CislensError, match="freeze: old would leave nothing to train"):
        course_of(continued(recipe, run.folder, freeze="old"))


def edited(run: Run, folder: Path, **changes: Any) -> Path:
    """A copy of the run's model that says something else of itself."""
    shutil.copytree(run.model_folder, folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["config"] |= changes
    path.write_text(json.dumps(config))
    return folder


def test_a_model_of_other_constants_motifs_or_contexts_is_refused(
    recipe: TrainRecipe, run: Run, tmp_path: Path
) -> None:
    other = edited(run, tmp_path / "constants", constants="f" * 64)
    with pytest.raises(CislensError, match=r"has other constants or another split.*ffffffffffff"):
        course_of(continued(recipe, other))
    motifs = run.manifest["model"]["motifs"]
    turned = edited(run, tmp_path / "motifs", motifs=motifs[::-1])
    with pytest.raises(CislensError, match="their order differs"):
        course_of(continued(recipe, turned))
    renamed = edited(run, tmp_path / "renamed", motifs=["MYC", *motifs[1:]])
    with pytest.raises(CislensError, match=r"12 motifs.*has 12: .* is only in one of them"):
        course_of(continued(recipe, renamed))
    terms = recipe.objective.model_copy(update={"context": 6})
    with pytest.raises(CislensError, match=r"objective.context is 6, and .* of 4 regions"):
        course_of(continued(recipe, run.folder, objective=terms))
    with pytest.raises(CislensError, match=r"init_from .*nowhere does not exist"):
        course_of(continued(recipe, tmp_path / "nowhere"))


def test_models_and_stores_of_the_other_kind_are_refused(
    recipe: TrainRecipe, run: Run, small_store: ProfileStore, model_folder: Path
) -> None:
    with pytest.raises(CislensError, match="holds a ProfileModel, which reads no regions"):
        course_of(continued(recipe, model_folder))
    profiles = TrainRecipe(store=small_store.path, init_from=run.folder, training=recipe.training)
    with pytest.raises(CislensError, match=r"has bins of 1 bp and .* bins of 128 bp"):
        course_of(profiles)
    with pytest.raises(CislensError, match="Did you mean 'genebert-plus-tiny'"):
        course_of(changed(recipe, model="genebert-plus-tny"))
    with pytest.raises(CislensError, match="the data decide it"):
        course_of(changed(recipe, model={**PLUS, "width": 64}))
    with pytest.raises(CislensError, match="which is a profile store; set `objective"):
        course_of(changed(recipe, store=small_store.path))
    with pytest.raises(CislensError, match=r"which is a region store; set .*name: multimodal"):
        course_of(TrainRecipe(store=recipe.store, model="basenji-tiny", training=recipe.training))


def unlike(pool: Pool, row_B: Any, group_B: Any, rng: Any, near: bool = True) -> Drawn:
    """Planted: the region of the most different GC content."""
    gc_N = pool.covariates_N3[:, 0]
    rows = np.flatnonzero(gc_N > np.median(gc_N)), np.flatnonzero(gc_N <= np.median(gc_N))
    low_B = gc_N[row_B] <= np.median(gc_N)
    drawn_B = np.where(low_B, rng.choice(rows[0], len(row_B)), rng.choice(rows[1], len(row_B)))
    return Drawn(drawn_B, np.zeros(len(row_B), bool), np.ones(len(row_B), bool))


def test_matched_negatives_that_gc_tells_apart_are_refused(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Pool, "matched", unlike)
    with pytest.raises(CislensError, match=r"train pairs .* match by GC with an AUROC of 0\.[789]"):
        fit(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_random_negatives_that_gc_tells_apart_are_only_warned_of(
    recipe: TrainRecipe,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Pool, "random", unlike)
    terms = recipe.objective.model_copy(update={"negatives": "random"})
    run = fit(retrained(changed(recipe, objective=terms), steps=1), tmp_path / "run")
    assert "train pairs can be told apart by composition alone: match by GC" in caplog.text
    worst = max(row["auroc"] for row in run.manifest["shortcuts"] if row["task"] == "match")
    assert worst > 0.7
    assert run.manifest["valid"]["match/gc_auroc"] > 0.7


def test_the_published_preset_trains_with_swin(recipe: TrainRecipe, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="Swin comes with the extra multimodal")
    recipe = changed(recipe, model="genebert-paper-tiny", objective=OF_PAPER)
    run = fit(retrained(recipe, steps=3, validate_every=3), tmp_path / "run")
    assert run.manifest["model"]["regions"]["kind"] == "swin"
    assert run.manifest["model"]["encoder"]["k"] == 6
    valid = run.manifest["valid"]
    assert {"masked/accuracy", "next/accuracy", "match/gc_auroc"} <= valid.keys()
    assert all(np.isfinite(value) for value in valid.values())


def test_activations_can_be_computed_again_and_the_gradient_is_the_same(
    recipe: TrainRecipe,
) -> None:
    norms = []
    for again in (False, True):
        course = course_of(retrained(recipe, checkpointing=again))
        assert course.objective.model.encoder.checkpointing is again
        torch.manual_seed(0)
        course.objective.eval().loss(to_tensors(course.loader.batch(0, 0))).total.backward()
        parameters = course.objective.model.encoder.parameters()
        norms.append([float(p.grad.norm()) for p in parameters if p.grad is not None])
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


def test_fresh_weights_are_a_function_of_the_seed(recipe: TrainRecipe) -> None:
    def first(seed: int) -> torch.Tensor:
        model = course_of(changed(recipe, seed=seed)).objective.model
        return torch.cat([value.flatten() for value in model.parameters()])

    torch.manual_seed(1)
    a = first(0)
    torch.manual_seed(2)
    assert torch.equal(a, first(0))
    assert not torch.equal(a, first(1))


def test_only_what_a_term_asks_for_is_drawn(recipe: TrainRecipe) -> None:
    only = MultimodalTerms(**{**dict.fromkeys(TERMS, 0.0), "masked": 1.0}, context=4)
    course = course_of(changed(recipe, objective=only))
    batch = to_tensors(course.loader.batch(0, 0))
    assert batch is not None
    assert batch.next_B is None
    assert batch.other is None
    assert course.facts()["shortcuts"] == []
    assert isinstance(course.loader, RegionLoader)
    assert isinstance(course.objective, MultimodalObjective)
    assert course.headline == ("masked/accuracy",)
