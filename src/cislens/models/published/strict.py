"""Every tensor of a file has its place, and every place its tensor; else each is named."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cislens.errors import CislensError
from cislens.models.saving import name_keys, type_name

COUNTER = "num_batches_tracked"
Shapes = Mapping[str, tuple[int, ...]]


def merge_names(
    tensors: Mapping[str, Tensor], first: Callable[[str], str], source: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors under one name each, and the name that the file has for each.

    Args:
        first: from a key of the file to the one name; several keys may have the same.

    Raises:
        CislensError: if two keys of one name hold different tensors, or the same values in
            different types.
    """
    merged: dict[str, Tensor] = {}
    own: dict[str, str] = {}
    for key, value in tensors.items():
        name = first(key)
        if name in merged and not _same(merged[name], value):
            raise CislensError(
                f"{source} has two different tensors for one place: {own[name]} "
                f"({type_name(merged[name])}) and {key} ({type_name(value)})."
            )
        merged.setdefault(name, value)
        own.setdefault(name, key)
    return merged, own


def require_exactly(
    tensors: Mapping[str, Tensor],
    expected: Shapes,
    own: Callable[[str], str],
    source: str,
    what: str,
) -> dict[str, Tensor]:
    """The tensors, whose names and shapes must be the expected ones; floating point as float32.

    Batch counters may be missing, as some formats drop them; they are zero then.

    Args:
        own: from a name to the file's own key, for messages.
        what: the architecture, for messages.

    Raises:
        CislensError: naming missing, extra and mis-shaped keys; or those that are not finite or
            of another type.
    """
    missing = [own(k) for k in expected if k not in tensors and not k.endswith(COUNTER)]
    problems = name_keys("missing", missing)
    problems += name_keys("not of this model", [own(key) for key in tensors if key not in expected])
    shapes = [
        f"{own(key)} (found {tuple(tensors[key].shape)}, expected {shape})"
        for key, shape in expected.items()
        if key in tensors and tuple(tensors[key].shape) != shape
    ]
    problems += name_keys("of another shape", shapes)
    if not problems:
        types = [
            f"{own(key)} ({type_name(value)})"
            for key, value in tensors.items()
            if value.is_complex() or value.is_floating_point() == key.endswith(COUNTER)
        ]
        problems += name_keys("of another type", types)
    if not problems:
        broken = [own(key) for key, value in tensors.items() if not _finite(value)]
        problems += name_keys("with values that are not finite", broken)
    if problems:
        raise CislensError(f"{source} is no whole {what} file. {' '.join(problems)}")
    return {key: _as_stored(key, tensors.get(key)) for key in expected}


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())


def _as_stored(key: str, value: Tensor | None) -> Tensor:
    if value is None:
        return torch.zeros((), dtype=torch.int64)
    return value.to(torch.int64 if key.endswith(COUNTER) else torch.float32).contiguous()
