"""A profile model of ours as a state dict in a published key layout."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from cislens.errors import CislensError
from cislens.files import atomic_path
from cislens.models.decoders.paper import PaperDecoderConfig
from cislens.models.enformer import EnformerConfig
from cislens.models.profile import ProfileModel
from cislens.models.published import enformer, space
from cislens.models.published.files import SAFETENSORS, TORCH, write_tensors
from cislens.models.published.keys import published_names
from cislens.models.published.recognition import NAMES, Kind
from cislens.models.published.space import KEPT, POSITIONS
from cislens.models.space_paper import SpacePaperConfig

_ENCODERS: dict[Kind, str] = {"space": "space-paper", "enformer": "enformer"}


def published_state(model: ProfileModel, kind: Kind) -> dict[str, Tensor]:
    """The model's tensors under all their published names, sharing memory with the model.

    Raises:
        CislensError: if the published architecture cannot compute what the model does, or if an
            import would read the weights as another model.
    """
    _require_published_shape(model, kind)
    layout = space.space_keys if kind == "space" else enformer.enformer_keys
    names = published_names(model.state_dict(), layout(model.species))
    state = {names[key]: value.detach().cpu() for key, value in model.state_dict().items()}
    if kind == "space":
        return {space.PREFIX + key: value for key, value in state.items()}
    twice = {other: value for key, value in state.items() if (other := enformer.second_name(key))}
    return {**state, **twice}


def export(model: ProfileModel, kind: Kind, out: Path) -> Path:
    """Write a published file, or a folder of it and a config.json; gives the file.

    A name that ends in .safetensors, .bin or .pt is a file, any other a folder.

    Raises:
        CislensError: as `published_state`; or if something is at `out`.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CislensError(f"{out} exists already; choose another name.")
    state = published_state(model, kind)
    with atomic_path(out) as aside:
        if out.suffix in (SAFETENSORS, *TORCH):
            # The kind of file is told by its name, which the one beside does not have.
            write_tensors(aside, state, out.suffix)
            return out
        aside.mkdir()
        write_tensors(aside / "model.safetensors", state)
        text = json.dumps(published_config(model, kind), indent=2) + "\n"
        (aside / "config.json").write_text(text, encoding="utf-8")
    return out / "model.safetensors"


def published_config(model: ProfileModel, kind: Kind) -> dict[str, Any]:
    """The config.json of the published model: what its weights do not say themselves."""
    encoder = model.config.encoder
    assert isinstance(encoder, EnformerConfig)
    return {
        "model_type": kind,
        "dim": encoder.dim,
        "depth": encoder.depth,
        "heads": encoder.heads,
        "attn_dim_key": encoder.key_dim,
        "dim_divisible_by": encoder.width_multiple,
        "num_downsamples": encoder.bin_size.bit_length() - 1,
        "dropout_rate": encoder.dropout,
        "use_tf_gamma": encoder.positions == "position",
        "output_heads": {head.species: len(head.tracks) for head in model.config.heads},
    }


def _require_published_shape(model: ProfileModel, kind: Kind) -> None:
    """Check that the published code computes the same from the model's tensors alone.

    The kind of encoder and decoder, the width of the stem, dim / heads, one head per species and
    names without dots. Then what tensors do not show: for Enformer one of the two published
    positions; for SPACE "feature-axis" positions and three experts per token, in the encoder and
    in the decoder, which its code and our import take for granted.
    """
    config, encoder = model.config, model.config.encoder
    problems = []
    if not isinstance(encoder, EnformerConfig) or encoder.kind != _ENCODERS[kind]:
        problems.append(f"its encoder is {encoder.kind}, not {_ENCODERS[kind]}")
    elif encoder.positions not in ("position", "feature-axis"):
        problems.append(f"its positions are {encoder.positions!r}, which that code cannot make")
    elif 2 * encoder.stem_width != encoder.dim:
        problems.append(f"its stem has {encoder.stem_width} channels, not {encoder.dim} / 2")
    elif encoder.dim % (6 * encoder.heads):
        problems.append(f"its dim / heads is {encoder.dim // encoder.heads}, no multiple of 6")
    if isinstance(encoder, SpacePaperConfig):
        if encoder.positions != POSITIONS:
            problems.append(f"its positions are {encoder.positions!r}, not {POSITIONS!r}")
        if encoder.kept != KEPT:
            problems.append(f"its encoder keeps {encoder.kept} experts of a token, not {KEPT}")
    decoder = config.decoder
    found = None if decoder is None else decoder.kind
    if found != (wanted := "space-paper" if kind == "space" else None):
        problems.append(f"its decoder is {found or 'missing'}, not {wanted or 'none'}")
    elif isinstance(decoder, PaperDecoderConfig) and decoder.kept != KEPT:
        problems.append(f"its decoder keeps {decoder.kept} experts of a router, not {KEPT}")
    if len(config.heads) > len(config.species):
        problems.append("a species has several heads")
    if dotted := [name for name in config.species if "." in name]:
        problems.append(f"species {dotted[0]!r} has a dot in its name")
    if problems:
        raise CislensError(
            f"The model does not fit the published {NAMES[kind]}: {'; '.join(problems)}."
        )
