"""The profile model: plain use, mixed-species prediction, errors for people."""

from typing import Any

import pytest
import torch

from cislens.errors import CislensError
from cislens.models.presets import PRESETS, HeadTracks, preset_config
from cislens.models.profile import ProfileModel, build_model

TRACKS = {"yeast": ("a", "b", "c"), "fly": ("d",)}
SMALL: dict[str, Any] = {
    "dim": 24,
    "stem_dim": 12,
    "depth": 1,
    "heads": 2,
    "key_dim": 8,
    "width_multiple": 4,
    "bin_size": 16,
}


def model(preset: str = "space-plus-tiny", crop: int = 2) -> ProfileModel:
    torch.manual_seed(0)
    return build_model(preset_config(preset, TRACKS, crop=crop, **SMALL)).eval()


def random_dna(batch: int, length: int) -> torch.Tensor:
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def test_plain_call_gives_rates_per_track_and_bin() -> None:
    net, x = model(), random_dna(2, 256)
    rates = net(x, "yeast")
    assert rates.shape == (2, 3, 16)
    assert rates.min() >= 0
    torch.testing.assert_close(net(x, "yeast", crop=True), rates[:, :, 2:-2], atol=1e-6, rtol=0)
    assert torch.equal(net.view("yeast")(x), rates)


@pytest.mark.parametrize("crop", [False, True])
def test_rates_of_windows_that_are_already_embedded(crop: bool) -> None:
    net, x = model(), random_dna(3, 256)
    embedding = net.encoder(x, net.species_indices(x, "fly"))
    assert torch.equal(net.rates_of(embedding, "fly", crop), net(x, "fly", crop))
    with pytest.raises(CislensError, match=r"no species 'fy'.*fly"):
        net.rates_of(embedding, "fy")


def test_model_of_one_species_needs_no_name() -> None:
    net = build_model(preset_config("enformer-tiny", {"yeast": ("a",)}, **SMALL)).eval()
    x = random_dna(1, 64)
    assert torch.equal(net(x), net(x, "yeast"))


