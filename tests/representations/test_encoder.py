from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.genome.codes import encode, reverse_complement
from cislens.models.contract import Embedding, Encoder
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel
from cislens.representations.contract import Binned, Tunable, Twinned, Viewed
from cislens.representations.controls import random_first_layer, random_twin, shuffled
from cislens.representations.encoder import EncoderEmbedding
from cislens.representations.pooling import pool

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
        model = ProfileModel(preset_config("space-plus-tiny", {"yeast": ["a"], "human": ["b"]}))
    return EncoderEmbedding(model.encoder, "space-plus-tiny")


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
    assert (twin.kind, twin.name) == ("random", "space-plus-tiny-random")
    assert twin.parameters == space.parameters
    assert twin.digest != space.digest
    assert np.isfinite(twin.embed(_sequences(256), "yeast")).all()


def test_damaged_weights_are_refused() -> None:
    toy = Toy(Width(3))
    with torch.no_grad():
        toy.convolution.weight[0] = float("nan")
    with pytest.raises(CislensError, match="not finite"):
        EncoderEmbedding(toy, "toy").embed(_sequences(16), None)


def test_a_random_first_layer_without_a_config_is_refused() -> None:
    toy = Toy(Width(3))
    del toy.config
    with pytest.raises(CislensError, match="keeps no config"):
        random_first_layer(toy, 0)


def test_views_are_layers_by_poolings_from_input_to_output(space: EncoderEmbedding) -> None:
    assert isinstance(space, Viewed)
    layers = ["embed", "L1", "L2", "out"]
    poolings = ["center", "max", "mean"]
    assert list(space.views) == [f"{layer}.{how}" for layer in layers for how in poolings]
    deep = ProfileModel(preset_config("enformer-tiny", {"yeast": ["a"]}, depth=8))
    blocks = {view.split(".")[0] for view in EncoderEmbedding(deep.encoder, "deep").views}
    assert blocks == {"embed", "L2", "L4", "L6", "L8", "out"}  # a quarter each, of eight
    assert EncoderEmbedding(Toy(Width(3)), "toy").views[-1] == "out.mean"


