from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.effects.variants.windows import (
    DELETED,
    LEFT,
    RIGHT,
    Alleles,
    layout,
    left_in_place,
    overlapping,
    right_in_place,
    sources,
)
from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.genome.reference import Genome

SIZE = 400


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path: Path = tmp_path_factory.mktemp("genome") / "small.fa"
    bases = "".join(np.random.default_rng(5).choice(list("ACGT"), SIZE))
    path.write_text(f">chr1\n{bases}\n")
    return Genome(path)


def alleles_of(genome: Genome, first: int, n_ref: int, alt: str) -> Alleles:
    ref = decode(genome.fetch("chr1", first, first + n_ref))
    row = {"chrom": "chr1", "pos": first + 1, "ref": ref, "alt": alt}
    return Alleles.of(pl.DataFrame([row]))


def piece(text: str, start: int, width: int) -> str:
    """[start, start + width) of a text that goes on as N at both ends."""
    padding = "N" * (abs(start) + width)
    return (padding + text + padding)[len(padding) + start :][:width]


@given(
    first=st.integers(0, SIZE - 1),
    n_ref=st.integers(1, 90),
    alt=st.text("ACGT", min_size=1, max_size=90),
    before=st.integers(0, 63),
)
def test_alternate_windows_are_cut_from_the_changed_chromosome(
    genome: Genome, first: int, n_ref: int, alt: str, before: int
) -> None:
    n_ref = min(n_ref, SIZE - first)
    alleles = alleles_of(genome, first, n_ref, alt)
    whole = decode(genome.chromosome("chr1"))
    changed = whole[:first] + alt + whole[first + n_ref :]
    start, moved = first - before, len(alt) - n_ref
    left = decode(left_in_place(genome, alleles, 0, start, 64))
    right = decode(right_in_place(genome, alleles, 0, start, 64))
    assert left == piece(changed, start, 64)
    assert right == piece(changed, start + moved, 64)


@given(first=st.integers(-500, 10**9), step=st.sampled_from([1, 16, 48, 128]))
def test_variants_lie_near_the_middle_of_windows_on_the_grid(first: int, step: int) -> None:
    where = layout(160, 16, crop=1, step=step)
    (start,) = where.starts(np.array([first])).tolist()
    assert (start + where.crop * where.bin_size) % step == 0
    assert -step / 2 <= first - (start + 80) <= step / 2
    if step == 1:
        assert first - start == 80


def test_windows_are_half_of_the_compared_bins_apart() -> None:
    assert layout(8192, 128, crop=8).step == 24 * 128
    assert layout(128, 128).step == 128


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 16), "whole bins of 16 bp"),
        ((64, 16, 2), "more than the 4 bins"),
        ((160, 16, 1, 24), "multiple of the bins of 16 bp up to the 128 bp"),
        ((160, 16, 1, 144), "up to the 128 bp"),
        ((160, 16, 1, 0), "windows every 0 bp"),
    ],
)
def test_windows_that_do_not_fit_are_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(CislensError, match=message):
        layout(*arguments)


@pytest.mark.parametrize(
    ("first", "n_ref", "alt", "expected"),
    [
        (35, 1, "?ACG", [LEFT, LEFT, LEFT, RIGHT, RIGHT, RIGHT]),  # an insertion before base 36
        (47, 1, "?A", [LEFT, LEFT, LEFT, LEFT, RIGHT, RIGHT]),  # before the first base of a bin
        (35, 5, "?", [LEFT, LEFT, LEFT, RIGHT, RIGHT, RIGHT]),  # 36 to 39
        (35, 20, "?", [LEFT, LEFT, LEFT, RIGHT, RIGHT, RIGHT]),  # 36 to 54, in two bins
        (31, 33, "?", [LEFT, LEFT, DELETED, DELETED, RIGHT, RIGHT]),  # 32 to 63, two whole bins
        (30, 50, "?", [LEFT, LEFT, DELETED, DELETED, DELETED, RIGHT]),  # 31 to 79
    ],
)
def test_bins_come_from_where_their_bases_did_not_move(
    genome: Genome, first: int, n_ref: int, alt: str, expected: list[int]
) -> None:
    anchor = decode(genome.fetch("chr1", first, first + 1))
    alleles = alleles_of(genome, first, n_ref, alt.replace("?", anchor))
    assert sources(alleles, 0, -16, layout(128, 16, crop=1)).tolist() == expected


@given(
    first=st.integers(100, 200),
    n_ref=st.integers(1, 60),
    alt=st.text("ACGT", min_size=1, max_size=60),
    before=st.integers(0, 127),
)
def test_bins_beside_the_change_hold_the_bases_of_the_reference(
    genome: Genome, first: int, n_ref: int, alt: str, before: int
) -> None:
    alleles, where = alleles_of(genome, first, n_ref, alt), layout(128, 16)
    if not alleles.moving_n[0]:
        return
    start = first - before
    cut = {
        LEFT: left_in_place(genome, alleles, 0, start, 128),
        RIGHT: right_in_place(genome, alleles, 0, start, 128),
    }
    reference = genome.fetch("chr1", start, start + 128)
    for index, source in enumerate(sources(alleles, 0, start, where).tolist()):
        begin, end = start + 16 * index, start + 16 * (index + 1)
        if end <= first or begin >= first + n_ref:
            event = begin <= first + n_ref <= end  # inserted bases may stand at its first place
            bases = slice(16 * index, 16 * (index + 1))
            assert source != DELETED
            if not event:
                assert np.array_equal(cut[source][bases], reference[bases])


def test_bins_that_overlap_an_interval() -> None:
    where = layout(128, 16, crop=1)
    found = overlapping(np.array([31, 32]), np.array([33, 48]), np.array([0, 0]), where)
    assert found.astype(int).tolist() == [[1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]
