"""Bins are held against those that see the same bases, however the views were made.

Dimensions: R view of a window, L base pair of a view, N bin, P base pair of a window.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from views_by_hand import LENGTH, PARENT, batch, cut

from cislens.models.findna.plus import FindnaPlusConfig, FindnaPlusEncoder
from cislens.objectives.distillation.alignment import (
    NOWHERE,
    hidden_shares,
    same_bases,
    same_bins,
)
from cislens.objectives.distillation.latent import LEAST_HIDDEN, latent_term, pairings
from cislens.objectives.sequence_batch import Views


def seen_by(place_RL: Tensor, bin_size: int) -> Tensor:
    """A teacher whose vectors say which places of the window a bin sees, (R, N, P)."""
    rows, length = place_RL.shape
    seen_RNP = torch.zeros(rows, -(-length // bin_size), PARENT + 1)
    for row in range(rows):
        for at, place in enumerate(place_RL[row].tolist()):
            seen_RNP[row, at // bin_size, place if place >= 0 else PARENT] += 1
    return seen_RNP[:, :, :PARENT]


@settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 3, 8, 16]),
    st.sampled_from([40, 61, 64]),
    st.integers(0, 4),
    st.sampled_from([2, 3]),
)
def test_targets_of_other_views_see_half_of_the_bases_of_every_bin_that_has_such_a_one(
    seed: int, bin_size: int, length: int, edits: int, count: int
) -> None:
    """Turned views, crops anywhere, insertions, deletions; a last bin that is not whole."""
    rng = np.random.default_rng(seed)
    parent_BP = rng.integers(0, 4, (2, PARENT)).astype(np.uint8)
    views = cut(parent_BP, length, count, rng, 1.0, edits)
    seen_RNP = seen_by(views.place_VBL.flatten(0, 1), bin_size)
    valid_RN = torch.ones(seen_RNP.shape[:2], dtype=torch.bool)
    pairs = list(pairings(views, seen_RNP, valid_RN, PARENT, bin_size))
    assert len(pairs) == count
    assert torch.equal(pairs[0][0], seen_RNP)
    assert pairs[0][1].eq(1).all()
    for ahead, (target_RNP, weight_RN) in enumerate(pairs[1:], start=1):
        other_RNP = seen_RNP.roll(-2 * ahead, 0)
        shared_RN = (seen_RNP * target_RNP).sum(2)
        best_RN = torch.einsum("rnp,rmp->rnm", seen_RNP, other_RNP).amax(2)
        asked_RN = weight_RN > 0
        assert torch.equal(asked_RN, 2 * best_RN >= bin_size)
        assert torch.equal(shared_RN[asked_RN], best_RN[asked_RN])


def test_a_view_that_is_not_turned_with_its_places_is_caught() -> None:
    """The same check on places that were left as they were: most targets are of other bases."""
    of = batch(8, edits=0).whole
    wrong = of.place_VBL.where(~of.turned_VB.unsqueeze(2), of.place_VBL.flip(2))
    seen_RNP = seen_by(of.place_VBL.flatten(0, 1), 8)
    valid_RN = torch.ones(seen_RNP.shape[:2], dtype=torch.bool)
    unturned = Views(**{**vars(of), "place_VBL": wrong, "hidden_VBL": of.hidden_VBL | True})
    _, (target_RNP, weight_RN) = pairings(unturned, seen_RNP, valid_RN, PARENT, 8)
    apart_R = (of.turned_VB != of.turned_VB.roll(1, 0)).flatten()
    shared_RN = (seen_RNP * target_RNP).sum(2)
    assert apart_R.any()
    assert (shared_RN[apart_R] < 4)[weight_RN[apart_R] > 0].float().mean() > 0.5


def test_a_deletion_and_an_insertion_by_hand() -> None:
    """A view of places 0-11; another one that is turned, lacks 4 and 5, and has two bases more."""
    own = torch.arange(12)[None]
    other = torch.tensor([[0, 1, 2, -1, -1, 3, 6, 7, 8, 9, 10, 11]]).flip(1)
    found = same_bases(own, other, 12)
    assert found.tolist() == [[11, 10, 9, 6, -1, -1, 5, 4, 3, 2, 1, 0]]
    # Bins of 4 of the other view: 8-11, then -, 3, 6, 7, then 0, 1, 2 and an inserted one.
    assert same_bins(own, other, 12, 4).tolist() == [[2, 1, 0]]
    assert same_bases(other, own, 12).flip(1).tolist() == [[0, 1, 2, -1, -1, 3, 6, 7, 8, 9, 10, 11]]


def test_bases_of_both_halves_of_a_bin_in_two_bins_and_less_than_half_in_none() -> None:
    own = torch.arange(8)[None]
    shifted = torch.arange(4, 12)[None]
    assert same_bins(own, shifted, 12, 8).tolist() == [[0]]
    assert same_bins(own, shifted + 1, 13, 8).tolist() == [[NOWHERE]]


def test_hidden_shares_of_whole_and_last_bins() -> None:
    hidden = torch.tensor([[1, 0, 0, 0, 1, 1, 1, 1, 1, 0]]).bool()
    assert hidden_shares(hidden, 4).tolist() == [[0.25, 1.0, 0.5]]


def test_only_bins_of_which_a_quarter_is_hidden_count_by_their_share() -> None:
    of = batch(1, edits=0).whole
    hidden = torch.zeros_like(of.hidden_VBL)
    hidden[0, 0, :5] = True
    hidden[0, 0, 8:9] = True
    hidden[1, 0, 16:18] = True
    views = Views(**{**vars(of), "hidden_VBL": hidden})
    targets = torch.zeros(2, LENGTH // 8, 3)
    weight = next(pairings(views, targets, torch.ones(2, 8).bool(), PARENT, 8))[1]
    assert weight[0].tolist() == [0.625, *[0.0] * 7]
    assert weight[1].tolist() == [0, 0, LEAST_HIDDEN, *[0.0] * 5]


def test_bins_that_are_not_valid_are_neither_asked_nor_told() -> None:
    of = batch(2, edits=0).whole
    views = Views(**{**vars(of), "hidden_VBL": of.hidden_VBL | True})
    valid = torch.ones(4, 8, dtype=torch.bool)
    valid[0, 3] = False
    seen_RNP = seen_by(of.place_VBL.flatten(0, 1), 8)
    own, other = pairings(views, seen_RNP, valid, PARENT, 8)
    assert own[1][0, 3] == other[1][0, 3] == 0
    from_it = (other[0][2] == seen_RNP[0, 3]).all(1)
    assert not other[1][2][from_it].any()


def test_identical_views_and_a_predictor_that_knows_are_no_loss() -> None:
    of = batch(2, edits=1).whole
    same = Views(**{name: value[:1].repeat_interleave(2, 0) for name, value in vars(of).items()})
    same = Views(**{**vars(same), "hidden_VBL": same.hidden_VBL | True})
    targets = torch.randn(2, 8, 5).repeat(2, 1, 1)
    # A bin of inserted bases alone is in no other view, and those of both are one here.
    pairs = list(pairings(same, targets, torch.ones(4, 8).bool(), PARENT, 8))
    assert latent_term(targets, pairs).item() == 0
    assert latent_term(targets.flip(1), pairs).item() > 0


@pytest.mark.parametrize("by_strand", [True, False])
def test_tokens_of_an_equivariant_encoder_are_the_same_on_both_strands(by_strand: bool) -> None:
    """A view and its reverse complement: each is told what the other one's teacher says of it."""
    torch.manual_seed(0)
    encoder = FindnaPlusEncoder(FindnaPlusConfig(dim=8, depth=1, stem_dim=4, rc_equivariant=True))
    of = batch(3, edits=0).whole
    target = torch.stack([of.target_VBL[0], 3 - of.target_VBL[0].flip(1)])
    place = torch.stack([of.place_VBL[0], of.place_VBL[0].flip(1)])
    turned = torch.stack([of.turned_VB[0], ~of.turned_VB[0]])
    views = Views(target, target > 9, target > 9, target, target > 9, place, turned)
    views = Views(**{**vars(views), "hidden_VBL": ~views.hidden_VBL})
    x_R4L = torch.nn.functional.one_hot(target.flatten(0, 1).long(), 4).float().transpose(1, 2)
    with torch.no_grad():
        embedding = encoder(x_R4L)
    args = (embedding.values_BND, embedding.valid_BN, PARENT, 8)
    own, other = pairings(views, *args, by_strand=by_strand)
    assert other[1].eq(1).all()
    gap = (own[0] - other[0]).abs().max().item()
    assert gap < 1e-5 if by_strand else gap > 1e-2
