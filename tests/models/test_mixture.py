"""Several models around one encoder."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cislens.errors import CislensError
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.genebert.presets import multimodal_config
from cislens.models.mixture import MixtureConfig, MixtureModel, part_of_kind, share_encoder
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.models.saving import load_model, load_profile_model, save_model
from cislens.models.sequence import SequenceModel, SequenceModelConfig

SHAPE: dict[str, Any] = {"dim": 24, "stem_dim": 8, "depth": 1, "heads": 2, "key_dim": 4}


def models() -> tuple[ProfileModel, SequenceModel]:
    profile = build_model(preset_config("space-plus-tiny", {"yeast": ["a", "b"]}, **SHAPE))
    return profile, SequenceModel(SequenceModelConfig(encoder=profile.config.encoder))


@pytest.fixture
def mixture() -> MixtureModel:
    profile, masked = models()
    regions = {"dim": 16, "depth": 1, "heads": 2}
    multimodal = MultimodalModel(
        multimodal_config(
            "space-plus-tiny", ("m1", "m2"), 128, 4, False, "digest", regions=regions,
            encoder=profile.config.encoder.model_dump(),
        )
    )  # fmt: skip
    return MixtureModel.of({"profile": profile, "multimodal": multimodal, "masked": masked})


def test_the_encoder_is_one_and_its_weights_are_there_once(mixture: MixtureModel) -> None:
    parts = list(mixture.parts.values())
    assert all(part.encoder is mixture.encoder for part in parts)
    heads = [{k for k in part.state_dict() if not k.startswith("encoder.")} for part in parts]
    own = set(mixture.encoder.state_dict())
    assert len(mixture.state_dict()) == len(own) + sum(map(len, heads))
    counted = sum(weight.numel() for weight in mixture.parameters())
    apart = sum(
        weight.numel()
        for part in parts
        for name, weight in part.named_parameters()
        if not name.startswith("encoder.")
    )
    assert counted == apart + sum(weight.numel() for weight in mixture.encoder.parameters())


@pytest.mark.parametrize("nested", [False, True])
def test_weights_are_read_strictly_and_reach_every_part(
    mixture: MixtureModel, nested: bool
) -> None:
    """Also as a module of another one, as in a checkpoint."""
    whole: nn.Module = nn.Sequential(mixture) if nested else mixture
    other = copy.deepcopy(whole)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(1.0)
    state = other.state_dict()
    whole.load_state_dict(state)
    for one, two in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    twin = other[0] if isinstance(other, nn.Sequential) else other
    assert isinstance(twin, MixtureModel)
    assert twin.parts["masked"].encoder is twin.encoder
    assert twin.encoder is not mixture.encoder
    missing = {key: value for key, value in state.items() if "encoder." not in key}
    with pytest.raises(RuntimeError, match="Missing key"):
        whole.load_state_dict(missing)


def test_a_model_folder_gives_the_mixture_and_its_profile_part_with_the_same_bits(
    mixture: MixtureModel, tmp_path: Path
) -> None:
    mixture.eval()
    save_model(mixture, tmp_path / "model", "# card")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert set(stored) == set(mixture.state_dict())
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded, MixtureModel)
    assert loaded.config == mixture.config
    assert not any(weight.is_meta for weight in loaded.parameters())
    assert all(part.encoder is loaded.encoder for part in loaded.parts.values())
    x_B4L = nn.functional.one_hot(torch.randint(0, 4, (2, 1024)), 4).transpose(1, 2).float()
    profile = load_profile_model(tmp_path / "model")
    assert torch.equal(profile(x_B4L), mixture.parts["profile"](x_B4L))
    masked = part_of_kind(loaded, SequenceModel)
    assert masked is not None
    assert torch.equal(masked(x_B4L), mixture.parts["masked"](x_B4L))


def test_a_mixture_without_profiles_predicts_none(tmp_path: Path) -> None:
    _, masked = models()
    save_model(MixtureModel.of({"masked": masked}), tmp_path / "model", "# card")
    with pytest.raises(CislensError, match="holds a MixtureModel, which predicts no profiles"):
        load_profile_model(tmp_path / "model")
    assert part_of_kind(masked, SequenceModel) is masked
    assert part_of_kind(masked, ProfileModel) is None


def test_parts_of_other_encoders_are_refused() -> None:
    profile, _ = models()
    other = build_model(preset_config("space-plus-tiny", {"yeast": ["a"]}, **{**SHAPE, "dim": 32}))
    shapes: dict[str, Any] = {
        "profile": profile.config,
        "masked": SequenceModelConfig(encoder=other.config.encoder),
    }
    with pytest.raises(ValueError, match="the encoders of profile, masked differ"):
        MixtureConfig(**shapes)
    with pytest.raises(ValueError, match="at least one part"):
        MixtureConfig()


def test_a_model_takes_another_encoder_and_keeps_its_heads() -> None:
    profile, masked = models()
    head = copy.deepcopy(masked.base_head.state_dict())
    share_encoder(masked, profile.encoder)
    assert masked.encoder is profile.encoder
    assert masked.config.encoder == profile.config.encoder
    assert all(
        torch.equal(head[key], value) for key, value in masked.base_head.state_dict().items()
    )