@pytest.mark.parametrize("preset", ["enformer-tiny", "space-plus-tiny"])
def test_gradient_reaches_every_base(preset: str) -> None:
    net, x = model(preset), random_dna(1, 128).requires_grad_()
    net.view("fly")(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum(dim=1).gt(0).all()


def test_gradient_is_the_finite_difference() -> None:
    net = model("enformer-tiny").double()
    x = random_dna(1, 64).double().requires_grad_()
    direction = torch.randn(
        x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    (gradient,) = torch.autograd.grad(net(x, "fly").sum(), x)
    step = 1e-4
    with torch.no_grad():
        ahead, behind = (net(x + s * step * direction, "fly").sum() for s in (1, -1))
    slope = (ahead - behind).item() / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-5)


def test_predict_sends_each_window_to_its_head_in_batch_order() -> None:
    net, x = model(), random_dna(5, 256)
    species = torch.tensor([1, 0, 1, 0, 1])
    output = net.predict(x, species)
    assert {name: tuple(rate.shape) for name, rate in output.tracks.items()} == {
        "yeast": (2, 12, 3),
        "fly": (3, 12, 1),
    }
    for name, rows in (("yeast", [1, 3]), ("fly", [0, 2, 4])):
        alone = net(x[rows], name, crop=True).transpose(1, 2)
        torch.testing.assert_close(output.tracks[name], alone, atol=1e-6, rtol=1e-5)
    assert output.embedding.values_BND.shape == (5, 16, 48)
    counted = net.predict(x, species, {"yeast": 2, "fly": 3})
    assert torch.equal(counted.tracks["fly"], output.tracks["fly"])


def test_predict_without_a_species_in_the_batch_or_known() -> None:
    net, x = model(), random_dna(3, 256)
    output = net.predict(x, torch.tensor([-1, 1, -1]))
    assert set(output.tracks) == {"fly"}
    assert output.tracks["fly"].shape == (1, 12, 1)
    assert net.predict(x, torch.full((3,), -1)).tracks == {}


def test_the_routing_comes_with_the_prediction() -> None:
    routings = model().predict(random_dna(2, 256), torch.tensor([0, 1])).embedding.routing
    assert [routing.gates_TE.shape[1] for routing in routings] == [8]
    plain = model("enformer-tiny").predict(random_dna(2, 256), torch.tensor([0, 1]))
    assert plain.embedding.routing == ()


def test_rates_are_fp32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output = model().predict(random_dna(2, 256), torch.tensor([0, 0]))
    assert output.tracks["yeast"].dtype == torch.float32


@pytest.mark.parametrize("width", [8, 0])
def test_high_rates_keep_their_digits_in_bf16(width: int) -> None:
    """At 300 the step of bf16 is 2: heads and decoder must not round to it."""
    decoder: Any = {"width": width, "heads": 2} if width else False
    torch.manual_seed(0)
    config = preset_config("space-plus-tiny", TRACKS, crop=2, decoder=decoder, **SMALL)
    net, x, species = build_model(config).eval(), random_dna(2, 256), torch.tensor([0, 0])
    with torch.no_grad():
        net.heads[0].bias.fill_(300.0)
        if net.decoder is not None:
            net.decoder.heads[0].write_UR.normal_(std=0.3)
    exact = net.predict(x, species)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net.predict(x, species)
    spread = exact.tracks["yeast"].std()
    error = (rough.tracks["yeast"] - exact.tracks["yeast"]).abs().max()
    assert spread > 0.02
    assert error < 0.05 * spread
    if net.decoder is not None:
        change = [out.tracks["yeast"] - out.auxiliary["yeast"] for out in (exact, rough)]
        torch.testing.assert_close(
            change[1], change[0], atol=0.02 * float(change[0].std().detach()), rtol=0
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_what_is_added_has_the_type_of_the_model(dtype: torch.dtype) -> None:
    net, x = model().to(dtype), random_dna(1, 128).to(dtype)
    net.add_species("rat", ("x",))
    net.add_head("yeast", ("new",))
    assert {p.dtype for p in net.parameters()} == {dtype}
    assert net(x, "rat").shape == (1, 1, 8)
    assert net(x, "yeast").shape == (1, 4, 8)


def test_tracks_are_not_added_twice() -> None:
    net = model()
    for add in (net.add_head, net.add_species):
        with pytest.raises(CislensError, match="two tracks 'x'"):
            add("yeast" if add == net.add_head else "rat", ("x", "x"))
    assert net.species == ("yeast", "fly")


def test_model_with_a_decoder_is_traced_without_data() -> None:
    with torch.device("meta"):
        net = build_model(preset_config("space-plus-tiny", TRACKS, crop=2, **SMALL))
        rates = net.predict(
            torch.zeros(2, 4, 256), torch.zeros(2, dtype=torch.int64), {"yeast": 2}
        ).tracks["yeast"]
    assert (rates.shape, rates.device.type) == ((2, 12, 3), "meta")


def test_a_decoder_for_a_number_of_bins_sees_the_central_ones_always() -> None:
    tracks = {"yeast": HeadTracks(("a",), ("TF",))}
    net = build_model(preset_config("space-paper-tiny", tracks, crop=2, bins=12, **SMALL)).eval()
    x = random_dna(1, 256)
    assert torch.equal(net.view("yeast")(x), net(x, "yeast", crop=True))
    assert net(x, "yeast").shape == (1, 1, 12)


def test_errors_name_species_and_remedy() -> None:
    net, x = model(), random_dna(1, 64)
    with pytest.raises(CislensError, match=r"several species \(yeast, fly\)"):
        net(x)
    with pytest.raises(CislensError, match="Did you mean 'yeast'"):
        net(x, "yeat")
    with pytest.raises(CislensError, match="no species 'worm'"):
        net.view("worm")
    with pytest.raises(CislensError, match="4 bins of 16 bp and the model crops 2"):
        net(x, "yeast", crop=True)
    with pytest.raises(CislensError, match="has 2 species"):
        net.predict(random_dna(1, 256), torch.tensor([2]))


def test_unknown_keys_name_the_nearest() -> None:
    heads = [{"species": name, "tracks": ids} for name, ids in TRACKS.items()]
    good = {"encoder": {"kind": "enformer", **SMALL}, "heads": heads}
    build_model(good)
    with pytest.raises(CislensError, match=r"unknown key 'head'. Did you mean 'heads'"):
        build_model({**good, "head": {}})
    encoder = {"kind": "enformer", **SMALL, "dept": 3}
    with pytest.raises(CislensError, match=r"dept'. Did you mean 'depth'"):
        build_model({**good, "encoder": encoder})
    with pytest.raises(CislensError, match=r"key 'encoder.enformer.dim' is missing"):
        build_model({**good, "encoder": {"kind": "enformer", "depth": 1, "heads": 1}})
    with pytest.raises(CislensError, match="same order"):
        build_model(
            {**good, "encoder": {"kind": "space-plus", **SMALL, "species": ("fly", "yeast")}}
        )
    with pytest.raises(CislensError, match="tracks"):
        build_model({**good, "heads": [{"species": "fly", "tracks": ()}]})
    with pytest.raises(CislensError, match="'yeast' has two tracks 'a'"):
        build_model({**good, "heads": [*heads, {"species": "yeast", "tracks": ("a",)}]})
    with pytest.raises(CislensError, match="do not point at each other"):
        build_model({**good, "heads": [{**heads[0], "strand_pairs": (1, 2, 0)}]})


def test_presets_build_and_unknown_ones_name_the_nearest() -> None:
    grouped = {name: HeadTracks(ids, ("TF",) * len(ids)) for name, ids in TRACKS.items()}
    for name in PRESETS:
        with torch.device("meta"):
            build_model(preset_config(name, grouped))
    with pytest.raises(CislensError, match="Did you mean 'space-plus-tiny'"):
        preset_config("space-plus-tin", TRACKS)
    with pytest.raises(CislensError, match="Did you mean 'heads'"):
        preset_config("space-plus-tiny", TRACKS, head=3)


def test_tiny_presets_are_small() -> None:
    for name, limit in (("enformer-tiny", 0.4e6), ("space-plus-tiny", 0.6e6)):
        net = build_model(preset_config(name, TRACKS))
        assert sum(p.numel() for p in net.parameters()) < limit
