"""The shape of a published model, read from its tensors.

Every dimension is the one that most of the tensors that have it agree on, so that one tensor of
another shape is named as such instead of deciding for all.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from cislens.errors import CislensError
from cislens.models.enformer import EnformerConfig
from cislens.models.published.keys import translate

# Places in which a dimension can be read: pattern of the key, axis. `{block}` is a block.
Places = Sequence[tuple[str, int]]
_DIM: Places = (
    ("{attention}.1.to_q.weight", 1),
    ("{attention}.1.to_k.weight", 1),
    ("{attention}.1.to_out.bias", 0),
    ("{attention}.0.weight", 0),
    ("{attention}.0.bias", 0),
    ("final_pointwise.1.2.weight", 1),
)
_BIASES = ("{attention}.1.rel_content_bias", "{attention}.1.rel_pos_bias")
_STEM: Places = (
    ("stem.0.weight", 0),
    ("stem.0.bias", 0),
    ("stem.1.fn.0.weight", 0),
    ("stem.1.fn.0.bias", 0),
    ("stem.1.fn.2.bias", 0),
    ("stem.2.to_attn_logits.weight", 0),
)
_STAGE: Places = (
    ("conv_tower.{stage}.0.2.weight", 0),
    ("conv_tower.{stage}.0.2.bias", 0),
    ("conv_tower.{stage}.1.fn.0.weight", 0),
    ("conv_tower.{stage}.1.fn.0.bias", 0),
    ("conv_tower.{stage}.1.fn.2.bias", 0),
    ("conv_tower.{stage}.2.to_attn_logits.weight", 0),
)
_MULTIPLES = (128, 64, 32, 16, 8, 4, 2, 1)


def trunk_shape(tensors: Mapping[str, Tensor], attention: str, source: str) -> dict[str, Any]:
    """The keys of an `EnformerConfig` that the tensors decide.

    Args:
        attention: pattern of a block's attention, up to its norm and layer, e.g.
            `transformer.*.0.fn`.

    Raises:
        CislensError: if a dimension cannot be read, or the tower has widths of no such model.
    """
    biases = [bias.format(attention=attention) for bias in _BIASES]
    dim = size(tensors, [(p.format(attention=attention), axis) for p, axis in _DIM], source)
    shape: dict[str, Any] = {
        "dim": dim,
        "depth": count(tensors, attention, source),
        "heads": size(tensors, [(bias, 1) for bias in biases], source),
        "key_dim": size(tensors, [(bias, 3) for bias in biases], source),
    }
    stem = size(tensors, _STEM, source)
    shape["stem_dim"] = None if 2 * stem == dim else stem
    stages = count(tensors, "conv_tower.*", source)
    shape["bin_size"] = 2 ** (stages + 1)
    widths = [
        size(tensors, [(p.format(stage=stage), axis) for p, axis in _STAGE], source)
        for stage in range(stages)
    ]
    return {**shape, "width_multiple": _multiple(shape, widths, source)}


def size(tensors: Mapping[str, Tensor], places: Places, source: str) -> int:
    """The size that most tensors have in these places.

    Raises:
        CislensError: if none of the tensors is there.
    """
    votes: Counter[int] = Counter()
    for pattern, axis in places:
        for key, value in tensors.items():
            if _fits(key, pattern) and value.ndim > axis:
                votes[value.shape[axis]] += 1
    if not votes:
        wanted = ", ".join(pattern for pattern, _ in places)
        raise CislensError(
            f"{source} is not whole: its shape cannot be read, since all of these are missing: "
            f"{wanted}."
        )
    return votes.most_common(1)[0][0]


def count(tensors: Mapping[str, Tensor], pattern: str, source: str) -> int:
    """One more than the highest number that stands for the star of `pattern` in a key's start.

    A number counts if at least half of those below it are there: a stray one is an extra key.
    """
    start = re.compile(re.escape(pattern).replace(r"\*", r"(\d+)") + r"\.")
    found = sorted({int(match[1]) for key in tensors if (match := start.match(key))})
    counted = [number for place, number in enumerate(found) if 2 * (place + 1) > number]
    if not counted:
        raise CislensError(f"{source} is not whole: all of {pattern}.* are missing.")
    return counted[-1] + 1


def species_of(tensors: Mapping[str, Tensor], *patterns: str) -> tuple[str, ...]:
    """Names that stand for the star of a pattern; human and mouse first, as published."""
    found = {
        key.split(".")[pattern.split(".").index("*")]
        for pattern in patterns
        for key in tensors
        if _fits(key, pattern)
    }
    published = [name for name in ("human", "mouse") if name in found]
    return (*published, *sorted(found - set(published)))


def _fits(key: str, pattern: str) -> bool:
    try:
        translate(key, [(pattern, None)])
    except KeyError:
        return False
    return True


def _multiple(shape: Mapping[str, Any], widths: list[int], source: str) -> int:
    multiple: int
    for multiple in (*_MULTIPLES, *range(3, max(widths) + 1)):
        try:
            made = EnformerConfig(**shape, width_multiple=multiple).tower_widths
        except ValueError as error:
            why = str(error).split("\n")[-2 if "\n" in str(error) else 0].strip()
            raise CislensError(f"{source} describes no such model: {why}.") from None
        if made == widths:
            return multiple
    raise CislensError(
        f"{source} has a tower of widths {', '.join(map(str, widths))}, which do not grow "
        f"geometrically to {shape['dim']} as in the published models."
    )
