"""A run that is killed without warning goes on where it was and ends with the same weights."""

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.signal.store import ProfileStore
from cislens.training.fit import fit

RECIPE = """\
store: {store}
model: {{preset: space-plus-tiny, dim: 24, stem_dim: 8, depth: 1, heads: 2}}
training: {{steps: 30, batch_size: 8, validate_every: 5, ema_decay: 0.5}}
"""


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cislens.cli.app", "train", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, "training ended before its first checkpoint"
        assert time.monotonic() < end, f"{path.name} did not appear"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(
    small_store: ProfileStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(RECIPE.format(store=small_store.path))
    killed = start(path, tmp_path / "killed")
    wait_for(tmp_path / "killed" / "checkpoints" / "last.ckpt", killed)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    weights = []
    for folder in ("killed", "whole"):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="cislens"):
            run = fit(read_recipe(path, TrainRecipe), tmp_path / folder)
        assert ("resuming" in caplog.text) == (folder == "killed")
        weights.append((run.model_folder / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
