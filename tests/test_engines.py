"""Units are done once or more, by whom it may be, and what they leave is the same."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cislens.engines import LocalEngine, Worker
from cislens.errors import CislensError
from cislens.files import write_atomic


@dataclass(frozen=True)
class Squares:
    """Writes n*n to a file; kills its process at `fatal`, once or each time."""

    folder: Path
    fatal: int = -1
    always: bool = False

    def __call__(self, worker: Worker) -> Callable[[int], None]:
        return self.work

    def work(self, n: int) -> None:
        told = self.folder / "told"
        if n == self.fatal and (self.always or not told.exists()):
            told.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if n == 13:
            raise CislensError("13 is no number for us.")
        write_atomic(self.folder / f"{n}.txt", str(n * n))


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_unit_is_done(tmp_path: Path, workers: int) -> None:
    LocalEngine(workers).run(Squares(tmp_path), range(9), "squares")
    assert written(tmp_path) == {f"{n}.txt": str(n * n) for n in range(9)}


def test_the_unit_of_a_killed_worker_is_done_again(tmp_path: Path) -> None:
    LocalEngine(2).run(Squares(tmp_path, fatal=4), range(9), "squares")
    assert (tmp_path / "told").exists()
    assert written(tmp_path) == {f"{n}.txt": str(n * n) for n in range(9)}


def test_workers_that_keep_dying_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(CislensError, match="3 times in a row"):
        LocalEngine(2).run(Squares(tmp_path, fatal=4, always=True), range(4, 6), "squares")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_unit_is_that_of_the_run(tmp_path: Path, workers: int) -> None:
    with pytest.raises(CislensError, match="13 is no number"):
        LocalEngine(workers).run(Squares(tmp_path), range(12, 15), "squares")
