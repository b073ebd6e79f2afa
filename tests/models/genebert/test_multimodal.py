"""A sequence and its regions: what each head reads, presets, and that it learns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.errors import CislensError
from cislens.models.contract import Embedding
from cislens.models.genebert.contract import RegionTokens
from cislens.models.genebert.heads import in_steps
from cislens.models.genebert.multimodal import MultimodalConfig, MultimodalModel
from cislens.models.genebert.presets import ENCODERS, multimodal_config
from cislens.models.presets import PRESETS, preset_config
from cislens.models.profile import build_model
from cislens.models.reading import Reading
from cislens.recipes.reading import read_section

T, R, L = 12, 10, 96
MOTIFS = tuple(f"m{row}" for row in range(T))
# Motifs, width, context, expression, constants.
KNOWN: Any = (MOTIFS, L, R, False, "0" * 16)
SMALL: dict[str, Any] = {
    "encoder": {"dim": 16, "depth": 1, "heads": 2},
    "regions": {"dim": 16, "depth": 1, "heads": 2, "dropout": 0.0},
    "joint_dim": 16,
}


def model(**changes: Any) -> MultimodalModel:
    torch.manual_seed(0)
    config = multimodal_config("genebert-plus-tiny", *KNOWN, **{**SMALL, **changes})
    return MultimodalModel(config).eval()


def dna(batch: int = 3, length: int = L, seed: int = 0) -> Tensor:
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return F.one_hot(codes, 4).transpose(1, 2).float()


def test_shapes_of_what_the_heads_give(contexts: Any) -> None:
    net = model()
    reading, tokens = net.read(dna()), net.regions(contexts.drawn())
    assert net.species == ()
    assert net.base_logits(reading).shape == (3, L, 4)
    assert net.next_logits(net.read(dna(), pair=True)).shape == (3, 2)
    assert net.match_logits(reading, tokens).shape == (3,)
    assert net.motif_values(reading).shape == (3, T)
    motif_BRT, access_BR = net.region_values(tokens)
    assert (motif_BRT.shape, access_BR.shape) == ((3, R, T), (3, R))
    q_BC, m_BC = net.project(reading, tokens)
    assert q_BC.shape == m_BC.shape == (3, 16)
    assert torch.allclose(q_BC.norm(dim=1), torch.ones(3), atol=1e-6)
    assert torch.allclose(m_BC.norm(dim=1), torch.ones(3), atol=1e-6)
    factor, bias = net.scale()
    assert (factor.item(), bias.item()) == (pytest.approx(10.0, rel=1e-6), -10.0)


@pytest.mark.parametrize("regions", ["tokens", "swin", "mean"])
def test_the_joint_embedding_hides_how_open_its_own_region_is(contexts: Any, regions: str) -> None:
    if regions == "swin":
        pytest.importorskip("transformers")
    net = model(regions={"kind": regions})
    context = contexts.drawn()
    loci = torch.arange(3)
    own = context.access_BR.clone()
    own[loci, context.center_B] = torch.tensor([5.0, -5.0, torch.nan])
    joint = net.joint(dna(), context)
    assert joint.shape == (3, 16 + net.regions.dim)
    assert torch.equal(joint, net.joint(dna(), replace(context, access_BR=own)))
    others = context.access_BR.clone()
    others[loci, context.center_B - 1] += 3
    changed = net.joint(dna(), replace(context, access_BR=others))
    assert torch.equal(changed[:, :16], joint[:, :16])
    assert ((changed - joint)[:, 16:].abs().amax(dim=1) > 1e-4).all()


def test_a_sequence_alone_has_a_joint_embedding(contexts: Any) -> None:
    net = model()
    with torch.no_grad():
        net.no_context.normal_()
    alone = net.joint(dna())
    assert torch.equal(alone[:, :16], net.joint(dna(), contexts.drawn())[:, :16])
    assert torch.equal(alone[:, 16:], net.no_context.expand(3, -1))


@pytest.mark.parametrize("match", ["cross", "mlp"])
def test_matching_reads_the_sequence_and_the_context_and_no_padding(
    contexts: Any, match: str
) -> None:
    net = model(match=match)
    context = contexts.drawn()
    reading, tokens = net.read(dna()), net.regions(context)
    logits = net.match_logits(reading, tokens)
    assert (net.match_logits(net.read(dna(seed=1)), tokens) - logits).abs().min() > 1e-5
    others = net.regions(contexts.drawn(seed=1))
    assert (net.match_logits(reading, others) - logits).abs().min() > 1e-5
    longer = net.regions(contexts.padded(context, 6))
    assert (net.match_logits(reading, longer) - logits).abs().max() < 2e-6
    more = net.read(F.pad(dna(), (0, 40)))
    assert (net.match_logits(more, tokens) - logits).abs().max() < 2e-6
    # Each pair is judged for itself.
    one = RegionTokens(*(getattr(tokens, name)[1:2] for name in RegionTokens.__annotations__))
    assert (net.match_logits(net.read(dna()[1:2]), one) - logits[1]).abs().max() < 2e-6


def test_the_cross_head_judges_the_central_region_and_reads_the_others(contexts: Any) -> None:
    net = model()
    reading, tokens = net.read(dna()), net.regions(contexts.drawn())
    logits = net.match_logits(reading, tokens)
    center = net.match_logits(reading, replace(tokens, center_BE=tokens.center_BE.flip(1)))
    others = net.match_logits(reading, replace(tokens, values_BRE=tokens.values_BRE.flip(2)))
    pooled = net.match_logits(reading, replace(tokens, pooled_BE=tokens.pooled_BE.flip(1)))
    assert (center - logits).abs().min() > 1e-4
    assert (others - logits).abs().min() > 1e-5
    assert torch.equal(pooled, logits)


def test_nothing_but_padding_gives_finite_logits(contexts: Any) -> None:
    net = model()
    context = contexts.drawn()
    context = replace(context, pad_BR=torch.ones_like(context.pad_BR))
    reading, tokens = net.read(torch.zeros(3, 4, L)), net.regions(context)
    outputs = [net.match_logits(reading, tokens), *net.project(reading, tokens)]
    assert all(output.isfinite().all() for output in outputs)


def test_steps_are_means_of_sixteen_valid_bases() -> None:
    values = torch.arange(40.0).reshape(1, 40, 1)
    valid = torch.ones(1, 40, dtype=torch.bool)
    valid[0, :4] = False
    valid[0, 16:32] = False
    values[0, :4] = torch.nan
    steps, blind = in_steps(Embedding(values, 1, valid))
    assert steps.flatten().tolist() == [sum(range(4, 16)) / 12, 0.0, sum(range(32, 40)) / 8]
    assert blind.tolist() == [[False, True, False]]


def test_gradient_reaches_every_parameter(contexts: Any) -> None:
    """All but the vector that stands for a missing context, which no training shows."""
    net = model().train()
    context = contexts.drawn()
    hidden_BR = torch.zeros_like(context.pad_BR)
    hidden_BR[:, :4] = True
    context = replace(context, hidden_BR=hidden_BR, access_hidden_BR=hidden_BR)
    hidden_BL = torch.zeros(3, L, dtype=torch.bool)
    hidden_BL[:, :20] = True
    reading, tokens = net.read(dna(), hidden_BL, pair=True), net.regions(context)
    q_BC, m_BC = net.project(reading, tokens)
    factor, bias = net.scale()
    outputs = [
        net.base_logits(reading),
        net.next_logits(reading),
        net.match_logits(reading, tokens),
        net.motif_values(reading),
        *net.region_values(tokens),
        factor * (q_BC @ m_BC.T) + bias,
    ]
    sum(output.square().sum() for output in outputs).backward()
    without = [name for name, weight in net.named_parameters() if weight.grad is None]
    assert without == ["no_context"]
    silent = [n for n, w in net.named_parameters() if w.grad is not None and not w.grad.any()]
    assert silent == []


def test_it_learns_which_context_belongs_to_which_sequence(contexts: Any) -> None:
    """Eight loci by heart: matching, contrast, hidden regions."""
    net = model().train()
    x, context = dna(8), contexts.drawn(batch=8)
    hidden_BR = torch.zeros_like(context.pad_BR)
    hidden_BR[:, 7] = True
    asked = replace(context, hidden_BR=hidden_BR, access_hidden_BR=hidden_BR)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    other = torch.arange(8).roll(1)
    for _ in range(150):
        reading, tokens = net.read(x), net.regions(asked)
        wrong = RegionTokens(
            *(getattr(tokens, name)[other] for name in RegionTokens.__annotations__)
        )
        right_B, wrong_B = net.match_logits(reading, tokens), net.match_logits(reading, wrong)
        motif_BRT, _ = net.region_values(tokens)
        q_BC, m_BC = net.project(reading, tokens)
        told = F.mse_loss(motif_BRT[:, 7], context.motif_BRT[:, 7])
        loss = F.softplus(-right_B).mean() + F.softplus(wrong_B).mean() + told
        loss = loss + F.cross_entropy(20 * q_BC @ m_BC.T, torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (right_B > 0).all()
    assert (wrong_B < 0).all()
    assert (q_BC @ m_BC.T).argmax(dim=1).tolist() == list(range(8))
    assert told.item() < 0.3


def test_the_configuration_comes_back_from_json_and_the_weights_too(
    contexts: Any, tmp_path: Path
) -> None:
    net = model()
    stored = net.config.model_dump(mode="json")
    config = read_section(stored, MultimodalConfig, "config.json")
    assert config == net.config
    with torch.device("meta"):
        empty = MultimodalModel(config)
    empty.load_state_dict(net.state_dict(), strict=True, assign=True)
    assert torch.equal(net.joint(dna(), contexts.drawn()), empty.joint(dna(), contexts.drawn()))
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_presets_can_be_built(name: str) -> None:
    """Also with every other encoder of regions, at the size of the preset."""
    pytest.importorskip("transformers")
    with torch.device("meta"):
        net = MultimodalModel(multimodal_config(name, *KNOWN))
    size = name.rsplit("-", 1)[1]
    shape = {"tiny": (64, 2), "small": (384, 6), "base": (768, 12)}[size]
    assert net.encoder.dim == shape[0]
    paper = "paper" in name
    assert net.config.regions.kind == ("swin" if paper else "tokens")
    assert net.config.match == ("mlp" if paper else "cross")
    assert net.config.joint_dim == (64 if size == "tiny" else 256)
    for kind in ("tokens", "mean"):
        other = multimodal_config(name, *KNOWN, regions={"kind": kind})
        assert other.regions.kind == kind


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_the_sequence_encoder_is_one_like_any_other(name: str) -> None:
    assert name in PRESETS
    config = preset_config(name, {"yeast": ["a", "b"]}, dim=24, depth=1, heads=2)
    net = build_model(config).eval()
    assert net(dna(2)).shape == (2, 2, L)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"regions": {"kind": "tokns"}}, "tokns"),
        ({"regions": {"dept": 3}}, "unknown key 'dept'"),
        ({"width": 64}, "width is not yours to give"),
        ({"expression": True}, "has no expression to read"),
        ({"encoder": "genebert-plus"}, "give what differs"),
        ({"joint_dim": 30}, "joint_dim"),
    ],
)
def test_wrong_changes_of_a_preset_are_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CislensError, match=said):
        multimodal_config("genebert-plus-tiny", *KNOWN, **changes)


def test_a_motif_is_one_row() -> None:
    with pytest.raises(CislensError, match="the motif 'm1' is there 2 times"):
        multimodal_config("genebert-plus-tiny", ("m1", "m2", "m1"), *KNOWN[1:])


def test_expression_can_be_left_out_where_there_is_some() -> None:
    known = (*KNOWN[:3], True, KNOWN[4])
    assert multimodal_config("genebert-plus-tiny", *known).expression
    assert not multimodal_config("genebert-plus-tiny", *known, expression=False).expression


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(CislensError, match="'genebert-plus-tiny'"):
        multimodal_config("genebert-plus-tinny", *KNOWN)


def test_an_encoder_that_knows_no_hidden_bases_is_shown_a_quarter_of_each() -> None:
    """Logits of a hidden base do not depend on it; those of a visible one do."""
    trunk = {"kind": "basenji", "dim": 16, "depth": 1}
    config = model().config.model_dump()
    net = MultimodalModel(read_section({**config, "encoder": trunk}, MultimodalConfig, "test"))
    net.eval()
    codes_BL = torch.randint(0, 4, (2, 256))
    other_BL = codes_BL.clone()
    other_BL[:, 100] = (other_BL[:, 100] + 1) % 4
    hidden_BL = torch.zeros(2, 256, dtype=torch.bool)

    def logits(codes_BL: torch.Tensor) -> torch.Tensor:
        return net.base_logits(net.read(F.one_hot(codes_BL, 4).transpose(1, 2).float(), hidden_BL))

    assert not torch.equal(logits(codes_BL), logits(other_BL))
    hidden_BL[:, 100] = True
    assert torch.equal(logits(codes_BL), logits(other_BL))


@pytest.mark.parametrize("regions", ["tokens", "swin", "mean"])
def test_runs_in_bfloat16(contexts: Any, regions: str) -> None:
    """Projected vectors and joint embeddings agree with fp32 within the precision of bf16."""
    if regions == "swin":
        pytest.importorskip("transformers")
    net = model(regions={"kind": regions})
    context = contexts.drawn()
    with torch.no_grad():
        exact = net.project(net.read(dna()), net.regions(context))
        with torch.autocast("cpu", torch.bfloat16):
            reading: Reading = net.read(dna())
            tokens = net.regions(context)
            rough = net.project(reading, tokens)
            others = [net.match_logits(reading, tokens), *net.region_values(tokens)]
    assert all(each.dtype == torch.float32 for each in rough)
    assert max(float((a - b).abs().max()) for a, b in zip(exact, rough, strict=True)) < 0.05
    assert all(other.isfinite().all() for other in others)
