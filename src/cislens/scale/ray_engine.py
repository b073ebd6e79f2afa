"""Units done by actors of a Ray cluster, through Ray Data."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cislens.engines import Job, Unit, Worker, threads_of
from cislens.extras import extra
from cislens.progress import track


@dataclass(frozen=True)
class RayEngine:
    """Actors of the cluster that RAY_ADDRESS names; of this machine where it names none.

    The machines share the folders that the job names. An actor that dies is started again.
    """

    workers: int = 1
    name: str = "ray"

    def run(self, job: Job[Unit], units: Sequence[Unit], doing: str) -> None:
        """As `Engine.run`."""
        if not units:
            return
        ray = extra("ray", "scale")
        data = extra("ray.data", "scale")
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False)
        given = data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units))
        done = given.map_batches(
            _Actor, fn_constructor_args=(pickle.dumps(job), self.workers), batch_size=1,
            concurrency=min(self.workers, len(units)), num_cpus=1,
        )  # fmt: skip
        for _ in track(done.iter_rows(), doing, len(units)):
            pass


class _Actor:
    """A worker of the cluster."""

    def __init__(self, job: bytes, workers: int) -> None:
        self.job, self.workers = job, workers
        self.work: Callable[[Any], None] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import os

        os.environ.setdefault("OMP_NUM_THREADS", str(threads_of(self.workers)))
        if self.work is None:
            self.work = pickle.loads(self.job)(Worker())
        for unit in batch["unit"]:
            self.work(unit)
        return {"done": batch["unit"]}
