"""Whether the judgement of risk scores finds what was planted, and nothing else."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import kstest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cislens.errors import CislensError
from cislens.evaluation.risk.assess import COVARIATES, assess, auc_of_columns
from cislens.evaluation.risk.logistic import Penalty, fit
from cislens.evaluation.risk.scores import loci, risk_scores
from cislens.evaluation.risk.simulate import simulate_genotypes, simulate_status
from cislens.genome.genotypes import Genotypes
from cislens.randomness import generator

QUICK = Penalty(strengths=(0.5, 0.1), outer=3, inner=2, steps=20)


@pytest.fixture(scope="module")
def people() -> Genotypes:
    places = np.arange(300) * 5000 + 1
    variants = pl.DataFrame({"chrom": "chr1", "pos": places, "ref": "A", "alt": "C"})
    return simulate_genotypes(variants, 300, 0)


@pytest.fixture(scope="module")
def arms(people: Genotypes) -> dict[str, np.ndarray]:
    rng = generator("planted")
    effect = np.where(rng.random(300) < 0.15, np.abs(rng.standard_normal(300)), 0)
    where = loci(people.variants, 100_000)
    weights = {"effects": effect, "count": np.ones(300), "random": rng.permutation(effect)}
    found = {k: risk_scores(people.dosage_NV, w, where)[0] for k, w in weights.items()}
    return {**found, "truth": effect[None]}


def status(people: Genotypes, arms: dict[str, np.ndarray], heritability: float) -> np.ndarray:
    return simulate_status(people.dosage_NV, arms["truth"][0], heritability, 0.4, 0)


def features(arms: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: arms[name] for name in ("effects", "count", "random")}


def test_a_planted_signal_is_found_and_the_controls_are_not(
    people: Genotypes, arms: dict[str, np.ndarray]
) -> None:
    y = status(people, arms, 0.6)
    assert y.sum() == 120
    found = assess(y, features(arms), permutations=99, penalty=QUICK)
    rows = {row["arm"]: row for row in found.results.iter_rows(named=True)}
    assert rows["effects"]["auroc"] > 0.7 and rows["effects"]["p"] == 0.01
    assert rows["effects"]["low"] > 0.6
    for control in ("count", "random"):
        assert rows[control]["auroc"] < 0.63 and rows[control]["p"] > 0.02
    assert rows["effects"]["null_auroc"] == pytest.approx(0.5, abs=0.02)
    assert (found.differences["low"] > 0).all()
    scores = found.people.filter(arm="effects").sort("person")["score"].to_numpy()
    assert roc_auc_score(y, scores) == pytest.approx(rows["effects"]["auroc"], abs=1e-6)


def test_p_is_uniform_under_shuffled_labels() -> None:
    values = []
    for draw in range(80):
        rng = generator("null", draw)
        x = rng.standard_normal((80, 4))
        y = rng.permutation(np.arange(80) % 2)
        found = assess(y, {"x": x}, permutations=39, penalty=QUICK, seed=draw)
        values.append(found.results["p"][0])
    # p takes the values 1/40 to 1; spread them evenly for the test.
    even = np.array(values) - generator("even").random(80) / 40
    assert kstest(even, "uniform").pvalue > 0.01
    assert np.mean(np.array(values) <= 0.1) < 0.2


def test_what_covariates_explain_is_no_gain() -> None:
    rng = generator("confounded")
    population = rng.standard_normal((300, 1))
    y = (population[:, 0] + rng.standard_normal(300) > 0).astype(np.int64)
    marker = population + 0.5 * rng.standard_normal((300, 3))
    bare = assess(y, {"marker": marker}, permutations=99, penalty=QUICK).results
    assert bare["auroc"][0] > 0.7 and bare["p"][0] == 0.01
    held = assess(y, {"marker": marker}, population, permutations=99, penalty=QUICK).results
    rows = {row["arm"]: row for row in held.iter_rows(named=True)}
    assert rows[COVARIATES]["auroc"] > 0.7 and rows[COVARIATES]["p"] is None
    assert abs(rows["marker"]["gain"]) < 0.02 and rows["marker"]["p"] > 0.05


@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning")
def test_the_fit_is_that_of_sklearn() -> None:
    rng = generator("fit")
    x = rng.standard_normal((200, 6)).astype(np.float32)
    x -= x.mean(0)
    y = (x[:, 0] - x[:, 1] + rng.standard_normal(200) > 0.3).astype(np.float32)
    penalty = Penalty(strengths=(0.5, 0.1, 0.02), steps=300)
    found, base = fit(x, y[:, None], np.zeros(6, bool), penalty)
    most = np.abs(x.T @ (y - y.mean())).max() / 200 / penalty.l1
    for beta, intercept, strength in zip(found, base, penalty.strengths, strict=True):
        peer = LogisticRegression(
            penalty="elasticnet", solver="saga", l1_ratio=0.5, C=1 / (200 * strength * most),
            tol=1e-6, max_iter=20_000,
        ).fit(x, y)  # fmt: skip
        np.testing.assert_allclose(beta[:, 0], peer.coef_[0], atol=2e-3)
        assert intercept[0] == pytest.approx(peer.intercept_[0], abs=2e-3)


def test_columns_are_fitted_as_if_alone_and_free_ones_without_a_penalty() -> None:
    rng = generator("columns")
    x = rng.standard_normal((90, 3)).astype(np.float32)
    x -= x.mean(0)
    y = (rng.random((90, 5)) < 0.4).astype(np.float32)
    together, _ = fit(x, y, np.array([True, False, False]), QUICK)
    alone, _ = fit(x, y[:, 2:3], np.array([True, False, False]), QUICK)
    np.testing.assert_allclose(together[:, :, 2:3], alone, atol=1e-5)
    strong, _ = fit(x, y, np.array([True, False, False]), Penalty(strengths=(1.5,), steps=200))
    assert (strong[0, 1:] == 0).all() and (np.abs(strong[0, 0]) > 1e-3).all()


def test_auroc_of_columns_is_that_of_sklearn() -> None:
    rng = generator("auroc")
    y = (rng.random((50, 4)) < 0.4).astype(int)
    score = rng.integers(0, 8, (50, 4))
    expected = [roc_auc_score(y[:, b], score[:, b]) for b in range(4)]
    np.testing.assert_allclose(auc_of_columns(y, score), expected)


def test_the_share_of_liability_that_is_genetic_is_as_asked(
    people: Genotypes, arms: dict[str, np.ndarray]
) -> None:
    risk = people.dosage_NV @ arms["truth"][0]
    high, low = (roc_auc_score(status(people, arms, h), risk) for h in (0.9, 0.1))
    assert high > 0.9 > 0.75 > low > 0.5


def test_too_few_cases_are_refused() -> None:
    x = np.zeros((100, 1))
    with pytest.raises(CislensError, match="5 cases and 95 controls are too few"):
        assess((np.arange(100) < 5).astype(np.int64), {"x": x})
    with pytest.raises(CislensError, match=r"0 .control. or 1"):
        assess(np.full(100, 2), {"x": x})
