"""From a folder of config.json and safetensors to a model, with every tensor accounted for.

No code of the folder is run, no pickle is read. The model is built on the CPU by its constructor,
so that buffers are what the constructor makes them; then every stored tensor goes where an
explicit map of keys says, and none may be missing or left over.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cislens.errors import CislensError, MissingFileError
from cislens.files import require_file
from cislens.models.published.keys import translate

Shape = TypeVar("Shape")
Weights = dict[str, Tensor]
# Pattern of a stored key -> name in our model; each * is one part between dots. None: not used.
KeyMap = Sequence[tuple[str, str | None]]
_NAMED = 5


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder."""
    path = require_file(require_file(folder, "model folder") / "config.json", "model configuration")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CislensError(f"{path} is not JSON ({error}); restore the folder.") from None
    if not isinstance(stored, dict):
        raise CislensError(f"{path} is no JSON object; restore the folder.")
    return stored


def shape_from(kind: type[Shape], config: Mapping[str, Any], source: str, **known: Any) -> Shape:
    """A dataclass filled from a config's keys of the same names; null means the default.

    Args:
        known: values that are not in the config.

    Raises:
        CislensError: if a key is missing or of another type.
    """
    values = dict(known)
    for field in fields(kind):  # type: ignore[arg-type]
        stored = config.get(field.name)
        if field.name in known or (stored is None and field.default is not MISSING):
            continue
        wanted = field.type
        if isinstance(stored, int) and not isinstance(stored, bool) and wanted is float:
            stored = float(stored)
        if isinstance(wanted, type) and type(stored) is not wanted:
            raise CislensError(
                f"{source}: {field.name} is {stored!r}, expected {wanted.__name__}; "
                "is this the folder of another model family?"
            )
        values[field.name] = stored
    return kind(**values)


def read_weights(folder: Path) -> Weights:
    """All tensors of a folder's safetensors, floating-point ones as float32.

    Raises:
        MissingFileError: if there are none; a pickle (pytorch_model.bin) is refused.
        CislensError: if a file is damaged.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        pickles = sorted(p.name for p in folder.glob("*.bin")) + sorted(
            p.name for p in folder.glob("*.ckpt")
        )
        if pickles:
            raise CislensError(
                f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when "
                "it is read. Convert it once, where you trust it: "
                "safetensors.torch.save_model(model, 'model.safetensors')."
            )
        raise MissingFileError(f"{folder} holds no model.safetensors; put the weights there.")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise CislensError(f"{index} is damaged ({error!r}); restore the folder.") from None
        missing = sorted(named - {path.name for path in files})
        if missing:
            raise MissingFileError(f"{folder} lacks {missing[0]}, which {index.name} names.")
    weights: Weights = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as handle:
                for key in handle.keys():  # noqa: SIM118 - not a dict
                    value = handle.get_tensor(key)
                    weights[key] = value.float() if value.is_floating_point() else value
        except SafetensorError as error:
            raise CislensError(
                f"{path} is not a whole safetensors file ({error}); restore the folder."
            ) from None
    return weights


def most_of(weights: Weights) -> int:
    """Bytes that a model with these weights may have: what is computed may be as large again."""
    return 4 * sum(value.nbytes for value in weights.values()) + (1 << 26)


def rename(weights: Weights, keys: KeyMap, prefix: str, source: str) -> Weights:
    """Tensors under our model's names.

    Args:
        prefix: what keys begin with in a model with a head, e.g. "esm."; a folder of the bare
            encoder has the same keys without it.

    Raises:
        CislensError: naming keys that the map does not know, or two tensors for one place that
            are not equal.
    """
    if not any(key.startswith(prefix) for key in weights):
        weights = {prefix + key: value for key, value in weights.items()}
    out: Weights = {}
    unknown = []
    for key, value in weights.items():
        try:
            name = translate(key, keys)
        except KeyError:
            unknown.append(key)
            continue
        if name is None:
            continue
        if name in out and not torch.equal(out[name], value):
            raise CislensError(f"{source} has two different tensors for {name}, one is {key}.")
        out[name] = value
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise CislensError(
            f"{source} holds tensors that this family does not have: "
            f"{', '.join(sorted(unknown)[:_NAMED])}{more}. Is it the folder of another family?"
        )
    return out


def constants(model: nn.Module) -> dict[str, Tensor]:
    """Tensors that no weight file sets: buffers that are not stored, and plain attributes."""
    found: dict[str, Tensor] = {}
    for place, module in model.named_modules():
        names = set(module._non_persistent_buffers_set) | {
            name for name, value in vars(module).items() if isinstance(value, Tensor)
        }
        for name in names:
            value = getattr(module, name)
            if isinstance(value, Tensor):
                found[f"{place}.{name}".lstrip(".")] = value
    return found


def audit(model: nn.Module, fresh: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with a model's tensors; nothing if all is well.

    Args:
        fresh: the `constants` of a model that was just constructed on the CPU.
    """
    problems = []
    found = constants(model)
    problems += [f"{name} is missing" for name in sorted(fresh.keys() - found.keys())]
    for name, value in sorted({**model.state_dict(), **found}.items()):
        if value.is_meta:
            problems.append(f"{name} holds no values (it is on the meta device)")
        elif value.is_floating_point() and not bool(value.isfinite().all()):
            problems.append(f"{name} is not finite")
        elif name in fresh and not torch.equal(value.cpu(), fresh[name].cpu()):
            problems.append(f"{name} is not what the constructor makes it")
    return problems
