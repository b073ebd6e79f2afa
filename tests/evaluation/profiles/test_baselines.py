from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from cislens.evaluation.profiles import baselines
from cislens.evaluation.profiles.baselines import (
    _PENALTIES,
    BASELINES,
    BinRidge,
    MeanProfile,
    _Moments,
    fit_baseline,
    turned_words,
)
from cislens.evaluation.profiles.sums import POOLED, WindowSums
from cislens.genome.codes import encode, reverse_complement
from cislens.representations.baselines import KmerCounts
from cislens.signal.tracks import Track, track_table

BIN, BINS, CROP, MARGIN = 64, 8, 1, 2
WORD = encode("TGAC")
TRACKS = track_table(
    [
        Track("both", "b.bw", "yeast"),
        Track("plus", "p.bw", "yeast", strand="+", strand_pair="minus"),
        Track("minus", "m.bw", "yeast", strand="-", strand_pair="plus"),
        Track("upstream", "u.bw", "yeast"),
    ]
)
PAIR = [0, 2, 1, 3]


def occurrences(codes_WL: np.ndarray, word: np.ndarray) -> np.ndarray:
    """How often the word lies in each bin, (W, bins)."""
    bins = codes_WL.reshape(len(codes_WL), -1, BIN)
    views = np.lib.stride_tricks.sliding_window_view(bins, len(word), axis=2)
    return (views == word).all(3).sum(2).astype(float)


