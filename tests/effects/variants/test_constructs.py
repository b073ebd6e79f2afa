import numpy as np
import pytest
import torch

from cislens.effects.track_model import TrackModel
from cislens.effects.variants.constructs import allele_track_effects
from cislens.errors import CislensError
from cislens.genome.codes import N, one_hot, reverse_complement
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.randomness import generator
from cislens.signal.datacard import DataCard
from cislens.signal.tracks import Track, track_table


@pytest.fixture(scope="module")
def model() -> TrackModel:
    torch.manual_seed(0)
    changes = {"dim": 32, "stem_dim": 16, "bin_size": 16, "depth": 1}
    net = build_model(preset_config("enformer-tiny", {"yeast": ["a", "b"]}, crop=0, **changes))
    with torch.no_grad():
        for head in net.heads:
            head.weight *= 20
    tracks = [
        Track("a", "a.bw", "yeast", strand="+", strand_pair="b"),
        Track("b", "b.bw", "yeast", strand="-", strand_pair="a"),
    ]
    return TrackModel(net, DataCard(512, track_table(tracks)))


def pairs(length: int) -> tuple[np.ndarray, np.ndarray]:
    reference = generator(0, "windows").integers(0, 4, (6, length)).astype(np.uint8)
    alternate = reference.copy()
    alternate[:, length // 2] = (alternate[:, length // 2] + 1) % 4
    return reference, alternate


def test_effects_are_differences_of_the_predicted_sums(model: TrackModel) -> None:
    reference, alternate = pairs(512)
    with torch.inference_mode():
        sums = [
            model.net.eval()(torch.from_numpy(one_hot(codes)), "yeast").double().sum(2).numpy()
            for codes in (reference, alternate)
        ]
    found = allele_track_effects(model, reference, alternate, average="none", batch_size=4)
    assert np.allclose(found["difference"], sums[1] - sums[0], atol=1e-5)
    assert np.allclose(found["log_fold"], np.log((1 + sums[1]) / (1 + sums[0])), atol=1e-6)
    assert np.abs(found["log_fold"]).max() > 1e-4
    swapped = allele_track_effects(model, alternate, reference, average="none")
    assert np.allclose(swapped["log_fold"], -found["log_fold"], atol=1e-6)


def test_the_other_strand_says_the_same_of_paired_tracks(model: TrackModel) -> None:
    reference, alternate = pairs(512)
    found = allele_track_effects(model, reference, alternate)
    turned = allele_track_effects(
        model, reverse_complement(reference), reverse_complement(alternate)
    )
    for name, values in found.items():
        assert np.allclose(turned[name][:, ::-1], values, atol=1e-5), name


def test_short_sequences_lie_between_n(model: TrackModel) -> None:
    reference, alternate = pairs(230)
    padded = [
        np.pad(codes, ((0, 0), (141, 141)), constant_values=N) for codes in (reference, alternate)
    ]
    found = allele_track_effects(model, reference, alternate, center=230)
    whole = allele_track_effects(model, *padded)
    assert np.allclose(found["log_fold"], whole["log_fold"], atol=1e-6)
    assert set(found) == {*whole, "log_fold_center", "difference_center"}
    # Bins of N alone do not change, and count in the sums that log_fold compares.
    assert np.allclose(found["difference_center"], found["difference"], atol=1e-5)
    assert (np.abs(found["log_fold_center"]) > np.abs(found["log_fold"])).all()


def test_sequences_that_do_not_pair_or_fit_are_refused(model: TrackModel) -> None:
    reference, alternate = pairs(512)
    with pytest.raises(CislensError, match="pairs of windows"):
        allele_track_effects(model, reference, alternate[:, 1:])
    with pytest.raises(CislensError, match="whole bins of 16 bp"):
        allele_track_effects(model, *pairs(600))
    with pytest.raises(CislensError, match="no species 'yeest'"):
        allele_track_effects(model, reference, alternate, "yeest")
