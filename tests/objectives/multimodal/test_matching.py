"""Which contexts a sequence is told from."""

import math

import pytest
import torch
import torch.nn.functional as F

from cislens.models.genebert.contract import RegionTokens
from cislens.objectives.multimodal.matching import gc_gap, match_term, mixed, most_alike


def test_match_term_is_binary_cross_entropy() -> None:
    rng = torch.Generator().manual_seed(0)
    own, other = torch.randn(2, 7, generator=rng)
    labels = torch.cat([torch.ones(7), torch.zeros(7)])
    expected = F.binary_cross_entropy_with_logits(torch.cat([own, other]), labels)
    torch.testing.assert_close(match_term(own, other), expected)
    assert match_term(torch.zeros(3), torch.zeros(3)).item() == pytest.approx(math.log(2))


def test_most_alike_is_the_loop() -> None:
    """The best pair of every third row first; apart and within .02 in GC content both ways."""
    rng = torch.Generator().manual_seed(1)
    rows = 24
    q, m = F.normalize(torch.randn(2, rows, 6, generator=rng), dim=2)
    apart = (torch.rand(rows, rows, generator=rng) < 0.8) & ~torch.eye(rows).bool()
    gc, context_gc = 0.4 + 0.04 * torch.rand(2, rows, generator=rng)
    row, found = most_alike(q, m, apart, gc, context_gc)

    def fits(i: int, j: int) -> bool:
        return bool(apart[i, j]) and abs(float(gc[i] - context_gc[j])) <= 0.02

    pairs = [(i, j) for i in range(0, rows, 3) for j in range(0, i, 3) if fits(i, j) and fits(j, i)]
    pairs.sort(key=lambda ij: -float(q[ij[0]] @ m[ij[1]] + q[ij[1]] @ m[ij[0]]))
    expected: dict[int, int] = {}
    for i, j in pairs:
        if i not in expected and j not in expected:
            expected |= {i: j, j: i}
    assert len(expected) >= 6
    assert {int(i): int(row[i]) for i in found.nonzero()} == expected


def test_a_context_is_as_often_wrong_as_right() -> None:
    """Also where all sequences are alike, and so find the same context the most alike.

    If all took that one, it would be told for a wrong one by itself, whatever the sequence.
    """
    rng = torch.Generator().manual_seed(0)
    q = F.normalize(torch.ones(33, 4), dim=1)
    m = F.normalize(torch.randn(33, 4, generator=rng), dim=1)
    gc = torch.full((33,), 0.4)
    row, found = most_alike(q, m, ~torch.eye(33).bool(), gc, gc)
    right, wrong = found.nonzero().flatten().tolist(), row[found].tolist()
    assert len(right) == 10  # of 11, which is an odd number
    assert sorted(wrong) == right
    assert (row[found] != found.nonzero().flatten()).all()


def test_no_allowed_context_keeps_the_given_one() -> None:
    q, m = F.normalize(torch.randn(2, 6, 4), dim=2)
    gc = torch.full((6,), 0.4)
    nobody = torch.zeros(6, 6, dtype=torch.bool)
    assert not most_alike(q, m, nobody, gc, gc)[1].any()
    assert not most_alike(q, m, ~torch.eye(6).bool(), gc, gc + 0.021)[1].any()
    assert most_alike(q, m, ~torch.eye(6).bool(), gc, gc + 0.02)[1].sum() == 2


def test_mixed_takes_found_rows_of_the_own_contexts() -> None:
    def tokens(start: int) -> RegionTokens:
        value = torch.arange(start, start + 4).float()
        return RegionTokens(
            values_BRE=value[:, None, None].expand(4, 3, 2),
            pad_BR=(value.long() % 2 == 0)[:, None].expand(4, 3),
            center_BE=value[:, None].expand(4, 2),
            pooled_BE=-value[:, None].expand(4, 2),
        )

    row, found = torch.tensor([2, 0, 1, 3]), torch.tensor([True, False, True, False])
    out = mixed(tokens(0), tokens(10), row, found)
    assert out.center_BE[:, 0].tolist() == [2, 11, 1, 13]
    assert out.values_BRE[:, 2, 1].tolist() == [2, 11, 1, 13]
    assert out.pooled_BE[:, 0].tolist() == [-2, -11, -1, -13]
    assert out.pad_BR[:, 0].tolist() == [True, False, False, False]


def test_gc_gap_begins_where_matching_ends() -> None:
    gap = gc_gap(torch.tensor([0.4, 0.4, 0.4]), torch.tensor([0.4, 0.42, 0.5]))
    assert gap[:2].eq(0).all()
    assert gap[2].item() == pytest.approx(0.08, abs=1e-5)
