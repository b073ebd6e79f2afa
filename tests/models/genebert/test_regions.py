"""Encoders of regions: what order, padding and hidden values must not change."""

import importlib.util
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from cislens.errors import CislensError
from cislens.models.genebert.columns import at_center, without_center_access
from cislens.models.genebert.contract import RegionContext, RegionEncoder, RegionTokens
from cislens.models.genebert.regions import AnyRegionsConfig, build_region_encoder
from cislens.models.genebert.tokens import (
    RegionLayer,
    RegionTokensConfig,
    RegionTokensEncoder,
    place,
)

T = 12
SHAPES: dict[str, dict[str, Any]] = {
    "tokens": {"dim": 16, "depth": 2, "heads": 2},
    "swin": {"dim": 8, "depths": (2, 2), "heads": (1, 2), "window": 2},
    "mean": {"dim": 16},
}
KINDS = [
    "tokens",
    "mean",
    pytest.param(
        "swin",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("transformers") is None, reason="needs transformers"
        ),
    ),
]


def encoder(kind: str, motifs: int = T, expression: bool = False, **changes: Any) -> RegionEncoder:
    torch.manual_seed(0)
    given = {"kind": kind, **SHAPES[kind], **changes}
    config = TypeAdapter(AnyRegionsConfig).validate_python(given)
    return build_region_encoder(config, motifs, expression).eval()


def gap(one: RegionTokens, two: RegionTokens) -> float:
    """Largest difference in what either says of the regions that both have."""
    regions = min(one.pad_BR.shape[1], two.pad_BR.shape[1])
    real_BR = ~one.pad_BR[:, :regions]
    pairs = [
        (one.values_BRE[:, :regions][real_BR], two.values_BRE[:, :regions][real_BR]),
        (one.center_BE, two.center_BE),
        (one.pooled_BE, two.pooled_BE),
    ]
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind: str, contexts: Any) -> None:
    model = encoder(kind)
    context = contexts.drawn(batch=3, regions=10)
    tokens = model(context)
    assert tokens.values_BRE.shape == (3, 10, model.dim)
    assert tokens.pooled_BE.shape == tokens.center_BE.shape == (3, model.dim)
    for locus in range(3):
        center = tokens.values_BRE[locus, context.center_B[locus]]
        assert torch.equal(tokens.center_BE[locus], center)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_values_change_nothing(kind: str, contexts: Any) -> None:
    model = encoder(kind)
    context = contexts.drawn()
    hidden_BR = torch.zeros(3, 10, dtype=torch.bool)
    hidden_BR[:, 2:5] = True
    closed_BR = hidden_BR.clone()
    closed_BR[:, 7] = True
    asked = replace(context, hidden_BR=hidden_BR, access_hidden_BR=closed_BR)
    tokens = model(asked)
    assert gap(tokens, model(contexts.scrambled(asked, hidden_BR))) == 0
    assert gap(tokens, model(contexts.scrambled(asked, closed_BR, access_only=True))) == 0
    # The test can fail: what is not hidden does change something.
    seen_BR = torch.zeros_like(hidden_BR)
    seen_BR[:, 8] = True
    other = replace(asked, access_BR=asked.access_BR + 3 * seen_BR)
    assert gap(tokens, model(other)) > 1e-3
    # And hiding is no way to say 0.
    zero = replace(context, motif_BRT=context.motif_BRT.masked_fill(hidden_BR[:, :, None], 0.0))
    zero = replace(zero, access_BR=context.access_BR.masked_fill(closed_BR, 0.0))
    assert gap(tokens, model(zero)) > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_what_padding_holds_changes_nothing(kind: str, contexts: Any) -> None:
    model = encoder(kind)
    context = contexts.padded(contexts.drawn(), 6)
    other = replace(
        context,
        motif_BRT=context.motif_BRT.nan_to_num(5.0),
        access_BR=context.access_BR.nan_to_num(-3.0),
        offset_BR=context.offset_BR.nan_to_num(77.0),
    )
    tokens = model(context)
    assert tokens.values_BRE.isfinite().all()
    assert gap(tokens, model(other)) == 0


