"""The model folder, in the shape of Hugging Face's: config.json, model.safetensors, README.md.

No pickles, and no code is executed from the folder. Weights are read strictly: a key that is
missing, extra or of another shape or type is an error that names it.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cislens import __version__
from cislens.errors import CislensError
from cislens.files import atomic_path, read_json, require_file
from cislens.models.genebert.multimodal import MultimodalConfig, MultimodalModel
from cislens.models.limits import bounded
from cislens.models.mixture import MixtureConfig, MixtureModel, part_of_kind
from cislens.models.profile import ProfileModel, ProfileModelConfig
from cislens.models.sequence import SequenceModel, SequenceModelConfig
from cislens.recipes.reading import Section, read_section

FORMAT = 2
_NAMED_KEYS = 5

TrainedModel = ProfileModel | MultimodalModel | SequenceModel | MixtureModel

# Name in config.json -> configuration and class.
_KINDS: dict[str, tuple[type[Section], Any]] = {
    "cislens-profile": (ProfileModelConfig, ProfileModel),
    "cislens-multimodal": (MultimodalConfig, MultimodalModel),
    "cislens-sequence": (SequenceModelConfig, SequenceModel),
    "cislens-mixture": (MixtureConfig, MixtureModel),
}


def save_model(
    model: TrainedModel,
    folder: str | os.PathLike[str],
    card: str,
    beside: Mapping[str, str] | None = None,
) -> None:
    """Write a model folder, whole or not at all; an earlier model folder is replaced.

    Args:
        card: the model card, Markdown: what the model was trained on, how, and how good it is.
        beside: name -> text of further files.

    Raises:
        CislensError: as `require_model_place`.
    """
    require_model_place(folder)
    config = {
        "format": FORMAT,
        "cislens_version": __version__,
        "model_type": next(name for name, kind in _KINDS.items() if type(model) is kind[1]),
        "config": model.config.model_dump(mode="json"),
    }
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with atomic_path(folder) as aside:
        aside.mkdir()
        (aside / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(weights, aside / "model.safetensors", metadata={"format": "pt"})
        for name, text in {"README.md": card, **(beside or {})}.items():
            (aside / name).write_text(text, encoding="utf-8")


def require_model_place(folder: str | os.PathLike[str]) -> None:
    """Refuse to write a model where something else is; a model folder may be replaced.

    Raises:
        CislensError: naming what is there.
    """
    path = Path(folder)
    if path.is_dir():
        held = sorted(each.name for each in path.iterdir())
        if not held or _is_model(path):
            return
        what = f"is a folder that holds {held[0]!r} and no model of cislens"
    elif path.exists():
        what = "is a file"
    else:
        return
    raise CislensError(f"{path} {what}; choose another folder, it would be replaced.")


def _is_model(folder: Path) -> bool:
    try:
        stored = read_json(folder / "config.json", "model configuration")
    except CislensError:
        return False
    return str(stored.get("model_type")) in _KINDS


def load_model(folder: str | os.PathLike[str]) -> TrainedModel:
    """The model of a folder, of whatever kind, on the CPU, in eval mode; its `encoder` embeds.

    Raises:
        MissingFileError: if the folder or a file of it is missing.
        CislensError: if it is of another format, damaged, or its weights do not fit.
    """
    path = require_file(folder, "model folder")
    config_path = require_file(path / "config.json", "model configuration")
    weights_path = require_file(path / "model.safetensors", "model weights")
    stored = read_json(config_path, "model configuration")
    if str(stored.get("model_type")) not in _KINDS:
        raise CislensError(f"{config_path} does not describe a model of cislens.")
    if stored.get("format") != FORMAT:
        raise CislensError(
            f"{config_path} has format {stored.get('format')!r}; this cislens reads {FORMAT}. "
            f"It was written by cislens {stored.get('cislens_version')}."
        )
    config_class, model_class = _KINDS[stored["model_type"]]
    config = read_section(stored.get("config", {}), config_class, str(config_path))
    try:
        weights = load_file(weights_path)
    except SafetensorError as error:
        raise CislensError(
            f"{weights_path} is not a whole safetensors file ({error}); restore the folder."
        ) from None
    with bounded(str(config_path)), torch.device("meta"):
        model: TrainedModel = model_class(config)
    load_weights(model, weights, str(weights_path))
    return model.eval()


def load_profile_model(folder: str | os.PathLike[str]) -> ProfileModel:
    """The model of a folder, or of a mixture the part, which predicts profiles.

    Raises:
        CislensError: as `load_model`, or if it is a model of another kind.
    """
    model = load_model(folder)
    found = part_of_kind(model, ProfileModel)
    if found is None:
        raise CislensError(f"{folder} holds a {type(model).__name__}, which predicts no profiles.")
    return found


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Put `weights` into `model`, whose keys, shapes and types must be exactly these.

    Raises:
        CislensError: naming the missing, extra and mis-shaped keys, and those of another type.
    """
    expected: dict[str, Any] = model.state_dict()
    problems = name_keys("missing", [key for key in expected if key not in weights])
    problems += name_keys("not of this model", [key for key in weights if key not in expected])
    problems += name_keys(
        "of another shape",
        [
            f"{key} (found {tuple(weights[key].shape)}, expected {tuple(value.shape)})"
            for key, value in expected.items()
            if key in weights and weights[key].shape != value.shape
        ],
    )
    # The tensors take the place of the model's own, which would not be converted.
    problems += name_keys(
        "of another type",
        [
            f"{key} (found {type_name(weights[key])}, expected {type_name(value)})"
            for key, value in expected.items()
            if key in weights and weights[key].dtype != value.dtype
        ],
    )
    if problems:
        raise CislensError(f"{source} does not fit the model. {' '.join(problems)}")
    model.load_state_dict(dict(weights), strict=True, assign=True)


def type_name(value: Tensor) -> str:
    """The type of a tensor's numbers, such as float32."""
    return str(value.dtype).removeprefix("torch.")


def name_keys(what: str, keys: Sequence[str]) -> list[str]:
    """A sentence that counts keys and names the first few; none for no keys."""
    if not keys:
        return []
    more = f" and {len(keys) - _NAMED_KEYS} more" if len(keys) > _NAMED_KEYS else ""
    return [f"{len(keys)} {what}: {', '.join(keys[:_NAMED_KEYS])}{more}."]
