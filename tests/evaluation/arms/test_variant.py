"""Scores of variants that need no training: who has one, which it is, and that it stays."""

import numpy as np
import polars as pl
import pytest
from judged import LanguageModel, Model

from cislens.errors import CislensError
from cislens.evaluation.arms.contract import Ground
from cislens.evaluation.arms.lineup import build_arms
from cislens.evaluation.arms.variant import ZeroShotArm
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.task import Task, make_task
from cislens.randomness import generator
from cislens.recipes.schema import BenchSettings

LENGTH, CENTER = 41, 20
SPLITS = {"train": 90, "valid": 60, "test": 60}
SETTINGS = BenchSettings(seeds=2, cnn=[])


def ground(sign: str, *, insertions: int = 0) -> Ground:
    """Substitutions whose effect is the change of log p of `LanguageModel`; of the first
    `insertions` test variants two bases change."""
    total = sum(SPLITS.values())
    rng = generator(0, "variant arms")
    reference = rng.integers(0, 4, (total, LENGTH)).astype(np.uint8)
    alternate = reference.copy()
    alternate[:, CENTER] = (alternate[:, CENTER] + rng.integers(1, 4, total)) % 4
    split = np.repeat(list(SPLITS), list(SPLITS.values()))
    for row in np.flatnonzero(split == "test")[:insertions]:
        alternate[row, CENTER + 1] = (alternate[row, CENTER + 1] + 1) % 4
    log_p = LanguageModel.log_p
    effect = log_p[alternate[:, CENTER]] - log_p[reference[:, CENTER]]
    y = effect if sign == "signed" else np.abs(effect)
    ids = [f"v{number:04d}" for number in range(total)]
    rows = pl.DataFrame(
        {"example_id": ids, "y": y[:, None].tolist(), "split": split, "cluster_id": ids,
         "block_id": [f"b{number // 5:03d}" for number in range(total)]}
    )  # fmt: skip
    card = TaskCard(
        name="planted", kind="variant", window=LENGTH, target=Target(names=["effect"]),
        metric=Metric(primary="pearson"), split="predefined", block="five", score_sign=sign,
        strand="stranded",
    )  # fmt: skip
    task: Task = make_task(card, rows, list(reference), list(alternate))
    return Ground(task, 0.9, seed=0)


def names(model: Model, given: Ground) -> list[str]:
    return [arm.name for arm in build_arms(given, [model], SETTINGS) if "zero-shot" in arm.name]


def test_signed_effects_are_scored_by_likelihoods_and_by_no_distance() -> None:
    assert names(Model(), ground("signed")) == []
    assert names(LanguageModel(), ground("signed")) == [
        "model-zero-shot", "model-random-zero-shot",
    ]  # fmt: skip
    assert names(Model(), ground("unsigned")) == ["model-zero-shot", "model-random-zero-shot"]


def test_masked_likelihoods_have_no_score_where_a_test_variant_is_no_substitution() -> None:
    assert names(LanguageModel(), ground("signed", insertions=2)) == []
    unsigned = ground("unsigned", insertions=2)  # distances are left
    assert names(LanguageModel(), unsigned) == ["model-zero-shot", "model-random-zero-shot"]


@pytest.mark.parametrize("sign, score", [("signed", "masked:llr"), ("unsigned", "masked:abs_llr")])
def test_the_score_is_chosen_on_validation_with_the_first_seed_and_kept(
    sign: str, score: str
) -> None:
    given = ground(sign)
    arm = ZeroShotArm(LanguageModel(), given)
    first = arm.fit(0, None)
    assert first.config == {"head": "zero-shot", "score": score, "orientation": 1}
    assert first.valid_score == pytest.approx(1, abs=1e-5)
    scores = first.predict(given.test)
    truth = np.stack(given.task.truth()["y"].to_list())
    assert np.corrcoef(scores[:, 0], truth[:, 0])[0, 1] == pytest.approx(1, abs=1e-5)
    [cost] = first.costs
    assert cost.stage == "embed" and cost.bp == 2 * LENGTH * SPLITS["valid"]
    [again] = arm.fit(1, first.config).costs
    assert again.trials == 1


def test_the_first_score_is_obeyed_though_another_is_better() -> None:
    arm = ZeroShotArm(LanguageModel(), ground("unsigned"))
    fitted = arm.fit(1, {"score": "out.mean:l2"})
    assert fitted.config["score"] == "out.mean:l2" and fitted.valid_score < 0.9


def test_baselines_of_variants_stand_beside_the_model_and_no_network_does() -> None:
    settings = SETTINGS.model_copy(update={"finetune": ["lora"], "heads": ["linear", "cnn"],
                                           "cnn": ["onehot-cnn-tiny"]})  # fmt: skip
    arms = build_arms(ground("unsigned"), [Model()], settings)
    assert [arm.name for arm in arms] == [
        "model", "model-random", "model-zero-shot", "model-random-zero-shot",
        "gc-change", "kmer-change", "onehot-change",
    ]  # fmt: skip


def test_stores_that_are_too_coarse_are_refused_before_anything_is_fitted() -> None:
    class Coarse(Model):
        def require(self, *given: object) -> None: ...

        def require_precise(self) -> None:
            raise CislensError("stored as float16, too coarse for the effects of variants")

    given = ground("unsigned")
    for arm in build_arms(given, [Coarse()], SETTINGS)[:3:2]:
        with pytest.raises(CislensError, match="too coarse for the effects of variants"):
            arm.fit(0, None)
    assert build_arms(given, [Model()], SETTINGS)[0].fit(0, None).valid_score > 0
