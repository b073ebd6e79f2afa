"""Published weights of SPACE and Enformer as a profile model of ours."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cislens.errors import CislensError, nearest
from cislens.models.limits import bounded
from cislens.models.profile import ProfileModel, ProfileModelConfig
from cislens.models.published import enformer, space
from cislens.models.published.files import Checkpoint
from cislens.models.published.grouping import decoder_groups
from cislens.models.published.keys import KeyPairs, published_names
from cislens.models.published.recognition import NAMES, Kind, require_kind
from cislens.models.published.shapes import Places, size, species_of, trunk_shape
from cislens.models.published.strict import merge_names, require_exactly
from cislens.models.saving import load_weights, name_keys
from cislens.nn.positions import Positions
from cislens.recipes.reading import read_section
from cislens.signal.tracks import TrackTable

# The published models predict the central bins of their windows.
CENTRAL_BINS = 896
LENGTHS: dict[Kind, int] = {"space": 131_072, "enformer": 196_608}
_DROPOUT = 0.4
_BINS: Places = (
    ("tracks.layer_norm.weight", 0),
    ("tracks.layer_norm.bias", 0),
    ("tracks.gates.*.0.weight", 1),
    ("tracks.output_proj.bias", 1),
)
_EXPERTS: Places = (
    ("transformer.transformer.*.feed_forward.input.weight", 0),
    ("transformer.transformer.*.feed_forward.input.bias", 0),
    ("transformer.transformer.*.feed_forward.output.weight", 0),
    ("transformer.transformer.*.feed_forward.gates.*.0.bias", 0),
)
_TRACK_EXPERTS: Places = (
    ("tracks.input_proj.weight", 0),
    ("tracks.input_proj.bias", 0),
    ("tracks.output_proj.weight", 0),
    ("tracks.gates.*.0.bias", 0),
)
_TOKEN = "transformer.species_embedding.*"
Tables = Mapping[str, TrackTable]


@dataclass(frozen=True)
class _Layout:
    """What of a checkpoint its keys alone say."""

    kind: Kind
    species: tuple[str, ...]
    tracks: tuple[int, ...]
    keys: KeyPairs


def import_space(
    checkpoint: Checkpoint, tables: Tables | None = None, length: int = LENGTHS["space"]
) -> ProfileModel:
    """The model of a SPACE state dict, with or without the prefix `model.` of its keys.

    Positions are normalized over features, as these weights were trained.

    Args:
        tables: the tracks of every species in the order of its head's rows. They give ids and
            groups; without them ids are like `human/0`, and the groups the published ones.
        length: bp of the windows; the bins at either end that the decoder has no place for are
            cropped.

    Raises:
        CislensError: if the file is of another architecture; or not whole, naming missing,
            extra and mis-shaped keys; or if groups are unknown; or on another length.
    """
    source, tables = str(checkpoint.path), tables or {}
    require_kind(checkpoint.tensors, "space", source)
    prefix, tensors = _without_prefix(checkpoint.tensors, source)
    layout = _layout("space", tensors, "heads.*.0", tables, source)
    bins = size(tensors, _BINS, source)
    encoder = {
        "kind": "space-paper",
        **trunk_shape(tensors, "transformer.transformer.*.attention.fn", source),
        "dropout": _DROPOUT,
        "experts": size(tensors, _EXPERTS, source),
        "kept": space.KEPT,
        "positions": space.POSITIONS,
        "species": layout.species,
    }
    track_experts = size(tensors, _TRACK_EXPERTS, source)
    config = {
        "encoder": encoder,
        "decoder": {
            "kind": "space-paper",
            "bins": bins,
            "experts": track_experts,
            "kept": space.KEPT,
        },
        "heads": _heads(layout, tables, source),
        "crop": _crop(length, encoder["bin_size"], bins),
    }
    return _build(config, tensors, layout, lambda name: prefix + name, source)


def import_enformer(
    checkpoint: Checkpoint,
    positions: Positions,
    tables: Tables | None = None,
    length: int = LENGTHS["enformer"],
) -> ProfileModel:
    """The model of an Enformer state dict in the layout of enformer-pytorch.

    Args:
        positions: how its position features were normalized, which the file does not say:
            "position" for weights converted from DeepMind's, "feature-axis" for weights that
            enformer-pytorch trained.
        tables: as for `import_space`; without them tracks have no groups.
        length: bp of the windows, of which the central 896 bins are predicted.

    Raises:
        CislensError: as `import_space`; or if a tensor is stored twice and the two differ.
    """
    source, tables = str(checkpoint.path), tables or {}
    require_kind(checkpoint.tensors, "enformer", source)
    tensors, own = merge_names(checkpoint.tensors, enformer.first_name, source)
    layout = _layout("enformer", tensors, "_heads.*.0", tables, source)
    encoder = {
        "kind": "enformer",
        **trunk_shape(tensors, "transformer.*.0.fn", source),
        "dropout": _DROPOUT,
        "positions": positions,
    }
    bins = max(1, min(CENTRAL_BINS, length // encoder["bin_size"]))
    config = {
        "encoder": encoder,
        "heads": _heads(layout, tables, source),
        "crop": _crop(length, encoder["bin_size"], bins),
    }
    # A file that has the second names only is told which of these are missing.
    named = enformer.other_names(own.values())
    return _build(config, tensors, layout, lambda name: own.get(name) or named(name), source)


def _without_prefix(tensors: Mapping[str, Tensor], source: str) -> tuple[str, dict[str, Tensor]]:
    prefix = space.PREFIX if any(key.startswith(space.PREFIX) for key in tensors) else ""
    strays = [key for key in tensors if not key.startswith(prefix)]
    if strays:
        problem = " ".join(name_keys(f"without the {prefix} of the others", strays))
        raise CislensError(f"{source} is no whole {NAMES['space']} file. {problem}")
    return prefix, {key.removeprefix(prefix): value for key, value in tensors.items()}


def _layout(
    kind: Kind, tensors: Mapping[str, Tensor], head: str, tables: Tables, source: str
) -> _Layout:
    named = [f"{head}.weight", f"{head}.bias", *([_TOKEN] if kind == "space" else [])]
    species = species_of(tensors, *named)
    if not species:
        raise CislensError(f"{source} is not whole: it has no heads ({head}.weight).")
    tracks = []
    for name in species:
        at = head.replace("*", name)
        known = [tensors[key] for key in (f"{at}.weight", f"{at}.bias") if key in tensors]
        rows = [value.shape[0] for value in known if value.ndim]
        # The table has a vote, so that one tensor of another shape is named as such.
        rows += [len(tables[name])] if name in tables else []
        if not rows:
            raise CislensError(f"{source} is not whole: it has no head of {name} ({at}.weight).")
        tracks.append(Counter(rows).most_common(1)[0][0])
    keys = space.space_keys(species) if kind == "space" else enformer.enformer_keys(species)
    return _Layout(kind, species, tuple(tracks), keys)


def _heads(layout: _Layout, tables: Tables, source: str) -> list[dict[str, Any]]:
    """A head of every species, its tracks and their groups from the table if there is one."""
    for name in tables:
        if name not in layout.species:
            raise CislensError(
                f"{source} has no head of species {name!r}. {nearest(name, layout.species)}"
            )
    heads = []
    for name, tracks in zip(layout.species, layout.tracks, strict=True):
        table = tables.get(name)
        if table is None and tables:
            raise CislensError(f"Tables are given, but none of {name}; give all or none.")
        if table is not None and len(table) != tracks:
            raise CislensError(
                f"the table of {name} has {len(table)} rows and the head of {source} has {tracks}."
            )
        head: dict[str, Any] = {"species": name}
        if table is None:
            head["tracks"] = tuple(f"{name}/{row}" for row in range(tracks))
        else:
            head["tracks"] = tuple(table.frame["id"])
            head["groups"] = tuple(table.frame["group"])
            pairs = tuple(table.strand_permutation().tolist())
            head["strand_pairs"] = pairs if pairs != tuple(range(tracks)) else ()
        if layout.kind == "space":
            head["groups"] = decoder_groups(name, tracks, table, source)
        heads.append(head)
    return heads


def _crop(length: int, bin_size: int, bins: int) -> int:
    found = length // bin_size
    if length % bin_size or found < bins or (found - bins) % 2:
        near = (bins + max(0, round((found - bins) / 2)) * 2) * bin_size
        raise CislensError(
            f"windows of {length:,} bp do not have {bins} central bins of {bin_size} bp and as "
            f"many on either side; the nearest length that does is {near:,} bp."
        )
    return (found - bins) // 2


def _build(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    layout: _Layout,
    own: Callable[[str], str],
    source: str,
) -> ProfileModel:
    read = read_section(dict(config), ProfileModelConfig, source)
    with bounded(source), torch.device("meta"):
        model = ProfileModel(read)
    names = published_names(model.state_dict(), layout.keys)
    shapes = {names[key]: tuple(value.shape) for key, value in model.state_dict().items()}
    checked = require_exactly(tensors, shapes, own, source, NAMES[layout.kind])
    load_weights(model, {key: checked[name] for key, name in names.items()}, source)
    return model.eval()
