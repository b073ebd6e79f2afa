"""Named sizes of the encoders.

"tiny" is made for two CPU cores: inputs of 2 to 8 kb. "small" and "base" want a GPU.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cislens.errors import CislensError, nearest
from cislens.models.profile import ProfileModelConfig
from cislens.recipes.reading import read_section

_TINY = {"dim": 96, "stem_dim": 32, "depth": 2, "heads": 4, "key_dim": 16, "width_multiple": 8}
_SMALL = {"dim": 768, "depth": 4, "heads": 8, "key_dim": 64, "width_multiple": 128}
_BASE = {"dim": 1536, "depth": 11, "heads": 8, "key_dim": 64, "width_multiple": 128}

PRESETS: dict[str, dict[str, Any]] = {
    f"{kind}-{size}": {"kind": kind, **shape}
    for kind in ("enformer", "space")
    for size, shape in (("tiny", _TINY), ("small", _SMALL), ("base", _BASE))
}


def preset_config(
    name: str, tracks: Mapping[str, Sequence[str]], crop: int = 0, **changes: Any
) -> ProfileModelConfig:
    """The configuration of a profile model with a preset encoder.

    Args:
        name: a key of `PRESETS`.
        tracks: track ids of each species, in head order.
        crop: bins at either end for which nothing is predicted.
        changes: keys of the encoder that differ from the preset, e.g. `ffn="dense"`.

    Raises:
        CislensError: on an unknown preset or key.
    """
    if name not in PRESETS:
        raise CislensError(f"There is no model preset {name!r}. {nearest(name, PRESETS)}")
    encoder = {**PRESETS[name], **changes}
    if encoder["kind"] == "space":
        encoder["species"] = tuple(tracks)
    data = {"encoder": encoder, "tracks": {s: tuple(ids) for s, ids in tracks.items()}}
    return read_section({**data, "crop": crop}, ProfileModelConfig, f"model preset {name}")
