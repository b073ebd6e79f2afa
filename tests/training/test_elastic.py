"""Two processes of torchrun's agent: one is killed, one fails, a loss is not finite.

The jobs run in one script, so that the libraries are imported once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from cislens.models.saving import load_model
from cislens.signal.store import ProfileStore

RECIPE = """\
store: {store}
model: {{preset: space-plus-tiny, dim: 24, stem_dim: 8, depth: 1, heads: 2, dropout: 0.0}}
training: {{steps: 4, batch_size: 8, validate_every: 2, ema_decay: 0.5, strategy: {strategy}}}
"""
HURT = {
    "ddp": "", "ddp-killed": "kill 1", "ddp-alone": "refuse 0",
    "fsdp": "", "fsdp-killed": "kill 1", "ddp-nan": "nan 1",
}  # fmt: skip


@pytest.mark.slow
def test_what_happens_to_a_process_ends_or_restarts_all_of_them(
    small_store: ProfileStore, tmp_path: Path
) -> None:
    """Killed in step 4 after a checkpoint at 2: the weights are those of a run left alone."""
    recipes = {
        name: RECIPE.format(store=small_store.path, strategy=name.split("-")[0]) for name in HURT
    }
    jobs = {name: {"recipe": recipes[name], "hurt": what} for name, what in HURT.items()}
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("elastic_jobs.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ends = {
        name: end for name, (end, _) in json.loads((tmp_path / "ends.json").read_text()).items()
    }
    finished = {"ddp", "ddp-killed", "fsdp", "fsdp-killed"}
    assert ends == {name: "" if name in finished else "2" for name in HURT}

    weights = {name: tmp_path / name / "model" / "model.safetensors" for name in finished}
    for strategy in ("ddp", "fsdp"):
        whole, killed = (tmp_path / name for name in (strategy, f"{strategy}-killed"))
        assert "resuming" in (killed / "log.jsonl").read_text()
        assert weights[strategy].read_bytes() == weights[f"{strategy}-killed"].read_bytes()
        tables = [pl.read_parquet(run / "metrics.parquet") for run in (whole, killed)]
        assert tables[0].equals(tables[1])
    x_B4L = torch.rand(2, 4, small_store.length, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        copied, shared = (
            load_model(tmp_path / name / "model").eval()(x_B4L, "fly") for name in ("ddp", "fsdp")
        )
    torch.testing.assert_close(shared, copied, rtol=1e-3, atol=1e-4)

    for name in HURT.keys() - finished:
        assert not (tmp_path / name / "manifest.json").exists()
        assert (tmp_path / name / "checkpoints" / "last.ckpt").exists()
    assert done.stderr.count("error: planted error") == 1
    diverged = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    diverged = [line for line in diverged if "training diverged. At step 4" in line]
    assert len(diverged) == 2 and "the last good checkpoint, of step 2" in diverged[0]
