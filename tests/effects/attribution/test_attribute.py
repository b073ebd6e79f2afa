import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import cislens
from cislens.effects.attribution.attribute import Attributions, attribute
from cislens.effects.attribution.entropy import entropy_map
from cislens.effects.attribution.gradients import BothStrands, saliency
from cislens.effects.attribution.maps import at_sequence
from cislens.effects.attribution.network import TargetNet
from cislens.effects.attribution.target_parser import parse_target
from cislens.effects.attribution.targets import write_probe
from cislens.effects.mutagenesis import ism
from cislens.effects.track_model import TrackModel
from cislens.errors import CislensError
from cislens.genome.codes import N, one_hot, reverse_complement
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.models.saving import save_model
from cislens.models.sequence import SequenceModel, SequenceModelConfig
from cislens.randomness import generator
from cislens.representations.language import language_model
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.tracks import Track, track_table

LENGTH = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained model of one track, whose large weights let every base count."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_model(
            preset_config("space-plus-tiny", {"yeast": ["a"]}, crop=0, dim=24, stem_dim=8)
        )
    with torch.no_grad():
        for weight in net.encoder.parameters():
            weight.mul_(1.5 if weight.ndim > 1 else 1)
        for weight in net.heads.parameters():
            weight.mul_(10)
    folder = tmp_path_factory.mktemp("lively") / "model"
    card = DataCard(LENGTH, track_table([Track("a", "a.bw", "yeast")]))
    save_model(net, folder, "# untrained\n", {FILE_NAME: card.to_json()})
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return TrackModel.load(folder)


@pytest.fixture(scope="module")
def codes():
    found = generator(0, "codes").integers(0, 4, (2, LENGTH)).astype(np.uint8)
    found[0, 30:33] = N
    return found


@pytest.fixture(scope="module")
def language():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = preset_config("findna-plus-tiny", {"yeast": ["a"]}).encoder
        return SequenceModel(SequenceModelConfig(encoder=encoder)).eval()


class Counts(nn.Module):
    """Two outputs of two bins each: a weight for each base at each position."""

    def __init__(self):
        super().__init__()
        weights = generator(0, "weights").normal(size=(2, 2, 4, LENGTH))
        self.w_TNCL = nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, x_B4L):
        return torch.einsum("bcl,tncl->btn", x_B4L, self.w_TNCL)


def predict_with(module):
    def predict(sequences):
        with torch.inference_mode():
            return module(torch.from_numpy(one_hot(np.stack(sequences)))).numpy()

    return predict


@pytest.mark.parametrize("method", ["saliency", "ism", "integrated_gradients"])
def test_of_a_linear_network_the_contributions_are_its_weights(codes, method):
    module = Counts()
    found = attribute(module, one_hot(codes), 1, method, average="none", baseline="zeros", steps=2)
    w_4L = module.w_TNCL.detach().numpy()[1].sum(0)
    usual = 0 if method == "integrated_gradients" else w_4L.mean(0)  # of zeros, there is none
    expected = np.where((codes == N)[:, None], 0, w_4L - usual)
    assert np.allclose(found.hypothetical, expected, atol=2e-5)
    assert np.allclose(found.contributions, expected * one_hot(codes), atol=2e-5)
    assert np.allclose(found.per_base, (expected * one_hot(codes)).sum(1), atol=2e-5)
    assert found.hypothetical.dtype == np.float32 and found.target == "output 1"
    assert np.allclose(found.score, (one_hot(codes) * w_4L).sum((1, 2)), atol=1e-4)


def test_saliency_and_mutagenesis_of_a_model_are_those_of_its_target(model, codes):
    net = TargetNet(model, parse_target("log(mean())", model.tracks("yeast")), both_strands=True)
    found = attribute(model, one_hot(codes), "log(mean())")
    assert np.allclose(found.per_base, saliency(net, codes), atol=1e-6)
    assert (found.method, found.target) == ("saliency", "log(mean())")
    assert np.abs(found.hypothetical.sum(1)).max() < 1e-5
    assert np.isnan(found.reference).all()
    assert np.allclose(found.score, predict_with(net)(tuple(codes))[:, 0], atol=1e-6)
    short = codes[:, 96:160]
    found = attribute(model, one_hot(short), "log(mean())", "ism")
    assert np.allclose(found.per_base, at_sequence(ism(predict_with(net), short), short), atol=1e-5)


def test_integrated_gradients_of_a_model_without_experts_are_complete(codes, caplog):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_model(preset_config("findna-plus-tiny", {"yeast": ["a"]}, crop=0))
    with torch.no_grad():
        for weight in net.heads.parameters():
            weight.mul_(10)
    card = DataCard(LENGTH, track_table([Track("a", "a.bw", "yeast")]))
    found = attribute(
        TrackModel(net, card), one_hot(codes), "mean()", "integrated_gradients", backgrounds=2
    )
    gain = found.score - found.reference
    assert np.abs(gain).min() > 1e-3
    assert np.allclose(found.per_base.sum(1), gain, rtol=0.002)
    assert np.allclose(found.missing, gain - found.per_base.sum(1))
    assert "contributions lack" not in caplog.text