def test_all_views_cost_one_pass_over_each_strand(
    space: EncoderEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences, passes = _sequences(256, 101), []
    tower = space.encoder.tower.forward
    monkeypatch.setattr(
        space.encoder.tower, "forward", lambda *given: passes.append(0) or tower(*given)
    )
    found = space.embed_views(sequences, "yeast", False, space.views)
    assert len(passes) == 4  # two lengths, two strands
    assert {view: values.shape for view, values in found.items()} == {
        view: (2, 192 if view.startswith("out") else 96) for view in space.views
    }
    assert np.array_equal(found["out.mean"], space.embed(sequences, "yeast"))
    with pytest.raises(CislensError, match=r"no view 'L1\.men'.*Did you mean 'L1\.mean'"):
        space.embed_views(sequences, "yeast", False, ["L1.men"])


def test_an_early_layer_does_not_pay_for_the_later_ones(
    space: EncoderEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the last layer was computed")

    monkeypatch.setattr(space.encoder.pointwise, "forward", fail)
    found = space.embed_views(_sequences(256), None, True, ["embed.mean", "L1.max"])
    assert list(found) == ["embed.mean", "L1.max"]


def test_hidden_layers_follow_from_one_another(space: EncoderEmbedding) -> None:
    """The last of `hidden` is `forward`, and each block turns its predecessor into the next."""
    encoder = space.encoder.eval()
    x = torch.from_numpy(np.eye(4, dtype=np.float32)[_sequences(512)[0]].T[None].copy())
    species = torch.tensor([1])
    with torch.inference_mode():
        layers = dict(zip(encoder.layers, encoder.hidden(x, species), strict=True))
        basis = encoder.basis.table(4, x.device)
        out = layers["out"]
        second, _ = encoder.blocks[1](
            layers["L1"].values_BND, basis, out.valid_BN, None, encoder._code(species), species
        )
        assert torch.equal(encoder(x, species).values_BND, out.values_BND)
        assert torch.equal(encoder.pointwise(layers["L2"].values_BND), out.values_BND)
    assert torch.equal(second, layers["L2"].values_BND)
    assert (len(layers["embed"].routing), len(out.routing)) == (0, 2)


def test_poolings_see_informative_bins_only() -> None:
    values = torch.tensor([[[9.0], [1.0], [2.0], [4.0], [99.0]]])
    valid = torch.tensor([[False, True, True, True, False]])
    embedding = Embedding(values, 8, valid)
    # 40 bp: the middle lies in the middle bin. 32 bp: between the second and the third.
    for length, center in ((40, 2.0), (32, 1.5), (24, 1.0)):
        got = {how: pool(embedding, how, length).item() for how in ("center", "max", "mean")}
        assert got == {"center": center, "max": 4.0, "mean": pytest.approx(7 / 3)}
    ends = Embedding(values, 8, torch.tensor([[True, False, False, False, True]]))
    assert pool(ends, "center", 40).item() == (9 + 99) / 2  # none in the middle: equally near


def test_bins_keep_their_place_on_both_strands(space: EncoderEmbedding) -> None:
    assert isinstance(space, Binned)
    codes = _sequences(300, 300)  # not whole bins of 128
    codes[1][:128] = 4
    stranded = space.embed_bins(codes, "yeast", stranded=True)
    assert stranded.shape == (2, 3, space.encoder.dim)
    assert (stranded[1, 0] == 0).all() and (stranded[1, 1:] != 0).any()
    assert stranded[0].mean(0) == pytest.approx(space.embed(codes[:1], "yeast", True)[0], abs=1e-5)
    padded = np.concatenate([codes[0], np.full(84, 4, np.uint8)])
    flipped = space.embed_bins([reverse_complement(padded)], "yeast", stranded=True)[0, ::-1]
    both = space.embed_bins(codes, "yeast")
    assert both[0] == pytest.approx((stranded[0] + flipped) / 2, abs=1e-6)
    with pytest.raises(CislensError, match="one length, found 256 to 300"):
        space.embed_bins(_sequences(256, 300), None)


def test_the_network_is_a_copy_that_trains(space: EncoderEmbedding) -> None:
    assert isinstance(space, Tunable)
    network = space.network()
    batch = space.collate(_sequences(256, 200), "human")
    values, weight = network.eval()(batch)
    assert values.shape == (2, 2, space.encoder.dim)
    assert weight.tolist() == [[128, 128], [128, 72]]
    before = space.digest
    values.sum().backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    del space.__dict__["digest"]
    assert space.digest == before


def test_adapters_go_on_attention_and_feed_forward(space: EncoderEmbedding) -> None:
    attention = {f"attention.to_{part}" for part in ("q", "k", "v", "out", "rel_k")}
    assert set(space.lora_targets) == attention | {"ffn.shared.0", "ffn.shared.3"}
    dense = ProfileModel(preset_config("enformer-tiny", {"yeast": ["a"]})).encoder
    assert set(EncoderEmbedding(dense, "e").lora_targets) == attention | {"mlp.0", "mlp.3"}


def test_a_shuffled_encoder_has_the_same_numbers_elsewhere(space: EncoderEmbedding) -> None:
    trained = space.encoder.state_dict()
    one, again, other = (shuffled(space.encoder, draw).state_dict() for draw in (0, 0, 1))
    key = "tower.stem.0.weight"
    assert torch.equal(one[key], again[key])
    assert not torch.equal(one[key], other[key])
    for key, value in trained.items():
        assert torch.equal(one[key].flatten().sort()[0], value.flatten().sort()[0]), key


def test_a_random_first_layer_leaves_the_others_alone(space: EncoderEmbedding) -> None:
    trained, mixed = space.encoder.state_dict(), random_first_layer(space.encoder, 0).state_dict()
    changed = {key for key, value in trained.items() if not torch.equal(value, mixed[key])}
    assert changed == {"tower.stem.0.weight", "tower.stem.0.bias"}


def test_controls_are_random_representations(space: EncoderEmbedding) -> None:
    made = [space.control("shuffle", 0), space.control("embed", 0), space.twin(0)]
    assert [each.kind for each in made] == ["random"] * 3
    assert len({each.name for each in made} | {space.name}) == 4
    assert len({each.digest for each in made} | {space.digest}) == 4
    assert {each.parameters for each in made} == {space.parameters}


def test_the_digest_knows_what_no_weight_says() -> None:
    """Positions change the features of a sequence and no tensor of the encoder."""
    digests = set()
    for positions in ("bp", "position"):
        torch.manual_seed(0)
        config = preset_config("enformer-tiny", {"yeast": ["a"]}, positions=positions)
        digests.add(EncoderEmbedding(ProfileModel(config).encoder, "e").digest)
    assert len(digests) == 2


def test_a_summary_is_offered_by_encoders_that_make_one(space: EncoderEmbedding) -> None:
    """It is the default view there; another encoder is told what it has."""

    class Summarizing(Toy):
        summarizes = True

        def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
            embedding = super().forward(x_B4L, species_B)
            return replace(embedding, summary_BD=embedding.mean() + 1)

    embedding, codes = EncoderEmbedding(Summarizing(Width(3)), "toy"), _sequences(16)
    assert embedding.views == ("out.center", "out.max", "out.mean", "out.summary")
    views = embedding.embed_views(codes, None, True, ("out.mean", "out.summary"))
    assert views["out.summary"] == pytest.approx(views["out.mean"] + 1)
    assert (embedding.embed(codes, None, True) == views["out.summary"]).all()
    with pytest.raises(CislensError, match=r"no view 'out.summary'"):
        space.embed_views(codes, None, True, ("out.summary",))
    with pytest.raises(CislensError, match="no pooling 'summary'"):
        pool(Embedding(torch.zeros(1, 2, 3), 8, torch.ones(1, 2, dtype=torch.bool)), "summary", 16)
