from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.genome.codes import encode, reverse_complement
from cislens.models.contract import Embedding, Encoder
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel
from cislens.representations.contract import Twinned
from cislens.representations.encoder import EncoderEmbedding, random_twin

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Width:
    dim: int


class Toy(Encoder):
    """A convolution, a batch norm and mean bins; the species is added to every channel."""

    def __init__(self, config: Width) -> None:
        super().__init__()
        self.config, self.dim, self.bin_size = config, config.dim, 8
        self.species = ("yeast", "human")
        self.convolution = nn.Conv1d(4, config.dim, 5, padding=2)
        self.norm = nn.BatchNorm1d(config.dim)

    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
        pad = -x_B4L.shape[-1] % self.bin_size
        x_B4L = nn.functional.pad(x_B4L, (0, pad))
        called_BN = x_B4L.sum(1).unflatten(-1, (-1, self.bin_size)).amax(-1) > 0
        h_BDL = self.norm(self.convolution(x_B4L))
        values_BND = h_BDL.unflatten(-1, (-1, self.bin_size)).mean(-1).transpose(1, 2)
        assert species_B is not None
        return Embedding(values_BND + species_B[:, None, None], self.bin_size, called_BN)


@pytest.fixture(scope="module")
def space() -> EncoderEmbedding:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ProfileModel(preset_config("space-tiny", {"yeast": ["a"], "human": ["b"]}))
    return EncoderEmbedding(model.encoder, "space-tiny")


def _sequences(*lengths: int) -> list[np.ndarray]:
    return [RNG.integers(0, 4, length).astype(np.uint8) for length in lengths]


def test_features_do_not_depend_on_the_batch_or_the_order(space: EncoderEmbedding) -> None:
    sequences = _sequences(256, 101, 256, 384, 101)
    together = space.embed(sequences, "yeast")
    assert together.shape == (5, space.encoder.dim)
    for row, codes in enumerate(sequences):
        assert together[row] == pytest.approx(space.embed([codes], "yeast")[0], abs=1e-4)


def test_unstranded_features_are_those_of_the_other_strand(space: EncoderEmbedding) -> None:
    sequences = _sequences(256, 200)
    flipped = [reverse_complement(codes) for codes in sequences]
    one, other = space.embed(sequences, None), space.embed(flipped, None)
    assert one == pytest.approx(other, abs=1e-5)
    stranded = space.embed(sequences, None, stranded=True)
    assert (stranded + space.embed(flipped, None, stranded=True)) / 2 == pytest.approx(
        one, abs=1e-5
    )


def test_only_informative_bins_enter_the_mean() -> None:
    embedding = EncoderEmbedding(Toy(Width(3)), "toy")
    codes = _sequences(16)[0]
    gapped = np.concatenate([codes, np.full(64, 4, np.uint8)])
    # The convolution reaches two bases over the border, into N on either side.
    assert embedding.embed([gapped], None, True) == pytest.approx(
        embedding.embed([codes], None, True), rel=1e-5
    )
    with pytest.raises(CislensError, match="sequence 1 holds no called base"):
        embedding.embed([codes, encode("NNNN")], None)


def test_species_are_told_by_name_and_others_are_unknown() -> None:
    embedding = EncoderEmbedding(Toy(Width(3)), "toy")
    codes = _sequences(16)
    yeast, human, worm = (embedding.embed(codes, name) for name in ("yeast", "human", "worm"))
    assert human - yeast == pytest.approx(np.ones((1, 3)), rel=1e-4)
    assert yeast - worm == pytest.approx(np.ones((1, 3)), rel=1e-4)


def test_a_random_twin_has_the_same_shape_and_other_weights(space: EncoderEmbedding) -> None:
    state = torch.random.get_rng_state()
    one, again, other = (random_twin(space.encoder, draw) for draw in (0, 0, 1))
    assert (torch.random.get_rng_state() == state).all()
    trained = space.encoder.state_dict()
    assert type(one) is type(space.encoder)
    assert {k: v.shape for k, v in one.state_dict().items()} == {
        k: v.shape for k, v in trained.items()
    }
    stem = "tower.stem.0.weight"
    key = stem if stem in trained else next(k for k, v in trained.items() if v.ndim == 3)
    assert torch.equal(one.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], trained[key])
    fresh = [v for k, v in one.state_dict().items() if k.endswith("running_var")]
    assert fresh and all((v == 1).all() for v in fresh)


def test_a_twin_without_a_config_is_refused() -> None:
    toy = Toy(Width(3))
    del toy.config
    with pytest.raises(CislensError, match="keeps no config"):
        random_twin(toy, 0)


def test_the_twin_of_a_representation_is_a_random_one(space: EncoderEmbedding) -> None:
    assert isinstance(space, Twinned)
    twin = space.twin(3)
    assert (twin.kind, twin.name) == ("random", "space-tiny-random")
    assert twin.parameters == space.parameters
    assert twin.digest != space.digest
    assert np.isfinite(twin.embed(_sequences(256), "yeast")).all()


def test_damaged_weights_are_refused() -> None:
    toy = Toy(Width(3))
    with torch.no_grad():
        toy.convolution.weight[0] = float("nan")
    with pytest.raises(CislensError, match="not finite"):
        EncoderEmbedding(toy, "toy").embed(_sequences(16), None)
