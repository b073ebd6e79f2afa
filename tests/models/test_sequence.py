"""A model of sequences around any encoder: bases told, nothing leaked, a folder that comes back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cislens.errors import CislensError
from cislens.models.bases import BaseDecoder, before_padding
from cislens.models.presets import PRESETS, encoder_config, preset_config
from cislens.models.profile import ProfileModel
from cislens.models.saving import load_model, load_profile_model, save_model
from cislens.models.sequence import SequenceModel, SequenceModelConfig

TINY = [name for name in PRESETS if name.endswith("-tiny")]
BINS = ["enformer-tiny", "space-plus-tiny", "basenji-tiny"]


def model(name: str, species: tuple[str, ...] = ("yeast", "fly"), **changes: Any) -> SequenceModel:
    torch.manual_seed(0)
    encoder = encoder_config(name, species, **changes)
    made = SequenceModel(SequenceModelConfig(encoder=encoder)).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return made


def random_dna(batch: int, length: int, seed: int = 3) -> Tensor:
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(codes, 4).transpose(1, 2).float()


@pytest.mark.parametrize("name", TINY)
def test_every_encoder_tells_bases_and_sees_no_hidden_one(name: str) -> None:
    """The logits of all bases stay the same bits when the true bases under the mask change."""
    net, x, other = model(name), random_dna(2, 150), random_dna(2, 150, seed=8)
    hidden = torch.rand(2, 150, generator=torch.Generator().manual_seed(5)) < 0.2
    hidden[:, 40:60] = True
    species = torch.tensor([0, -1])
    logits = net.base_logits(net.read(x, hidden, species))
    assert logits.shape == (2, 150, 4)
    assert logits.isfinite().all()
    for shown in (torch.where(hidden[:, None], other, x), x.masked_fill(hidden[:, None], 0.0)):
        assert torch.equal(net.base_logits(net.read(shown, hidden, species)), logits)
    assert not torch.equal(net(x, species), net(other, species))


@pytest.mark.parametrize("name", BINS)
def test_padding_changes_no_base(name: str) -> None:
    """To 1e-4: the encoders' own tolerance. Other rows change nothing either."""
    net, x = model(name), random_dna(1, 150)
    alone = net(x)
    beside = net(torch.cat([random_dna(1, 256, seed=4), torch.nn.functional.pad(x, (0, 106))]))
    torch.testing.assert_close(beside[1, :150], alone[0], atol=1e-4, rtol=1e-4)


def test_what_follows_the_last_called_base_is_padding() -> None:
    x = random_dna(3, 9)
    assert before_padding(x) is None
    x[0, :, 3:5] = 0
    x[1, :, 6:] = 0
    x[2] = 0
    inside = before_padding(x)
    assert inside is not None
    assert inside.sum(dim=1).tolist() == [9, 6, 0]
    assert inside[1].tolist() == [True] * 6 + [False] * 3


def test_the_decoder_stays_small_for_wide_encoders_of_long_bins() -> None:
    """D = 1,536 and bins of 128 bp: 0.37 million weights, where one matrix would have 6.3."""
    with torch.device("meta"):
        head = BaseDecoder(1536, 128)
    assert sum(weight.numel() for weight in head.parameters()) < 400_000


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("findna-plus-tiny", {"block": "gated"}),
        ("findna-plus-tiny", {"block": "mixer", "rc_equivariant": True}),
        ("findna-paper-tiny", {}),
        ("space-plus-tiny", {}),
        ("genebert-plus-tiny", {}),
    ],
    ids=["gated", "mixer", "paper", "space", "genebert"],
)
def test_a_folder_comes_back_exactly(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    net = model(name, **changes)
    save_model(net, tmp_path / "model", "# A card\n")
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded, SequenceModel)
    assert loaded.config == net.config
    assert loaded.species == net.species
    x = random_dna(2, 130)
    assert torch.equal(loaded(x), net(x))
    save_model(loaded, tmp_path / "again", "# A card\n")
    first, again = (tmp_path / name / "model.safetensors" for name in ("model", "again"))
    assert first.read_bytes() == again.read_bytes()
    with pytest.raises(CislensError, match="SequenceModel, which predicts no profiles"):
        load_profile_model(tmp_path / "model")


def test_weights_under_another_configuration_are_refused(tmp_path: Path) -> None:
    """The shapes fit; the dilations of the blocks do not."""
    net = model("findna-plus-tiny")
    net.encoder.offsets.table += 1
    save_model(net, tmp_path / "model", "# A card\n")
    with pytest.raises(CislensError, match=r"trained with dilations 2, 3, 5, 9, this model has 1"):
        load_model(tmp_path / "model")


def test_its_encoder_fits_into_a_profile_model() -> None:
    net = model("findna-plus-tiny")
    profiles = ProfileModel(preset_config("findna-plus-tiny", {"yeast": ("a",)})).eval()
    profiles.encoder.load_state_dict(net.encoder.state_dict())
    x = random_dna(1, 80)
    assert torch.equal(profiles.encoder(x).values_BND, net.encoder(x).values_BND)
