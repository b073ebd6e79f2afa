import numpy as np
import pytest
import torch
from torch import nn

from cislens.effects.attribution.integrated import baselines, integrated_gradients
from cislens.genome.codes import N, one_hot
from cislens.randomness import generator

LENGTH = 32


@pytest.fixture(scope="module")
def codes():
    found = generator(0, "codes").integers(0, 4, (3, LENGTH)).astype(np.uint8)
    found[0, 3:6] = N
    return found


@pytest.fixture(scope="module")
def module():
    """Curved between two sequences, not only at the bends of a ReLU."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv1d(4, 8, 5, padding=2), nn.GELU(), nn.Flatten(),
            nn.Linear(8 * LENGTH, 4), nn.Softplus(), nn.Linear(4, 1),
        ).eval()  # fmt: skip


def scores(module, codes):
    with torch.inference_mode():
        return module(torch.from_numpy(one_hot(codes)))[:, 0].numpy()


@pytest.mark.parametrize("kind", ["shuffled", "zeros"])
def test_contributions_add_up_to_the_score_less_that_of_the_backgrounds(module, codes, kind):
    base_nKL = baselines(codes, kind, 3, seed=0)
    found = integrated_gradients(module, codes, base_nKL, steps=32, batch_size=7)
    reference = scores(module, base_nKL.reshape(-1, LENGTH)).reshape(3, -1).mean(1)
    total = (found * one_hot(codes)).sum((1, 2))
    gain = scores(module, codes) - reference
    assert np.abs(gain).min() > 1e-3
    assert np.allclose(total, gain, atol=2e-6)


def test_of_a_linear_model_a_base_contributes_what_it_adds_over_the_background(codes):
    w_4L = generator(0, "w").normal(size=(4, LENGTH)).astype(np.float32)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4 * LENGTH, 1, bias=False))
    linear[1].weight.data = torch.from_numpy(w_4L.reshape(1, -1))
    base_nKL = baselines(codes, "shuffled", 2, seed=0)
    found = integrated_gradients(linear, codes, base_nKL, steps=1, batch_size=64)
    usual_n1L = (one_hot(base_nKL) * w_4L).sum(2).mean(1)[:, None]
    assert np.allclose(found, w_4L - usual_n1L, atol=1e-5)


def test_neither_the_batch_nor_the_other_sequences_matter(module, codes):
    base_nKL = baselines(codes, "shuffled", 2, seed=0)
    found = integrated_gradients(module, codes, base_nKL, 8, 64)
    assert np.allclose(found, integrated_gradients(module, codes, base_nKL, 8, 5), atol=1e-6)
    assert np.array_equal(baselines(codes[2:], "shuffled", 2, seed=0), base_nKL[2:])
    assert not np.array_equal(baselines(codes, "shuffled", 2, seed=1), base_nKL)


def test_shuffled_backgrounds_keep_the_bases_and_where_n_is(codes):
    base_nKL = baselines(codes, "shuffled", 4, seed=0)
    assert base_nKL.shape == (3, 4, LENGTH)
    assert ((base_nKL == N) == (codes == N)[:, None]).all()
    assert (np.sort(base_nKL, axis=2) == np.sort(codes, axis=1)[:, None]).all()
    for row in (1, 2):  # without N the dinucleotides are kept
        pairs = [np.bincount(x[:-1] * 4 + x[1:], minlength=16) for x in base_nKL[row]]
        own = np.bincount(codes[row, :-1] * 4 + codes[row, 1:], minlength=16)
        assert (np.array(pairs) == own).all()
    assert not one_hot(baselines(codes, "zeros", 4, seed=0)).any()


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["shuffled", "zeros"])
def test_contributions_are_those_of_captum(module, codes, kind):
    captum = pytest.importorskip("captum.attr")
    base_nKL = baselines(codes, kind, 1, seed=0)
    x, base = (torch.from_numpy(one_hot(each)) for each in (codes, base_nKL[:, 0]))
    theirs = captum.IntegratedGradients(module).attribute(x, base, target=0, n_steps=16)
    ours = integrated_gradients(module, codes, base_nKL, steps=16, batch_size=64)
    assert np.allclose((ours * one_hot(codes)).sum(1), theirs.sum(1).detach(), atol=1e-6)
