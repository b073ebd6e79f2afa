"""Jobs and engines around those of the verbs; workers import them, and nothing heavy with them."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cislens.engines import Job, Worker
from cislens.errors import CislensError


class NotedError(Exception):
    """That the units of a job were noted."""


@dataclass
class Notebook:
    """An engine that does nothing: it notes what there is to do, and ends the run."""

    units: list[tuple[int, int, Any]] = field(default_factory=list)
    jobs: list[Job[Any]] = field(default_factory=list)
    workers: int = 2
    name: str = "notebook"

    def run(self, job: Job[Any], units: Sequence[Any], doing: str, *, gpu: bool = False) -> None:
        self.units += [(at, len(self.jobs), unit) for at, unit in enumerate(units, len(self.units))]
        self.jobs.append(job)
        raise NotedError


@dataclass(frozen=True)
class All:
    """The jobs of several verbs as one, whose second unit kills its worker, the first time."""

    jobs: tuple[Job[Any], ...]
    told: Path

    def __call__(self, worker: Worker) -> Callable[[tuple[int, int, Any]], None]:
        ready: dict[int, Callable[[Any], None]] = {}

        def work(unit: tuple[int, int, Any]) -> None:
            at, number, given = unit
            if number not in ready:
                ready[number] = self.jobs[number](worker)
            if at == 1 and not self.told.exists():
                self.told.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            ready[number](given)

        return work


@dataclass(frozen=True)
class Wrong:
    """A job whose units are refused."""

    def __call__(self, worker: Worker) -> Callable[[int], None]:
        return self.refuse

    def refuse(self, unit: int) -> None:
        raise CislensError(f"unit {unit} is wrong.")


@dataclass
class Refused:
    """An engine for runs that have nothing left to do."""

    workers: int = 2
    name: str = "refused"

    def run(self, job: Job[Any], units: Sequence[Any], doing: str, *, gpu: bool = False) -> None:
        assert not units, f"{doing}: {len(units)} units are done again"
