"""The cross-profile decoder: identity at the start, mixing within a bin only, both symmetries."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.models.decoders.contract import Decoded, HeadConfig
from cislens.models.decoders.profiles import ProfilesDecoder, ProfilesDecoderConfig
from cislens.nn.experts import Experts
from cislens.nn.routing import mutual_information

DIM, CODE = 24, 6
# Forty tracks in four groups; the CAGE tracks are pairs of strands, next to each other.
GROUPS = ("dnase",) * 8 + ("tf chip",) * 12 + ("histone.chip",) * 12 + ("cage",) * 8
PAIRS = (*range(32), 33, 32, 35, 34, 37, 36, 39, 38)
YEAST = HeadConfig(
    species="yeast", tracks=tuple(map(str, range(40))), groups=GROUPS, strand_pairs=PAIRS
)
POMBE = HeadConfig(species="pombe", tracks=("a", "b", "c"), groups=("cage", "mnase", "dnase"))


def decoder(*heads: HeadConfig, seed: int = 0, **changes: Any) -> ProfilesDecoder:
    """As it is made."""
    torch.manual_seed(seed)
    config = ProfilesDecoderConfig(**{"width": 16, "heads": 2, **changes})
    return ProfilesDecoder(config, heads or (YEAST, POMBE), DIM, CODE)


def trained(*heads: HeadConfig, seed: int = 0, **changes: Any) -> ProfilesDecoder:
    """One whose every part does something."""
    model = decoder(*heads, seed=seed, **changes)
    for name, parameter in model.named_parameters():
        if "write_UR" in name or "tilt_PR" in name:
            nn.init.normal_(parameter, std=0.3)
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    return model


def inputs(tracks: int = 40, bins: int = 9, windows: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
    """Logits, embedding, species code and bin mask."""
    made = torch.Generator().manual_seed(seed)
    return (
        2 * torch.randn(windows, bins, tracks, generator=made),
        torch.randn(windows, bins, DIM, generator=made),
        torch.randn(windows, CODE, generator=made),
        torch.ones(windows, bins, dtype=torch.bool),
    )


def decode(
    model: ProfilesDecoder, given: tuple[Tensor, ...], head: int = 0, species: int = 0
) -> Decoded:
    logits, y, code, valid = given
    decoded: Decoded = model(head, species, logits, y, code, valid)
    return decoded


@pytest.mark.parametrize("bins", [1, 7, 896, 1000])
def test_identity_at_the_start(bins: int) -> None:
    given = inputs(bins=bins, windows=1)
    decoded = decode(decoder(), given)
    assert torch.equal(decoded.logits_BNT, given[0])
    assert decoded.auxiliary_BNT is given[0]


def test_identity_at_the_start_in_bf16() -> None:
    logits, *rest = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in (torch.float32, torch.bfloat16):
            decoded = decode(decoder(), (logits.to(dtype), *rest))
            assert decoded.logits_BNT.dtype == dtype
            assert torch.equal(decoded.logits_BNT, logits.to(dtype))


@pytest.mark.parametrize("track", [0, 15, 39])
def test_one_track_at_one_bin_changes_the_others_there_and_nothing_elsewhere(track: int) -> None:
    model = decoder()
    head = model.heads[0]
    nn.init.normal_(head.get_parameter("write_UR"), std=0.02)
    given = inputs(bins=50)
    moved = given[0].clone()
    moved[1, 20, track] += 1.0
    with torch.no_grad():
        before = decode(model, given).logits_BNT
        after = decode(model, (moved, *given[1:])).logits_BNT
    change = (after - before).abs()
    others = torch.arange(40) != track
    assert (change[1, 20, others] > 1e-7).float().mean() >= 0.5
    change[1, 20] = 0
    assert change.max() == 0


@pytest.mark.parametrize("bins", [2, 3, 7])
def test_other_bins_are_bit_equal_though_the_routing_changes(bins: int) -> None:
    """Few tokens per expert, where the order of a sum would show first."""
    rerouted = 0
    for seed in range(20):
        model = trained(seed=seed)
        given = inputs(bins=bins, seed=seed)
        moved = given[0].clone()
        moved[0, 0, seed] += 5.0
        with torch.no_grad():
            before, after = decode(model, given), decode(model, (moved, *given[1:]))
        rerouted += int(not torch.equal(before.routing[0].kept_TK, after.routing[0].kept_TK))
        assert torch.equal(before.logits_BNT[0, 1:], after.logits_BNT[0, 1:])
        assert torch.equal(before.logits_BNT[1], after.logits_BNT[1])
    assert rerouted >= 5


def test_experts_are_those_of_the_encoder() -> None:
    """The same function as the sorted experts of the encoder's blocks, with their gradients."""
    experts = decoder().experts
    z = torch.randn(2, 30, 16, requires_grad=True)
    given = (torch.randn(2, CODE), torch.zeros(2).long(), torch.ones(2, 30, dtype=torch.bool))
    found, sorted_ones = experts(z, *given)[0], Experts.forward(experts, z, *given)[0]
    torch.testing.assert_close(found, sorted_ones, atol=1e-5, rtol=1e-5)
    wanted = [z, experts.w_in, experts.w_out, experts.router.weight]
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), wanted),
        torch.autograd.grad(sorted_ones.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("bins", "shift"), [(7, 3), (64, 1), (1000, 104)])