def test_a_jump_that_no_gradient_sees_is_told(codes, caplog):
    class Jump(Counts):
        def forward(self, x_B4L):
            total = Counts.forward(self, x_B4L)[:, 0].sum(1, keepdim=True)
            return total + 100 * (x_B4L.sum((1, 2)) > LENGTH / 2)[:, None]

    found = attribute(
        Jump(), one_hot(codes), 0, "integrated_gradients", baseline="zeros", average="none"
    )
    assert np.allclose(found.missing, 100, atol=0.01)
    assert "contributions lack" in caplog.text and "from one expert to another" in caplog.text


def test_scores_that_do_not_differ_lack_no_share_of_nothing(codes, caplog):
    """A value of 0 everywhere, with gradients: what is lacking is no share of a difference of 0."""

    class Still(Counts):
        def forward(self, x_B4L):
            total = Counts.forward(self, x_B4L)
            return total - total.detach()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = attribute(Still(), one_hot(codes), 0, "integrated_gradients", average="none")
    assert np.abs(found.missing).max() > 1
    assert "of the 0 by which the scores differ" in caplog.text


def test_mutagenesis_of_some_positions_is_that_of_all_of_them_cut(model, codes):
    some = [3, 17, 40]
    for given, target, options in [
        (model, "log(mean())", {}),
        (Counts(), 1, {"average": "none"}),
    ]:
        x = one_hot(codes)
        whole = attribute(given, x, target, "ism", **options)
        part = attribute(given, x, target, "ism", positions=some, **options)
        rest = np.delete(np.arange(x.shape[2]), some)
        assert np.allclose(part.hypothetical[..., some], whole.hypothetical[..., some], atol=1e-5)
        assert not part.hypothetical[..., rest].any()
        assert np.array_equal(part.score, whole.score)
        with pytest.raises(CislensError, match=f"position {x.shape[2]} is not in windows"):
            attribute(given, x, target, "ism", positions=[x.shape[2]], **options)
    with pytest.raises(CislensError, match="leave them out of saliency"):
        attribute(model, x, "mean()", positions=some)


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "ism"])
def test_over_both_strands_the_reverse_complement_has_the_same_map_turned(model, codes, method):
    options = {"baseline": "zeros", "steps": 4}
    here = attribute(model, one_hot(codes), "log(bin(, 1))", method, **options)
    turned = one_hot(reverse_complement(codes))
    there = attribute(model, turned, "log(bin(, -2))", method, **options)  # the base across
    scale = np.abs(here.hypothetical).max()
    assert scale > 1e-3
    assert np.allclose(here.hypothetical, there.hypothetical[:, ::-1, ::-1], atol=0.01 * scale)
    one = attribute(model, one_hot(codes), "log(bin(, 1))", method, average="none", **options)
    assert np.abs(here.hypothetical - one.hypothetical).max() > 0.1 * scale


def test_a_folder_a_model_and_a_tensor_give_the_same(model, folder, codes):
    x = torch.from_numpy(one_hot(codes))
    expected = attribute(model, one_hot(codes), "mean()", batch_size=1)
    for given in (folder, str(folder.parent), model):
        found = cislens.attribute(given, x, "mean()")
        assert np.allclose(found.hypothetical, expected.hypothetical, atol=1e-7)
    assert isinstance(found, Attributions) and np.array_equal(found.one_hot, one_hot(codes))


def test_the_model_is_left_as_it_was(model, codes):
    model.net.train()
    model.net.encoder.tower.eval()
    first = attribute(model, one_hot(codes), "mean()")
    assert model.net.training and not model.net.encoder.tower.training
    assert all(p.grad is None and p.requires_grad for p in model.net.parameters())
    model.net.eval()
    assert np.array_equal(
        attribute(model, one_hot(codes), "mean()").hypothetical, first.hypothetical
    )


def test_the_entropy_map_of_a_folder_and_of_its_model(language, codes, tmp_path):
    short = codes[:, 20:52]
    save_model(language, tmp_path / "model", "# untrained\n")
    expected = entropy_map(language_model(language, "m"), short, None)
    language.train()
    for given in (language, tmp_path / "model", tmp_path, language_model(language.eval(), "m")):
        found = attribute(given, one_hot(short), method="entropy")
        assert np.allclose(found.per_base, expected, atol=1e-5)
        called = one_hot(short).any(1)[:, None]
        assert np.allclose(found.hypothetical, expected[:, None] * called, atol=1e-5)
        assert np.isnan(found.score).all()
    assert expected.max() > 0
    one = attribute(language, one_hot(short), method="entropy", average="none")
    assert np.allclose(
        one.per_base, entropy_map(language_model(language, "m"), short, None, True), atol=1e-5
    )


