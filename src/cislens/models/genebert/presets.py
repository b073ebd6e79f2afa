"""Named sizes of GeneBERT. "tiny" is made for two CPU cores; "small" and "base" want a GPU.

`plus` reads bases, and regions as tokens; `paper` reads k-mers, and the matrix as an image. What
is known of the published model is in `cislens.models.genebert.card`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cislens.errors import CislensError, nearest
from cislens.models.genebert.multimodal import MultimodalConfig
from cislens.recipes.reading import read_section

_TINY = {"dim": 64, "depth": 2, "heads": 4}
_SMALL = {"dim": 384, "depth": 6, "heads": 6}
_BASE = {"dim": 768, "depth": 12, "heads": 12}
_SEQUENCE = {"tiny": _TINY, "small": _SMALL, "base": _BASE}

_SWIN_T = {"dim": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24), "window": 8}
# Of each kind of encoder of regions; "base" tokens have the parameters of Swin-T.
_REGIONS: dict[str, dict[str, dict[str, Any]]] = {
    "tokens": {"tiny": _TINY, "small": _SMALL, "base": {"dim": 512, "depth": 8, "heads": 8}},
    "swin": {
        "tiny": {"dim": 24, "depths": (2, 2), "heads": (2, 4), "window": 4},
        "small": _SWIN_T,
        "base": _SWIN_T,
    },
    "mean": {"tiny": {"dim": 64}, "small": {"dim": 384}, "base": {"dim": 512}},
}
_JOINT = {"tiny": 64, "small": 256, "base": 256}
_OF_STORE = {"motifs", "width", "context", "constants"}
_FAMILIES = {
    "genebert-plus": {"regions": "tokens", "match": "cross"},
    "genebert-paper": {"regions": "swin", "match": "mlp"},
}

# What goes with an encoder of another family.
_ANY = _FAMILIES["genebert-plus"]

# Sequence encoder of each preset.
ENCODERS: dict[str, dict[str, Any]] = {
    f"{family}-{size}": {"kind": family, **shape}
    for family in _FAMILIES
    for size, shape in _SEQUENCE.items()
}


def multimodal_config(
    name: str,
    motifs: Sequence[str],
    width: int,
    context: int,
    expression: bool,
    constants: str,
    /,
    **changes: Any,
) -> MultimodalConfig:
    """The configuration of a preset for a region store.

    Args:
        name: a key of `ENCODERS`, such as `genebert-plus-tiny`; or any other preset whose size is
            the last part of its name, if `changes` give the whole `encoder` with its kind.
        motifs, width, context, expression, constants: as in `MultimodalConfig`.
        changes: keys that differ from the preset. Of `encoder` and `regions` only what differs is
            given; `regions={"kind": "mean"}` alone takes the size of that kind. `expression`
            may be False where the store has it.

    Raises:
        CislensError: on an unknown preset or key, or one that the store decides.
    """
    shape = {**ENCODERS.get(name, {}), **_given(changes, "encoder")}
    if "kind" not in shape:
        raise CislensError(f"There is no GeneBERT preset {name!r}. {nearest(name, ENCODERS)}")
    for key in _OF_STORE & changes.keys():
        raise CislensError(f"model preset {name}: {key} is not yours to give; the data decide it.")
    if changes.get("expression") and not expression:
        raise CislensError(f"model preset {name}: the region store has no expression to read.")
    family, size = name.rsplit("-", 1)
    values: dict[str, Any] = {
        "motifs": tuple(motifs),
        "width": width,
        "context": context,
        "expression": expression,
        "constants": constants,
        "match": _FAMILIES.get(family, _ANY)["match"],
        "joint_dim": _JOINT[size],
        **changes,
    }
    values["encoder"] = shape
    regions = {"kind": _FAMILIES.get(family, _ANY)["regions"], **_given(changes, "regions")}
    values["regions"] = {**_REGIONS.get(regions["kind"], {}).get(size, {}), **regions}
    return read_section(values, MultimodalConfig, f"model preset {name}")


def _given(changes: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    given = changes.get(part, {})
    if not isinstance(given, Mapping):
        raise CislensError(f"{part}: give what differs from the preset, e.g. {{dim: 32}}.")
    return given
