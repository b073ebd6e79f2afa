"""Units done by actors of a Ray cluster, through Ray Data."""

import logging
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cislens.engines import DEATHS, Job, Unit, Worker, packed, threads_of, too_many_deaths
from cislens.errors import CislensError
from cislens.extras import extra
from cislens.progress import track


@dataclass(frozen=True)
class RayEngine:
    """Actors of the cluster that RAY_ADDRESS names, of one that runs here, or of a new one here.

    The machines share the folders that the job names. An actor that dies is started again.
    """

    workers: int = 1
    name: str = "ray"

    def run(self, job: Job[Unit], units: Sequence[Unit], doing: str, *, gpu: bool = False) -> None:
        """As `Engine.run`; an actor has a core, and a GPU of its own if it needs one."""
        if not units:
            return
        sent = packed(job, doing)
        count = min(self.workers, len(units))
        with _session() as (ray, data), warnings.catch_warnings():
            # Ray means to give the last two options names of their own, and has not yet.
            warnings.filterwarnings("ignore", message=".*ray_remote_args. is deprecated")
            items = [{"unit": pickle.dumps(unit)} for unit in units]  # as they are, no arrays
            given = data.from_items(items, override_num_blocks=len(items))
            done = given.map_batches(
                _Actor, fn_constructor_args=(sent, self.workers), batch_size=1,
                compute=data.ActorPoolStrategy(size=count), num_cpus=1, num_gpus=1 if gpu else 0,
                max_restarts=-1, max_task_retries=DEATHS - 1,
            )  # fmt: skip
            try:
                for row in track(done.iter_rows(), doing, len(units)):
                    if row["error"] is not None:
                        raise pickle.loads(row["error"])
            except ray.exceptions.RayActorError:
                raise too_many_deaths(doing, self.workers) from None


@contextmanager
def _session() -> Iterator[tuple[ModuleType, ModuleType]]:
    """Ray and Ray Data, quiet; if Ray does not run yet in this process, as long as the block."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")
    ray, data = extra("ray", "scale"), extra("ray.data", "scale")
    ours = not ray.is_initialized()
    # Ray tells the death of a worker on stdout, which is for answers.
    with redirect_stdout(sys.stderr):
        if ours:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
        data.DataContext.get_current().enable_progress_bars = False
        try:
            yield ray, data
        finally:
            if ours:
                ray.shutdown()


class _Actor:
    """A worker of the cluster."""

    def __init__(self, job: bytes, workers: int) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads_of(workers)))
        self.job = job
        self.work: Callable[[Any], None] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do the units of a batch; what is wrong with one comes back as it is."""
        try:
            if self.work is None:
                self.work = pickle.loads(self.job)(Worker())
            for unit in batch["unit"]:
                self.work(pickle.loads(unit))
        except (CislensError, OSError) as error:
            return {"error": [pickle.dumps(error)]}
        return {"error": [None]}