def test_shift(bins: int, shift: int) -> None:
    model = trained()
    logits, y, code, valid = inputs(bins=bins, windows=1)
    with torch.no_grad():
        whole = decode(model, (logits, y, code, valid)).logits_BNT
        later = (logits[:, shift:], y[:, shift:], code, valid[:, shift:])
        part = decode(model, later).logits_BNT
    torch.testing.assert_close(part, whole[:, shift:], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("bins", [1, 7, 896, 1000])
def test_reverse_complement(bins: int) -> None:
    """Reversed bins of logits and embedding, strands swapped: so is the result."""
    model = trained()
    logits, y, code, valid = inputs(bins=bins, windows=1)
    swap = torch.tensor(PAIRS)
    with torch.no_grad():
        forward = decode(model, (logits, y, code, valid)).logits_BNT
        turned = (logits.flip(1)[..., swap], y.flip(1), code, valid)
        reverse = decode(model, turned).logits_BNT
    assert (forward - logits).abs().max() > 0.1
    torch.testing.assert_close(reverse, forward.flip(1)[..., swap], atol=1e-6, rtol=1e-6)


def test_strands_without_common_factors_would_break_the_reverse_complement() -> None:
    """The check above fires on a head whose strands are told to be independent tracks."""
    model = trained(YEAST.model_copy(update={"strand_pairs": ()}))
    logits, y, code, valid = inputs(bins=7)
    swap = torch.tensor(PAIRS)
    with torch.no_grad():
        forward = decode(model, (logits, y, code, valid)).logits_BNT
        reverse = decode(model, (logits.flip(1)[..., swap], y.flip(1), code, valid)).logits_BNT
    assert (reverse - forward.flip(1)[..., swap]).abs().max() > 1e-2


def test_formula_of_a_stranded_pair() -> None:
    """o + B LN(z) + o- tanh(b LN(z)), by hand, with LN(z) set to known tokens."""
    model = trained()
    head = model.heads[0]
    logits = inputs()[0]
    z_BNGR = torch.randn(2, 9, 4, 16)
    with torch.no_grad():
        found = head.write(logits, z_BNGR.flatten(2))  # type: ignore[operator]
    # Units: 32 single tracks, then pairs (32, 33), (34, 35), ...; pair 1 is unit 33.
    write, tilt = head.get_parameter("write_UR")[33], head.get_parameter("tilt_PR")[1]
    odd = (logits[..., 34] - logits[..., 35]) / 2
    token = z_BNGR[:, :, 3]
    for track, sign in ((34, 1), (35, -1)):
        expected = logits[..., track] + token @ write + sign * odd * torch.tanh(token @ tilt)
        torch.testing.assert_close(found[..., track], expected, atol=1e-5, rtol=1e-5)
    single = logits[..., 9] + z_BNGR[:, :, 1] @ head.get_parameter("write_UR")[9]
    torch.testing.assert_close(found[..., 9], single, atol=1e-5, rtol=1e-5)


def test_tokens_are_normalized_sums_over_their_group() -> None:
    model = decoder()
    head = model.heads[0]
    logits = inputs()[0]
    with torch.no_grad():
        found = head.read(logits).unflatten(2, (4, 16))  # type: ignore[operator]
    read = head.get_parameter("read_UR")
    tf = logits[..., 8:20] @ read[8:20] / 12**0.5
    torch.testing.assert_close(found[:, :, 1], tf, atol=1e-5, rtol=1e-5)
    even = (logits[..., 32::2] + logits[..., 33::2]) / 2
    cage = 2 * even @ read[32:36] / 8**0.5
    torch.testing.assert_close(found[:, :, 3], cage, atol=1e-5, rtol=1e-5)


def test_new_head_leaves_the_others_alone() -> None:
    model = trained(YEAST, POMBE)
    given, small = inputs(), inputs(tracks=3)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        before = [decode(model, given), decode(model, small, head=1, species=1)]
        model.add_head(HeadConfig(species="fly", tracks=("x", "y"), groups=("any/name.", "cage")))
        after = [decode(model, given), decode(model, small, head=1, species=1)]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old.logits_BNT, new.logits_BNT)
        assert torch.equal(old.routing[0].logits_TE, new.routing[0].logits_TE)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    assert model.groups == ("dnase", "tf chip", "histone.chip", "cage", "mnase", "any/name.")
    added = {name.split(".")[0] for name in model.state_dict().keys() - state.keys()}
    assert added == {"heads", "inputs"}
    assert len(model.inputs) == 6
    fresh = inputs(tracks=2)
    assert torch.equal(decode(model, fresh, head=2, species=2).logits_BNT, fresh[0])


