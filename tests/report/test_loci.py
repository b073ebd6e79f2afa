from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.genome.reference import Genome
from cislens.report.figures.loci import correlation
from cislens.report.loci import held_out_loci
from cislens.signal.tracks import Track, track_table

BIN, CROP, LENGTH, WINDOWS = 16, 1, 96, 12


class CountsCG(nn.Module):
    """Predicts the C and G of each bin."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.encoder = SimpleNamespace(bin_size=BIN)
        self.config = SimpleNamespace(crop=CROP, tracks={"yeast": ("CG",)})

    def view(self, species: str) -> None:
        assert species == "yeast"

    def forward(self, x_B4L: torch.Tensor, species: str, crop: bool) -> torch.Tensor:
        count_B4N = x_B4L.unflatten(2, (-1, BIN)).sum(3)[:, :, CROP:-CROP]
        return count_B4N[:, 1:3].sum(1, keepdim=True)


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    path = tmp_path / "small.fa"
    bases = np.random.default_rng(3).choice(list("ACGT"), 1200)
    path.write_text(f">chrI\n{''.join(bases)}\n")
    return Genome(path)


def planted_store(genome: Genome) -> Any:
    """Windows 4 bins apart whose measured signal is the C and G of each bin."""
    inner = LENGTH // BIN - 2 * CROP
    starts = np.arange(WINDOWS) * inner * BIN
    targets = np.zeros((WINDOWS, inner, 1), np.float16)
    for window, start in enumerate(starts):
        for i in range(inner):
            first = start + (CROP + i) * BIN
            bases = decode(genome.fetch("chrI", first, first + BIN))
            targets[window, i] = bases.count("C") + bases.count("G")
    frame = pl.DataFrame({
        "chrom": "chrI", "start": starts, "end": starts + LENGTH,
        "split": ["train"] * 4 + ["test"] * 8,
    })  # fmt: skip
    return SimpleNamespace(
        path=Path("store"), bin_size=BIN, crop=CROP, length=LENGTH,
        windows=lambda _: frame, targets=lambda _, rows: targets[rows],
        tracks=lambda _: track_table([Track("CG", "x.bw", "yeast", description="C and G")]),
        all_targets=targets,
    )  # fmt: skip


def test_measured_and_predicted_lie_on_the_same_bins(genome: Genome) -> None:
    model: Any = CountsCG()
    loci = held_out_loci(model, genome, planted_store(genome), "yeast", count=4)
    assert len(loci) == 4
    for locus in loci:
        (track,) = locus.tracks
        np.testing.assert_allclose(track.measured, track.predicted, atol=1e-6)
        assert correlation(track) == pytest.approx(1)
        bases = decode(genome.fetch("chrI", locus.start, locus.start + BIN))
        assert track.measured[0] == pytest.approx((bases.count("C") + bases.count("G")) / BIN)
        assert track.name == "C and G"


def test_only_test_windows_are_shown_the_most_variable_first(genome: Genome) -> None:
    model: Any = CountsCG()
    store = planted_store(genome)
    first = held_out_loci(model, genome, store, "yeast", count=1)[0]
    spread = store.all_targets[4:, :, 0].astype(float).std(axis=1)
    expected = 4 + int(np.flatnonzero(spread == spread.max())[-1])
    assert first.start == expected * 4 * BIN + CROP * BIN


def test_a_store_without_test_windows_is_refused(genome: Genome) -> None:
    model: Any = CountsCG()
    store = planted_store(genome)
    frame = store.windows("yeast").with_columns(split=pl.lit("train"))
    store.windows = lambda _: frame
    with pytest.raises(CislensError, match="no test window of yeast"):
        held_out_loci(model, genome, store, "yeast")
