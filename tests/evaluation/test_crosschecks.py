import numpy as np
import pytest
from scipy import stats

from cislens.evaluation.crosschecks import delong, mcnemar, naive_test, williams
from cislens.evaluation.statistics import Predictions

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, 90).astype(float)
COMMON = RNG.normal(size=90)
ONE = np.round(Y * 1.4 + COMMON + 0.5 * RNG.normal(size=90), 1)  # with ties
TWO = np.round(Y * 0.8 + COMMON + 0.5 * RNG.normal(size=90), 1)


def test_delong_agrees_with_structural_components_by_pairs() -> None:
    # The definition: psi is 1, 1/2 or 0 for every pair of a positive and a negative.
    components = []
    for score in (ONE, TWO):
        x, y = score[Y == 1][:, None], score[Y == 0][None]
        components.append((x > y) + 0.5 * (x == y))
    m, n = components[0].shape
    v10 = np.cov([psi.mean(1) for psi in components])
    v01 = np.cov([psi.mean(0) for psi in components])
    s = v10 / m + v01 / n
    difference = components[0].mean() - components[1].mean()
    z = difference / np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    assert delong(Y, ONE, TWO) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)
    assert delong(Y, ONE, ONE) == 1


def test_williams_agrees_with_the_published_example() -> None:
    # Steiger (1980), p. 249 of Psychological Bulletin 87: n = 103, r12 = .4, r13 = .5, r23 = .1
    # with variable 1 in common. Data with exactly these correlations:
    wanted = np.array([[1, 0.5, 0.4], [0.5, 1, 0.1], [0.4, 0.1, 1]])
    raw = RNG.normal(size=(103, 3))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T)).T)
    y, one, two = (white @ np.linalg.cholesky(wanted).T).T
    r = {"y1": 0.5, "y2": 0.4, "12": 0.1}
    det = 1 - r["y1"] ** 2 - r["y2"] ** 2 - r["12"] ** 2 + 2 * r["y1"] * r["y2"] * r["12"]
    t = (r["y1"] - r["y2"]) * (102 * 1.1 / (2 * 102 / 100 * det + (0.9 / 2) ** 2 * 0.9**3)) ** 0.5
    assert t == pytest.approx(0.89, abs=0.01)
    assert williams(y, one, two) == pytest.approx(2 * stats.t(100).sf(t), rel=1e-6)


def test_williams_keeps_its_error_rate() -> None:
    rng = np.random.default_rng(1)
    p = []
    for _ in range(400):
        y = rng.normal(size=80)
        shared = rng.normal(size=80)
        p.append(williams(y, *(y + shared + rng.normal(size=80) for _ in range(2))))
    assert (np.array(p) < 0.05).mean() == pytest.approx(0.05, abs=0.022)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_mcnemar_is_the_binomial_test_of_the_disagreements() -> None:
    y = np.array([0.0] * 20)
    one = np.array([-1.0] * 17 + [1.0] * 3)[:, None]  # right in 17
    two = np.array([1.0] * 9 + [-1.0] * 11)[:, None]  # right in 11: alone in 3, wrong alone in 9
    assert mcnemar(y, one, two) == pytest.approx(stats.binomtest(3, 12).pvalue)
    assert mcnemar(y, one, one) == 1
    classes = np.eye(3)[[0, 1, 2, 1]]
    assert mcnemar(np.array([0, 1, 2, 0.0]), classes, np.roll(classes, 1, 1)) == 0.25


def test_a_naive_test_is_blind_to_blocks() -> None:
    # Copies of every example change nothing that is known, but halve the naive p and more.
    scores = np.stack([ONE, TWO])[:, None, :, None].astype(np.float32)
    once = Predictions(("a", "b"), scores, Y[:, None], np.arange(90))
    fold = Predictions(
        ("a", "b"), np.repeat(scores, 4, 2), np.repeat(Y, 4)[:, None], np.arange(90).repeat(4)
    )
    name, p = naive_test(once, "auroc", "a", "b") or ("", 1.0)
    assert name == "DeLong" and p == pytest.approx(delong(Y, ONE, TWO), rel=1e-4)
    assert (naive_test(fold, "auroc", "a", "b") or ("", 1.0))[1] < p / 4
    assert naive_test(once, "auprc", "a", "b") is None
