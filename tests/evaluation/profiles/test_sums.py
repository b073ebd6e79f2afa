from pathlib import Path

import numpy as np
import pytest
import torch

from cislens.errors import CislensError
from cislens.evaluation.profiles.sums import (
    LOG1P,
    METRICS,
    NLL,
    POOLED,
    WINDOW,
    WindowSums,
    combined,
    counts_starts,
)
from cislens.objectives.metrics import MetricMismatch, PearsonPooled, PearsonWindow, PoissonNll

W, N = 30, 16
TRACKS = ("a", "b", "c", "flat")


def planted(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions and targets (W, N, T): a large mean, some constant windows, one flat track."""
    rng = np.random.default_rng(seed)
    target = rng.gamma(0.5, 2.0, size=(W, N, 4)).astype(np.float16).astype(np.float32)
    target[:, :, 1] += 1000
    target[:7, :, 2] = 3.3
    target[:, :, 3] = 0.1
    rate = (0.4 * target + rng.gamma(1.0, 1.0, size=target.shape)).astype(np.float32)
    return torch.from_numpy(rate), torch.from_numpy(target)


def sums_of(seed: int = 0) -> WindowSums:
    rate, target = planted(seed)
    return WindowSums.of(rate, target, TRACKS, ("a", "c"))


def pooled(x_WN: np.ndarray, y_WN: np.ndarray) -> float:
    return float(np.corrcoef(x_WN.ravel(), y_WN.ravel())[0, 1])


def test_every_metric_of_three_shards_is_that_of_the_whole_arrays() -> None:
    rate, target = planted()
    parts = [
        WindowSums.of(rate[cut], target[cut], TRACKS, ("a", "c"), np.arange(W)[cut])
        for cut in (slice(0, 5), slice(5, 19), slice(19, W))
    ]
    found = parts[0].merge(*parts[1:])
    x, y = rate.double().numpy(), target.double().numpy()
    expected = [pooled(x[:, :, t], y[:, :, t]) for t in range(3)]
    np.testing.assert_allclose(found.value(POOLED).per_track[:3], expected, atol=1e-9)
    assert np.isnan(found.value(POOLED).per_track[3])
    in_windows = [
        np.mean([pooled(x[w, :, t], y[w, :, t]) for w in range(7 if t == 2 else 0, W)])
        for t in range(3)
    ]
    np.testing.assert_allclose(found.value(WINDOW).per_track[:3], in_windows, atol=1e-9)
    assert found.value(WINDOW).excluded == 7 + W
    logs = [pooled(np.log1p(x[:, :, t]), np.log1p(y[:, :, t])) for t in (0, 2)]
    np.testing.assert_allclose(found.value(LOG1P).per_track, logs, atol=1e-9)
    assert found.rows.tolist() == list(range(W))


def test_sums_give_what_training_logs() -> None:
    rate, target = planted()
    found = sums_of()
    for kind in (PearsonPooled, PearsonWindow, PoissonNll):
        metric = kind(4)
        metric.update(rate, target)
        logged = metric.compute()
        mine = found.value(logged.name)
        np.testing.assert_allclose(mine.per_track, logged.per_track, atol=1e-6)
        assert mine.excluded == logged.excluded


@pytest.mark.parametrize("metric", METRICS)
def test_weights_are_repeated_windows(metric: str) -> None:
    rate, target = planted()
    rng = np.random.default_rng(5)
    weight_W = rng.multinomial(W, np.full(W, 1 / W))
    drawn = np.repeat(np.arange(W), weight_W)
    again = WindowSums.of(rate[drawn], target[drawn], TRACKS, ("a", "c")).value(metric)
    weighted = combined(metric, np.einsum("w,kwt->kt", weight_W, sums_of().additive(metric)))
    np.testing.assert_allclose(weighted, again.per_track, atol=1e-9)


def test_tracks_are_taken_by_id_and_not_by_place() -> None:
    whole = sums_of()
    some = whole.take(("c", "a"), np.arange(W) % 2 == 0)
    rate, target = planted()
    expected = WindowSums.of(rate[::2, :, [2, 0]], target[::2, :, [2, 0]], ("c", "a"), ("c", "a"))
    for metric in METRICS:
        np.testing.assert_allclose(
            some.value(metric).per_track, expected.value(metric).per_track, atol=1e-12
        )


def test_sums_on_disk_are_the_same(tmp_path: Path) -> None:
    sums_of().save(tmp_path / "sums.npz")
    read = WindowSums.load(tmp_path / "sums.npz")
    assert (read.tracks, read.log_tracks, read.bins) == (TRACKS, ("a", "c"), N)
    for metric in METRICS:
        np.testing.assert_array_equal(read.additive(metric), sums_of().additive(metric))


def test_damaged_sums_are_named(tmp_path: Path) -> None:
    sums_of().save(tmp_path / "sums.npz")
    whole = (tmp_path / "sums.npz").read_bytes()
    (tmp_path / "sums.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CislensError, match=r"sums\.npz is damaged"):
        WindowSums.load(tmp_path / "sums.npz")


def test_other_metrics_and_tracks_do_not_mix() -> None:
    found = sums_of()
    with pytest.raises(MetricMismatch):
        found.value(POOLED).minus(found.value(WINDOW))
    with pytest.raises(MetricMismatch):
        found.value(NLL).minus(found.value(LOG1P))
    with pytest.raises(MetricMismatch):
        found.merge(found.take(("a",), np.ones(W, bool)))
    with pytest.raises(MetricMismatch, match="pearson_poled"):
        found.additive("pearson_poled")


def test_start_counting_assays_are_known_by_assay_or_group() -> None:
    assert counts_starts("CAGE", "x") and counts_starts("STRIPE-seq", "TSS")
    assert counts_starts("reads", "cage_pooled") and not counts_starts("ATAC", "accessibility")
