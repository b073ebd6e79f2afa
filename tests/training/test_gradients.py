"""Measured gradients of the terms, and the warning about one that dominates."""

import contextlib
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from cislens.motifs.store import RegionStore
from cislens.objectives.multimodal.objective import MultimodalObjective
from cislens.recipes.multimodal import TERMS, MultimodalTerms
from cislens.recipes.schema import Training, TrainRecipe
from cislens.training import gradients
from cislens.training.course import recompute_activations
from cislens.training.courses import course_of
from cislens.training.fit import compile_modules
from cislens.training.gradients import GradientWatch
from cislens.training.multimodal_course import MultimodalCourse, to_tensors

EVERY = 100


@pytest.fixture
def course(region_store: RegionStore) -> MultimodalCourse:
    small = {"dim": 16, "depth": 1, "heads": 2}
    model = {
        "preset": "genebert-plus-tiny", "encoder": small, "joint_dim": 16,
        "regions": {**small, "dropout": 0.0},
    }  # fmt: skip
    recipe = TrainRecipe(
        store=region_store.path, model=model, training=Training(steps=400, batch_size=8),
        objective=MultimodalTerms(context=4, next=0.3, negatives="random"),
    )  # fmt: skip
    found = course_of(recipe)
    assert isinstance(found, MultimodalCourse)
    return found


def trainer_at(step: int, steps: int = 10_000) -> Any:
    return SimpleNamespace(
        global_step=step,
        max_steps=steps,
        precision_plugin=SimpleNamespace(forward_context=contextlib.nullcontext),
        strategy=SimpleNamespace(broadcast=lambda value: value),
    )


def at(watch: GradientWatch, step: int, batch: Any = None) -> None:
    watch.on_train_batch_end(trainer_at(step), nn.Identity(), None, batch)  # type: ignore[arg-type]


def test_norms_are_those_of_each_weighted_term_trained_alone(course: MultimodalCourse) -> None:
    """Against a backward pass of an objective that has no other term; within 1e-5."""
    batch = to_tensors(course.loader.batch(0, 0))
    watch = GradientWatch(course.objective, EVERY)
    at(watch, EVERY, batch)
    found = watch.metrics()
    assert all(parameter.grad is None for parameter in course.model.parameters())
    seen = set()
    for term in TERMS:
        only = {**dict.fromkeys(TERMS, 0.0), term: getattr(course.terms, term)}
        terms = MultimodalTerms(**only, context=4, negatives="random")
        course.model.zero_grad()
        MultimodalObjective(course.model, terms).loss(batch).total.backward()
        for trunk, module in (("encoder", course.model.encoder), ("regions", course.model.regions)):
            squares = [p.grad.square().sum() for p in module.parameters() if p.grad is not None]
            if squares:
                name = f"gradient/{trunk}/{term}"
                expected = float(torch.stack(squares).sum().sqrt())
                assert found[name] == pytest.approx(expected, rel=1e-5), name
                seen.add(name)
    assert seen == set(found)


def test_it_measures_before_each_validation_and_at_the_end_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[int] = []
    monkeypatch.setattr(
        gradients, "term_gradients", lambda objective, batch: measured.append(batch)
    )
    watch = GradientWatch(None, EVERY)  # type: ignore[arg-type]
    monkeypatch.setattr(watch, "_warn", lambda step: None)
    for step in range(1, 251):
        trainer = trainer_at(step, steps=250)
        watch.on_train_batch_end(trainer, nn.Identity(), None, step)
    assert measured == [100, 200, 250]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Norms that the watch will find; the test may change them."""
    norms = {"encoder/masked": 1.0, "encoder/match": 1.2, "encoder/contrast": 0.8}
    monkeypatch.setattr(gradients, "term_gradients", lambda objective, batch: dict(norms))
    return norms


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "times the median" in record.message]


def test_a_term_that_dominates_for_500_steps_is_named(
    planted: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="cislens")
    watch = GradientWatch(None, EVERY)  # type: ignore[arg-type]
    planted["encoder/masked"] = 6.1  # of a median of 1.2
    for step in range(100, 600, 100):
        at(watch, step)
    assert not warned(caplog)
    at(watch, 600)
    assert warned(caplog) == [
        "training: for 500 steps the gradient of masked on the encoder has been more than 5 times "
        "the median of the terms; lower its weight"
    ]
    assert watch.metrics()["gradient/encoder/masked"] == 6.1


def test_a_pause_begins_the_count_anew_and_a_resumed_run_keeps_it(
    planted: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="cislens")
    watch = GradientWatch(None, EVERY)  # type: ignore[arg-type]
    planted["encoder/masked"] = 6.1
    at(watch, 100)
    planted["encoder/masked"] = 5.9
    at(watch, 200)
    planted["encoder/masked"] = 6.1
    for step in range(300, 800, 100):
        at(watch, step)
    assert not warned(caplog)
    resumed = GradientWatch(None, EVERY)  # type: ignore[arg-type]
    resumed.load_state_dict(watch.state_dict())
    at(resumed, 800)
    assert len(warned(caplog)) == 1


def test_of_two_terms_none_dominates_and_regions_are_not_judged(
    planted: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="cislens")
    watch = GradientWatch(None, EVERY)  # type: ignore[arg-type]
    del planted["encoder/contrast"]
    planted |= {"encoder/masked": 100.0, "regions/regions": 1e3, "regions/match": 0.1}
    for step in range(100, 1200, 100):
        at(watch, step)
    assert not warned(caplog)


def test_recomputed_activations_give_the_same_norms(course: MultimodalCourse) -> None:
    """They are recomputed for each term."""
    batch = to_tensors(course.loader.batch(0, 0))
    plain, recomputed = (GradientWatch(course.objective, EVERY) for _ in range(2))
    at(plain, EVERY, batch)
    recompute_activations(course.model.encoder)
    at(recomputed, EVERY, batch)
    assert recomputed.metrics() == plain.metrics()


def test_compiled_code_is_left_out(course: MultimodalCourse) -> None:
    """It would free its graph at the backward pass of the first term."""

    def refuse(*given: Any) -> Any:
        raise AssertionError("compiled")

    batch = to_tensors(course.loader.batch(0, 0))
    plain, compiled = (GradientWatch(course.objective, EVERY) for _ in range(2))
    at(plain, EVERY, batch)
    compile_modules(course.compiled, backend=refuse)  # type: ignore[arg-type]
    at(compiled, EVERY, batch)
    assert compiled.metrics() == plain.metrics()
