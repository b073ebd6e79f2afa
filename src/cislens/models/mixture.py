"""Several models around one encoder, each trained for its own objective."""

from collections.abc import Mapping
from typing import Any, Self, TypeVar, cast

from pydantic import model_validator
from torch import Tensor, nn

from cislens.models.contract import Encoder
from cislens.models.genebert.multimodal import MultimodalConfig, MultimodalModel
from cislens.models.profile import ProfileModel, ProfileModelConfig
from cislens.models.registry import AnyEncoderConfig
from cislens.models.sequence import SequenceModel, SequenceModelConfig
from cislens.recipes.reading import Section

PartModel = ProfileModel | MultimodalModel | SequenceModel
PartConfig = ProfileModelConfig | MultimodalConfig | SequenceModelConfig
Kind = TypeVar("Kind", ProfileModel, MultimodalModel, SequenceModel)

_CLASSES: dict[str, Any] = {
    "profile": ProfileModel,
    "multimodal": MultimodalModel,
    "masked": SequenceModel,
    "distillation": SequenceModel,
}


class MixtureConfig(Section):
    """The models of a mixture by the objective that each is trained for.

    All of them name the same encoder.
    """

    profile: ProfileModelConfig | None = None
    multimodal: MultimodalConfig | None = None
    masked: SequenceModelConfig | None = None
    distillation: SequenceModelConfig | None = None

    @model_validator(mode="after")
    def _one_encoder(self) -> Self:
        if not self.parts:
            raise ValueError("a mixture has at least one part")
        if any(part.encoder != self.encoder for part in self.parts.values()):
            raise ValueError(f"the encoders of {', '.join(self.parts)} differ; they share one")
        return self

    @property
    def parts(self) -> dict[str, PartConfig]:
        """Those that are there, by name."""
        given = {name: getattr(self, name) for name in _CLASSES}
        return {name: part for name, part in given.items() if part is not None}

    @property
    def encoder(self) -> AnyEncoderConfig:
        """Shape of the encoder."""
        return next(iter(self.parts.values())).encoder


class MixtureModel(nn.Module):
    """Models that are whole each, and have one encoder in common.

    The encoder's weights are in `state_dict` once.

    Args:
        parts: models for the parts of `config`; fresh ones unless given. All but the first lose
            their own encoder.

    Attributes:
        encoder: like that of any other model once trained.
        parts: the models by the name of their objective, with this very encoder.
    """

    def __init__(self, config: MixtureConfig, parts: Mapping[str, PartModel] | None = None) -> None:
        super().__init__()
        self.config = config
        if parts is None:
            parts = {name: _CLASSES[name](part) for name, part in config.parts.items()}
        self.encoder: Encoder = next(iter(parts.values())).encoder
        for part in parts.values():
            part.encoder = self.encoder
        self.parts = nn.ModuleDict(parts)
        self.register_state_dict_post_hook(_leave_out)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_repeat)  # type: ignore[no-untyped-call]

    @classmethod
    def of(cls, parts: Mapping[str, PartModel]) -> "MixtureModel":
        """A mixture of built models, around the encoder of the first.

        What a model says of its encoder is that of its own one; it is put right here.
        """
        encoder = next(iter(parts.values())).encoder
        for part in parts.values():
            if part.encoder is encoder:
                share_encoder(part, encoder)
        shapes: dict[str, Any] = {name: part.config for name, part in parts.items()}
        return cls(MixtureConfig(**shapes), parts)

    @property
    def species(self) -> tuple[str, ...]:
        """Species that the encoder tells apart, in the order of their indices."""
        return self.encoder.species


def part_of_kind(model: nn.Module, kind: type[Kind]) -> Kind | None:
    """The model itself, or the first part of a mixture, that is of a kind; None without one."""
    found = model.parts.values() if isinstance(model, MixtureModel) else (model,)
    return next((part for part in found if isinstance(part, kind)), None)


def share_encoder(model: PartModel, encoder: Encoder) -> None:
    """Give a model another encoder than its own, of the same shape; its heads stay."""
    model.encoder = encoder
    shape: Any = getattr(encoder, "config")  # noqa: B009 - of every class of encoder
    model.config = model.config.model_copy(update={"encoder": shape})


def _leave_out(module: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Drop the encoder from what each part says of its weights."""
    for key in [key for key in state if _owner(key, prefix) is not None]:
        del state[key]


def _repeat(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Tell every part the weights of the encoder."""
    own = f"{prefix}encoder."
    for key in [key for key in state if key.startswith(own)]:
        for name in cast("MixtureModel", module).parts:
            state[f"{prefix}parts.{name}.encoder.{key.removeprefix(own)}"] = state[key]


def _owner(key: str, prefix: str) -> str | None:
    """The part among whose weights a weight of the encoder is named, if it is."""
    if not key.startswith(f"{prefix}parts."):
        return None
    name, _, rest = key.removeprefix(f"{prefix}parts.").partition(".")
    return name if rest.startswith("encoder.") else None
