"""Intervals of validation metrics by leaving out blocks, and what has none."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from cislens.effects.averaging import Averaging
from cislens.evaluation.profiles.arms import Trained, open_predictor
from cislens.evaluation.profiles.passes import blocks_of, predict_sums, rows_of
from cislens.evaluation.profiles.scoring import score
from cislens.models.card import Card
from cislens.motifs.store import RegionStore
from cislens.objectives.metrics import PoissonNll, ProfileMetrics
from cislens.recipes.schema import Training, TrainRecipe
from cislens.sequence.store import SequenceStore
from cislens.signal.store import ProfileStore
from cislens.training.course import Course
from cislens.training.courses import course_of
from cislens.training.fit import fit
from cislens.training.uncertainty import PARTS, jackknife, left_out, valid_intervals

SHORT = Training(steps=2, batch_size=4, validate_every=2)


def parts(count: int, seed: int = 0) -> list[ProfileMetrics]:
    """Metrics of a track, four windows each."""
    drawn, found = torch.Generator().manual_seed(seed), []
    for _ in range(count):
        metrics = ProfileMetrics({"fly": ["a"]})
        rate, target = (torch.rand(4, 8, 1, generator=drawn) + 0.1 for _ in range(2))
        metrics.update({"fly": rate}, {"fly": target})
        found.append(metrics)
    return found


def test_of_a_mean_it_is_students_interval() -> None:
    values = np.random.default_rng(0).normal(size=12)
    without = [(values.sum() - each) / 11 for each in values]
    reach, error = jackknife(float(values.mean()), {"fly": without})
    assert error == pytest.approx(stats.sem(values), rel=1e-9)
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert reach == pytest.approx((high - low) / 2, rel=1e-9)


def test_species_are_strata() -> None:
    """Of the mean of two independent means the variances add, with Satterthwaite's freedom."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=5), rng.normal(scale=3, size=20)
    whole = (a.mean() + b.mean()) / 2
    without = {
        "a": [((a.sum() - each) / 4 + b.mean()) / 2 for each in a],
        "b": [(a.mean() + (b.sum() - each) / 19) / 2 for each in b],
    }
    reach, error = jackknife(whole, without)
    assert error == pytest.approx(np.hypot(stats.sem(a), stats.sem(b)) / 2, rel=1e-9)
    welch = stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)
    assert reach == pytest.approx((welch.high - welch.low) / 4, rel=1e-6)


def test_a_single_block_tells_nothing_of_what_it_moves_alone() -> None:
    assert np.isnan(jackknife(1.0, {"fly": [2.0], "yeast": [0.5, 1.5]})).all()
    reach, _ = jackknife(1.0, {"fly": [1.0], "yeast": [0.5, 1.5]})
    assert np.isfinite(reach)
    assert np.isnan(jackknife(1.0, {"fly": [1.0, 1.0]})).all()


def test_each_part_is_left_out_once() -> None:
    given = parts(5)
    whole, without = left_out(given)
    for at, found in enumerate(without):
        rest = ProfileMetrics({"fly": ["a"]})
        for each in (*given[:at], *given[at + 1 :]):
            rest.merge(each)
        assert found == pytest.approx(rest.summary(), rel=1e-12)
    together = parts(1)[0]
    for each in given[1:]:
        together.merge(each)
    assert whole == pytest.approx(together.summary(), rel=1e-12)


