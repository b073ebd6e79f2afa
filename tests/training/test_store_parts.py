"""Stores that disagree on what is trained on."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from cislens.motifs.store import RegionStore
from cislens.sequence.store import SequenceStore
from cislens.signal.store import ProfileStore
from cislens.training.store_parts import contradictions, merged, overlap, windows_of


def profile_store(digest: str, *rows: tuple[str, int, int, str]) -> Any:
    """What is asked of a profile store of yeast, of windows given here."""
    columns = ["chrom", "start", "end", "split"]
    table = pl.DataFrame(rows, schema=columns, orient="row")
    return SimpleNamespace(
        digest=digest, species=("yeast",), placed=lambda _: True, windows=lambda _: table
    )


def test_the_bases_that_one_trains_on_and_the_other_holds_out_are_counted_once() -> None:
    """chr1: [50, 100) in both directions once, [100, 120) is held out by both; chr2 is one's."""
    one = profile_store(
        "a", ("chr1", 0, 80, "train"), ("chr1", 60, 100, "train"), ("chr1", 100, 150, "valid"),
        ("chr2", 0, 70, "train"),
    )  # fmt: skip
    other = profile_store(
        "b", ("chr1", 50, 120, "test"), ("chr1", 140, 150, "train"), ("chr3", 0, 70, "test")
    )
    assert list(contradictions({"x": one, "y": other})) == [("x", "y", 50 + 10)]
    assert list(contradictions({"x": one, "y": one})) == []


def test_overlap_agrees_with_counting_base_by_base() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        sets = []
        for _ in range(2):
            start = rng.integers(0, 90, rng.integers(1, 8))
            sets.append(np.stack([start, start + rng.integers(1, 20, len(start))], axis=1))
        masks = [np.zeros(120, bool), np.zeros(120, bool)]
        for mask, intervals in zip(masks, sets, strict=True):
            for start, end in intervals:
                mask[start:end] = True
        assert overlap(*sets) == int((masks[0] & masks[1]).sum())
        one = merged(sets[0])
        assert int(np.diff(one, axis=1).sum()) == int(masks[0].sum())
        assert (one[1:, 0] > one[:-1, 1]).all()


@pytest.mark.parametrize("name", ["small_store", "region_store", "sequence_store"])
def test_every_kind_of_store_says_what_lies_in_which_part(
    name: str, request: pytest.FixtureRequest
) -> None:
    store: ProfileStore | RegionStore | SequenceStore = request.getfixturevalue(name)
    windows = windows_of(store)
    assert windows.columns == ["species", "chrom", "start", "end", "split"]
    assert set(windows["split"]) == {"train", "valid", "test"}
    assert "yeast" in set(windows["species"]) or name == "region_store"
    width = {"small_store": 1024, "region_store": 128, "sequence_store": 512}[name]
    assert (windows["end"] - windows["start"]).min() >= width  # type: ignore[operator]
