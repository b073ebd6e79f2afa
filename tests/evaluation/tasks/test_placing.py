import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.tasks.placing import Placed, _within_segments, merge_regions, without_leaks
from cislens.genome.codes import Codes, reverse_complement


def _regions(*rows: tuple[str, int, int, str, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["chrom", "start", "end", "split", "block"], orient="row")


def test_an_example_takes_the_split_of_the_region_it_lies_in() -> None:
    segments = merge_regions(
        _regions(
            ("chr1", 100, 200, "train", 0), ("chr1", 150, 250, "train", 0),
            ("chr1", 250, 300, "train", 0), ("chr1", 300, 400, "test", 1),
            ("chr2", 0, 50, "valid", 0),
        )
    )  # fmt: skip
    assert segments.select("start", "end").rows() == [(100, 300), (300, 400), (0, 50)]
    examples = pl.DataFrame(
        {
            "chrom": ["chr1", "chr1", "chr1", "chr1", "chr2", "chr3"],
            "start": [190, 290, 300, 90, 0, 0],
            "end": [260, 310, 400, 110, 50, 9],
        }
    )
    placed = _within_segments(examples, segments)
    assert placed["split"].to_list() == ["train", None, "test", None, "valid", None]
    assert placed["cluster_id"].to_list() == ["s0", None, "s1", None, "s2", None]


def test_a_base_in_two_splits_is_refused() -> None:
    with pytest.raises(CislensError, match="different splits overlap at chr1:199"):
        merge_regions(_regions(("chr1", 100, 200, "train", 0), ("chr1", 199, 300, "test", 1)))
    with pytest.raises(CislensError, match="lack the column"):
        merge_regions(pl.DataFrame({"chrom": ["a"]}))


def test_planted_homologs_are_dropped_and_counted() -> None:
    rng = np.random.default_rng(0)

    def random(n: int) -> list[Codes]:
        return [rng.integers(0, 4, 300).astype(np.uint8) for _ in range(n)]

    train, valid, test, elsewhere = random(40), random(10), random(10), random(1)
    valid[0] = train[3]
    test[1] = reverse_complement(train[5])
    test[2] = np.where(rng.random(300) < 0.1, rng.integers(0, 4, 300), valid[4]).astype(np.uint8)
    test[3] = np.concatenate([test[3][:150], elsewhere[0][:150]])
    rows = pl.DataFrame({"split": ["train"] * 40 + ["valid"] * 10 + ["test"] * 10})
    found = without_leaks(Placed(rows, [*train, *valid, *test], {}))
    assert found.report == {
        "valid examples with a homolog in train": 1,
        "test examples with a homolog in train or valid": 2,
    }
    assert dict(found.rows.group_by("split").len().iter_rows()) == {
        "train": 40, "valid": 9, "test": 8,
    }  # fmt: skip
    assert len(found.sequences) == 57
    seen = without_leaks(Placed(rows, [*train, *valid, *test], {}), [*train, *valid, *elsewhere])
    assert seen.report["test examples with a homolog in train or valid"] == 3
