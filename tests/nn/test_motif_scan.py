import numpy as np
import pytest
import torch

from cislens.genome.codes import N, one_hot, reverse_complement
from cislens.motifs.scan import log_odds, occupancy
from cislens.motifs.sites import Motif
from cislens.nn.motif_scan import MotifScan
from cislens.randomness import generator


@pytest.fixture(scope="module")
def motifs():
    rng = generator(0, "motifs")
    widths = rng.permutation(np.tile(np.arange(4, 25), 2))
    return [Motif(f"m{i}", rng.dirichlet(np.full(4, 0.3), w)) for i, w in enumerate(widths)]


@pytest.fixture(scope="module")
def codes():
    found = generator(0, "codes").integers(0, 4, (8, 300)).astype(np.uint8)
    found[1, 100] = N
    found[2, :285] = N
    found[3] = N
    return found


def scanned(motifs, codes, device="cpu", autocast=False):
    module = MotifScan([log_odds(motif) for motif in motifs]).to(device)
    x_B4L = torch.from_numpy(one_hot(codes)).to(device)
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        return module(x_B4L.bfloat16() if autocast else x_B4L).cpu().numpy()


def test_the_convolution_finds_what_the_tables_find(motifs, codes):
    wanted = occupancy(codes, motifs)
    found = scanned(motifs, codes)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    assert np.isnan(found[3]).all() and np.isnan(found[2]).any() and not np.isnan(found[2]).all()
    assert np.nanmax(np.abs(found - wanted)) < 1e-4
    turned = scanned(motifs, reverse_complement(codes))
    assert np.nanmax(np.abs(turned - found)) < 1e-4


def test_autocast_and_half_precision_inputs_change_nothing(motifs, codes):
    """One-hot is exact in bfloat16, and the rest stays in float32."""
    wanted = occupancy(codes, motifs)
    assert np.nanmax(np.abs(scanned(motifs, codes, autocast=True) - wanted)) < 1e-4
    # What rounding the weights would do: the guard can fail.
    rounded = [torch.from_numpy(log_odds(m)).bfloat16().double().numpy() for m in motifs]
    module = MotifScan(rounded)
    off = module(torch.from_numpy(one_hot(codes))).numpy()
    assert np.nanmax(np.abs(off - wanted)) > 1e-3


def test_it_computes_with_cudnn_and_without_tf32(motifs, codes, monkeypatch):
    seen = set()
    convolve = torch.nn.functional.conv1d

    def watched(*given):
        seen.add((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return convolve(*given)

    monkeypatch.setattr(torch.nn.functional, "conv1d", watched)
    scanned(motifs, codes)
    assert seen == {(True, False)}


def test_nothing_is_learned_or_saved(motifs):
    module = MotifScan([log_odds(motif) for motif in motifs])
    assert not list(module.parameters()) and not module.state_dict()


@pytest.mark.gpu
def test_the_gpu_finds_what_the_tables_find(motifs, codes):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    wanted = occupancy(codes, motifs)
    for autocast in (False, True):
        found = scanned(motifs, codes, "cuda", autocast)
        assert np.nanmax(np.abs(found - wanted)) < 1e-4
