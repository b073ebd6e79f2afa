"""Tasks whose test set is too small for their metric."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from cislens.errors import CislensError
from cislens.evaluation.suite import Suite

METRIC = SimpleNamespace(primary="auroc", secondary=("auprc",))


class Measured(Suite):
    """Three tasks, of which some cannot be measured by some metrics."""

    def __init__(self, undefined: set[tuple[str, str]]) -> None:
        card: Any = SimpleNamespace(card=SimpleNamespace(metric=METRIC))
        self.tasks = dict.fromkeys(("first", "second", "third"), card)
        self.undefined = undefined

    def resampled(self, task: str, metric: str | None = None) -> Any:
        if (task, metric) in self.undefined:
            raise CislensError("undefined in 9 of 10")


def test_a_task_that_cannot_be_measured_is_named_and_the_others_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    suite = Measured({("first", "auroc"), ("third", "auprc")})
    with caplog.at_level(logging.WARNING, "cislens"):
        suite.leave_out_unmeasured()
    assert list(suite.tasks) == ["second"]
    assert "task first is left out of the tables: undefined in 9 of 10" in caplog.text
    assert "task third" in caplog.text
    assert "task second" not in caplog.text


def test_a_suite_of_nothing_measurable_is_an_error() -> None:
    suite = Measured({(name, "auroc") for name in ("first", "second", "third")})
    with pytest.raises(CislensError, match="undefined in 9 of 10"):
        suite.leave_out_unmeasured()
