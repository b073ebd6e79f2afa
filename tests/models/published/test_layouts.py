"""Published layouts: exact round trips, and each way in which a file can be wrong."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checkpoints import (
    Shapes,
    as_read,
    enformer_shapes,
    fill,
    space_checkpoint,
    space_shapes,
    tables,
)
from torch import Tensor

from cislens.errors import CislensError
from cislens.models.profile import ProfileModelConfig, build_model
from cislens.models.published.enformer import first_name, second_name
from cislens.models.published.exporting import published_state
from cislens.models.published.importing import import_enformer, import_space
from cislens.models.published.recognition import Kind

State = dict[str, Tensor]
Change = Callable[[State], Any]
COUNTER = "1.fn.0.num_batches_tracked"
BASE = {"dim": 1536, "depth": 11, "heads": 8, "key_dim": 64, "width_multiple": 128}
ROWS = {"human": 5_313, "mouse": 1_643}


def light(shapes: Shapes) -> State:
    """Zeros instead of numbers: for what does not depend on values."""
    long = "num_batches_tracked"
    types = {True: torch.int64, False: torch.float32}
    return {key: torch.zeros(shape, dtype=types[long in key]) for key, shape in shapes.items()}


def enformer_state() -> State:
    return fill(enformer_shapes())


def both_names(state: State) -> State:
    return state | {other: v for k, v in state.items() if (other := second_name(k))}


@pytest.fixture(scope="module")
def space_state() -> State:
    return light(space_shapes())


def test_space_round_trip_is_exact() -> None:
    state = space_checkpoint()
    back = published_state(import_space(as_read(state), tables()), "space")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())
    without = {key.removeprefix("model."): value for key, value in state.items()}
    bare = import_space(as_read(without), tables())
    again = published_state(bare, "space")
    assert all(torch.equal(again[key], value) for key, value in state.items())


@pytest.mark.parametrize("names", ["first", "second", "both"])
def test_enformer_round_trip_is_exact(names: str) -> None:
    state = enformer_state()
    both = both_names(state)
    stored = {
        "first": state,
        "second": {k: v for k, v in both.items() if k.startswith(("_trunk", "_heads"))},
        "both": both,
    }[names]
    back = published_state(import_enformer(as_read(stored), "position"), "enformer")
    assert back.keys() == both.keys()
    assert all(torch.equal(back[key], value) for key, value in both.items())
    assert len(both) == 2 * len(state) - 4  # the heads have one name


def test_every_name_has_one_other_name() -> None:
    for key in enformer_shapes():
        assert first_name(second_name(key) or key) == key


@pytest.mark.parametrize(
    ("kind", "entries", "counters"), [("space", 363, 14), ("enformer", 570, 0)]
)
def test_published_sizes_have_the_published_number_of_entries(
    kind: Kind, entries: int, counters: int
) -> None:
    """SPACE: 349 fp32 and 14 int64 tensors. Enformer: 287 tensors, those of the trunk twice."""
    heads: list[dict[str, Any]] = [
        {"species": name, "tracks": tuple(map(str, range(rows))), "groups": ("TF",) * rows}
        for name, rows in ROWS.items()
    ]
    encoder: dict[str, Any] = {"kind": "enformer", "positions": "position", **BASE}
    config: dict[str, Any] = {"encoder": encoder, "heads": heads, "crop": 64}
    if kind == "space":
        encoder |= {"kind": "space-paper", "positions": "feature-axis", "species": tuple(ROWS)}
        config["decoder"] = {"kind": "space-paper"}
    with torch.device("meta"):
        model = build_model(ProfileModelConfig.model_validate(config))
    # A tensor on the meta device has no copy on the CPU; names and types will do.
    own = {k: torch.empty(0, dtype=v.dtype) for k, v in model.state_dict().items()}
    model.state_dict = lambda: own  # type: ignore[method-assign, assignment, misc]
    state = published_state(model, kind)
    assert len(state) == entries
    types = [v.dtype for k, v in state.items() if not k.startswith("_trunk")]
    assert types.count(torch.int64) == 14
    assert types.count(torch.float32) == {"space": 349, "enformer": 273}[kind]


def block(rest: str) -> str:
    return f"model.transformer.transformer.1.{rest}"


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda s: s.pop("model.stem.0.bias"), ["1 missing: model.stem.0.bias."]),
        (
            lambda s: s.pop("model.transformer.species_embedding.mouse"),
            ["1 missing: model.transformer.species_embedding.mouse."],
        ),
        (
            lambda s: s.update({"model.stem.9.bias": torch.zeros(2)}),
            ["1 not of this model: model.stem.9.bias."],
        ),
        (
            lambda s: s.update({block("attention.fn.1.to_q.weight"): torch.zeros(8, 47)}),
            [block("attention.fn.1.to_q.weight"), "found (8, 47), expected (32, 48)"],
        ),
        (
            lambda s: s.update({"model.tracks.layer_norm.bias": torch.zeros(900)}),
            ["1 of another shape: model.tracks.layer_norm.bias (found (900,), expected (896,))"],
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if ".0.feed_forward." in k],
            ["10 missing", "and 5 more"],
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if "heads.mouse." in k],
            ["2 missing: model.heads.mouse.0.weight, model.heads.mouse.0.bias."],
        ),
        (
            lambda s: s.update({"model.conv_tower.99.0.0.weight": torch.zeros(1)}),
            ["1 not of this model: model.conv_tower.99.0.0.weight."],
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if "conv_tower" in k],
            ["not whole", "conv_tower"],
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if ".rel_" in k],
            ["rel_content_bias", "rel_pos_bias"],
        ),
        (
            lambda s: s["model.heads.human.0.bias"].fill_(torch.nan),
            ["1 with values that are not finite: model.heads.human.0.bias."],
        ),
        (
            lambda s: s["model.heads.human.0.bias"].fill_(torch.inf),
            ["1 with values that are not finite: model.heads.human.0.bias."],
        ),
        (
            lambda s: s.update({"model.stem.0.bias": torch.zeros(24, dtype=torch.int32)}),
            ["1 of another type: model.stem.0.bias (int32)"],
        ),
        (
            lambda s: s.update({"model.stem.1.fn.0.num_batches_tracked": torch.tensor(3.0)}),
            ["1 of another type: model.stem.1.fn.0.num_batches_tracked (float32)"],
        ),
    ],
)  # fmt: skip
def test_wrong_space_files_name_their_keys(change: Change, parts: list[str]) -> None:
    state = {f"model.{key}": value for key, value in light(space_shapes()).items()}
    change(state)
    with pytest.raises(CislensError) as raised:
        import_space(as_read(state), tables())
    for part in parts:
        assert part in str(raised.value)
    assert str(raised.value).startswith("weights.safetensors")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda s: s.pop("transformer.1.1.fn.4.weight"), ["missing: transformer.1.1.fn.4.weight"]),
        (
            lambda s: s.update({"_trunk.1.0.bias": s["stem.0.bias"] + 1}),
            ["for one place: stem.0.bias (float32) and _trunk.1.0.bias (float32)"],
        ),
        (
            lambda s: s.update({f"_trunk.1.{COUNTER}": s[f"stem.{COUNTER}"].int()}),
            [f"for one place: stem.{COUNTER} (int64) and _trunk.1.{COUNTER} (int32)."],
        ),
        (
            lambda s: s.update({"_heads.human.0.weight": torch.zeros(7, 96)}),
            ["1 of another shape: _heads.human.0.bias (found (6,), expected (7,))"],
        ),
    ],
)
def test_wrong_enformer_files_name_their_keys(change: Change, parts: list[str]) -> None:
    state = enformer_state()
    change(state)
    with pytest.raises(CislensError) as raised:
        import_enformer(as_read(state), "position")
    for part in parts:
        assert part in str(raised.value)


def test_missing_names_follow_the_file() -> None:
    """A file that has the second names only is told which of these is missing."""
    both = both_names(light(enformer_shapes()))
    second = {k: v for k, v in both.items() if k.startswith(("_trunk", "_heads"))}
    del second["_trunk.1.0.bias"]
    with pytest.raises(CislensError, match=r"1 missing: _trunk\.1\.0\.bias\."):
        import_enformer(as_read(second), "position")


def test_batch_counters_may_be_missing(space_state: State) -> None:
    """Some formats drop integers; nothing reads them here."""
    state = {k: v for k, v in space_state.items() if not k.endswith("num_batches_tracked")}
    back = published_state(import_space(as_read(state), tables()), "space")
    assert back["model.stem.1.fn.0.num_batches_tracked"].item() == 0
    assert back.keys() == {f"model.{key}" for key in space_shapes()}


def test_half_precision_is_read_as_float32(space_state: State) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in space_state.items()}
    model = import_space(as_read(state), tables())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("keys", "looks"),
    [
        (["conv_dna.conv_layer.weight"], "looks like Borzoi"),
        (["esm.encoder.layer.0.weight"], "looks like a Nucleotide Transformer"),
        (["encoder.tower.stem.0.weight"], "looks like a model of cislens"),
        (["stem.0.weight", "conv_tower.0.0.0.bias"], "looks like part of SPACE or Enformer"),
        (["a", "b", "c", "d"], "no architecture that is known here (its keys are a, b, c and 1"),
        (["_heads.human.0.bias"], "looks like Enformer"),
    ],
)
def test_other_architectures_are_told_apart(keys: list[str], looks: str) -> None:
    state = {key: torch.zeros(1) for key in keys}
    with pytest.raises(CislensError) as raised:
        import_space(as_read(state), tables())
    assert looks in str(raised.value)
    assert "expected the published weights of SPACE" in str(raised.value)


def test_space_is_no_enformer(space_state: State) -> None:
    with pytest.raises(CislensError, match=r"looks like SPACE .*`cislens model import space`"):
        import_enformer(as_read(space_state), "position")


@pytest.mark.parametrize(
    ("length", "nearest"), [(131_000, "131,072"), (114_000, "114,688"), (131_200, "131,072")]
)
def test_windows_must_leave_the_central_bins(space_state: State, length: int, nearest: str) -> None:
    with pytest.raises(CislensError, match=f"nearest length that does is {nearest} bp"):
        import_space(as_read(space_state), tables(), length)


def test_a_table_must_fit_its_head(space_state: State) -> None:
    known = tables()
    with pytest.raises(CislensError, match=r"table of human has 5 rows and the head of .* has 6"):
        import_space(as_read(space_state), known | {"human": known["mouse"]})
    with pytest.raises(CislensError, match="none of mouse; give all or none"):
        import_space(as_read(space_state), {"human": known["human"]})
    with pytest.raises(CislensError, match=r"no head of species 'mousse'. Did you mean 'mouse'"):
        import_space(as_read(space_state), {"mousse": known["mouse"]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": "bp"}, "positions are 'bp'"),
        ({"stem_dim": 8}, "stem has 8 channels, not 24 / 2"),
        ({"dim": 32, "stem_dim": None}, "dim / heads is 16, no multiple of 6"),
    ],
)
def test_models_without_a_published_form_are_not_exported(
    changes: dict[str, Any], message: str
) -> None:
    shape = {"dim": 24, "depth": 1, "heads": 2, "key_dim": 4, "width_multiple": 4, "bin_size": 4}
    encoder = {"kind": "enformer", "positions": "position", **shape, **changes}
    model = build_model({"encoder": encoder, "heads": [{"species": "yeast", "tracks": ["a"]}]})
    with pytest.raises(CislensError, match=message):
        published_state(model, "enformer")
    with pytest.raises(CislensError, match="does not fit the published SPACE: its encoder is"):
        published_state(model, "space")


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        ({"kept": 2}, {}, "its encoder keeps 2 experts of a token, not 3."),
        ({"kept": 4}, {}, "its encoder keeps 4 experts of a token, not 3."),
        ({}, {"kept": 2}, "its decoder keeps 2 experts of a router, not 3."),
        ({"positions": "position"}, {}, "its positions are 'position', not 'feature-axis'."),
        ({}, {}, None),
    ],
)
def test_what_no_tensor_of_space_shows_must_be_as_published(
    encoder: dict[str, Any], decoder: dict[str, Any], message: str | None
) -> None:
    """An import would read these weights as a model with other outputs."""
    shape = {"dim": 24, "depth": 1, "heads": 2, "key_dim": 4, "width_multiple": 4}
    config = {
        "encoder": {"kind": "space-paper", **shape, "species": ("human",), **encoder},
        "decoder": {"kind": "space-paper", "bins": 4, **decoder},
        "heads": [{"species": "human", "tracks": ["a"], "groups": ["TF"]}],
    }
    model = build_model(config)
    if message is None:
        assert "model.tracks.input_proj.weight" in published_state(model, "space")
        return
    with pytest.raises(CislensError) as raised:
        published_state(model, "space")
    assert str(raised.value) == f"The model does not fit the published SPACE: {message}"
