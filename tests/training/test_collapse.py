"""Rules of collapse: each state trips its own, and a run ends at the second validation in a row."""

import json
import logging
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cislens.cli import app
from cislens.errors import CislensError, CollapseError
from cislens.objectives.collapse import SequenceMetrics
from cislens.recipes.schema import Training
from cislens.training.collapse import (
    MARKOV,
    RULES,
    CollapseGuard,
    read_collapse,
    refuse_collapsed,
    rule_of,
)
from cislens.training.monitor import Monitor

N, D, K = 512, 32, 16
HEALTHY = {"rankme_share": 0.9, "feature_std": 1.0, "teacher/marginal": 0.9}


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def composition() -> torch.Tensor:
    return gaussian(N, 3, seed=1)


def mostly_composition() -> torch.Tensor:
    """Vectors of all directions, 9/10 of whose variance are a linear map of the composition."""
    known = composition() @ gaussian(3, D, seed=2)
    return known / known.std() + gaussian(N, D, seed=3) / 3


def bases(nats: float) -> dict[str, torch.Tensor]:
    count = torch.tensor(1000)
    return {"masked/nats_unique": nats * count, "masked/count_unique": count}


STATES = {
    "healthy": ({}, set()),
    "one direction": ({"pooled": gaussian(N, 1) @ gaussian(1, D, seed=5)}, {"rankme_share"}),
    "constant": ({"pooled": torch.ones(N, D)}, {"rankme_share", "feature_std"}),
    "all the same way": ({"pooled": 20 + gaussian(N, D)}, {"feature_std"}),
    "composition alone": ({"pooled": mostly_composition()}, {"composition_share"}),
    "one prototype": (
        {"teacher": torch.eye(K)[torch.zeros(N).long()]},
        {"teacher/marginal", "teacher/information"},
    ),
    "uniform teacher": (
        {"teacher": torch.full((N, K), 1 / K)},
        {"teacher/sharpness", "teacher/information"},
    ),
    "constant teacher": (
        {"teacher": (12 * gaussian(K)).softmax(0).expand(N, K)},
        {"teacher/marginal", "teacher/information"},
    ),
    "softly constant teacher": (
        {"teacher": gaussian(K).softmax(0).expand(N, K)},
        {"teacher/information"},
    ),
    "random bases": (bases(1.41), {"masked/nats_unique"}),
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_trips_its_own_rule_and_no_other(state: str) -> None:
    parts = composition()
    changed, expected = STATES[state]
    healthy = {
        "pooled": gaussian(N, D),
        "gc": parts[:, 0], "cpg": parts[:, 1], "repeat": parts[:, 2],
        "teacher": (12 * gaussian(N, K, seed=4)).softmax(dim=1),
        **bases(1.3),
    }  # fmt: skip
    metrics = SequenceMetrics()
    metrics.update(healthy | changed)
    found = metrics.summary()
    assert {rule.metric for rule in RULES} <= found.keys()
    assert {rule.metric for rule in RULES if rule.beyond(found[rule.metric], rule.stop)} == expected


def test_the_masked_term_is_held_against_the_markov_model() -> None:
    rule = rule_of("masked/nats_unique", {MARKOV: 1.36, "masked/nats_unique": 1.5})
    assert rule is not None
    assert rule.beyond(1.37, rule.warn)
    assert not rule.beyond(1.35, rule.warn)
    assert not rule.beyond(1.37, rule.stop)
    assert rule.beyond(math.inf, rule.stop)
    assert not rule.beyond(math.nan, rule.stop)


@pytest.mark.parametrize(
    ("metric", "untrained", "warn", "stop"),
    [
        ("feature_std", 0.9, 0.3, 0.1), ("feature_std", 0.25, 0.1875, 0.1),
        ("feature_std", 0.04, 0.03, 0.02), ("composition_share", 0.1, 0.5, 0.8),
        ("composition_share", 0.96, 0.97, 0.98), ("feature_std", math.nan, 0.3, 0.1),
    ],
)  # fmt: skip
def test_a_model_that_begins_beyond_a_limit_is_held_against_itself(
    metric: str, untrained: float, warn: float, stop: float
) -> None:
    rule = rule_of(f"dna.{metric}", {f"dna.{metric}": untrained, "dna.agreement": 1.0})
    assert rule is not None
    assert (rule.warn, rule.stop) == pytest.approx((warn, stop))


def test_without_a_teacher_the_look_of_the_vectors_only_warns() -> None:
    rules = {rule.metric: rule_of(rule.metric, {"rankme_share": 0.9}) for rule in RULES}
    stopping = {name for name, rule in rules.items() if rule and rule.stop is not None}
    assert stopping == {
        "teacher/marginal", "teacher/sharpness", "teacher/information", "masked/nats_unique",
    }  # fmt: skip
    assert rules["rankme_share"] is not None
    assert rules["rankme_share"].warn == 0.2


class Run:
    """Validations of a run without a model: every 10 steps, saved at the end of each."""

    def __init__(self, folder: Path, on_collapse: Any = "stop") -> None:
        self.last = folder / "checkpoints" / "last.ckpt"
        self.last.parent.mkdir(exist_ok=True)
        self.good = self.last.with_name("good.ckpt")
        self.guard = CollapseGuard(folder, Training(steps=1000, warmup=0.02), on_collapse, 1.36)
        self.monitor = Monitor(folder / "metrics.parquet", None)  # type: ignore[arg-type]
        self.monitor._add(0, "valid", {"agreement": 1.0})
        self.step = 0

    def validate(self, **bad: float) -> None:
        self.step += 10
        self.monitor._add(self.step, "valid", HEALTHY | bad)
        trainer: Any = SimpleNamespace(
            global_step=self.step, sanity_checking=False, is_global_zero=True,
            callbacks=[self.monitor, self.guard],
        )  # fmt: skip
        self.guard.on_validation_epoch_end(trainer, None)  # type: ignore[arg-type]
        self.last.write_text(str(self.step))


def test_the_second_bad_validation_ends_the_run_and_the_good_checkpoint_stays(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path)
    for _ in range(3):
        run.validate()
    run.validate(rankme_share=0.05)
    assert run.good.read_text() == "30"
    with pytest.raises(CollapseError, match=r"step 50, rankme_share is 0\.0400, below 0\.1") as end:
        run.validate(rankme_share=0.04)
    assert run.last.read_text() == "40"
    assert run.good.read_text() == "30"
    assert str(run.good) in str(end.value)
    report = json.loads((tmp_path / "collapse_report.json").read_text())
    assert report["step"] == 50
    assert [rule["metric"] for rule in report["rules"]] == ["rankme_share"]
    assert [seen["values"]["rankme_share"] for seen in report["validations"]] == [0.05, 0.04]
    assert report["checkpoint"] == "checkpoints/good.ckpt"
    with pytest.raises(CollapseError) as refused:
        refuse_collapsed(tmp_path)
    assert str(refused.value) == str(end.value)


def test_a_run_that_recovers_or_breaks_other_rules_in_turn_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for _ in range(2):
        run.validate()
    run.validate(rankme_share=0.05)
    run.validate(feature_std=0.05)
    assert run.good.read_text() == "20"
    run.validate()
    assert not run.good.exists()
    run.validate(rankme_share=0.05)
    assert run.good.read_text() == "50"
    assert read_collapse(tmp_path) is None
    refuse_collapsed(tmp_path)


def test_nothing_is_judged_during_the_warmup(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.validate(rankme_share=0.01)
    run.validate(rankme_share=0.01)
    assert run.good.read_text() == "10"
    with pytest.raises(CollapseError):
        run.validate(rankme_share=0.01)


def test_what_was_seen_travels_in_the_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.step = 20
    run.validate(feature_std=0.05)
    saved = run.guard.state_dict()
    again = Run(tmp_path)
    again.step = run.step
    again.guard.load_state_dict(saved)
    with pytest.raises(CollapseError, match="feature_std"):
        again.validate(feature_std=0.05)


def test_a_part_of_a_mixture_is_judged_by_the_same_rules(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.guard = CollapseGuard.of_parts({"dna": run.guard})
    run.step = 20
    bad = {"dna.teacher/marginal": 0.1}
    run.validate(**bad)
    with pytest.raises(CollapseError, match=r"dna\.teacher/marginal is 0\.1000"):
        run.validate(**bad)


def test_each_part_of_a_mixture_has_its_own_guard(tmp_path: Path) -> None:
    """One may warn where another stops; each has the Markov model of its own store."""
    run = Run(tmp_path)
    patient = CollapseGuard(tmp_path, Training(steps=1000, warmup=0.02), "warn", 1.2)
    run.guard = CollapseGuard.of_parts({"first": patient, "second": run.guard})
    run.step = 20
    for _ in range(3):
        run.validate(**{"first.teacher/marginal": 0.1})
    assert not run.good.exists()
    run.validate(**{"second.teacher/marginal": 0.1, "first.teacher/marginal": 0.1})
    with pytest.raises(CollapseError) as end:
        run.validate(**{"second.teacher/marginal": 0.1, "first.teacher/marginal": 0.1})
    assert "second.teacher/marginal" in str(end.value)
    assert "first." not in str(end.value)
    untrained = {f"first.{MARKOV}": 1.2, f"second.{MARKOV}": 1.36}
    rule = rule_of("second.masked/nats_unique", untrained)
    assert rule is not None
    assert rule.warn == 1.36


def test_on_collapse_warn_goes_on_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path, "warn")
    run.step = 20
    with caplog.at_level(logging.WARNING, logger="cislens"):
        for share in (0.15, 0.15, 0.05, 0.05):
            run.validate(rankme_share=share)
    assert "rankme_share is 0.1500, below 0.2, the limit of a warning" in caplog.messages[0]
    assert "rankme_share is 0.0500, below 0.1:" in caplog.messages[1]
    assert len(caplog.messages) == 3
    assert read_collapse(tmp_path) is None
    assert not run.good.exists()


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    (tmp_path / "collapse_report.json").write_text("{")
    with pytest.raises(CislensError, match=r"collapse_report\.json is not JSON"):
        refuse_collapsed(tmp_path)


@pytest.mark.parametrize(("error", "code"), [(CollapseError, 3), (CislensError, 2)])
def test_the_command_line_tells_a_collapse_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: type[CislensError], code: int
) -> None:
    def fail() -> None:
        raise error("it happened")

    monkeypatch.setattr(app, "app", fail)
    monkeypatch.setattr(sys, "argv", ["cislens"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == code
