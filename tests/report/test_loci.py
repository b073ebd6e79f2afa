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
from cislens.report.loci import _neighbors, held_out_loci
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
        all_targets=targets, require_placed=lambda _, purpose: None,
    )  # fmt: skip


def test_measured_and_predicted_lie_on_the_same_bins(genome: Genome) -> None:
    model: Any = CountsCG()
    loci = held_out_loci(model, genome, planted_store(genome), "yeast", count=4)
    assert 1 <= len(loci) <= 4
    for locus in loci:
        (track,) = locus.tracks
        np.testing.assert_allclose(track.measured, track.predicted, atol=1e-6)
        assert correlation(track) == pytest.approx(1)
        bases = decode(genome.fetch("chrI", locus.start, locus.start + BIN))
        assert track.measured[0] == pytest.approx((bases.count("C") + bases.count("G")) / BIN)
        assert track.name == "C and G"


def test_only_test_windows_are_shown_and_none_twice(genome: Genome) -> None:
    model: Any = CountsCG()
    store = planted_store(genome)
    # Window 6 varies most by far, so it must be in the first locus; 0 to 3 are for training.
    store.all_targets[6, ::2] = 99
    loci = held_out_loci(model, genome, store, "yeast", count=4)
    assert loci[0].start <= (6 * 4 + CROP) * BIN < loci[0].end
    assert 99 / BIN in loci[0].tracks[0].measured
    covered = [base for locus in loci for base in range(locus.start, locus.end)]
    assert len(covered) == len(set(covered))
    assert min(covered) >= (4 * 4 + CROP) * BIN


def test_neighbors_join_only_within_an_unbroken_row_of_windows() -> None:
    joined = np.array([False, True, True, False, True, True, True])
    assert _neighbors(joined, 1, 9) == slice(0, 3)
    assert _neighbors(joined, 5, 2) == slice(4, 6)
    assert _neighbors(joined, 6, 3) == slice(4, 7)
    assert _neighbors(joined, 3, 1) == slice(3, 4)


def test_windows_off_the_bin_grid_are_refused(genome: Genome) -> None:
    model: Any = CountsCG()
    store = planted_store(genome)
    frame = store.windows("yeast").with_columns(pl.col("start", "end") + 5)
    store.windows = lambda _: frame
    with pytest.raises(CislensError, match="does not lie on the grid of 16 bp bins"):
        held_out_loci(model, genome, store, "yeast")


def test_a_store_without_test_windows_is_refused(genome: Genome) -> None:
    model: Any = CountsCG()
    store = planted_store(genome)
    frame = store.windows("yeast").with_columns(split=pl.lit("train"))
    store.windows = lambda _: frame
    with pytest.raises(CislensError, match="no test window of yeast"):
        held_out_loci(model, genome, store, "yeast")
