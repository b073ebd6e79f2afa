"""A run that is killed without warning goes on where it was and ends with the same weights."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cislens.signal.store import ProfileStore

RECIPE = """\
store: {store}
model: {{preset: space-plus-tiny, dim: 24, stem_dim: 8, depth: 1, heads: 2}}
training: {{steps: 60, batch_size: 8, validate_every: 10, ema_decay: 0.5}}
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
    small_store: ProfileStore, tmp_path: Path
) -> None:
    recipe = tmp_path / "train.yaml"
    recipe.write_text(RECIPE.format(store=small_store.path))
    killed = start(recipe, tmp_path / "killed")
    wait_for(tmp_path / "killed" / "checkpoints" / "last.ckpt", killed)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    for folder in ("killed", "whole"):
        process = start(recipe, tmp_path / folder)
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        assert (b"resuming" in errors) == (folder == "killed")
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("killed", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
