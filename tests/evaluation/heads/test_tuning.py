from dataclasses import dataclass, replace

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.evaluation.heads.tuning import Budget, Space, Trial, same_budget, select, trials


@dataclass
class _Fitted:
    valid_metric: float


def test_trials_cover_their_ranges_evenly() -> None:
    found = trials(Budget(count=64))
    rates = np.log10([trial["learning_rate"] for trial in found])
    # A Sobol sequence of 64 points has 16 in each quarter of every setting, up to one for the turn.
    assert np.histogram(rates, np.linspace(-5, -2, 5))[0] == pytest.approx([16] * 4, abs=1)
    dropout = [trial["dropout"] for trial in found]
    assert np.histogram(dropout, np.linspace(0, 0.5, 5))[0] == pytest.approx([16] * 4, abs=1)
    sizes, counts = np.unique([trial["batch_size"] for trial in found], return_counts=True)
    assert sizes.tolist() == [64, 128, 256, 512, 1024]
    assert counts == pytest.approx([12.8] * 5, abs=2)
    decay = np.array([trial["weight_decay"] for trial in found])
    assert 4 <= (decay == 0).sum() <= 9
    assert 1e-5 <= decay[decay > 0].min() < 1e-4
    assert 1e-2 < decay.max() <= 1e-1


def test_every_arm_gets_the_same_trials_whatever_else_it_chooses() -> None:
    plain = trials(Budget(count=24))
    assert trials(Budget(count=24)) == plain
    views = ["L1.mean", "L2.mean", "L2.max"]
    chosen = trials(Budget(count=24), {"view": views})
    assert [{k: v for k, v in trial.items() if k != "view"} for trial in chosen] == plain
    assert {trial["view"] for trial in chosen} == set(views)
    assert trials(Budget(count=4)) == plain[:4]
    assert trials(Budget(count=24, seed=1)) != plain


def test_the_best_trial_is_selected_and_an_undefined_one_never() -> None:
    values = {1.0: float("nan"), 2.0: 0.4, 3.0: 0.7, 4.0: 0.7}
    tried: list[Trial] = [{"learning_rate": rate} for rate in values]
    chosen = select(tried, lambda trial: _Fitted(values[float(str(trial["learning_rate"]))]))
    assert chosen.trial == {"learning_rate": 3.0}
    assert [value for _, value in chosen.tried][1:] == [0.4, 0.7, 0.7]
    with pytest.raises(CislensError, match="undefined for all 1 trials"):
        select(tried[:1], lambda _trial: _Fitted(float("nan")))


def test_arms_tuned_otherwise_are_refused_and_equal_ones_are_not() -> None:
    budget = Budget()
    same_budget({})
    same_budget({"probe": budget, "onehot": Budget(Space(), 24, 0)})
    with pytest.raises(CislensError, match="onehot was not tuned as probe was: count 4 against 24"):
        same_budget({"probe": budget, "onehot": replace(budget, count=4)})
    narrow = replace(budget, space=Space(learning_rate=(1e-3, 1e-3)))
    with pytest.raises(CislensError, match=r"learning_rate \(0.001, 0.001\) against"):
        same_budget({"probe": budget, "onehot": narrow})


def test_nothing_to_try_is_an_error() -> None:
    with pytest.raises(CislensError, match="0 trials"):
        trials(Budget(count=0))
    with pytest.raises(CislensError, match="no values for view"):
        trials(Budget(), {"view": []})
