import numpy as np
import pytest
import torch
from torch import nn

from cislens.effects.attribution.gradients import BothStrands, embedding_gradient, saliency
from cislens.effects.attribution.maps import at_sequence
from cislens.effects.mutagenesis import ism
from cislens.genome.codes import N, one_hot, reverse_complement
from cislens.randomness import generator

LENGTH = 24


class Linear(nn.Module):
    """A weight for each base at each position, two outputs."""

    def __init__(self):
        super().__init__()
        weights = generator(0, "linear").normal(size=(2, 4, LENGTH))
        self.w_TCL = nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, x_B4L):
        return torch.einsum("bcl,tcl->bt", x_B4L, self.w_TCL)


def convolution():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv1d(4, 8, 5, padding=2), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
            nn.Linear(8 * LENGTH, 2),
        )  # fmt: skip


def predict_with(module):
    def predict(sequences):
        module.eval()
        with torch.inference_mode():
            return module(torch.from_numpy(one_hot(np.stack(sequences)))).numpy()

    return predict


@pytest.fixture(scope="module")
def codes():
    found = generator(0, "codes").integers(0, 4, (5, LENGTH)).astype(np.uint8)
    found[0, 3] = N
    return found


def test_of_a_linear_model_saliency_and_mutagenesis_are_its_centered_weights(codes):
    module = Linear()
    w_4L = module.w_TCL.detach().numpy()[1]
    planted = np.where(codes == N, 0, (w_4L - w_4L.mean(0))[np.minimum(codes, 3), range(LENGTH)])
    assert np.allclose(saliency(module, codes, output=1), planted, atol=1e-6)
    values = ism(predict_with(module), codes, output=1)
    assert np.allclose(at_sequence(values, codes), planted, atol=1e-5)
    assert np.allclose(values[1], (w_4L - w_4L.mean(0)).T, atol=1e-5)
    assert np.abs(values.sum(2)).max() < 1e-5 and not values[0, 3].any()


def test_mutagenesis_of_any_function_is_what_each_substitution_does(codes):
    def predict(sequences):
        return np.array([float((s[:-1] * 5 + s[1:]) @ np.arange(LENGTH - 1)) for s in sequences])

    values = ism(predict, codes)
    for row, position, base in ((1, 0, 2), (2, 7, 0), (4, LENGTH - 1, 3)):
        scores = []
        for other in range(4):
            changed = codes[row].copy()
            changed[position] = other
            scores.append(predict([changed])[0])
        assert values[row, position, base] == pytest.approx(
            scores[base] - np.mean(scores), rel=1e-5
        )


def test_attributions_leave_the_network_as_it_was(codes):
    module = convolution().train()
    first = saliency(module, codes)
    assert module.training and module[0].weight.grad is None
    assert np.array_equal(saliency(module, codes), first)  # no dropout
    assert np.allclose(saliency(module, codes, batch_size=2), first, atol=1e-6)


def test_over_both_strands_the_map_of_the_reverse_complement_is_the_map_turned(codes):
    module = BothStrands(convolution())
    turned = saliency(module, reverse_complement(codes))
    assert np.allclose(turned[:, ::-1], saliency(module, codes), atol=1e-6)
    assert not np.allclose(
        saliency(module.module, reverse_complement(codes))[:, ::-1], saliency(module, codes)
    )


def test_the_bins_of_an_output_are_summed(codes):
    class Profile(nn.Module):
        def forward(self, x_B4L):
            return Linear.forward(linear, x_B4L)[:, :, None] * torch.tensor([0.25, 0.75])

    linear = Linear()
    assert np.allclose(saliency(Profile(), codes), saliency(linear, codes), atol=1e-6)


def test_the_gradient_at_an_embedding_is_copied_to_its_bases():
    weights = torch.tensor([3.0, 4.0])

    def head(values_BND):
        return (values_BND @ weights * torch.tensor([1.0, 2.0])).sum(1)

    module = nn.Module()
    module.forward = head
    norms = embedding_gradient(module, torch.zeros(1, 2, 2), bin_size=3, length=5)
    assert norms.tolist() == [[5, 5, 5, 10, 10]]


@pytest.mark.peers
def test_saliency_and_mutagenesis_are_those_of_tangermeme(codes):
    tangermeme = pytest.importorskip("tangermeme.saliency")
    mutagenesis = pytest.importorskip("tangermeme.saturation_mutagenesis")
    module = convolution().eval()
    x_B4L = torch.from_numpy(one_hot(codes[1:]))
    theirs = tangermeme.saliency(module, x_B4L, target=1, device="cpu").sum(1).numpy()
    assert np.allclose(saliency(module, codes[1:], output=1), theirs, atol=1e-6)
    theirs = mutagenesis.saturation_mutagenesis(
        module, x_B4L, target=1, hypothetical=True, device="cpu"
    ).numpy()
    ours = ism(predict_with(module), codes[1:], output=1)
    assert np.allclose(ours.transpose(0, 2, 1), theirs, atol=1e-5)


@pytest.mark.peers
def test_saliency_is_the_projection_of_captums_gradient(codes):
    captum = pytest.importorskip("captum.attr")
    module = convolution().eval()
    x_B4L = torch.from_numpy(one_hot(codes)).requires_grad_(True)
    gradient = captum.Saliency(module).attribute(x_B4L, target=0, abs=False)
    corrected = (gradient - gradient.mean(1, keepdim=True)) * x_B4L
    assert np.allclose(saliency(module, codes), corrected.sum(1).detach().numpy(), atol=1e-6)