def test_a_head_for_bases_that_was_never_trained_has_no_entropy_map(language, codes, tmp_path):
    save_model(language, tmp_path / "model", "# untrained\n")
    objective = {"name": "distillation", "masked": 0.0}
    recipe = {"store": "s", "model": "own", "training": {"steps": 1}, "objective": objective}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    with pytest.raises(CislensError, match="no head that was trained to tell hidden bases"):
        attribute(tmp_path, one_hot(codes), method="entropy")


def test_a_probe_on_a_model_without_tracks(language, codes, tmp_path):
    weights = generator(0, "probe").normal(size=language.encoder.dim)
    write_probe(tmp_path / "probe.npz", weights)
    save_model(language, tmp_path / "model", "# untrained\n")
    text = f"probe({tmp_path / 'probe.npz'})[-20:20]"
    found = attribute(language, one_hot(codes), text)
    again = attribute(tmp_path, one_hot(codes), text)
    assert np.allclose(found.hypothetical, again.hypothetical, atol=1e-6)
    assert np.abs(found.per_base).max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 5, 8))}, r"shape \(2, 5, 8\); expected \(n, 4, L\)"),
        ({"x": np.zeros((0, 4, 8))}, "none of it 0"),
        ({"x": np.full((1, 4, 8), 0.25)}, "sequence 0 is not one-hot"),
        ({"x": np.ones((1, 4, 8))}, "sequence 0 is not one-hot"),
        ({"method": "salience"}, "no method 'salience'. Did you mean 'saliency'"),
        ({"average": "shift"}, "average is 'shift', expected rc or none"),
        ({"steps": 0}, "must each be at least 1"),
        ({"target": None}, "a target is needed"),
        ({"target": 3}, "state a target of .* in words"),
        ({"target": 'mean(id == "b")'}, "no track of 1 matches"),
        ({"target": "bin(, 4000)"}, "no bin lies 4000 bp"),
        ({"species": "fly"}, "no species 'fly'"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"method": "entropy"}, "has no target"),
        ({"method": "entropy", "target": None}, "TrackModel has no head that was trained"),
    ],
)
def test_what_cannot_be_explained_is_refused(model, codes, change, message):
    options = {"target": "mean()", "x": one_hot(codes)} | change
    with pytest.raises(CislensError, match=message):
        attribute(model, options.pop("x"), options.pop("target"), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(model, codes):
    with pytest.raises(CislensError, match="0 GPUs"):
        attribute(model, one_hot(codes), "mean()", device="cuda")


def test_an_output_that_is_not_there_and_values_that_are_not_finite(codes):
    module = Counts()
    with pytest.raises(CislensError, match="no output 2; the network has 2"):
        attribute(module, one_hot(codes), 2)
    module.w_TNCL.data[0, 0, 2, 100] = torch.nan
    with pytest.raises(CislensError, match="not finite"):
        attribute(module, one_hot(codes), 0)


@pytest.mark.gpu
def test_on_a_gpu_the_same_comes_out_and_the_model_comes_back(model, codes):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for method in ("saliency", "integrated_gradients"):
        here, there = (
            attribute(model, one_hot(codes), "mean()", method, device=device, steps=4)
            for device in ("cpu", "cuda")
        )
        scale = np.abs(here.hypothetical).max()
        assert np.allclose(here.hypothetical, there.hypothetical, atol=1e-3 * scale)
    assert next(model.net.parameters()).device.type == "cpu"


@pytest.mark.peers
def test_methods_of_captum_on_the_network_are_ours(model, codes):
    captum = pytest.importorskip("captum.attr")
    x = torch.from_numpy(one_hot(codes))
    tracks = model.tracks("yeast")
    net = TargetNet(model, parse_target("log(mean())", tracks), both_strands=True).eval()
    theirs = captum.IntegratedGradients(net).attribute(x, target=0, n_steps=12)
    ours = attribute(model, x, "log(mean())", "integrated_gradients", baseline="zeros", steps=12)
    assert np.allclose(ours.contributions, theirs.detach().numpy(), atol=1e-5)
    one_strand = model.net.view("yeast").eval()
    gradient = captum.Saliency(BothStrands(one_strand)).attribute(
        x.clone().requires_grad_(True), target=0, abs=False
    )
    # The view's bins are summed, the mean is over them: 2 bins of 128.
    ours = attribute(model, x, "mean()").hypothetical
    called = x.amax(1, keepdim=True)
    corrected = (gradient - gradient.mean(1, keepdim=True)) / 2 * called
    assert np.allclose(ours, corrected.detach().numpy(), atol=1e-6)


@pytest.mark.peers
def test_mutagenesis_is_that_of_tangermeme(model, codes):
    mutagenesis = pytest.importorskip("tangermeme.saturation_mutagenesis")
    x = torch.from_numpy(one_hot(codes[1:, :64]))
    net = TargetNet(model, parse_target("log(mean())", model.tracks("yeast")), both_strands=True)
    theirs = mutagenesis.saturation_mutagenesis(net, x, hypothetical=True, device="cpu").numpy()
    ours = attribute(model, x, "log(mean())", "ism").hypothetical
    assert np.allclose(ours, theirs, atol=1e-5)