@pytest.mark.parametrize("kind", ["tokens", "mean"])
def test_more_padding_changes_nothing(kind: str, contexts: Any) -> None:
    """Up to rounding: sums of other lengths are taken in another order."""
    model = encoder(kind)
    context = contexts.drawn()
    assert gap(model(context), model(contexts.padded(context, 6))) < 2e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_of_padding_alone_is_finite(kind: str, contexts: Any) -> None:
    model = encoder(kind).train()
    context = contexts.drawn()
    pad_BR = context.pad_BR.clone()
    pad_BR[1] = True
    context = contexts.scrambled(replace(context, pad_BR=pad_BR), pad_BR)
    tokens = model(context)
    parts = (tokens.values_BRE, tokens.center_BE, tokens.pooled_BE)
    assert all(part.isfinite().all() for part in parts)
    sum(part.square().sum() for part in parts).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_one_locus_knows_nothing_of_another(kind: str, contexts: Any) -> None:
    model = encoder(kind)
    context = contexts.drawn()
    other_BR = torch.zeros(3, 10, dtype=torch.bool)
    other_BR[1] = True
    both = [model(context), model(replace(context, access_BR=context.access_BR + 5 * other_BR))]
    for locus in (0, 2):
        assert torch.equal(both[0].values_BRE[locus], both[1].values_BRE[locus])
    assert not torch.equal(both[0].values_BRE[1], both[1].values_BRE[1])


@pytest.mark.parametrize("kind", ["tokens", "mean"])
def test_the_order_of_motifs_means_nothing(kind: str, contexts: Any) -> None:
    """Rows and the columns of what reads them, exchanged together; fp64, so 1e-12 is rounding."""
    model = encoder(kind, expression=True).double()
    context = contexts.drawn(expression=True)
    context = replace(
        context,
        motif_BRT=context.motif_BRT.double(),
        access_BR=context.access_BR.double(),
        expression_BT=context.expression_BT.double(),
        offset_BR=context.offset_BR.double(),
    )
    order = torch.randperm(T, generator=torch.Generator().manual_seed(5))
    before = model(context)
    with torch.no_grad():
        for reads in (model.columns.motif, model.columns.expression):
            reads.weight.copy_(reads.weight[:, order])
    shuffled = replace(
        context,
        motif_BRT=context.motif_BRT[..., order],
        expression_BT=context.expression_BT[:, order],
    )
    assert gap(before, model(shuffled)) < 1e-12
    assert gap(before, model(context)) > 1e-2


def test_the_order_of_regions_means_nothing_to_tokens(contexts: Any) -> None:
    """Their places are in their offsets: the vectors move along."""
    model = encoder("tokens")
    context = contexts.drawn()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(6))
    moved = replace(
        context,
        motif_BRT=context.motif_BRT[:, order],
        access_BR=context.access_BR[:, order],
        offset_BR=context.offset_BR[:, order],
        center_B=order.argsort()[context.center_B],
    )
    one, two = model(context), model(moved)
    assert (one.values_BRE[:, order] - two.values_BRE).abs().max() < 2e-6
    assert (one.pooled_BE - two.pooled_BE).abs().max() < 2e-6


def test_place_tells_near_from_far_and_left_from_right() -> None:
    offset_BR = torch.tensor([[0.0, 600.0, 1200.0, 1e5, 1.1e5, 5e6, -600.0, -5e6]])
    features = place(offset_BR, 16)[0]
    distance = torch.cdist(features, features) + 9 * torch.eye(8)
    assert features.abs().max() <= 1
    assert distance.min() > 0.1


def test_slopes_keep_far_regions_away(contexts: Any) -> None:
    """With slope 2 a weight falls as (1 + d / 1 kb)^-2: 1/9 at 2 kb, 6e-8 at 4 Mb."""
    model = encoder("tokens", depth=1)
    assert isinstance(model, RegionTokensEncoder)
    assert (model.layers[0].slopes > 0).all()
    context = contexts.drawn(batch=8, regions=3)
    context = replace(context, center_B=torch.zeros(8, dtype=torch.int64))
    context = replace(context, offset_BR=torch.tensor([[0.0, 2000.0, 4e6]]).expand(8, 3))

    def moved(column: int) -> float:
        motif_BRT = context.motif_BRT.clone()
        motif_BRT[:, column] += 2
        other = model(replace(context, motif_BRT=motif_BRT))
        return float((other.center_BE - model(context).center_BE).abs().mean())

    with torch.no_grad():
        model.layers[0].slopes.zero_()
        assert moved(2) > 0.3 * moved(1)
        model.layers[0].slopes.fill_(2.0)
        assert moved(2) < 1e-4 * moved(1)


