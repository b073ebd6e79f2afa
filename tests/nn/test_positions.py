"""Relative position features against the formula, computed independently, and the TF table."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from cislens.nn.positions import REFERENCE_BP, RelativeBasis, relative_basis

N, K = 1536, 32
GAMMA = slice(2 * K, 3 * K)


def scipy_gamma(tokens: int, count: int) -> np.ndarray:
    """Gamma densities + 1e-8 at |d|, (2N-1, K), by scipy."""
    distance = np.abs(np.arange(1 - tokens, tokens))[:, None]
    index = np.arange(1, count + 1)
    scale = tokens / (4 * index * count)
    return stats.gamma.pdf(distance, 4 * index**2, scale=scale) + 1e-8


def test_position_gammas_are_the_formula() -> None:
    density = scipy_gamma(N, K)
    expected = density / density.max(axis=0)
    found = relative_basis(N, 6 * K, "position", 128)[:, GAMMA].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_exponential_and_mask_are_the_formula() -> None:
    table = relative_basis(200, 24, "position", 128).numpy()
    distance = np.abs(np.arange(-199, 200))[:, None]
    half_life = 2.0 ** np.linspace(3, np.log2(200), 4)
    np.testing.assert_allclose(table[:, :4], 0.5 ** (distance / half_life), atol=1e-6)
    np.testing.assert_array_equal(table[:, 4:8], distance < 2.0 ** np.arange(1, 5) - 1)


def test_second_half_carries_the_sign() -> None:
    for positions in ("bp", "position", "feature-axis", "analytic"):
        table = relative_basis(50, 24, positions, 128)
        sign = torch.arange(-49, 50).sign()[:, None]
        assert table.shape == (99, 24)
        assert torch.equal(table[:, 12:], sign * table[:, :12])
        assert torch.equal(table[:, :12], table[:, :12].flip(0))
        assert table.isfinite().all()


def test_feature_axis_row_zero_is_all_ones() -> None:
    table = relative_basis(N, 6 * K, "feature-axis", 128)
    torch.testing.assert_close(table[N - 1, GAMMA], torch.ones(K), atol=1e-6, rtol=0)


def test_analytic_differs_from_position_by_the_floor_and_the_grid_only() -> None:
    analytic = relative_basis(N, 6 * K, "analytic", 128)[:, GAMMA]
    position = relative_basis(N, 6 * K, "position", 128)[:, GAMMA]
    assert (analytic - position).abs().max() < 4e-3
    assert analytic[N - 1].eq(0).all()


def test_22_mask_columns_are_constant_as_published() -> None:
    mask = relative_basis(N, 6 * K, "position", 128)[:, K : 2 * K]
    assert int(mask.eq(1).all(dim=0).sum()) == 22


def test_bp_basis_is_the_same_for_the_same_distance() -> None:
    short = relative_basis(8192 // 128, 96, "bp", 128)
    long = relative_basis(196_608 // 128, 96, "bp", 128)
    middle = long.shape[0] // 2
    assert torch.equal(long[middle - 63 : middle + 64], short)


def test_bp_basis_does_not_depend_on_the_bin_where_it_has_no_mask() -> None:
    coarse = relative_basis(16, 24, "bp", 128)[15:]
    fine = relative_basis(61, 24, "bp", 32)[60:]
    for family in (slice(0, 4), slice(8, 12)):
        assert torch.equal(coarse[:, family], fine[::4][:, family])


def test_bp_masks_are_never_constant_at_the_reference() -> None:
    mask = relative_basis(REFERENCE_BP // 128 + 1, 6 * K, "bp", 128)[:, K : 2 * K]
    assert not mask.eq(1).all(dim=0).any()
    assert mask[REFERENCE_BP // 128].eq(1).all()


def test_table_is_made_once_and_can_be_trained_with_after_inference_mode() -> None:
    basis = RelativeBasis(24, "bp", 128)
    with torch.inference_mode():
        first = basis.table(8, torch.device("cpu"))
    assert basis.table(8, torch.device("cpu")) is first
    weight = torch.randn(24, 2, requires_grad=True)
    (first @ weight).sum().backward()
    assert weight.grad is not None
    assert not first.requires_grad


def test_few_tables_are_kept() -> None:
    basis = RelativeBasis(24, "bp", 128)
    for tokens in range(1, 40):
        basis.table(tokens, torch.device("cpu"))
    assert len(basis._tables) == 8


def test_features_come_in_sixes() -> None:
    with pytest.raises(ValueError, match="sixes"):
        relative_basis(10, 20, "bp", 128)


@pytest.mark.peers
@pytest.mark.parametrize(("positions", "tolerance"), [("position", 3e-3), ("analytic", 4e-3)])
def test_gammas_against_the_tensorflow_table(positions: str, tolerance: float) -> None:
    package = pytest.importorskip("enformer_pytorch", reason="enformer-pytorch is not installed")
    path = Path(package.__file__).parent / "precomputed" / "tf_gammas.pt"
    golden = torch.load(path, weights_only=True)
    found = relative_basis(N, 6 * K, positions, 128)[:, GAMMA]
    assert golden.shape == (2 * N - 1, K)
    assert (found - golden).abs().max() < tolerance
    assert (found - golden).abs().mean() < 2e-5


@pytest.mark.peers
@pytest.mark.parametrize(("tokens", "features"), [(64, 24), (1536, 192)])
def test_feature_axis_is_enformer_pytorch(tokens: int, features: int) -> None:
    peer = pytest.importorskip(
        "enformer_pytorch.modeling_enformer", reason="enformer-pytorch is not installed"
    )
    expected = peer.get_positional_embed(tokens, features, torch.device("cpu"), False)
    found = relative_basis(tokens, features, "feature-axis", 128)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
