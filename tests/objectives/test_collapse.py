"""Signs of collapse: what each metric says of vectors and answers whose state is known."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from cislens.objectives import features
from cislens.objectives.collapse import SequenceMetrics

N, D, K = 400, 32, 16


def seen(parts: int = 1, **predictions: torch.Tensor) -> SequenceMetrics:
    """Metrics of predictions that come in `parts` batches."""
    found = SequenceMetrics()
    for part in range(parts):
        found.update({name: value[part::parts] for name, value in predictions.items()})
    return found


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def windows() -> dict[str, torch.Tensor]:
    """Composition, labels and places of N windows; the label follows GC content."""
    gc_N = 0.4 + 0.05 * gaussian(N, seed=1)
    return {
        "gc": gc_N, "cpg": 0.02 + 0.01 * gaussian(N, seed=2), "repeat": 0.1 * gaussian(N, seed=3),
        "label": (gc_N + 0.05 * gaussian(N, seed=4) > 0.4).long(),
        "chrom": torch.zeros(N), "start": torch.arange(N) * 512, "species": torch.zeros(N),
    }  # fmt: skip


def test_gaussian_vectors_use_all_directions_and_know_nothing_of_the_composition() -> None:
    found = seen(pooled=gaussian(N, D), **windows()).summary()
    assert found["rankme_share"] > 0.95
    assert found["feature_std"] == pytest.approx(1, abs=0.05)
    assert found["gc_r2"] < 0.05
    assert abs(found["composition_share"]) < 0.02
    assert found["knn/auroc"] == pytest.approx(0.5, abs=0.1)
    assert found["knn/gc_auroc"] > 0.7


def test_the_effective_rank_of_k_equal_directions_is_k() -> None:
    directions, _ = np.linalg.qr(gaussian(D, 5).double().numpy())
    free = gaussian(N, 5, seed=1).double().numpy()
    whitened, _ = np.linalg.qr(free - free.mean(axis=0))
    assert features.rankme(3 + whitened @ directions.T) == pytest.approx(5, abs=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e4])
def test_constant_vectors_have_rank_and_spread_0(size: float) -> None:
    found = seen(pooled=size * torch.ones(N, D), **windows()).summary()
    assert found["rankme"] == 0
    assert found["feature_std"] == pytest.approx(0, abs=1e-6)
    assert math.isnan(found["composition_share"])


def test_vectors_made_of_the_composition_are_explained_by_it() -> None:
    given = windows()
    parts = torch.stack([given["gc"], given["cpg"], given["repeat"]], dim=1).double()
    parts = (parts - parts.mean(dim=0)) / parts.std(dim=0)
    vectors = parts @ gaussian(3, D, seed=7).double()
    noisy = vectors + vectors.std() * gaussian(N, D, seed=8)
    pure, half = (seen(pooled=each, **given).summary() for each in (vectors, noisy))
    assert pure["composition_share"] == pytest.approx(1, abs=1e-6)
    assert pure["gc_r2"] > 0.999
    assert half["composition_share"] == pytest.approx(0.5, abs=0.05)


def test_features_that_say_nothing_explain_nothing_on_average() -> None:
    vectors = [gaussian(20, D, seed=seed).numpy() for seed in range(40)]
    parts = [gaussian(20, 3, seed=100 + seed).numpy() for seed in range(40)]
    shares = [features.explained_share(*each) for each in zip(vectors, parts, strict=True)]
    assert np.mean(shares) == pytest.approx(0, abs=0.02)


def test_the_neighbor_probe_is_that_of_scikit_learn_fold_by_fold() -> None:
    given = windows()
    vectors_ND = (gaussian(N, 4, seed=5) + 8 * given["gc"][:, None]).numpy()
    label_N = given["label"].numpy()
    fold_N = features.folds_of(np.stack([np.zeros(N), np.arange(N), np.zeros(N)], 1).astype(int))
    share_N = np.empty(N)
    for fold in range(5):
        there = fold_N == fold
        probe = KNeighborsClassifier(20).fit(vectors_ND[~there], label_N[~there])
        share_N[there] = probe.predict_proba(vectors_ND[there])[:, 1]
    expected = features.auroc(share_N, label_N == 1)
    found = features.neighbor_auroc(vectors_ND, label_N, fold_N, cosine=False)
    assert found == pytest.approx(expected, abs=1e-6)


def test_copies_next_to_each_other_tell_nothing_to_the_neighbor_probe() -> None:
    vectors = gaussian(N // 4, D).repeat_interleave(4, dim=0)
    label = (gaussian(N // 4, seed=9) > 0).long().repeat_interleave(4)
    given = windows() | {"label": label}
    assert seen(pooled=vectors, **given).summary()["knn/auroc"] == pytest.approx(0.5, abs=0.15)


def test_windows_without_label_are_left_out_of_the_probe() -> None:
    given = windows()
    unknown = given | {"label": -torch.ones(N)}
    assert math.isnan(seen(pooled=gaussian(N, D), **unknown).summary()["knn/auroc"])


@pytest.mark.parametrize(
    ("share_TK", "marginal", "sharpness"),
    [
        (torch.eye(K)[torch.zeros(64, dtype=torch.long)], 0.0, 0.0),
        (torch.full((64, K), 1 / K), 1.0, 1.0),
        (torch.eye(K)[torch.arange(64) % K], 1.0, 0.0),
    ],
    ids=["one prototype", "uniform", "sharp and balanced"],
)
def test_entropies_of_teachers(share_TK: torch.Tensor, marginal: float, sharpness: float) -> None:
    found = seen(parts=3, teacher=share_TK).summary()
    assert found["teacher/marginal"] == pytest.approx(marginal, abs=1e-5)
    assert found["teacher/sharpness"] == pytest.approx(sharpness, abs=1e-5)


def test_masked_terms_are_means_over_bases_not_over_batches() -> None:
    found = SequenceMetrics()
    for nats, right, count, unique in ((10.0, 2, 8, 4), (1.0, 1, 2, 0)):
        sums = {"nats": nats, "right": right, "count": count, "nats_unique": nats / 2,
                "count_unique": unique}  # fmt: skip
        found.update({f"masked/{name}": torch.tensor(value) for name, value in sums.items()})
    summary = found.summary()
    assert summary["masked/nats"] == pytest.approx(1.1)
    assert summary["masked/accuracy"] == pytest.approx(0.3)
    assert summary["masked/nats_unique"] == pytest.approx(5.5 / 4)
    assert "rankme" not in summary


def test_merged_metrics_are_those_of_one_process() -> None:
    given = {
        "pooled": gaussian(N, D), "teacher": gaussian(N, K).softmax(dim=1),
        "agreement": gaussian(N, seed=6), **windows(),
    }  # fmt: skip
    whole = seen(**given).summary()
    first, second = (seen(**{k: v[rank::2] for k, v in given.items()}) for rank in (0, 1))
    first.merge(second)
    merged = first.summary()
    assert merged.keys() == whole.keys()
    assert merged == pytest.approx(whole, abs=1e-6)


def test_too_few_or_infinite_vectors_are_not_measured() -> None:
    broken = gaussian(N, D)
    broken[3, 3] = torch.inf
    for vectors in (gaussian(4, D), broken):
        found = seen(pooled=vectors).summary()
        assert all(math.isnan(value) for value in found.values()), found