def test_added_head_is_the_head_of_a_model_made_with_it() -> None:
    grown = decoder(YEAST)
    grown.add_head(POMBE)
    whole = decoder(YEAST, POMBE, seed=1)
    assert grown.state_dict().keys() == whole.state_dict().keys()
    whole.load_state_dict(grown.state_dict())
    nn.init.normal_(whole.heads[1].get_parameter("write_UR"))
    nn.init.normal_(grown.heads[1].get_parameter("write_UR"))
    whole.load_state_dict(grown.state_dict())
    given = inputs(tracks=3)
    with torch.no_grad():
        one, other = decode(grown, given, head=1), decode(whole, given, head=1)
    assert torch.equal(one.logits_BNT, other.logits_BNT)


def test_gradients_reach_every_parameter_after_one_step() -> None:
    model = decoder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        parts = [decode(model, inputs(bins=64)), decode(model, inputs(3, bins=64), 1, 1)]
        loss = torch.stack([part.logits_BNT.square().mean() for part in parts]).sum()
        loss.backward()
        reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        if step == 0:
            first = {name for name in reached if "write_UR" in name or "tilt_PR" in name}
            assert reached == first == {"heads.0.write_UR", "heads.0.tilt_PR", "heads.1.write_UR"}
        optimizer.step()
    assert reached == {name for name, _ in model.named_parameters()}
    # Every routed expert by itself.
    for name in ("w_in", "w_out"):
        gradient = getattr(model.experts, name).grad
        assert gradient.flatten(1).any(dim=1).all()


def test_routing_counts_group_tokens_of_valid_bins() -> None:
    model = trained()
    logits, y, code, valid = inputs(tracks=3, bins=10)
    valid[0, 4:] = False
    routing = decode(model, (logits, y, code, valid), head=1, species=1).routing[0]
    assert routing.gates_TE.shape == (2 * 10 * 3, 8)
    torch.testing.assert_close(routing.gates_TE.sum(dim=1), torch.ones(60))
    # Groups of the second head: cage, mnase, dnase; 14 bins are valid.
    assert routing.group_T is not None
    assert routing.group_T[:6].tolist() == [3, 4, 0, 3, 4, 0]
    mass = routing.group_mass(len(model.groups)).sum(dim=1)
    torch.testing.assert_close(mass, torch.tensor([14.0, 0, 0, 14, 14]))
    by_species = routing.species_mass(2).sum(dim=1)
    torch.testing.assert_close(by_species, torch.tensor([0.0, 42]))
    assert routing.load.sum() == pytest.approx(1, abs=1e-6)
    assert mutual_information(routing.group_mass(5) / 42) >= 0


