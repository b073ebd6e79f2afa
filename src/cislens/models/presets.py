"""Named sizes of the models.

"tiny" is made for two CPU cores: inputs of 2 to 8 kb. "small" and "base" want a GPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cislens.errors import CislensError, nearest
from cislens.models.findna import presets as findna
from cislens.models.genebert import presets as genebert
from cislens.models.profile import ProfileModelConfig
from cislens.models.registry import AnyEncoderConfig
from cislens.models.sequence import SequenceModelConfig
from cislens.recipes.reading import read_section

_TINY = {"dim": 96, "stem_dim": 32, "depth": 2, "heads": 4, "key_dim": 16, "width_multiple": 8}
_SMALL = {"dim": 768, "depth": 4, "heads": 8, "key_dim": 64, "width_multiple": 128}
_BASE = {"dim": 1536, "depth": 11, "heads": 8, "key_dim": 64, "width_multiple": 128}

_TRUNKS = {"tiny": _TINY, "small": _SMALL, "base": _BASE}
# "tiny" has the compute of a dense space-plus-tiny, "base" the shape of Basenji2.
_BASENJI = {
    "tiny": {"dim": 96, "depth": 8, "stem_dim": 36, "hidden_dim": 72, "width_multiple": 4},
    "small": {"dim": 384, "depth": 11},
    "base": {"dim": 768, "depth": 11},
}
_DECODER_WIDTH = {"tiny": 32, "small": 64, "base": 64}

# Encoder and decoder of each preset, without what the tracks decide.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    **{f"basenji-{size}": {"encoder": {"kind": "basenji", **_BASENJI[size]}} for size in _TRUNKS},
    **{f"enformer-{size}": {"encoder": {"kind": "enformer", **_TRUNKS[size]}} for size in _TRUNKS},
    **{
        f"space-paper-{size}": {
            "encoder": {"kind": "space-paper", **_TRUNKS[size]},
            "decoder": {"kind": "space-paper"},
        }
        for size in _TRUNKS
    },
    **{
        f"space-plus-{size}": {
            "encoder": {"kind": "space-plus", **_TRUNKS[size]},
            "decoder": {"kind": "profiles", "width": _DECODER_WIDTH[size]},
        }
        for size in _TRUNKS
    },
    **{name: {"encoder": shape} for name, shape in genebert.ENCODERS.items()},
    **{name: {"encoder": shape} for name, shape in findna.ENCODERS.items()},
}
_WITH_SPECIES = ("space-plus", "space-paper")


@dataclass(frozen=True)
class HeadTracks:
    """What a head needs to know of the tracks of one species, track by track.

    Attributes:
        ids: track ids.
        groups, strand_pairs: as in `HeadConfig`.
    """

    ids: Sequence[str]
    groups: Sequence[str] = field(default=())
    strand_pairs: Sequence[int] = field(default=())


def preset_config(
    name: str,
    tracks: Mapping[str, HeadTracks | Sequence[str]],
    crop: int = 0,
    decoder: bool | Mapping[str, Any] = True,
    bins: int | None = None,
    **changes: Any,
) -> ProfileModelConfig:
    """The configuration of a profile model with a preset encoder.

    Args:
        name: a key of `PRESETS`.
        tracks: of each species, its tracks or their ids alone.
        crop: bins at either end for which nothing is predicted.
        decoder: False leaves out the preset's decoder, a mapping changes keys of it.
        bins: that are left of a window after the crop; the published SPACE decoder is made for
            that number.
        changes: keys of the encoder that differ from the preset, e.g. `ffn="dense"`.

    Raises:
        CislensError: on an unknown preset or key.
    """
    encoder = _encoder(name, tuple(tracks), changes)
    preset = PRESETS[name]
    data: dict[str, Any] = {"encoder": encoder, "crop": crop}
    data["heads"] = [_head(species, given) for species, given in tracks.items()]
    if decoder is not False and "decoder" in preset:
        more = {} if decoder is True else dict(decoder)
        data["decoder"] = {**preset["decoder"], **more}
        if bins is not None and data["decoder"]["kind"] == "space-paper":
            data["decoder"].setdefault("bins", bins)
    return read_section(data, ProfileModelConfig, f"model preset {name}")


def encoder_config(name: str, species: Sequence[str], **changes: Any) -> AnyEncoderConfig:
    """The configuration of the encoder of a preset, of any family.

    Args:
        name: a key of `PRESETS`.
        species: names, for an encoder that tells species apart.
        changes: keys that differ from the preset, e.g. `block="mixer"`.

    Raises:
        CislensError: on an unknown preset or key.
    """
    data = {"encoder": _encoder(name, tuple(species), changes)}
    return read_section(data, SequenceModelConfig, f"model preset {name}").encoder


def _encoder(name: str, species: tuple[str, ...], changes: Mapping[str, Any]) -> dict[str, Any]:
    if name not in PRESETS:
        raise CislensError(f"There is no model preset {name!r}. {nearest(name, PRESETS)}")
    encoder = {**PRESETS[name]["encoder"], **changes}
    if encoder["kind"] in _WITH_SPECIES:
        encoder["species"] = species
    return encoder


def _head(species: str, given: HeadTracks | Sequence[str]) -> dict[str, Any]:
    tracks = given if isinstance(given, HeadTracks) else HeadTracks(given)
    return {
        "species": species,
        "tracks": tuple(tracks.ids),
        "groups": tuple(tracks.groups),
        "strand_pairs": tuple(tracks.strand_pairs),
    }
