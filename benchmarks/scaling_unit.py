"""A unit of work for `scaling.py`, in a module that workers can import."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cislens.engines import Worker
from cislens.files import write_atomic


@dataclass(frozen=True)
class Sleepy:
    """A unit that takes `seconds` and writes a small file."""

    folder: Path
    seconds: float

    def __call__(self, worker: Worker) -> Callable[[int], None]:
        return self.work

    def work(self, number: int) -> None:
        time.sleep(self.seconds)
        write_atomic(self.folder / f"{number}.txt", str(number))
