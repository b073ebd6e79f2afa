"""Hidden regions: which values count, and what their neighbors say of them."""

from dataclasses import replace

import pytest
import torch
from loci import context
from torch import Tensor

from cislens.objectives.multimodal.regions import (
    center_motifs,
    motifs_term,
    neighbor_mean,
    regions_term,
    shown,
)


def huber(error: float) -> float:
    return error * error / 2 if abs(error) <= 1 else abs(error) - 0.5


def guesses(loci: int = 4, regions: int = 6, seed: int = 9) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    motif = torch.randn(loci, regions, 5, generator=rng, requires_grad=True)
    return motif, torch.randn(loci, regions, generator=rng, requires_grad=True)


def test_two_means_over_what_is_hidden() -> None:
    given, (motif, access) = context(4), guesses()
    of_motifs, of_access = [], []
    for b in range(4):
        for r in range(6):
            if given.hidden_BR[b, r] and not given.pad_BR[b, r]:
                errors = (motif[b, r] - given.motif_BRT[b, r]).tolist()
                of_motifs += [huber(error) for error in errors]
            if given.access_hidden_BR[b, r] and not given.pad_BR[b, r]:
                of_access.append(huber((access[b, r] - given.access_BR[b, r]).item()))
    assert len(of_access) > len(of_motifs) / 5  # of some regions only the accessibility is hidden
    expected = sum(of_motifs) / len(of_motifs) + sum(of_access) / len(of_access)
    assert regions_term(motif, access, given).item() == pytest.approx(expected, rel=1e-6)


def test_visible_regions_and_padding_never_count() -> None:
    """Not even padding that is marked as hidden, and not if it is NaN."""
    given, (motif, access) = context(4, pads=2), guesses()
    everywhere = torch.ones_like(given.pad_BR)
    all_hidden = replace(given, hidden_BR=everywhere, access_hidden_BR=everywhere)
    for case in (given, all_hidden):
        slopes = torch.autograd.grad(regions_term(motif, access, case), (motif, access))
        asked = case.hidden_BR & ~case.pad_BR
        assert slopes[0][~asked].eq(0).all() and slopes[0][asked].ne(0).all()
        asked = case.access_hidden_BR & ~case.pad_BR
        assert slopes[1][~asked].eq(0).all() and slopes[1][asked].ne(0).all()
    spoiled = motif.detach().masked_fill(given.pad_BR[:, :, None], float("nan"))
    expected = regions_term(motif, access, all_hidden)
    assert torch.equal(regions_term(spoiled, access, all_hidden), expected)


def test_nothing_hidden_is_zero() -> None:
    given, (motif, access) = context(4), guesses()
    nothing = torch.zeros_like(given.pad_BR)
    none = replace(given, hidden_BR=nothing, access_hidden_BR=nothing)
    assert regions_term(motif, access, none).item() == 0
    only_access = replace(given, hidden_BR=nothing)
    far = motif + 100
    assert torch.equal(
        regions_term(far, access, only_access), regions_term(motif, access, only_access)
    )


def test_motifs_are_those_of_the_central_column() -> None:
    given = context(4)
    expected = torch.stack([given.motif_BRT[b, int(given.center_B[b])] for b in range(4)])
    assert torch.equal(center_motifs(given), expected)
    assert motifs_term(expected, given).item() == 0
    assert motifs_term(expected + 0.5, given).item() == pytest.approx(0.125, rel=1e-5)
    assert motifs_term(expected - 3, given).item() == pytest.approx(2.5, rel=1e-5)


def test_matching_hides_only_the_accessibility_of_the_central_region() -> None:
    given = context(4)
    assert given.hidden_BR.any()
    seen = shown(given)
    assert not seen.hidden_BR.any()
    columns = seen.access_hidden_BR.nonzero()
    assert torch.equal(columns[:, 1], given.center_B)
    assert torch.equal(seen.motif_BRT, given.motif_BRT)


def test_neighbor_mean_is_the_double_loop() -> None:
    given = context(3)
    visible = ~given.hidden_BR & ~given.pad_BR
    found = neighbor_mean(given.motif_BRT, given.offset_BR, visible)
    for b in range(3):
        for r in range(6):
            total, weights = torch.zeros(5, dtype=torch.float64), 0.0
            for s in range(6):
                if visible[b, s]:
                    distance = abs(float(given.offset_BR[b, r] - given.offset_BR[b, s]))
                    weight = 1 / (1 + distance / 1000)
                    total += weight * given.motif_BRT[b, s].double()
                    weights += weight
            torch.testing.assert_close(found[b, r].double(), total / weights, rtol=1e-5, atol=1e-6)


def test_neighbor_mean_without_neighbors_is_that_of_training() -> None:
    given = context(2)
    nobody = torch.zeros_like(given.pad_BR)
    assert neighbor_mean(given.motif_BRT, given.offset_BR, nobody).eq(0).all()


def test_losses_are_fp32_under_autocast() -> None:
    given, (motif, access) = context(4), guesses()
    with torch.autocast("cpu", torch.bfloat16):
        loss = regions_term(motif, access, given)
        around = neighbor_mean(given.motif_BRT, given.offset_BR, ~given.pad_BR)
    assert torch.equal(loss, regions_term(motif, access, given))
    assert torch.equal(around, neighbor_mean(given.motif_BRT, given.offset_BR, ~given.pad_BR))
