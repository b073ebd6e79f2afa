"""Substitutions scored by recomputing what they reach, against a plain loop over the mutants."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cislens.effects.mutagenesis import Map, ism, mutagenesis, substitutions
from cislens.errors import CislensError
from cislens.genome.codes import Codes, N, one_hot
from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import ProfileModel, build_model

PRESETS = ("space-plus-tiny", "enformer-tiny", "basenji-tiny", "findna-plus-tiny")
PAIR = [1, 0, 2]


def model(preset: str) -> ProfileModel:
    """Two species; no parameter or running statistic at its first, often neutral value."""
    tracks = HeadTracks(["plus", "minus", "both"], strand_pairs=PAIR)
    rng = torch.Generator().manual_seed(5)
    made = build_model(preset_config(preset, {"yeast": tracks, "fly": ["x"]})).eval()
    for parameter in made.parameters():
        size = 1.0 if 4 in parameter.shape[1:2] else 0.1
        parameter.data += size * torch.randn(parameter.shape, generator=rng)
    return made


def sequences(length: int, seed: int = 0) -> Codes:
    codes_nL = np.random.default_rng(seed).integers(0, 4, (2, length)).astype(np.uint8)
    codes_nL[0, :3] = N
    codes_nL[1, length // 2 : length // 2 + 40] = N
    return codes_nL


def plain(score: Callable[[Tensor], Tensor], codes_nL: Codes) -> Map:
    """`ism` of a score of one-hot windows."""

    def predict(windows: tuple[Codes, ...]) -> Map:
        x = torch.from_numpy(one_hot(np.stack(windows)))
        with torch.no_grad():
            parts = [score(x[first : first + 64]) for first in range(0, len(x), 64)]
        found: Map = torch.cat(parts).numpy()
        return found

    return ism(predict, codes_nL)


def score(rates_MTN: Tensor) -> Tensor:
    """Of the order of one, and no linear function of the rates."""
    return rates_MTN.log1p().mean((1, 2))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("length", [129, 300])
def test_equals_the_plain_loop_over_all_mutants(preset: str, length: int) -> None:
    codes_nL = sequences(length)
    net = model(preset)
    view = net.view("yeast")
    got = mutagenesis(view, torch.from_numpy(one_hot(codes_nL)), score)
    want = plain(lambda x: score(view(x)), codes_nL)
    assert got.shape == (2, length, 4)
    assert np.abs(got - want).max() < 1e-4
    assert np.abs(want).max() > 1e-2
    assert not got[codes_nL == N].any()
    np.testing.assert_allclose(got.sum(2), 0, atol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_both_strands_are_averaged_before_the_score(preset: str) -> None:
    net = model(preset)
    bins = net.encoder.bin_size
    codes_nL = sequences(2 * bins + 5)

    def both(x_B4L: Tensor) -> Tensor:
        # The other strand of the window padded to whole bins.
        x_B4L = torch.nn.functional.pad(x_B4L, (0, bins - 5))
        turned = net(x_B4L.flip(1, 2), "yeast").flip(2)[:, PAIR]
        return score((net(x_B4L, "yeast") + turned) / 2)

    x_n4L = torch.from_numpy(one_hot(codes_nL))
    positions = [4, 5, 2 * bins, 2 * bins + 4]
    got = mutagenesis(
        net,
        x_n4L,
        score,
        "yeast",
        both_strands=True,
        strand_pair=PAIR,
        positions=positions,
        batch_size=7,
    )
    want = plain(both, codes_nL)
    assert np.abs(got[:, positions] - want[:, positions]).max() < 1e-4
    assert np.abs(got[:, positions]).max() > 1e-3
    assert not np.delete(got, positions, axis=1).any()


def test_an_encoder_without_a_local_way_is_run_as_it_is() -> None:
    net = model("findna-paper-tiny")
    codes_nL = sequences(90)
    got = mutagenesis(net, torch.from_numpy(one_hot(codes_nL)), score, "fly")
    want = plain(lambda x: score(net(x, "fly")), codes_nL)
    assert np.abs(got - want).max() < 1e-4
    assert np.abs(want).max() > 1e-3


def test_in_fp64_only_rounding_of_fp64_is_left() -> None:
    net = model("basenji-tiny").double()
    codes_nL = sequences(200)
    got = mutagenesis(net, torch.from_numpy(one_hot(codes_nL)), score, "fly", positions=[150])
    want = plain(lambda x: score(net(x.double(), "fly")), codes_nL)
    # The result itself is fp32.
    np.testing.assert_allclose(got[:, 150], want[:, 150], rtol=1e-6, atol=1e-9)


def test_score_of_the_embedding_and_mode_restored() -> None:
    net = model("findna-plus-tiny").train()
    codes_nL = sequences(64)
    x_n4L = torch.from_numpy(one_hot(codes_nL))
    got = substitutions(net.encoder, x_n4L, lambda one, _: one.mean()[:, 3])
    assert net.training and net.encoder.training
    net.eval()
    want = plain(lambda x: net.encoder(x).mean()[:, 3], codes_nL)
    assert np.abs(got - want).max() < 1e-4
    assert np.abs(want).max() > 1e-3


def test_windows_without_a_base_to_replace_are_zero() -> None:
    net = model("space-plus-tiny")
    codes_nL = np.full((2, 300), N, np.uint8)
    x_n4L = torch.from_numpy(one_hot(codes_nL))
    assert not mutagenesis(net, x_n4L, score, "fly").any()
    assert not mutagenesis(net, x_n4L, score, "fly", positions=[]).any()
    assert mutagenesis(net, x_n4L[:0], score, "fly").shape == (0, 300, 4)
    assert not plain(lambda x: x.sum((1, 2)), codes_nL).any()


def test_positions_may_be_an_array() -> None:
    net, x_n4L = model("space-plus-tiny"), torch.from_numpy(one_hot(sequences(129)))
    listed = mutagenesis(net, x_n4L, score, "fly", positions=[5, 7])
    assert np.array_equal(
        mutagenesis(net, x_n4L, score, "fly", positions=np.array([5, 7])),  # type: ignore[arg-type]
        listed,
    )
    assert listed[0, [5, 7]].any()


def test_windows_of_another_shape_and_positions_beyond_their_end_are_refused() -> None:
    net = model("findna-plus-tiny")
    with pytest.raises(CislensError, match=r"\(2, 64, 4\).*expected \(n, 4, L\)"):
        mutagenesis(net, torch.zeros(2, 64, 4), score, "fly")
    with pytest.raises(CislensError, match="position 64 is not in windows of 64 bp"):
        mutagenesis(net, torch.zeros(2, 4, 64), score, "fly", positions=[64])
    with pytest.raises(CislensError, match="several species"):
        mutagenesis(net, torch.zeros(2, 4, 64), score)
