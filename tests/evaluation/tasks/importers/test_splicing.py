from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.targets import delta_logit

Make = Callable[..., Any]
TISSUES = 12


@pytest.fixture
def table(write: Callable[..., Path], library: Callable[..., list[str]]) -> Callable[..., str]:
    """Exons of MTSplice type: two windows of 400 bp and PSI of 12 tissues. Of every ten exons of
    test, one is seen in 9 tissues only and one varies by less than 0.2."""

    def call(change: dict[int, tuple[int, object]] | None = None, scale: int = 1) -> str:
        acceptors, donors = library(120, 400), library(120, 400, seed=1)
        rng = np.random.default_rng(0)
        rows = []
        for n in range(120):
            psi: list[object] = [*(scale * rng.uniform(0.05, 0.35, 6)),
                                 *(scale * rng.uniform(0.65, 0.95, 6))]  # fmt: skip
            if n % 10 == 0:
                psi[:3] = ["NA"] * 3
            if n % 10 == 1:
                psi = [scale * (0.5 + 0.01 * tissue) for tissue in range(TISSUES)]
            rows.append([f"exon{n}", f"chr{n % 3}", acceptors[n], donors[n], *psi])
        for row, (column, value) in (change or {}).items():
            rows[row][column] = value
        header = ["id", "chrom", "acceptor", "donor", *[f"t{t}_psi" for t in range(TISSUES)]]
        return str(write("exons.tsv", tuple(header), *map(tuple, rows)))

    return call


SPLIT = {"by": "chromosome", "test": ["chr2"]}


def test_both_ends_are_joined_and_unseen_tissues_masked(
    make: Make, table: Callable[..., str], library: Callable[..., list[str]]
) -> None:
    task = make("splicing", file=table(), id="id", chrom="chrom", split=SPLIT)
    card = task.card
    assert (card.kind, card.window, card.parts) == ("splicing", 800, [400, 400])
    assert (card.target.transform, card.target.masked) == ("delta_logit", True)
    assert card.target.names == [f"t{t}" for t in range(TISSUES)]
    assert card.metric.primary == "spearman" and card.stranded
    acceptors, donors = library(120, 400), library(120, 400, seed=1)
    for row in task.examples.iter_rows(named=True):
        n = int(row["example_id"].removeprefix("exon"))
        assert row["sequence"] == acceptors[n] + donors[n]
        assert np.isnan(row["y"]).sum() == (3 if n % 10 == 0 else 0)


def test_test_exons_are_observed_and_vary(make: Make, table: Callable[..., str]) -> None:
    task = make("splicing", file=table(), id="id", chrom="chrom", split=SPLIT)
    report = task.card.report
    assert report["test exons seen in fewer than 10 tissues"] == 4
    assert report["test exons within 0.2 of their mean PSI"] == 4
    test = task.examples.filter(pl.col("split") == "test")
    assert len(test) == 32
    psi = np.array(test["y"].to_list())
    assert ((~np.isnan(psi)).sum(1) >= 10).all()
    assert (np.nanmax(np.abs(psi - np.nanmean(psi, 1, keepdims=True)), 1) >= 0.2).all()
    # Others keep such exons: 8 of 80 in train and valid vary little.
    others = task.examples.filter(pl.col("split") != "test")
    assert len(others) == 80


def test_the_truth_is_delta_logit_psi(make: Make, table: Callable[..., str]) -> None:
    task = make("splicing", file=table(), id="id", chrom="chrom", split=SPLIT)
    psi = np.array(task.examples.filter(pl.col("split") == "test")["y"].to_list())
    mean = np.nanmean(np.clip(psi, 1e-5, 1 - 1e-5), 1, keepdims=True)
    clipped = np.clip(psi, 1e-5, 1 - 1e-5)
    expected = np.log(clipped / (1 - clipped)) - np.log(mean / (1 - mean))
    np.testing.assert_allclose(delta_logit(psi), expected, rtol=1e-4, atol=1e-4)
    truth = np.array(task.truth()["y"].to_list())
    np.testing.assert_allclose(truth, expected, rtol=1e-4, atol=1e-4)


def test_what_is_no_psi_is_named(make: Make, table: Callable[..., str]) -> None:
    fields = {"id": "id", "chrom": "chrom", "split": SPLIT}
    with pytest.raises(CislensError, match=r"exons.tsv line 7: t2_psi is 1.5, expected PSI"):
        make("splicing", file=table({5: (6, 1.5)}), **fields)
    with pytest.raises(CislensError, match=r"exons.tsv line 2: t3_psi is .*write `percent: true`"):
        make("splicing", file=table(scale=100), **fields)
    percent = make("splicing", file=table(scale=100), percent=True, **fields)
    psi = np.array(percent.examples["y"].to_list())
    assert 0.9 < np.nanmax(psi) < 1
    with pytest.raises(CislensError, match=r"exons.tsv line 4: donor has 4 bp, expected 400"):
        make("splicing", file=table({2: (3, "ACGT")}), **fields)
    with pytest.raises(CislensError, match="no column that ends in '_PSI'"):
        make("splicing", file=table(), psi_suffix="_PSI", **fields)
