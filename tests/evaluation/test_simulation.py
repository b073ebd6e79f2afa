"""What the statistics promise, counted over simulated data sets whose truth is known."""

import numpy as np
import pytest
from synthetic import predictions

from cislens.evaluation.multiplicity import minimum_detectable
from cislens.evaluation.nulls import permutation_null
from cislens.evaluation.statistics import Predictions, resample
from cislens.evaluation.suite import Arm
from cislens.evaluation.verdict import compare, describe

SIMULATIONS = 200
# The promised rate and two standard errors of counting it.
ALLOWED = 0.05 + 2 * (0.05 * 0.95 / SIMULATIONS) ** 0.5
MODELS = ("model", "other", "third")
ARMS = [Arm(name, "trained", None, 0.9, 1) for name in MODELS]
ARMS += [
    Arm("onehot", "onehot", None, 0.8, 1), Arm("kmer", "composition", None, 0.7, 1),
    Arm("twin", "random", "model", 0.6, 1),
]  # fmt: skip


def _gains(rng: np.random.Generator, skill: dict[str, float], **data: float) -> list[bool]:
    """Whether each trained model gets the verdict gain."""
    drawn = predictions(rng, skill, **data)  # type: ignore[arg-type]
    arms = [arm for arm in ARMS if arm.name in skill]
    found = compare(resample(drawn, "auroc", 400), arms)
    return [describe([c], 0.01).startswith("gain") for c in found if c.kind == "onehot"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "seed_noise"),
    [(1, 0.0), (3, 0.05), (3, 0.3), (2, 0.3), (5, 0.3)],
    ids=["one seed", "seeds agree", "seeds differ", "two seeds", "five seeds"],
)
def test_models_as_good_as_one_hot_gain_as_seldom_as_promised(
    seeds: int, seed_noise: float
) -> None:
    rng = np.random.default_rng(7)
    skill = dict.fromkeys((*MODELS, "onehot"), 0.8)
    gains = np.array(
        [
            _gains(rng, skill, seeds=seeds, seed_noise=seed_noise, blocks=40)
            for _ in range(SIMULATIONS)
        ]
    )
    assert gains[:, 0].mean() <= ALLOWED
    assert gains.any(1).mean() <= ALLOWED  # family-wise, by Holm over the three


@pytest.mark.slow
def test_without_student_tails_seeds_that_differ_would_make_false_gains() -> None:
    # The guard has to be there: the plain percentile interval of crossed draws errs too often.
    rng = np.random.default_rng(8)
    wrong = 0
    for _ in range(SIMULATIONS):
        drawn = predictions(rng, {"model": 0.8, "onehot": 0.8}, seeds=3, seed_noise=0.6, blocks=40)
        both = resample(drawn, "auroc", 400).both_MB
        low, high = np.quantile(both[0] - both[1], [0.025, 0.975])
        wrong += low > 0 or high < 0
    assert wrong / SIMULATIONS > 0.10


@pytest.mark.slow
def test_a_gain_of_one_mde_is_found_in_four_of_five() -> None:
    rng = np.random.default_rng(11)
    shape = {"seeds": 5, "seed_noise": 0.05}
    errors = [
        resample(predictions(rng, {"a": 0.8, "b": 0.8}, **shape), "auroc", 200).difference("b", "a")  # type: ignore[arg-type]
        for _ in range(30)
    ]
    target = float(np.mean([minimum_detectable(each.se, 1, each.df) for each in errors]))
    # d AUROC / d skill near 0.8, by a large sample.
    ends = {"low": 0.7, "high": 1.1}
    big = resample(predictions(rng, ends, blocks=400, per=100, seed_noise=0), "auroc", 10)
    slope = (big.value("high").point - big.value("low").point) / 0.4
    skill = {"model": 0.8 + target / slope, "onehot": 0.8}
    found = np.mean([_gains(rng, skill, **shape) for _ in range(SIMULATIONS)])
    assert 0.72 <= found <= 0.88


def _coverage(
    block_as_unit: bool, blocks: int = 60, per: int = 10, simulations: int = SIMULATIONS
) -> float:
    """How often the 95 % interval holds the true correlation, with labels and scores that share
    a block effect of intraclass correlation 0.3 each (true r = 0.5)."""
    rng = np.random.default_rng(5)
    n, hits = blocks * per, 0
    for _ in range(simulations):
        block = np.arange(n) // per

        def draw(block: np.ndarray = block) -> np.ndarray:
            between = rng.normal(size=blocks)[block] * 0.3**0.5
            return between + rng.normal(size=n) * 0.7**0.5

        shared, a, b = draw(), draw(), draw()
        y, score = (shared + a) / 2**0.5, (shared + b) / 2**0.5
        unit = block if block_as_unit else np.arange(n)
        drawn = Predictions(("a",), score[None, None, :, None].astype("f4"), y[:, None], unit)
        value = resample(drawn, "pearson", 400).value("a")
        hits += value.low <= 0.5 <= value.high
    return hits / simulations


def test_block_intervals_cover_where_independent_ones_do_not() -> None:
    block, independent = _coverage(True), _coverage(False)
    assert 0.92 <= block <= 0.98
    assert independent < 0.90


@pytest.mark.parametrize("blocks", [6, 12])
def test_intervals_of_few_blocks_cover(blocks: int) -> None:
    # Six blocks take the jackknife, twelve the bootstrap with its deviations widened.
    assert 0.90 <= _coverage(True, blocks, 30) <= 0.99


def test_random_scores_on_small_chromosomes_lie_in_the_null_of_auprc() -> None:
    # Ten positives of 100 over 20 small blocks: chance lies above the prevalence of 0.1, and a
    # random scorer lies inside the range in 95 of 100 data sets.
    rng = np.random.default_rng(13)
    inside, means = 0, []
    for _ in range(100):
        y = rng.permutation(np.arange(100) < 10).astype(float)[:, None]
        scores = rng.normal(size=(1, 1, 100, 1)).astype(np.float32)
        drawn = Predictions(("a",), scores, y, np.arange(100) // 5)
        mean, low, high = permutation_null(drawn, "auprc", 200)["a"]
        point = resample(drawn, "auprc", 1).full_MR[0, 0]
        inside += low <= point <= high
        means.append(mean)
    assert np.mean(means) > 0.115
    assert inside >= 88


def _suffixes(skill: dict[str, float], simulations: int = 30) -> dict[str, float]:
    """Share of the data sets whose verdict on the model has each suffix."""
    rng = np.random.default_rng(17)
    arms = [arm for arm in ARMS if arm.name in skill]
    texts = [
        describe(compare(resample(predictions(rng, skill), "auroc", 300), arms), 0.01)
        for _ in range(simulations)
    ]
    names = ("gain", "not pretraining", "composition-explained")
    return {name: float(np.mean([name in text for text in texts])) for name in names}


def test_suffixes_fire_on_their_plant_and_are_silent_on_the_clean_twin() -> None:
    clean = _suffixes({"model": 2.0, "onehot": 0.6, "kmer": 0.4, "twin": 0.3})
    assert clean == {"gain": 1.0, "not pretraining": 0.0, "composition-explained": 0.0}
    # A model that is its own random twin in disguise, and one that reads composition alone.
    disguised = _suffixes({"model": 2.0, "onehot": 0.6, "kmer": 0.4, "twin": 2.0})
    assert disguised["not pretraining"] > 0.9 and disguised["composition-explained"] == 0
    explained = _suffixes({"model": 2.0, "onehot": 0.6, "kmer": 2.0, "twin": 0.3})
    assert explained["composition-explained"] > 0.9 and explained["not pretraining"] == 0
