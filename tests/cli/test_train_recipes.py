"""What the command line changes of a training recipe."""

from pathlib import Path

import pytest

from cislens.cli.train_recipe import train_recipe as _recipe
from cislens.errors import CislensError


def test_store_steps_seed_and_a_control_replace_parts_of_a_packaged_recipe(tmp_path: Path) -> None:
    plain = _recipe("space-plus-tiny", [str(tmp_path)], None, None, None)
    changed = _recipe("space-plus-tiny", [str(tmp_path)], 7, "experts", 3)
    assert plain.store == changed.store == tmp_path
    assert (changed.training.steps, changed.seed) == (7, 3)
    assert changed.model == {"preset": "space-plus-tiny", "ffn": "dense"}
    same = {"training": plain.training, "seed": plain.seed, "model": plain.model}
    assert changed.model_copy(update=same) == plain


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(CislensError, match="Did you mean 'experts'"):
        _recipe("space-plus-tiny", [str(tmp_path)], None, "expert", None)
    with pytest.raises(CislensError, match="Did you mean 'space-plus-tiny'"):
        _recipe("space-plus-tin", [str(tmp_path)], None, None, None)
    with pytest.raises(CislensError, match="space-plus-tiny names no store; give --store"):
        _recipe("space-plus-tiny", [], None, None, None)
    own = tmp_path / "own.yaml"
    own.write_text("model: space-plus-tiny\ntraining: {steps: 1}\n")
    with pytest.raises(CislensError, match="'store' is missing"):
        _recipe(str(own), [], None, None, None)
