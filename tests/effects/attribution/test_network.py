import numpy as np
import pytest
import torch
from torch import nn

from cislens.effects.attribution.network import TargetNet
from cislens.effects.attribution.target_parser import parse_target
from cislens.effects.attribution.targets import Probe
from cislens.effects.averaging import Averaging
from cislens.effects.track_model import TrackModel
from cislens.effects.tracks import view_rates
from cislens.errors import CislensError
from cislens.genome.codes import N, one_hot
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.models.registry import build_encoder
from cislens.randomness import generator
from cislens.representations.encoder import EncoderEmbedding
from cislens.signal.datacard import DataCard
from cislens.signal.tracks import Track, track_table

LENGTH = 768
TRACKS = track_table(
    [
        Track("plus", "1.bw", "yeast", strand="+", strand_pair="minus"),
        Track("minus", "2.bw", "yeast", strand="-", strand_pair="plus"),
        Track("open", "3.bw", "yeast"),
    ]
)


@pytest.fixture(scope="module")
def model():
    ids = TRACKS.frame["id"].to_list()
    config = preset_config("space-plus-tiny", {"yeast": ids}, crop=1, dim=24, stem_dim=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_model(config).eval()
    return TrackModel(net, DataCard(LENGTH, TRACKS))


@pytest.fixture(scope="module")
def codes():
    found = generator(0, "codes").integers(0, 4, (3, LENGTH)).astype(np.uint8)
    found[0, 100:140] = N
    return found


def run(module, codes):
    with torch.inference_mode():
        return module(torch.from_numpy(one_hot(codes)))


def net_of(model, text, **options):
    return TargetNet(model, parse_target(text, TRACKS), **options).eval()


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mean()", lambda rates: rates.mean((1, 2))),
        ('mean(id == "plus")', lambda rates: rates[:, :, 0].mean(1)),
        ('bin(id == "minus", -10)', lambda rates: rates[:, 1, 1]),
        ('bin(id == "open", 0)', lambda rates: rates[:, 2, 2]),
        (
            'difference(id == "plus", id == "minus")[0:200]',
            lambda rates: np.log(rates[:, 2:4, 0].mean(1) / rates[:, 2:4, 1].mean(1)),
        ),
    ],
)
def test_a_target_is_that_of_the_predicted_rates(model, codes, text, expected, both):
    pair = torch.as_tensor(TRACKS.strand_permutation())
    rates_BNT = view_rates(model.net, codes, 0, "yeast", pair, Averaging(both))
    assert rates_BNT.shape == (3, 4, 3)  # six bins of 128, one cropped at either side
    # For bins the tracks are the second axis of what is expected above.
    wanted = expected(rates_BNT if "bin" not in text else rates_BNT.transpose(0, 2, 1))
    found = run(net_of(model, text, both_strands=both), codes)
    assert found.shape == (3, 1)
    assert np.allclose(found[:, 0], wanted, rtol=1e-4, atol=1e-5)


def test_over_both_strands_the_reverse_complement_has_the_strands_other_track(model, codes):
    turned = torch.from_numpy(one_hot(codes)).flip(1, 2)
    for one, other in (("plus", "minus"), ("open", "open")):
        here = net_of(model, f'bin(id == "{one}", -100)', both_strands=True)
        there = net_of(model, f'bin(id == "{other}", 99)', both_strands=True)
        with torch.inference_mode():
            assert torch.allclose(run(here, codes), there(turned), atol=1e-6)


def test_a_window_of_broken_bins_is_padded_on_the_right(model, codes):
    short = codes[:, : LENGTH - 50]
    padded = np.concatenate([short, np.full((3, 50), N, np.uint8)], axis=1)
    text = 'mean(id == "plus")'
    assert torch.allclose(
        run(net_of(model, text, both_strands=True), short),
        run(net_of(model, text, both_strands=True), padded),
        atol=1e-6,
    )
    assert net_of(model, text).grid(LENGTH - 50).first == 128 - (LENGTH - 50) // 2


@pytest.mark.parametrize("both", [False, True])
def test_a_probe_scores_as_the_head_on_the_benchs_features(model, codes, both):
    weights = generator(0, "probe").normal(size=model.net.encoder.dim)
    found = run(TargetNet(model, Probe(weights, -1.0), "yeast", both_strands=both), codes)
    features = EncoderEmbedding(model.net.encoder, "m").embed(list(codes), "yeast", not both)
    assert np.allclose(found[:, 0], features @ weights - 1, atol=1e-4)


def test_a_probe_needs_an_encoder_only(codes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = preset_config("findna-plus-tiny", {"yeast": ["a"]}).encoder
        encoder = build_encoder(config).eval()
    weights = np.ones(encoder.dim)
    found = run(TargetNet(encoder, Probe(weights)), codes[1:])
    features = EncoderEmbedding(encoder, "m").embed(list(codes[1:]), None, True)
    assert np.allclose(found[:, 0], features @ weights, atol=1e-3)


def test_one_name_for_each_module_so_that_hooks_are_set_once(model):
    net = net_of(model, "log(mean())")
    named = [module for _, module in net.named_modules(remove_duplicate=False)]
    assert len(named) == len(set(named))


def test_what_does_not_fit_is_refused(model, codes):
    with pytest.raises(CislensError, match=r"'Yeast'.*Did you mean 'yeast'"):
        net_of(model, "mean()", species="Yeast")
    with pytest.raises(CislensError, match=r"6 weights and the model.s embedding 48 channels"):
        TargetNet(model, Probe(np.ones(6)), "yeast")
    with pytest.raises(CislensError, match="says nothing of its tracks"):
        net_of(model.net, "mean()")
    with pytest.raises(CislensError, match="Linear has no encoder"):
        TargetNet(nn.Linear(1, 1), Probe(np.ones(6)))
    with pytest.raises(CislensError, match="256 bp has 2 bins of 128 bp, and the model crops 1"):
        run(net_of(model, "mean()"), codes[:, :256])
    with pytest.raises(CislensError, match=r"no bin lies -300 bp from .* reach from -256 to 256"):
        net_of(model, "bin(, -300)").grid(LENGTH)


@pytest.mark.peers
def test_tangermeme_and_captum_take_the_network_as_it_is(model, codes):
    captum = pytest.importorskip("captum.attr")
    deep = pytest.importorskip("tangermeme.deep_lift_shap")
    mutagenesis = pytest.importorskip("tangermeme.saturation_mutagenesis")
    x = torch.from_numpy(one_hot(codes[1:2]))
    net = net_of(model, 'log(mean(id == "open"))')
    gradient = captum.Saliency(net).attribute(x.clone().requires_grad_(True), target=0, abs=False)
    mine = x.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(net(mine).sum(), mine)
    assert torch.allclose(gradient, expected, atol=1e-7)
    values = mutagenesis.saturation_mutagenesis(
        net, x, start=380, end=383, hypothetical=True, device="cpu"
    )
    changed = x.repeat(4, 1, 1)
    changed[:, :, 381] = torch.eye(4)
    with torch.inference_mode():
        scores = net(changed)[:, 0]
    assert torch.allclose(values[0, :, 1], scores - scores.mean(), atol=1e-5)
    # It has no rule for attention and says so; the values are no exact shares of the score.
    with pytest.warns(RuntimeWarning, match="no DeepLIFT rule"):
        found = deep.deep_lift_shap(
            net, x, n_shuffles=2, device="cpu", hypothetical=True, warning_threshold=1e9
        )
    assert found.shape == x.shape and torch.isfinite(found).all() and found.abs().sum() > 0
