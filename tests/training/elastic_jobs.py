"""Jobs of two processes each, by the agent that torchrun is made of; started by test_elastic.py.

Processes are forked from one that has everything imported, which saves most of their time.

    python elastic_jobs.py FOLDER
reads FOLDER/jobs.json, {name: {"recipe": ..., "hurt": what happens}}, trains into FOLDER/<name>
and writes FOLDER/ends.json, {name: "" or how it failed, its seconds}.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import polars  # noqa: F401  # before a process is forked, but nothing is computed in this one
import torch
import torch._dynamo  # which models of no bytes and weights in shares ask for
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cislens.cli import app
from cislens.errors import CislensError
from cislens.training import fit, profile_course  # noqa: F401
from cislens.training.module import ObjectiveModule

AT = 3  # step before which it happens


def work(recipe: str, out: str, hurt: str) -> None:
    """One process: `cislens train`, to which something happens."""
    sys.argv = ["cislens", "train", recipe, "--out", out]
    torch.set_num_threads(1)
    if hurt and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        hurtful(hurt)
    app.main()


def hurtful(hurt: str) -> None:
    """Let processes be killed, or fail; "kill 1": process 1 alone."""
    what, *ranks = hurt.split()
    step = ObjectiveModule.training_step

    def hurt_step(self: ObjectiveModule, batch: Any, number: int) -> torch.Tensor:
        loss = step(self, batch, number)
        if self.global_step != AT or os.environ["RANK"] not in ranks:
            return loss
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "refuse":
            raise CislensError("planted error")
        return loss * float("nan")

    ObjectiveModule.training_step = hurt_step  # type: ignore[method-assign]


def run(folder: Path, name: str, job: dict[str, str]) -> tuple[str, float]:
    recipe = folder / f"{name}.yaml"
    recipe.write_text(job["recipe"])
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, run_id=name, start_method="fork",
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", monitor_interval=0.1,
        max_restarts=int(job["hurt"].startswith("kill")),
    )  # fmt: skip
    began, failed = time.monotonic(), ""
    try:
        elastic_launch(config, work)(str(recipe), str(folder / name), job["hurt"])
    except ChildFailedError as error:
        failed = "; ".join(str(failure.exitcode) for failure in error.failures.values())
    return failed, time.monotonic() - began


if __name__ == "__main__":
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    FOLDER = Path(sys.argv[1])
    JOBS = json.loads((FOLDER / "jobs.json").read_text())
    ENDS = {name: run(FOLDER, name, job) for name, job in JOBS.items()}
    (FOLDER / "ends.json").write_text(json.dumps(ENDS))