@pytest.mark.parametrize("kind", KINDS)
def test_expression_is_read_where_the_model_has_it(kind: str, contexts: Any) -> None:
    context = contexts.drawn(expression=True)
    other = replace(context, expression_BT=context.expression_BT + 1)
    with_it, without = encoder(kind, expression=True), encoder(kind)
    assert gap(with_it(context), with_it(other)) > 1e-4
    assert gap(without(context), without(other)) == 0
    with pytest.raises(CislensError, match="store built with `expression`"):
        with_it(contexts.drawn())


def test_hiding_the_center_hides_one_region_per_locus(contexts: Any) -> None:
    context = contexts.drawn()
    hidden_BR = without_center_access(context).access_hidden_BR
    assert hidden_BR.sum(dim=1).tolist() == [1, 1, 1]
    assert hidden_BR.float().argmax(dim=1).tolist() == context.center_B.tolist()
    assert not context.access_hidden_BR.any()


@pytest.mark.parametrize(
    ("dim", "depth", "heads", "millions"),
    [(768, 12, 12, 85.3), (512, 8, 8, 25.4), (384, 6, 6, 10.8)],
)
def test_sizes_of_the_token_encoder(dim: int, depth: int, heads: int, millions: float) -> None:
    """Counted beside the pool of the context, 4 E^2 + 4 E more, with 282 motifs."""
    with torch.device("meta"):
        config = RegionTokensConfig(dim=dim, depth=depth, heads=heads)
        model = RegionTokensEncoder(config, 282, expression=False)
    pool = sum(p.numel() for p in model.pool.parameters())
    assert pool == 4 * dim**2 + 4 * dim
    count = sum(p.numel() for p in model.parameters()) - pool
    assert count / 1e6 == pytest.approx(millions, abs=0.06)


def test_swin_t_has_its_size(contexts: Any) -> None:
    """27.5 M at 288 x 64, as timm's swin_tiny_patch4_window7_224 without its classifier."""
    pytest.importorskip("transformers")
    shape = {"dim": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24), "window": 8}
    model = encoder("swin", motifs=282, **shape)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(27.5e6, abs=0.2e6)
    tokens = model(contexts.drawn(batch=1, regions=64, motifs=282))
    assert tokens.values_BRE.shape == (1, 64, 768)


def test_swin_pads_rows_and_columns_to_whole_patches(contexts: Any) -> None:
    pytest.importorskip("transformers")
    model = encoder("swin")
    image = model._image(contexts.drawn(regions=10))  # type: ignore[operator]
    assert image.shape == (3, 2, 32, 16)
    assert not image[:, :, T:].any()
    assert not image[:, :, :, 10:].any()


def test_swin_can_shuffle_its_rows(contexts: Any) -> None:
    """The same motifs in another order, the same one each time."""
    pytest.importorskip("transformers")
    context = contexts.drawn()
    plain, shuffled, again = (encoder("swin", shuffle_rows=flag) for flag in (False, True, True))
    assert gap(shuffled(context), again(context)) == 0
    assert gap(plain(context), shuffled(context)) > 1e-4
    images = [model._image(context)[:, 0, :T] for model in (plain, shuffled)]  # type: ignore[operator]
    assert torch.equal(images[0].sort(dim=1).values, images[1].sort(dim=1).values)


def test_swin_made_without_memory_is_whole_once_it_has_its_weights(contexts: Any) -> None:
    pytest.importorskip("transformers")
    model, context = encoder("swin"), contexts.drawn()
    with torch.device("meta"):
        empty = encoder("swin")
    empty.load_state_dict(model.state_dict(), strict=True, assign=True)
    assert gap(model(context), empty(context)) == 0


