"""Networks trained on a task: their trials, and what later seeds keep of them."""

from pathlib import Path

import numpy as np
import pytest
from judged import Model, matches
from plants import MOTIF, motif_task

from cislens.errors import CislensError
from cislens.evaluation.arms.contract import Arm, Ground
from cislens.evaluation.arms.features import Embedded
from cislens.evaluation.arms.network import (
    bins_arm,
    budget_of,
    mlp_arm,
    scratch_arm,
    tuned_arm,
)
from cislens.evaluation.attribution import attribution_task
from cislens.evaluation.bench import run_bench
from cislens.evaluation.heads.onehot_cnn import PooledShape
from cislens.evaluation.heads.tuning import trials
from cislens.genome.codes import decode
from cislens.motifs.sites import consensus_motif
from cislens.recipes.schema import BenchSettings
from cislens.representations.baselines import GCContent

GROUND = Ground(motif_task(200, length=40), 0.9, seed=0)
SHORT = BenchSettings(seeds=2, cnn_steps=10, cnn_batch=16, trials=3, layers=True)
SHAPE = PooledShape("small", ((8, 11), (8, 5)), 8)


def every_arm(model: Model) -> list[Arm]:
    embedded = Embedded(model, GROUND.card)
    return [
        scratch_arm(SHAPE, GROUND, SHORT),
        mlp_arm(embedded, GROUND, SHORT),
        bins_arm(model, GROUND, SHORT),
        tuned_arm(model, "lora", GROUND, SHORT),
        tuned_arm(model, "full", GROUND, SHORT),
    ]


@pytest.mark.parametrize("number", range(5))
def test_the_trial_is_chosen_with_the_first_seed_and_kept(number: int) -> None:
    arm = every_arm(Model())[number]
    first = arm.fit(0, None)
    stages = [cost.stage for cost in first.costs if cost.stage != "embed"]
    assert sorted(stages) == ["train", "tune", "tune"]
    assert all(cost.trials == 1 and cost.steps <= 10 for cost in first.costs if cost.steps)
    again = arm.fit(1, first.config)
    assert [cost.stage for cost in again.costs] == ["train"]
    settings = [
        {key: value for key, value in fitted.config.items() if key != "steps"}
        for fitted in (first, again)
    ]
    assert settings[0] == settings[1]
    assert first.predict(GROUND.test).shape == (len(GROUND.test), 1)


def test_the_first_configuration_is_obeyed_though_it_is_the_worst() -> None:
    arm = scratch_arm(SHAPE, GROUND, SHORT)
    tried = trials(budget_of(SHORT))
    for number in range(3):
        fitted = arm.fit(1, {"trial": number})
        assert fitted.config["trial"] == number
        assert fitted.config["learning_rate"] == tried[number]["learning_rate"]


def test_trials_are_the_same_for_every_network_on_every_task() -> None:
    model = Model()
    embedded = Embedded(model, GROUND.card)
    shared = ("learning_rate", "weight_decay", "dropout", "batch_size")
    arms = [
        scratch_arm(SHAPE, GROUND, SHORT), mlp_arm(embedded, GROUND, SHORT),
        bins_arm(model, GROUND, SHORT),
    ]  # fmt: skip
    first, *others = ([{key: trial[key] for key in shared} for trial in arm.tried] for arm in arms)
    assert all(other == first for other in others)
    rates = [trial["learning_rate"] for trial in tuned_arm(model, "lora", GROUND, SHORT).tried]
    assert rates == [5e-5, 1e-4, 5e-4]


def test_the_layer_is_one_of_the_trials_of_an_mlp() -> None:
    settings = SHORT.model_copy(update={"trials": 6, "cnn_steps": 60})
    model = Model()
    arm = mlp_arm(Embedded(model, GROUND.card), GROUND, settings)
    assert {trial["view"] for trial in arm.tried} == set(Model.views)
    fitted = arm.fit(0, None)
    assert fitted.config["view"] == "L2.mean" and fitted.valid_score > 0.9
    asked = len(model.asked)
    assert arm.fit(1, fitted.config).config["view"] == "L2.mean"
    assert len(model.asked) == asked  # its features are kept
    embedded = [cost.bp for cost in fitted.costs if cost.stage == "embed"]
    assert embedded == [40 * (len(GROUND.train) + len(GROUND.valid))] * len(Model.views)
    last = SHORT.model_copy(update={"layers": False})
    fixed = mlp_arm(Embedded(model, GROUND.card), GROUND, last)
    assert {trial["view"] for trial in fixed.tried} == {"out.mean"}


def test_bins_and_networks_must_be_there() -> None:
    with pytest.raises(CislensError, match="gc gives one vector per sequence"):
        bins_arm(GCContent(), GROUND, SHORT)
    with pytest.raises(CislensError, match="gc has no network"):
        tuned_arm(GCContent(), "lora", GROUND, SHORT)


def test_an_attribution_task_is_scored_by_a_value_for_each_position(tmp_path: Path) -> None:
    class Counter(Model):
        views = ("L2.mean",)

    motif = consensus_motif(decode(MOTIF))
    task = attribution_task(motif_task(300, length=40), motif, limit=6)
    settings = BenchSettings(seeds=2, cnn=["onehot-cnn-tiny"], cnn_steps=10, trials=1, kmer=3)
    store = run_bench([task], [Counter()], settings, tmp_path).whole
    predictions = store.predictions(task)
    assert "gc" not in predictions.arms  # one base more or less is the same everywhere
    assert predictions.scores_MRNT.shape == (len(predictions.arms), 2, 6, 40)
    assert (predictions.scores_MRNT >= 0).all()
    scores = predictions.scores_MRNT[predictions.arms.index("model"), 0]
    best = [int(row.argmax()) for row in matches(task.fold("test").sequences)]
    for at, row in zip(best, scores, strict=True):
        assert row[at : at + len(MOTIF)].mean() > 3 * np.delete(row, range(at, at + 10)).mean()
    record = store.records().filter(arm="model").row(0, named=True)
    assert record["valid_metric"] == "auroc"  # heads are trained on the labels
