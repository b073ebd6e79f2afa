"""Streaming metrics against numpy on whole arrays, merged shards, and metrics that never mix."""

import numpy as np
import pytest
import torch

from cislens.objectives.metrics import (
    MetricMismatch,
    PearsonPooled,
    PearsonWindow,
    PoissonNll,
    ProfileMetrics,
    StreamingMetric,
)

KINDS = (PearsonPooled, PearsonWindow, PoissonNll)


def data(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rates and targets (30 windows, 12 bins, 3 tracks); track 1 has a large mean."""
    rng = np.random.default_rng(seed)
    target = rng.gamma(0.5, 2.0, size=(30, 12, 3)) + np.array([0.0, 1e4, 0.0])
    rate = 0.5 * target + rng.random((30, 12, 3))
    return torch.from_numpy(rate), torch.from_numpy(target)


def fill(metric: StreamingMetric, rate: torch.Tensor, target: torch.Tensor, step: int = 7) -> None:
    for start in range(0, len(rate), step):
        metric.update(rate[start : start + step], target[start : start + step])


def test_pearson_pooled_is_numpy_on_the_whole_array() -> None:
    rate, target = data()
    metric = PearsonPooled(3)
    fill(metric, rate, target)
    expected = [
        np.corrcoef(rate[..., t].flatten().numpy(), target[..., t].flatten().numpy())[0, 1]
        for t in range(3)
    ]
    np.testing.assert_allclose(metric.compute().per_track, expected, atol=1e-9)


def test_pearson_window_is_numpy_window_by_window() -> None:
    rate, target = data()
    target[4, :, 2] = 1.5  # constant: excluded
    metric = PearsonWindow(3)
    fill(metric, rate, target)
    r = [
        [np.corrcoef(rate[w, :, t].numpy(), target[w, :, t].numpy())[0, 1] for w in range(30)]
        for t in range(2)
    ]
    value = metric.compute()
    np.testing.assert_allclose(value.per_track[:2], np.mean(r, axis=1), atol=1e-9)
    rest = [w for w in range(30) if w != 4]
    last = [np.corrcoef(rate[w, :, 2].numpy(), target[w, :, 2].numpy())[0, 1] for w in rest]
    assert value.per_track[2] == pytest.approx(np.mean(last), abs=1e-9)
    assert value.excluded == 1


@pytest.mark.parametrize("kind", KINDS)
def test_three_shards_merge_to_the_whole(kind: type[StreamingMetric]) -> None:
    rate, target = data()
    target[20, :, 0] = 0.0
    whole, shards = kind(3), [kind(3) for _ in range(3)]
    fill(whole, rate, target)
    for shard, part in zip(shards, ((0, 5), (5, 21), (21, 30)), strict=True):
        fill(shard, rate[slice(*part)], target[slice(*part)], step=4)
    shards[2].merge(shards[1])
    merged = kind(3)  # an empty shard changes nothing
    merged.merge(shards[0])
    merged.merge(shards[2])
    np.testing.assert_allclose(
        merged.compute().per_track, whole.compute().per_track, rtol=1e-9, atol=1e-9
    )
    assert merged.compute().excluded == whole.compute().excluded


def test_the_two_pearsons_differ_on_the_same_predictions() -> None:
    """Window means that are right and bins within a window that are not: 0.99 against 0."""
    torch.manual_seed(0)
    level = torch.arange(50.0)[:, None, None].expand(50, 10, 1)
    rate, target = level + torch.rand(50, 10, 1), level + torch.rand(50, 10, 1)
    pooled, window = PearsonPooled(1), PearsonWindow(1)
    for metric in (pooled, window):
        metric.update(rate, target)
    assert pooled.compute().mean > 0.99
    assert abs(window.compute().mean) < 0.2


@pytest.mark.parametrize("kind", KINDS[:2])
def test_constant_target_is_excluded_and_constant_prediction_scores_zero(
    kind: type[StreamingMetric],
) -> None:
    rate, target = torch.rand(4, 6, 2), torch.rand(4, 6, 2)
    rate[..., 0] = 0.7
    target[..., 1] = 0.1
    metric = kind(2)
    metric.update(rate, target)
    value = metric.compute()
    assert value.per_track[0] == 0
    assert np.isnan(value.per_track[1])
    assert value.excluded == (1 if kind is PearsonPooled else 4)
    assert value.mean == value.median == 0


def test_nothing_measured_is_nan() -> None:
    for kind in KINDS[:2]:
        assert np.isnan(kind(2).compute().mean)


def test_poisson_nll_is_the_mean_of_the_terms() -> None:
    rate, target = data()
    metric = PoissonNll(3)
    fill(metric, rate, target)
    expected = (rate - target * rate.log()).mean(dim=(0, 1)).numpy()
    np.testing.assert_allclose(metric.compute().per_track, expected, rtol=1e-5)


def test_mixing_metrics_raises() -> None:
    rate, target = data()
    pooled, window = PearsonPooled(3), PearsonWindow(3)
    for metric in (pooled, window):
        metric.update(rate, target)
    with pytest.raises(
        MetricMismatch, match=r"pearson_pooled .* cannot be merged .* pearson_window"
    ):
        pooled.merge(window)
    with pytest.raises(MetricMismatch, match="3 tracks cannot be merged"):
        pooled.merge(PearsonPooled(2))
    with pytest.raises(MetricMismatch, match="cannot be compared"):
        pooled.compute().minus(window.compute())
    np.testing.assert_array_equal(pooled.compute().minus(pooled.compute()), np.zeros(3))


def test_profile_metrics_by_species_and_metric() -> None:
    rate, target = data()
    whole = ProfileMetrics({"yeast": ("a", "b", "c"), "fly": ("d",)})
    whole.update({"yeast": rate}, {"yeast": target})
    parts = [ProfileMetrics(whole.tracks) for _ in range(2)]
    parts[0].update({"yeast": rate[:9]}, {"yeast": target[:9]})
    parts[1].update({"yeast": rate[9:]}, {"yeast": target[9:]})
    parts[0].merge(parts[1])
    for name in ("pearson_pooled", "pearson_window", "poisson_nll"):
        np.testing.assert_allclose(
            parts[0].compute()["yeast"][name].per_track,
            whole.compute()["yeast"][name].per_track,
            atol=1e-9,
        )
    assert np.isnan(whole.compute()["fly"]["pearson_pooled"].mean)
    with pytest.raises(MetricMismatch, match="different tracks"):
        whole.merge(ProfileMetrics({"yeast": ("a",)}))
