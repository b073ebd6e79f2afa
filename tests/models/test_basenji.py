"""The dilated-convolution baseline: published widths, how far it sees, padding, lengths."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cislens.models.basenji import BasenjiConfig, BasenjiEncoder, max_pool
from cislens.models.contract import Encoder
from cislens.models.space_plus import SpacePlusConfig, SpacePlusEncoder

SHAPE: dict[str, Any] = {"dim": 16, "depth": 3, "stem_dim": 8, "hidden_dim": 8}
TINY: dict[str, Any] = {
    "dim": 96,
    "depth": 8,
    "stem_dim": 36,
    "hidden_dim": 72,
    "width_multiple": 4,
}


def encoder(**changes: Any) -> BasenjiEncoder:
    """An encoder in eval mode whose every layer does something."""
    torch.manual_seed(0)
    model = BasenjiEncoder(BasenjiConfig(**{**SHAPE, **changes})).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.is_floating_point() and (value.ndim == 1 or "widen" in name):
                value.normal_(std=0.3)
    return model


def random_dna(batch: int, length: int, seed: int = 0) -> Tensor:
    """One-hot (B, 4, L) without N."""
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def test_shape_of_the_published_basenji2() -> None:
    """Kelley 2020: 288 channels, six stages by 1.1776, eleven blocks by 1.5, 1,536 at the end."""
    config = BasenjiConfig(dim=768, depth=11)
    assert config.stem_width == 288
    assert config.tower_widths == [339, 399, 470, 554, 652, 768]
    assert config.hidden_width == 384
    assert config.dilations == [1, 2, 3, 4, 6, 9, 14, 21, 32, 48, 72]
    assert config.reach == 212
    with torch.device("meta"):
        model = BasenjiEncoder(config)
    assert model.dim == 1536
    assert sum(p.numel() for p in model.parameters()) == 21_936_753
    assert model(torch.zeros(1, 4, 131_072, device="meta")).values_BND.shape == (1, 1024, 1536)


def test_tiny_costs_what_the_dense_transformer_costs() -> None:
    """Parameters and multiplications at 4,096 bp within 2 % of the dense twin of space-plus."""
    shape = {"dim": 96, "stem_dim": 32, "depth": 2, "heads": 4, "key_dim": 16, "width_multiple": 8}
    dense = SpacePlusConfig(**shape, species=("a", "b"), ffn="dense")
    models: list[Encoder] = [BasenjiEncoder(BasenjiConfig(**TINY)), SpacePlusEncoder(dense)]
    sizes = [sum(p.numel() for p in model.parameters()) for model in models]
    assert sizes == [366_176, 364_016]
    flops = []
    for model in models:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(random_dna(1, 4096))
        flops.append(counter.get_total_flops())
    assert flops[0] / flops[1] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 256, 384, 512, 1000, 1024])
def test_any_length_gives_whole_bins(length: int) -> None:
    embedding = encoder()(random_dna(2, length))
    bins = -(-length // 128)
    assert embedding.values_BND.shape == (2, bins, 32)
    assert embedding.valid_BN.shape == (2, bins)
    assert embedding.valid_BN.all()
    assert embedding.values_BND.isfinite().all()


@pytest.mark.parametrize("bin_size", [4, 8, 32, 128])
def test_tower_depth_follows_the_bin(bin_size: int) -> None:
    model = encoder(bin_size=bin_size)
    assert bin_size == 2 ** (len(model.tower.stages) + 1)
    assert model(random_dna(1, 256)).values_BND.shape[1] == 256 // bin_size


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_a_bin_sees_as_far_as_the_dilations_sum_up(depth: int) -> None:
    model = encoder(depth=depth, bin_size=8)
    seen: list[Tensor] = []
    model.tower.register_forward_hook(lambda _m, _i, out: seen.append(out))
    bins, center = 101, 50
    embedding = model(random_dna(1, 8 * bins).requires_grad_())
    seen[0].retain_grad()
    embedding.values_BND[0, center].square().sum().backward()
    assert seen[0].grad is not None
    influential = seen[0].grad[0].any(dim=1).nonzero().flatten()
    reach = model.config.reach
    assert reach == sum([1, 2, 3, 4, 6][:depth])
    assert influential.min() == center - reach
    assert influential.max() == center + reach


def test_bases_beyond_the_tower_matter() -> None:
    """With blocks the gradient reaches exactly `reach` bins further than the tower alone."""
    spans = []
    for depth in (0, 4):
        x = random_dna(1, 8 * 81).requires_grad_()
        values = encoder(depth=depth, bin_size=8)(x).values_BND
        values[0, 40].square().sum().backward()
        assert x.grad is not None
        touched = x.grad[0].any(dim=0).nonzero().flatten()
        spans.append((int(touched.min()), int(touched.max())))
    (left, right), (far_left, far_right) = spans
    # Stem 7 bp, then two convolutions of width 5 behind one and two pools: 2 * 2 + 2 * 4 bp, and
    # the bin itself is [320, 328). Max pools may drop a few of the outermost bases.
    assert 320 - 7 - 12 <= left < 320
    assert 327 < right <= 327 + 7 + 12
    reach = 8 * (1 + 2 + 3 + 4)
    assert left - far_left == pytest.approx(reach, abs=8)
    assert far_right - right == pytest.approx(reach, abs=8)


def test_short_input_alone_and_in_a_padded_batch() -> None:
    model = encoder()
    short, long = random_dna(1, 300, seed=1), random_dna(1, 1000, seed=2)
    batch = torch.cat([nn.functional.pad(short, (0, 700)), long])
    with torch.no_grad():
        alone, together = model(short), model(batch)
    assert together.valid_BN[0].tolist() == [True] * 3 + [False] * 5
    torch.testing.assert_close(
        together.values_BND[0, :3], alone.values_BND[0], atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        together.values_BND[1:], model(long).values_BND, atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(together.mean()[:1], alone.mean(), atol=1e-5, rtol=1e-5)


def test_bins_beside_a_gap_see_nothing_of_what_is_in_it() -> None:
    """They see the zeros that lie beyond the end of a window that stops there."""
    model = encoder(depth=1)
    x = random_dna(1, 768)
    x[:, :, 256:512] = 0
    with torch.no_grad():
        whole, left = model(x), model(x[:, :, :256])
    assert whole.valid_BN[0].tolist() == [True, True, False, False, True, True]
    torch.testing.assert_close(whole.values_BND[:, :2], left.values_BND, atol=1e-5, rtol=1e-5)


def test_gap_mask_does_not_change_a_full_window() -> None:
    model = encoder()
    x = random_dna(2, 512).transpose(1, 2)
    valid = torch.ones(2, 4, dtype=torch.bool)
    with torch.no_grad():
        bins = model.tower(x, None)
        assert torch.equal(bins, model.tower(x, valid))
        assert torch.equal(model.blocks[1](bins, None), model.blocks[1](bins, valid))


def test_window_of_n_only_is_finite_and_invalid() -> None:
    embedding = encoder()(torch.zeros(2, 4, 256))
    assert not embedding.valid_BN.any()
    assert embedding.values_BND.isfinite().all()
    assert embedding.mean().eq(0).all()


def test_layers_come_one_by_one_and_end_with_the_output() -> None:
    model = encoder()
    x = random_dna(1, 512)
    with torch.no_grad():
        hidden = list(model.hidden(x))
        assert model.layers == ("embed", "L1", "L2", "L3", "out")
        assert [h.values_BND.shape[2] for h in hidden] == [16, 16, 16, 16, 32]
        assert torch.equal(hidden[-1].values_BND, model(x).values_BND)


def test_species_do_not_matter() -> None:
    model = encoder()
    x = random_dna(2, 256)
    with torch.no_grad():
        plain = model(x).values_BND
        assert torch.equal(plain, model(x, torch.tensor([0, 1])).values_BND)
    assert model.species == ()


def test_blocks_are_the_identity_at_the_start_and_learn() -> None:
    torch.manual_seed(0)
    model = BasenjiEncoder(BasenjiConfig(**{**SHAPE, "dropout": 0.0}))
    first, *_, last, _ = model.hidden(random_dna(2, 1024))
    assert torch.equal(first.values_BND, last.values_BND)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(random_dna(2, 1024)).values_BND[..., 0].sum().backward()
        optimizer.step()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == set()


def test_max_pool_takes_the_larger_of_each_pair() -> None:
    x = torch.tensor([1.0, 3, 2, -1, -5, -4]).view(1, 6, 1)
    assert max_pool(x).flatten().tolist() == [3, 2, -4]
    x = torch.randn(2, 10, 5)
    expected = nn.functional.max_pool1d(x.transpose(1, 2), 2).transpose(1, 2)
    assert torch.equal(max_pool(x), expected)


def test_bf16_autocast_stays_close() -> None:
    model = encoder()
    x = random_dna(2, 1024)
    with torch.no_grad():
        full = model(x).values_BND
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x).values_BND.float()
    assert half.isfinite().all()
    assert ((half - full).norm() / full.norm()).item() < 2e-2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bin_size": 96}, "power of two"),
        ({"bin_size": 2}, "power of two"),
        ({"dim": 3}, "greater than or equal to 4"),
        ({"heads": 4}, "unknown key 'heads'"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BasenjiConfig.model_validate({**SHAPE, **changes})
