"""Keys of the published SPACE state dict (after its `model.`)."""

from collections.abc import Sequence
from typing import Literal

from cislens.models.published.enformer import TOWER
from cislens.models.published.keys import KeyPairs

PREFIX = "model."
# What the published code fixes and no tensor shows: experts per token, in encoder and decoder,
# and how position features are normalized.
KEPT = 3
POSITIONS: Literal["feature-axis"] = "feature-axis"
_BLOCK = "transformer.transformer.*"
# Order of the types of tracks in the published code, each with our name of the group.
TYPES = {
    "DNASE/ATAC": "accessibility",
    "TF ChIP-seq": "TF",
    "Histone ChIP-seq": "histone",
    "CAGE": "CAGE",
}
TRUNK: KeyPairs = (
    *TOWER,
    (f"{_BLOCK}.attention.fn.0.*", "blocks.*.attention_norm.*"),
    (f"{_BLOCK}.attention.fn.1.rel_content_bias", "blocks.*.attention.content_bias"),
    (f"{_BLOCK}.attention.fn.1.rel_pos_bias", "blocks.*.attention.position_bias"),
    (f"{_BLOCK}.attention.fn.1.*.*", "blocks.*.attention.*.*"),
    (f"{_BLOCK}.feed_forward.layer_norm.*", "blocks.*.experts_norm.*"),
    (f"{_BLOCK}.feed_forward.input.weight", "blocks.*.experts.pool.w_in"),
    (f"{_BLOCK}.feed_forward.input.bias", "blocks.*.experts.pool.b_in"),
    (f"{_BLOCK}.feed_forward.output.weight", "blocks.*.experts.pool.w_out"),
    (f"{_BLOCK}.feed_forward.output.bias", "blocks.*.experts.pool.b_out"),
)
DECODER: KeyPairs = (
    ("tracks.gate_selector.*", "sequence_gate.*"),
    ("tracks.embedding_gate_selector.*", "species_gate.*"),
    ("tracks.gates.*.0.*", "routers.*.*"),
    ("tracks.layer_norm.*", "norm.*"),
    ("tracks.input_proj.weight", "pool.w_in"),
    ("tracks.input_proj.bias", "pool.b_in"),
    ("tracks.output_proj.weight", "pool.w_out"),
    ("tracks.output_proj.bias", "pool.b_out"),
    *(
        (f"tracks.tracks_embedding.{name}", f"group_tokens.{place}")
        for place, name in enumerate(TYPES)
    ),
)


def space_keys(species: Sequence[str]) -> KeyPairs:
    """Published name, without `model.`, and name in a profile model, of every tensor."""
    by_species = [
        pair
        for index, name in enumerate(species)
        for pair in (
            (f"transformer.species_embedding.{name}", f"encoder.species_tokens.{index}"),
            (
                f"{_BLOCK}.feed_forward.gates.{name}.0.*",
                f"encoder.blocks.*.experts.gates.{index}.*",
            ),
            (f"heads.{name}.0.*", f"heads.{index}.*"),
        )
    ]
    return [
        *((key, f"encoder.{ours}") for key, ours in TRUNK),
        *((key, f"decoder.{ours}") for key, ours in DECODER),
        *by_species,
    ]
