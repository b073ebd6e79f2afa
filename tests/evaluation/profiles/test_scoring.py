import numpy as np
import pytest
import torch

from cislens.errors import CislensError
from cislens.evaluation.profiles.scoring import Scored, score
from cislens.evaluation.profiles.sums import NLL, POOLED, WINDOW, WindowSums

N = 8
TRACKS = ("a", "b")
RHO = 0.6


def correlated(
    rng: np.random.Generator, blocks: int, each: int, rho: float = RHO
) -> tuple[WindowSums, np.ndarray]:
    """Sums of tracks whose pooled correlation is rho; half of the variance is the block's."""
    block_W = np.repeat(np.arange(blocks), each)

    def normal() -> np.ndarray:
        shared = rng.normal(size=(blocks, 1, 2))[block_W]
        return (shared + rng.normal(size=(len(block_W), N, 2))) / np.sqrt(2)

    x = normal()
    y = rho * x + np.sqrt(1 - rho**2) * normal()
    return WindowSums.of(torch.from_numpy(x), torch.from_numpy(y), TRACKS), block_W


def judged(
    arms: dict[str, list[WindowSums]], block_W: np.ndarray, metric: str = POOLED, draws: int = 400
) -> Scored:
    found = score(arms, block_W, metric, TRACKS, species="yeast", group="all", draws=draws)
    assert found is not None
    return found


def test_intervals_cover_a_planted_correlation() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        sums, block_W = correlated(rng, 40, 2)
        found = judged({"model": [sums]}, block_W)
        assert found.resampled is not None
        value = found.resampled.value("model")
        covered += value.low <= RHO <= value.high
    # 95 of 100 with a standard error of 2.2.
    assert 89 <= covered <= 100


def test_value_is_the_mean_over_tracks() -> None:
    sums, block_W = correlated(np.random.default_rng(1), 12, 3)
    for metric in (POOLED, WINDOW, NLL):
        found = judged({"model": [sums]}, block_W, metric)
        assert found.mean("model") == pytest.approx(sums.value(metric).mean, abs=1e-12)


def test_copies_of_windows_in_their_block_make_no_interval_narrower() -> None:
    sums, block_W = correlated(np.random.default_rng(2), 30, 2)
    copies = sums.merge(sums, sums, sums)
    widths = []
    for each, blocks in ((sums, block_W), (copies, np.tile(block_W, 4))):
        resampled = judged({"model": [each]}, blocks).resampled
        assert resampled is not None
        value = resampled.value("model")
        widths.append(value.high - value.low)
    assert widths[1] == pytest.approx(widths[0], rel=1e-9)


def test_arms_are_paired_by_draw() -> None:
    sums, block_W = correlated(np.random.default_rng(3), 30, 2)
    found = judged({"one": [sums], "same": [sums]}, block_W).resampled
    assert found is not None
    difference = found.difference("one", "same")
    assert (difference.low, difference.point, difference.high) == (0, 0, 0)
    assert found.value("one").high - found.value("one").low > 0.02


def test_noise_between_seeds_widens_the_interval_of_their_arm_alone() -> None:
    rng = np.random.default_rng(4)
    sums, block_W = correlated(rng, 40, 3)
    other = [correlated(np.random.default_rng(4), 40, 3, rho)[0] for rho in (0.4, 0.6, 0.8)]
    found = judged({"one": [sums], "three": other}, block_W)
    assert found.full_MR.shape == (2, 3) and np.ptp(found.full_MR[0]) == 0
    assert found.resampled is not None
    alone = judged({"one": [sums]}, block_W).resampled
    assert alone is not None
    assert found.resampled.value("three").se_seeds > 0.05
    assert found.resampled.value("one").se == pytest.approx(alone.value("one").se, rel=1e-9)


def test_few_blocks_are_left_out_one_by_one_and_a_single_one_gives_no_interval() -> None:
    sums, block_W = correlated(np.random.default_rng(5), 6, 3)
    few = judged({"model": [sums]}, block_W).resampled
    assert few is not None and few.method == "jackknife"
    single = judged({"model": [sums]}, block_W * 0)
    assert single.resampled is None and np.isfinite(single.mean("model"))


def test_a_track_without_signal_is_not_part_of_the_mean() -> None:
    rng = np.random.default_rng(6)
    rate = torch.from_numpy(rng.random((24, N, 2)))
    target = torch.from_numpy(rng.random((24, N, 2)))
    target[:, :, 1] = 0
    sums = WindowSums.of(rate, target, TRACKS)
    block_W = np.repeat(np.arange(12), 2)
    found = judged({"model": [sums]}, block_W)
    assert found.tracks == ("a",)
    assert found.mean("model") == pytest.approx(sums.value(POOLED).per_track[0])
    assert score({"model": [sums]}, block_W, POOLED, ["b"], species="yeast", group="flat") is None


def test_arms_with_other_numbers_of_seeds_are_refused() -> None:
    sums, block_W = correlated(np.random.default_rng(7), 12, 2)
    with pytest.raises(CislensError, match="two 2, three 3"):
        judged({"two": [sums] * 2, "three": [sums] * 3}, block_W)
