import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.genome.codes import decode, encode
from cislens.genome.left_align import left_align
from cislens.randomness import generator

TANDEM = "GATTACAACACACACACAGGGGGGTCAGCAGCAGCAGTTTTTTTTTTAATAATAATG"


def step_by_step(bases: str, start: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Tan, Abecasis and Kang 2015, algorithm 1, base by base."""
    while ref[-1] == alt[-1]:
        if min(len(ref), len(alt)) > 1:
            ref, alt = ref[:-1], alt[:-1]
        elif start == 0:
            break
        else:
            start -= 1
            ref, alt = bases[start] + ref[:-1], bases[start] + alt[:-1]
    while min(len(ref), len(alt)) > 1 and ref[0] == alt[0]:
        ref, alt, start = ref[1:], alt[1:], start + 1
    return start, ref, alt


@st.composite
def variants(draw):
    start = draw(st.integers(0, len(TANDEM) - 2))
    ref = TANDEM[start : start + draw(st.integers(1, 9))]
    repeat = TANDEM[start : start + draw(st.integers(0, 12))] * draw(st.integers(0, 3))
    alt = draw(st.sampled_from([ref + repeat, ref[:1] + repeat, repeat + ref[-1:]]))
    return start, ref, alt if alt != ref else alt + "C"


@given(st.lists(variants(), min_size=1, max_size=20))
def test_many_at_once_give_what_each_gives_step_by_step(rows):
    starts, refs, alts = (list(column) for column in zip(*rows, strict=True))
    found = list(zip(*left_align(encode(TANDEM), starts, refs, alts), strict=True))
    assert found == [step_by_step(TANDEM, *row) for row in rows]
    again = left_align(encode(TANDEM), *(list(column) for column in zip(*found, strict=True)))
    assert list(zip(*again, strict=True)) == found


def test_an_event_moves_through_a_whole_repeat_to_the_chromosomes_start():
    bases = encode("CA" * 500 + "T")
    assert left_align(bases, [997], ["ACA"], ["A"]) == ([0], ["CAC"], ["C"])
    assert left_align(bases, [997], ["A"], ["ACA"]) == ([0], ["C"], ["CAC"])
    assert left_align(encode("TACACA"), [5], ["A"], ["ACA"]) == ([0], ["T"], ["TAC"])


def test_bases_that_are_not_called_are_bases_too():
    assert left_align(encode("ACNNNG"), [1], ["CN"], ["C"]) == ([1], ["CN"], ["C"])
    assert left_align(encode("ACNNNG"), [3], ["NN"], ["N"]) == ([1], ["CN"], ["C"])


@pytest.mark.slow
def test_indels_of_a_thousand_bases_are_no_burden():
    rng = generator(0, "long")
    unit = decode(rng.integers(0, 4, 1000).astype(np.uint8))
    bases = "G" + unit * 4
    found = left_align(encode(bases), [3000] * 200, [bases[3000:4001]] * 200, ["T"] * 200)
    assert len(set(zip(*found, strict=True))) == 1
    starts, refs, _ = left_align(
        encode(bases), [3000] * 200, [bases[3000:4001]] * 200, [bases[3000]] * 200
    )
    assert set(starts) == {0} and {len(ref) for ref in refs} == {1001}