class PlantedStore:
    """Tracks that count a word: on both strands, on each, and in the two neighboring bins."""

    species = ("yeast",)
    path = "planted"
    length, bin_size, crop, margin, bins = BIN * (BINS + 2 * CROP), BIN, CROP, MARGIN, BINS

    def __init__(self, windows: int = 300, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        width = self.length + 2 * MARGIN
        self.codes = rng.integers(0, 4, size=(windows, width)).astype(np.uint8)
        inner = self.codes[:, MARGIN:-MARGIN]
        plus, minus = (occurrences(inner, w) for w in (WORD, reverse_complement(WORD)))
        both = plus + minus
        central = slice(CROP, -CROP)
        beside = both[:, :-2] + both[:, 2:]
        self.values = np.stack([both[:, central], plus[:, central], minus[:, central], beside], 2)
        self.values += 0.2 * rng.random(self.values.shape)
        parts = rng.choice(["train", "valid", "test"], size=windows, p=[0.6, 0.2, 0.2])
        self.table = pl.DataFrame({"split": parts})

    def windows(self, species: str) -> pl.DataFrame:
        return self.table

    def tracks(self, species: str) -> Any:
        return TRACKS

    def sequence(self, species: str, rows: Sequence[int]) -> np.ndarray:
        return self.codes[rows]

    def targets(self, species: str, rows: Sequence[int]) -> np.ndarray:
        return self.values[rows].astype(np.float16)


@pytest.fixture(scope="module")
def store() -> Any:
    return PlantedStore()


@pytest.fixture(scope="module")
def fitted(store: Any) -> dict[str, MeanProfile | BinRidge]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_LONGEST", 4)  # seconds less, and the word has no more
        return {name: fit_baseline(name, store, "yeast") for name in BASELINES}


def on_test(store: Any, baseline: MeanProfile | BinRidge) -> np.ndarray:
    rows = np.flatnonzero((store.table["split"] == "test").to_numpy())
    rate = torch.from_numpy(baseline.rates(store.sequence("yeast", rows)))
    target = torch.from_numpy(store.targets("yeast", rows).astype(np.float32))
    return WindowSums.of(rate, target, TRACKS.frame["id"].to_list()).value(POOLED).per_track


def test_words_are_found_on_both_strands_on_each_and_in_neighbors(
    store: Any, fitted: dict[str, Any]
) -> None:
    found = {name: on_test(store, each) for name, each in fitted.items()}
    assert (found["kmer-ridge"] > 0.9).all(), found
    assert (np.abs(found["gc-ridge"]) < 0.35).all(), found
    assert (np.abs(found["mean-profile"]) < 0.2).all(), found


@pytest.mark.parametrize("name", BASELINES)
def test_predictions_turn_with_the_sequence(store: Any, fitted: dict[str, Any], name: str) -> None:
    codes = store.codes[:20]
    forward = fitted[name].rates(codes)
    turned = fitted[name].rates(reverse_complement(codes))
    assert forward.shape == (20, BINS, 4) and (forward > 0).all()
    np.testing.assert_allclose(turned[:, ::-1][:, :, PAIR], forward, atol=1e-4)


def test_mean_profile_is_the_mean_of_both_strands(store: Any, fitted: dict[str, Any]) -> None:
    train = np.flatnonzero((store.table["split"] == "train").to_numpy())
    mean = store.targets("yeast", train).astype(float).mean(0)
    np.testing.assert_allclose(fitted["mean-profile"].rate_NT, (mean + mean[::-1][:, PAIR]) / 2)


def test_fit_never_reads_the_test_part(store: Any, fitted: dict[str, Any]) -> None:
    spoiled = PlantedStore()
    spoiled.values[(spoiled.table["split"] == "test").to_numpy()] = np.nan
    for name in ("mean-profile", "gc-ridge"):
        again = fit_baseline(name, spoiled, "yeast")  # type: ignore[arg-type]
        np.testing.assert_array_equal(
            again.rates(store.codes[:5]), fitted[name].rates(store.codes[:5])
        )


def test_tracks_without_strands_need_no_odd_features(store: Any) -> None:
    plain = PlantedStore(120)
    plain.values = plain.values[:, :, [0, 3]]
    rows = [TRACKS.rows()[0], TRACKS.rows()[3]]
    plain.tracks = lambda species: track_table(rows)  # type: ignore[method-assign]
    ridge = fit_baseline("gc-ridge", plain, "yeast")  # type: ignore[arg-type]
    assert isinstance(ridge, BinRidge) and len(ridge.weights[1]) == 1
    assert ridge.rates(plain.codes[:3]).shape == (3, BINS, 2)


def test_a_window_without_cropped_bins_has_n_beyond_its_ends(store: Any) -> None:
    open_ended = PlantedStore(60)
    open_ended.crop, open_ended.bins = 0, BINS + 2 * CROP
    open_ended.values = np.pad(open_ended.values, ((0, 0), (1, 1), (0, 0)))
    ridge = fit_baseline("gc-ridge", open_ended, "yeast")  # type: ignore[arg-type]
    rates = ridge.rates(open_ended.codes[:4])
    assert rates.shape == (4, BINS + 2 * CROP, 4) and np.isfinite(rates).all()


def test_columns_of_the_other_strand() -> None:
    sequence = encode("ACGTTGACTNNACGGATTACAGATCC")
    words = KmerCounts(5)
    forward, turned = (
        words.embed([codes], None, stranded=True)[0]
        for codes in (sequence, reverse_complement(sequence))
    )
    order = turned_words(5)
    np.testing.assert_allclose(turned, forward[order], atol=1e-6)
    np.testing.assert_array_equal(order[order], np.arange(len(order)))


def test_solutions_are_those_of_ridge_regression() -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(8)
    x = rng.normal(size=(400, 6)) * np.array([1, 2, 0.1, 5, 1, 1])
    y = x @ rng.normal(size=(6, 2)) + rng.normal(size=(400, 2))
    x, y = x - x.mean(0), y - y.mean(0)
    moments = _Moments(x.mean(0), y.mean(0), x.T @ x / 400, x.T @ y / 400, (y * y).mean(0))
    scale = x.std(0)
    found = moments.solutions()
    for number in (0, 6, 12):
        ridge = sklearn.Ridge(alpha=400 * _PENALTIES[number], fit_intercept=False)
        expected = ridge.fit(x / scale, y).coef_.T / scale[:, None]
        np.testing.assert_allclose(found[number], expected, rtol=1e-6, atol=1e-9)
    r = [np.corrcoef((x @ found[0])[:, t], y[:, t])[0, 1] for t in range(2)]
    np.testing.assert_allclose(moments.correlations(found)[0], r, atol=1e-6)