def test_mask_changes_the_statistics_only() -> None:
    model = trained()
    logits, y, code, valid = inputs()
    with torch.no_grad():
        whole = decode(model, (logits, y, code, valid))
        gapped = decode(model, (logits, y, code, torch.zeros_like(valid)))
    assert torch.equal(whole.logits_BNT, gapped.logits_BNT)
    assert gapped.routing[0].weight_T.sum() == 0


def test_encoder_without_species() -> None:
    torch.manual_seed(0)
    model = ProfilesDecoder(ProfilesDecoderConfig(width=16, heads=2), (YEAST,), DIM, 0)
    logits, y, _, valid = inputs()
    decoded = model(0, 0, logits, y, torch.zeros(2, 0), valid)
    assert torch.equal(decoded.logits_BNT, logits)


def test_bf16_autocast_stays_close() -> None:
    model = trained()
    given = inputs(bins=200)
    with torch.no_grad():
        full = decode(model, given).logits_BNT
        with torch.autocast("cpu", torch.bfloat16):
            half = decode(model, given).logits_BNT
    assert half.isfinite().all()
    assert ((half - full).norm() / full.norm()).item() < 2e-2


def test_size_of_the_published_tracks() -> None:
    """5,313 and 1,643 tracks in four groups, embedding of 3,072: 1.8 million parameters."""
    names = ("dnase", "tf", "histone", "cage")
    heads = [
        HeadConfig(
            species=species,
            tracks=tuple(map(str, range(count))),
            groups=tuple(names[track % 4] for track in range(count)),
        )
        for species, count in (("human", 5313), ("mouse", 1643))
    ]
    with torch.device("meta"):
        model = ProfilesDecoder(ProfilesDecoderConfig(), tuple(heads), 3072, 64)
    assert sum(p.numel() for p in model.parameters()) == 1_785_152


def test_decoder_built_on_meta_is_whole_once_its_weights_are_there() -> None:
    model = trained()
    with torch.device("meta"):
        config = ProfilesDecoderConfig(width=16, heads=2)
        restored = ProfilesDecoder(config, (YEAST, POMBE), DIM, CODE)
    restored.load_state_dict(model.state_dict(), assign=True)
    given = inputs()
    with torch.no_grad():
        found = decode(restored, given).logits_BNT
        assert torch.equal(found, decode(model, given).logits_BNT)


def test_compiles_as_one_graph() -> None:
    model = trained()
    given = inputs()
    compiled = torch.compile(lambda *x: model(0, 0, *x).logits_BNT, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(*given), decode(model, given).logits_BNT)


@pytest.mark.gpu
def test_training_step_reads_nothing_back_from_the_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = trained().to("cuda")
    given = tuple(value.to("cuda") for value in inputs(bins=100))
    for repeat in range(2):
        torch.cuda.set_sync_debug_mode("error" if repeat else "default")
        try:
            with torch.autocast("cuda", torch.bfloat16):
                decode(model, given).logits_BNT.square().mean().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    with torch.no_grad():
        found = decode(model, given).logits_BNT.cpu()
        expected = decode(model.cpu(), inputs(bins=100)).logits_BNT
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "does not divide"),
        ({"experts": 2, "kept": 3}, "more than the 2 experts"),
        ({"widht": 8}, "nearest|mean"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProfilesDecoderConfig.model_validate(changes)


def test_strands_in_different_groups_are_refused_and_nothing_is_added() -> None:
    model = decoder(YEAST)
    pair = HeadConfig(species="fly", tracks=("p", "m"), groups=("cage", "new"), strand_pairs=(1, 0))
    with pytest.raises(CislensError, match="'p' and 'm' of 'fly' are strands of one signal"):
        model.add_head(pair)
    assert len(model.heads) == 1
    assert "new" not in model.groups
