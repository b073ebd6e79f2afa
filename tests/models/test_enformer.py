"""The Enformer trunk: published size, enformer-pytorch's numbers, padding, lengths, gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cislens.models.enformer import EnformerConfig, EnformerEncoder
from cislens.models.profile import ProfileModelConfig, build_model
from cislens.representations.huggingface.enformer import KEYS
from cislens.representations.huggingface.loading import rename

TINY: dict[str, Any] = {"dim": 24, "depth": 1, "heads": 2, "key_dim": 8, "width_multiple": 4}


def encoder(**changes: Any) -> EnformerEncoder:
    """A tiny encoder in eval mode whose every layer does something."""
    torch.manual_seed(0)
    return randomize(EnformerEncoder(EnformerConfig(**{**TINY, **changes})).eval())


def randomize(model: nn.Module) -> Any:
    """Fill what starts at zero or one, batch norm statistics included."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.is_floating_point() and (value.ndim == 1 or "to_out" in name):
                value.normal_(std=0.3)
    return model


def random_dna(batch: int, length: int, seed: int = 0) -> Tensor:
    """One-hot (B, 4, L) without N."""
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def test_parameters_of_the_published_enformer() -> None:
    shape = {"dim": 1536, "depth": 11, "heads": 8, "key_dim": 64, "width_multiple": 128}
    tracks = {"human": tuple(map(str, range(5313))), "mouse": tuple(map(str, range(1643)))}
    heads = [{"species": name, "tracks": ids} for name, ids in tracks.items()]
    config = {"encoder": {"kind": "enformer", **shape}, "heads": heads}
    with torch.device("meta"):
        model = build_model(config)
    assert sum(p.numel() for p in model.parameters()) == 251_221_292
    assert ProfileModelConfig.model_validate(config).encoder.tower_widths == [
        *(768, 896, 1024, 1152, 1280, 1536)
    ]


@pytest.mark.parametrize(("length", "bins"), [(131_072, 1024), (196_608, 1536)])
def test_shapes_of_the_published_enformer(length: int, bins: int) -> None:
    shape = {"dim": 1536, "depth": 1, "heads": 8, "key_dim": 64, "width_multiple": 128}
    with torch.device("meta"):
        model = EnformerEncoder(EnformerConfig(**shape)).eval()
        tower = model.tower(torch.zeros(1, length, 4), None)
        assert tower.shape == (1, bins, 1536)
        assert model.pointwise(tower).shape == (1, bins, 3072)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 256, 384, 512, 1000, 1024])
def test_any_length_gives_whole_bins(length: int) -> None:
    embedding = encoder()(random_dna(2, length))
    bins = -(-length // 128)
    assert embedding.values_BND.shape == (2, bins, 48)
    assert embedding.valid_BN.shape == (2, bins)
    assert embedding.valid_BN.all()
    assert embedding.values_BND.isfinite().all()


@pytest.mark.parametrize("bin_size", [4, 16, 128])
def test_tower_depth_follows_the_bin(bin_size: int) -> None:
    model = encoder(bin_size=bin_size)
    assert bin_size == 2 ** (len(model.tower.stages) + 1)
    assert model(random_dna(1, 256)).values_BND.shape[1] == 256 // bin_size


def test_short_input_alone_and_in_a_padded_batch() -> None:
    model = encoder(depth=2)
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


def test_gap_within_a_window_hides_itself_only() -> None:
    """What lies in a gap's place must not matter: bins on both sides see zeros beyond it."""
    model = encoder()
    x = random_dna(1, 768)
    x[:, :, 256:512] = 0
    embedding = model(x)
    assert embedding.valid_BN[0].tolist() == [True, True, False, False, True, True]
    assert embedding.values_BND.isfinite().all()
    with torch.no_grad():
        left = model(x[:, :, :256])
    # The left part differs by attention to the right part alone: without blocks it is equal.
    shallow = encoder(depth=0)
    with torch.no_grad():
        torch.testing.assert_close(
            shallow(x).values_BND[:, :2],
            shallow(x[:, :, :256]).values_BND,
            atol=1e-5,
            rtol=1e-5,
        )
    assert (embedding.values_BND[:, :2] - left.values_BND).abs().max() > 1e-4


def test_window_of_n_only_is_finite_and_invalid() -> None:
    embedding = encoder()(torch.zeros(2, 4, 256))
    assert not embedding.valid_BN.any()
    assert embedding.values_BND.isfinite().all()
    assert embedding.mean().eq(0).all()


def test_padded_bins_get_no_gradient() -> None:
    model = encoder()
    stem_outputs = []
    model.tower.stem.register_forward_hook(lambda _m, _i, out: stem_outputs.append(out))
    x = nn.functional.pad(random_dna(1, 256), (0, 512)).requires_grad_()
    embedding = model(x)
    stem_outputs[0].retain_grad()
    embedding.values_BND[embedding.valid_BN].square().sum().backward()
    gradient = stem_outputs[0].grad
    assert gradient[:, :128].ne(0).any(dim=2).all()
    assert gradient[:, 128:].eq(0).all()
    # Beyond the stem's reach of 7 bp a base in the padding has no influence either.
    assert x.grad is not None
    assert x.grad[:, :, 256 + 7 :].eq(0).all()
    assert x.grad[:, :, :256].ne(0).any(dim=1).all()


def test_gap_mask_does_not_change_a_full_window() -> None:
    """The CPU path without a mask and the path with one give the same bits."""
    model = encoder()
    x = random_dna(2, 512).transpose(1, 2)
    valid = torch.ones(2, 4, dtype=torch.bool)
    assert torch.equal(model.tower(x, None), model.tower(x, valid))


def test_shift_by_one_bin_shifts_the_tower() -> None:
    """Away from the ends the tower sees the same bases; with odd shifts the pools do not."""
    model = encoder(depth=0, bin_size=16)
    x = random_dna(1, 16 * 40)
    with torch.no_grad():
        whole, later = model(x).values_BND, model(x[:, :, 16:]).values_BND
    torch.testing.assert_close(whole[:, 11:-10], later[:, 10:-10], atol=1e-5, rtol=1e-5)


def test_bf16_autocast_stays_close() -> None:
    model = encoder(depth=2)
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
        ({"heads": 5}, "does not divide"),
        ({"heads": 6}, "at least 6"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnformerConfig(**{**TINY, **changes})


@pytest.mark.peers
def test_trunk_is_enformer_pytorch() -> None:
    peer = pytest.importorskip("enformer_pytorch", reason="enformer-pytorch is not installed")
    theirs = peer.Enformer.from_hparams(
        dim=96,
        depth=2,
        heads=4,
        attn_dim_key=16,
        dim_divisible_by=16,
        target_length=-1,
        output_heads={"yeast": 3},
        use_tf_gamma=False,
    ).eval()
    torch.manual_seed(0)
    randomize(theirs)
    shape = {"dim": 96, "depth": 2, "heads": 4, "key_dim": 16, "positions": "feature-axis"}
    ours = EnformerEncoder(EnformerConfig(**shape)).eval()
    ours.load_state_dict(rename(theirs.state_dict(), KEYS, "", "enformer-pytorch"))
    x = random_dna(2, 128 * 24)
    with torch.no_grad():
        expected = theirs(x.transpose(1, 2), return_only_embeddings=True)
        found = ours(x).values_BND
    assert expected.abs().mean() > 0.05
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
