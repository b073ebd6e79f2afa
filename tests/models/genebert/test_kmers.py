"""Overlapping k-mers: which tokens, which of them are read, and back to bases."""

import pytest
import torch
from torch import Tensor

from cislens.models.genebert.kmers import (
    CLS,
    MASK,
    PAD,
    SEP,
    SPECIALS,
    UNK,
    Rows,
    kmers,
    neighbors,
    per_base,
)


def dna(*texts: str) -> Tensor:
    x = torch.zeros(len(texts), 4, len(texts[0]))
    for row, text in enumerate(texts):
        for place, base in enumerate(text):
            if base != "N":
                x[row, "ACGT".index(base), place] = 1
    return x


def word(text: str) -> int:
    number = 0
    for base in text:
        number = 4 * number + "ACGT".index(base)
    return number + SPECIALS


def test_tokens_spell_the_sequence() -> None:
    found = kmers(dna("ACGTTGCA"), None, 3)
    assert found.ids_BJ[0].tolist() == [word("ACGTTGCA"[j : j + 3]) for j in range(6)]
    assert bool(found.read_BJ.all())
    assert len({word(a + b) for a in "ACGT" for b in "ACGT"}) == 16
    assert word("TTTTTT") == 4**6 + SPECIALS - 1


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_bases_under_no_visible_token_are_the_hidden_ones_and_their_gaps(k: int) -> None:
    """A base is seen where a k-mer without a hidden base covers it."""
    x = dna("ACGT" * 10)
    hidden = torch.zeros(1, 40, dtype=torch.bool)
    for place in (0, 2, 17, 18, 18 + k, 39):  # gaps of 1, then k - 1
        hidden[0, place] = True
    found = kmers(x, hidden, k)
    masked = (found.ids_BJ[0] == MASK).tolist()
    assert masked == [bool(hidden[0, j : j + k].any()) for j in range(41 - k)]
    visible = {j + o for j, m in enumerate(masked) if not m for o in range(k)}
    runs = "".join("h" if h else "." for h in hidden[0].tolist())
    seen = {
        place
        for start in range(40)
        for place in range(start, start + k)
        if start + k <= 40 and "h" not in runs[start : start + k]
    }
    assert visible == seen
    assert set(range(19, 18 + k)).isdisjoint(visible)


def test_n_makes_unknown_tokens_and_runs_of_it_are_not_read() -> None:
    found = kmers(dna("ACGNACGNNNNNACG"), None, 3)
    unknown = found.ids_BJ[0] == UNK
    assert unknown.nonzero()[:, 0].tolist() == [1, 2, 3, *range(5, 12)]
    assert (~found.read_BJ[0]).nonzero()[:, 0].tolist() == [7, 8, 9]
    assert found.valid_BL[0].tolist() == [base != "N" for base in "ACGNACGNNNNNACG"]


def test_padding_at_either_end_is_not_read() -> None:
    found = kmers(dna("NNACGTANN"), None, 3)
    assert found.read_BJ[0].tolist() == [False, False, True, True, True, False, False]


@pytest.mark.parametrize("text", ["AC", "ACN", "ACNNNNNNN", "NACNNNNNN", "NNNNNNNAC"])
def test_fewer_bases_than_a_token_make_one_unknown_token(text: str) -> None:
    found = kmers(dna(text), None, 6)
    assert found.read_BJ.sum() == 1
    assert found.ids_BJ[found.read_BJ].tolist() == [UNK]
    values = torch.ones(1, found.ids_BJ.shape[1], 1, 1)
    covered = per_base(values, found.read_BJ, 6, len(text))[0, :, 0] == 1
    assert bool(covered[found.valid_BL[0]].all())


def test_nothing_called_and_nothing_read() -> None:
    assert not kmers(dna("NNNNNNNN"), None, 3).read_BJ.any()


def test_a_base_has_the_mean_of_the_slots_over_it() -> None:
    torch.manual_seed(0)
    values, read = torch.randn(2, 8, 1, 5), torch.rand(2, 8) < 0.7
    found = per_base(values, read, 3, 10)
    for row in range(2):
        for base in range(10):
            over = [j for j in range(max(0, base - 2), min(8, base + 1)) if read[row, j]]
            mean = values[row, over, 0].mean(0) if over else torch.zeros(5)
            torch.testing.assert_close(found[row, base], mean)


def test_what_slots_say_of_each_of_their_bases_reaches_that_base() -> None:
    """Slot j says j + o of its base o: the mean over slots is the base's own place."""
    place = torch.arange(8.0)[:, None] + torch.arange(3.0)
    found = per_base(place[None, :, :, None], torch.ones(1, 8, dtype=torch.bool), 3, 10)
    assert found[0, :, 0].tolist() == list(range(10))


def test_rows_end_behind_the_last_slot_that_is_read() -> None:
    tokens = kmers(dna("ACGTA", "ACGTN"), None, 3)
    rows = Rows.of(tokens, 1, 510)
    full = [CLS, word("ACG"), word("CGT"), word("GTA"), SEP]
    assert rows.ids_RN.tolist() == [full, [*full[:3], SEP, PAD]]
    assert rows.read_RN.tolist() == [[True] * 5, [True] * 4 + [False]]


def test_rows_of_a_pair() -> None:
    tokens = kmers(dna("ACGT", "CCGT"), None, 3)
    rows = Rows.of(tokens, 2, 510)
    first, second = [word("ACG"), word("CGT")], [word("CCG"), word("CGT")]
    assert rows.ids_RN.tolist() == [[CLS, *first, SEP, *second, SEP]]
    assert rows.types_N.tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(("segments", "capacity"), [(1, 510), (2, 510), (1, 4)])
def test_slots_come_back_from_rows(segments: int, capacity: int) -> None:
    tokens = kmers(dna("ACGTACGTACGT", "CCCCGTACGTAC"), None, 3)
    rows = Rows.of(tokens, segments, capacity)
    assert rows.pieces == (3 if capacity == 4 else 1)
    back = rows.to_slots(rows.ids_RN.unsqueeze(2))
    assert torch.equal(back[:, :, 0], tokens.ids_BJ)
    values = torch.randn(2, 10, 7)
    assert torch.equal(rows.to_slots(rows.from_slots(values)), values)


def test_neighbors_differ_in_one_base() -> None:
    ids = torch.tensor([[word("ACGT")]])
    assert neighbors(ids, 1, 4).tolist() == [[[word(f"A{b}GT") for b in "ACGT"]]]