def test_a_run_has_the_intervals_that_evaluate_gives(
    small_store: ProfileStore, tmp_path: Path
) -> None:
    """With fewer than ten blocks, where evaluate leaves out one by one, too."""
    model = {"preset": "basenji-tiny", "dim": 16, "depth": 1}
    run = fit(TrainRecipe(store=small_store.path, model=model, training=SHORT), tmp_path / "run")
    found, blocks = run.manifest["valid_intervals"], run.manifest["valid_blocks"]
    predictor = open_predictor(
        Trained(run.model_folder, run), small_store, Averaging(reverse_complement=False)
    )
    for species in small_store.species:
        rows = rows_of(small_store, species, "valid")
        block_W = blocks_of(small_store, species, rows)
        assert blocks[species] == block_W.max() + 1 < 10
        tracks = tuple(small_store.tracks(species).frame["id"].to_list())
        sums = predict_sums(
            partial(predictor.rates, species),
            small_store, species, rows, tracks, "valid",
        )  # fmt: skip
        for metric in ("pearson_pooled", "poisson_nll"):
            arms = {"run": [sums]}
            judged = score(arms, block_W, metric, tracks, species=species, group="all")
            assert judged is not None and judged.resampled is not None
            value = judged.resampled.value("run")
            assert found[f"{metric}/{species}"] == pytest.approx(
                [value.low, value.high], rel=1e-4, abs=1e-7
            )
    card = Card.read(run.model_folder)
    assert card.scores() >= 6
    assert f"{blocks['yeast']} of yeast" in card.body


def of_a_pass(course: Course) -> dict[str, float]:
    """The metrics as validation finds them."""
    metrics = course.objective.metrics()
    with torch.inference_mode():
        for batch in course.passes():
            losses = course.objective.eval().loss(batch)
            metrics.update(losses.predictions, getattr(batch, "targets", None))
    return metrics.summary()


def test_hidden_bases_have_intervals_and_the_rank_of_vectors_none(
    sequence_store: SequenceStore,
) -> None:
    recipe = TrainRecipe(
        store=sequence_store.path,
        model={"preset": "findna-plus-tiny"},
        objective={"name": "masked", "held_out": 64},
        training=SHORT,
    )
    course = course_of(recipe)
    values = of_a_pass(course)
    found = valid_intervals(course.objective, course.blocks(), values, "cpu")
    low, high = found["valid_intervals"]["masked/nats"]
    assert low < values["masked/nats"] < high < low + 1
    assert "rankme_share" in values
    assert "rankme_share" not in found["valid_intervals"]
    assert set(found["valid_blocks"]) == {"yeast", "fly"}


@pytest.mark.slow
def test_what_windows_of_one_batch_decide_together_has_no_interval(
    region_store: RegionStore,
) -> None:
    recipe = TrainRecipe(
        store=region_store.path,
        model={"preset": "genebert-plus-tiny"},
        objective={"name": "multimodal"},
        training=SHORT,
    )
    course = course_of(recipe)
    values = of_a_pass(course)
    found = valid_intervals(course.objective, course.blocks(), values, "cpu")["valid_intervals"]
    low, high = found["masked/accuracy"]
    assert low < values["masked/accuracy"] < high
    assert "contrast/recall_at_1" in values
    assert "contrast/recall_at_1" not in found


def test_many_blocks_are_left_out_by_hundreds() -> None:
    class Given(torch.nn.Module):
        def loss(self, batch: Any) -> Any:
            class Losses:
                predictions = {"fly": batch.rate}

            return Losses

        def metrics(self) -> ProfileMetrics:
            return ProfileMetrics({"fly": ["a"]})

    class Batch:
        def __init__(self, number: int) -> None:
            self.rate = torch.full((1, 1, 1), 1.0 + number % 7)
            self.targets = {"fly": torch.ones(1, 1, 1)}

        def to(self, device: str) -> "Batch":
            return self

    def batches() -> Iterator[Any]:
        for number in range(3 * PARTS):
            yield ("fly", number), Batch(number)

    metric = PoissonNll(1)
    for _, batch in batches():
        metric.update(batch.rate, batch.targets["fly"])
    value = metric.compute().mean
    objective: Any = Given()
    found = valid_intervals(objective, batches(), {"poisson_nll": value}, "cpu")
    assert found["valid_blocks"] == {"fly": 3 * PARTS}
    low, high = found["valid_intervals"]["poisson_nll"]
    assert (low + high) / 2 == pytest.approx(value)
    far = valid_intervals(objective, batches(), {"poisson_nll": value + high - low}, "cpu")
    assert far["valid_intervals"] == {}
