"""Keys of enformer-pytorch's state dict (release 0.8)."""

from collections.abc import Callable, Iterable, Sequence

from cislens.models.published.keys import KeyPairs

# Published name, our encoder's name.
TOWER: KeyPairs = (
    ("stem.0.*", "tower.stem.0.*"),
    ("stem.1.fn.0.*", "tower.stem.1.inner.norm.*"),
    ("stem.1.fn.2.*", "tower.stem.1.inner.conv.*"),
    ("stem.2.to_attn_logits.weight", "tower.stem.2.weight"),
    ("conv_tower.*.0.0.*", "tower.stages.*.widen.norm.*"),
    ("conv_tower.*.0.2.*", "tower.stages.*.widen.conv.*"),
    ("conv_tower.*.1.fn.0.*", "tower.stages.*.refine.inner.norm.*"),
    ("conv_tower.*.1.fn.2.*", "tower.stages.*.refine.inner.conv.*"),
    ("conv_tower.*.2.to_attn_logits.weight", "tower.stages.*.pool.weight"),
    ("final_pointwise.1.0.*", "pointwise.block.norm.*"),
    ("final_pointwise.1.2.*", "pointwise.block.conv.*"),
)
TRUNK: KeyPairs = (
    *TOWER,
    ("transformer.*.0.fn.0.*", "blocks.*.attention_norm.*"),
    ("transformer.*.0.fn.1.rel_content_bias", "blocks.*.attention.content_bias"),
    ("transformer.*.0.fn.1.rel_pos_bias", "blocks.*.attention.position_bias"),
    ("transformer.*.0.fn.1.*.*", "blocks.*.attention.*.*"),
    ("transformer.*.1.fn.0.*", "blocks.*.mlp_norm.*"),
    ("transformer.*.1.fn.1.*", "blocks.*.mlp.0.*"),
    ("transformer.*.1.fn.4.*", "blocks.*.mlp.3.*"),
)
# The modules of the trunk are stored a second time, as parts of one sequence.
_ALSO = {"stem": "1", "conv_tower": "2", "transformer": "4", "final_pointwise": "6"}
_FIRST = {f"_trunk.{place}": part for part, place in _ALSO.items()}


def second_name(key: str) -> str | None:
    """The other name under which the layout stores a tensor of the trunk; None for a head's."""
    part, _, rest = key.partition(".")
    return f"_trunk.{_ALSO[part]}.{rest}" if part in _ALSO else None


def first_name(key: str) -> str:
    """The name without `_trunk`; any other key as it is."""
    part = ".".join(key.split(".")[:2])
    return f"{_FIRST[part]}{key.removeprefix(part)}" if part in _FIRST else key


def other_names(keys: Iterable[str]) -> Callable[[str], str]:
    """How a file with these keys would call a tensor that is not among them."""
    if any(second_name(key) for key in keys):
        return lambda name: name
    return lambda name: second_name(name) or name


def enformer_keys(species: Sequence[str]) -> KeyPairs:
    """Published name and name in a profile model, of every tensor under its first name."""
    heads = [(f"_heads.{name}.0.*", f"heads.{index}.*") for index, name in enumerate(species)]
    return [*((key, f"encoder.{ours}") for key, ours in TRUNK), *heads]