def test_swin_names_the_extra_when_transformers_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("cislens.models.genebert.swin.import_module", missing)
    with pytest.raises(CislensError, match=r"pip install 'cislens\[multimodal\]'"):
        encoder("swin")


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        ("tokens", {"dim": 15}, "even and a multiple of heads"),
        ("swin", {"heads": (1,)}, "must be as many"),
        ("swin", {"heads": (1, 3)}, "stage 2 has 16 channels, not 3"),
        ("mean", {"depth": 2}, "unknown key 'depth'"),
    ],
)
def test_wrong_shapes_are_told(kind: str, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        encoder(kind, **wrong)


def test_tokens_tell_how_open_a_region_is_where_the_mean_of_its_neighbors_cannot(
    contexts: Any,
) -> None:
    """A motif opens regions in one half of the cell types and closes them in the other.

    Which half, only the other regions tell: their accessibility follows their motif. The mean of
    the neighbors, weighted by distance, knows nothing (R2 below 0.05); 100 steps give above 0.8.
    """

    def draw(loci: int, seed: int) -> tuple[RegionContext, torch.Tensor]:
        context = contexts.drawn(batch=loci, seed=seed)
        source = torch.Generator().manual_seed(seed + 1_000_000)
        sign_B1 = torch.where(torch.rand(loci, 1, generator=source) < 0.5, -1.0, 1.0)
        context = replace(context, access_BR=sign_B1 * context.motif_BRT[..., 0])
        return without_center_access(context), at_center(context.access_BR, context)

    def r2(guess_B: torch.Tensor, true_B: torch.Tensor) -> float:
        return 1 - float((guess_B - true_B).square().mean() / true_B.var())

    model = encoder("tokens", dim=32, heads=4, dropout=0.0).train()
    head = torch.nn.Linear(32, 1)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=3e-3)
    for step in range(100):
        context, true_B = draw(64, seed=step)
        loss = (head(model(context).center_BE)[:, 0] - true_B).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    context, true_B = draw(512, seed=500_000)
    with torch.no_grad():
        told = r2(head(model.eval()(context).center_BE)[:, 0], true_B)
    weight_BR = 1 / (1 + context.offset_BR.abs()) * ~context.access_hidden_BR
    neighbors_B = (weight_BR * context.access_BR).sum(dim=1) / weight_BR.sum(dim=1)
    assert r2(neighbors_B, true_B) < 0.05
    assert told > 0.8


def test_a_layer_is_torchs_pre_norm_layer_with_a_bias_of_distance() -> None:
    """`nn.TransformerEncoderLayer` with the same weights and the bias as its mask; fp64."""
    torch.manual_seed(0)
    layer = RegionLayer(16, 2, dropout=0.0).double().eval()
    peer = torch.nn.TransformerEncoderLayer(
        16, 2, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    peer = peer.double().eval()
    weights = layer.state_dict()
    pairs = {
        "self_attn.in_proj_": "to_qkv.",
        "self_attn.out_proj.": "to_out.",
        "linear1.": "mlp.0.",
        "linear2.": "mlp.2.",
        "norm1.": "attention_norm.",
        "norm2.": "mlp_norm.",
    }
    peer.load_state_dict(
        {a + kind: weights[b + kind] for a, b in pairs.items() for kind in ("weight", "bias")}
    )
    x_BRE = torch.randn(3, 7, 16, dtype=torch.float64)
    distance_BRR = torch.rand(3, 7, 7, dtype=torch.float64) * 5
    pad_BR = torch.zeros(3, 7, dtype=torch.bool)
    pad_BR[1, 5:] = True
    bias_BHRR = -layer.slopes.detach()[:, None, None] * distance_BRR[:, None]
    mask = bias_BHRR.masked_fill(pad_BR[:, None, None, :], -torch.inf).flatten(0, 1)
    gap_BRE = (layer(x_BRE, distance_BRR, pad_BR) - peer(x_BRE, src_mask=mask))[~pad_BR]
    assert gap_BRE.abs().max() < 1e-12
