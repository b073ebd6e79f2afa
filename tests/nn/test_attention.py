"""Relative attention: the shift, the key mask, and enformer-pytorch's block."""

import pytest
import torch

from cislens.nn.attention import RelativeAttention, shift
from cislens.nn.positions import relative_basis


def attention(dim: int = 24, heads: int = 2, key_dim: int = 8) -> RelativeAttention:
    torch.manual_seed(0)
    layer = RelativeAttention(dim, heads, key_dim, dim // heads // 6 * 6).eval()
    torch.nn.init.normal_(layer.to_out.weight)
    return layer


def test_shift_gathers_by_distance() -> None:
    tokens = 9
    logits = torch.randn(2, 3, tokens, 2 * tokens - 1)
    index = torch.arange(tokens)
    distance = index[None, :] - index[:, None] + tokens - 1
    expected = logits.gather(3, distance.expand(2, 3, -1, -1))
    torch.testing.assert_close(shift(logits), expected, atol=0, rtol=0)


def test_logits_are_the_formula_written_out() -> None:
    layer, tokens = attention(), 7
    basis = relative_basis(tokens, 12, "bp", 128)
    x = torch.randn(1, tokens, 24)
    q, k, v = (f(x)[0].view(tokens, 2, -1) for f in (layer.to_q, layer.to_k, layer.to_v))
    r = layer.to_rel_k(basis).view(2 * tokens - 1, 2, 8)
    expected = torch.zeros(tokens, 2, 12)
    for h in range(2):
        logits = torch.empty(tokens, tokens)
        for i in range(tokens):
            for j in range(tokens):
                scaled = q[i, h] * 8**-0.5
                content = (scaled + layer.content_bias[0, h, 0]) @ k[j, h]
                position = (scaled + layer.position_bias[0, h, 0]) @ r[j - i + tokens - 1, h]
                logits[i, j] = content + position
        expected[:, h] = logits.softmax(dim=-1) @ v[:, h]
    found = layer(x, basis)[0]
    torch.testing.assert_close(found, layer.to_out(expected.flatten(1)), atol=1e-5, rtol=1e-5)


def test_output_is_zero_at_init() -> None:
    layer = RelativeAttention(24, 2, 8, 12)
    y = layer(torch.randn(2, 5, 24), relative_basis(5, 12, "bp", 128))
    assert y.eq(0).all()


def test_masked_keys_change_nothing_and_get_no_gradient() -> None:
    layer = attention()
    basis = relative_basis(6, 12, "bp", 128)
    x = torch.randn(2, 6, 24, requires_grad=True)
    valid = torch.tensor([[True] * 4 + [False] * 2] * 2)
    y = layer(x, basis, valid)[:, :4]
    alone = layer(x[:, :4], relative_basis(4, 12, "bp", 128))
    torch.testing.assert_close(y, alone, atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert gradient[:, 4:].eq(0).all()
    assert gradient[:, :4].ne(0).any()


def test_window_without_valid_keys_is_finite() -> None:
    layer = attention()
    valid = torch.zeros(1, 4, dtype=torch.bool)
    y = layer(torch.randn(1, 4, 24), relative_basis(4, 12, "bp", 128), valid)
    assert y.isfinite().all()


def test_bf16_autocast_stays_close() -> None:
    layer = attention()
    basis = relative_basis(32, 12, "bp", 128)
    x = torch.randn(2, 32, 24)
    full = layer(x, basis)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x, basis).float()
    assert ((half - full).norm() / full.norm()).item() < 2e-2


@pytest.mark.peers
@pytest.mark.parametrize("tokens", [5, 40])
def test_block_is_enformer_pytorch(tokens: int) -> None:
    peer = pytest.importorskip(
        "enformer_pytorch.modeling_enformer", reason="enformer-pytorch is not installed"
    )
    ours = attention(dim=96, heads=4, key_dim=16)
    theirs = peer.Attention(96, num_rel_pos_features=24, heads=4, dim_key=16, dim_value=24).eval()
    pairs = list(zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True))
    with torch.no_grad():
        for target, source in pairs:
            target.copy_(source)
    x = torch.randn(2, tokens, 96)
    found = ours(x, relative_basis(tokens, 24, "feature-axis", 128))
    torch.testing.assert_close(found, theirs(x), atol=1e-5, rtol=1e-5)
