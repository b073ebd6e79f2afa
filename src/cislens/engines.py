"""Work in units, done by processes of this machine or of many: the same units, the same bytes.

A unit writes its own output, whole or not at all (`cislens.files`), and gives the same bytes
whenever and wherever it is done. So units may be done in any order, by any number of workers, and
twice: what an engine adds is who does them, never what comes out.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, TypeVar

from cislens.errors import CislensError
from cislens.progress import track
from cislens.usage import cores

logger = logging.getLogger("cislens")

# Deaths of workers in a row, without a unit done between them, that end a run.
DEATHS = 3

Unit = TypeVar("Unit")
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Worker:
    """Who does units.

    Attributes:
        number: from 0, of this machine's workers.
        workers: how many there are beside it, itself included.
    """

    number: int = 0
    workers: int = 1


# A job can be sent to another process. Called there with the worker, once, it gives what does a
# unit: opened genomes and loaded models are kept from unit to unit.
Job = Callable[[Worker], Callable[[Unit], None]]


class Reopened(Generic[Thing]):
    """What is opened here, and opened anew where it is sent to: pickled as how it is opened.

    Attributes:
        thing: what `opening(*given)` gave, here.
    """

    def __init__(self, opening: Callable[..., Thing], *given: Any) -> None:
        self._opening, self._given = opening, given
        self.thing = opening(*given)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._opening, *self._given)


class Engine(Protocol):
    """Does the units of a job.

    Attributes:
        name: `local` or `ray`.
        workers: that work at the same time.
    """

    @property
    def name(self) -> str: ...

    @property
    def workers(self) -> int: ...

    def run(self, job: Job[Unit], units: Sequence[Unit], doing: str, *, gpu: bool = False) -> None:
        """Do every unit, in any order; a worker that dies is replaced and its unit done again.

        Args:
            doing: what the progress is called.
            gpu: whether each worker needs a GPU.

        Raises:
            CislensError: as the units do, if workers keep dying, or if there are several and the
                job cannot be sent to them.
        """


@dataclass(frozen=True)
class LocalEngine:
    """Processes of this machine; one worker is this process itself."""

    workers: int = 1
    name: str = "local"

    def run(self, job: Job[Unit], units: Sequence[Unit], doing: str, *, gpu: bool = False) -> None:
        """As `Engine.run`; which GPU is its own, a worker knows by its number."""
        if self.workers == 1 or len(units) < 2:
            _say_what_is_idle(doing, len(units), gpu)
            work = job(Worker()) if units else None
            for unit in track(units, doing):
                assert work is not None
                work(unit)
            return
        sent = packed(job, doing)
        left = dict(enumerate(units))
        shown = track(range(len(units)), doing)
        next(shown)
        deaths = 0
        try:
            while left:
                before = len(left)
                try:
                    self._pool(sent, left, shown)
                except BrokenProcessPool:
                    deaths = 1 if len(left) < before else deaths + 1
                    if deaths == DEATHS:
                        raise too_many_deaths(doing, self.workers) from None
                    logger.warning("%s: a worker was ended; its unit is done again", doing)
        finally:
            shown.close()

    def _pool(self, job: bytes, left: dict[int, Unit], shown: Iterator[int]) -> None:
        """Do what is left until a worker dies; what is done is taken out of `left`."""
        count = min(self.workers, len(left))
        context = multiprocessing.get_context("spawn")  # forking a process with threads can hang
        numbers = context.Value("i", 0)
        followed, leash = context.Pipe(duplex=False)
        executor = ProcessPoolExecutor(
            count, context, initializer=_start, initargs=(job, numbers, count, followed)
        )
        with followed, leash, executor:
            with _uninterrupted():  # which processes that start here inherit
                futures = {executor.submit(_work, unit): key for key, unit in left.items()}
            try:
                for future in as_completed(futures):
                    future.result()
                    del left[futures[future]]
                    next(shown, None)
            except Exception:
                executor.shutdown(wait=False, cancel_futures=True)  # others finish their unit
                raise
            except BaseException:
                leash.close()
                raise


def _say_what_is_idle(doing: str, units: int, gpu: bool) -> None:
    idle = min(cores(), units) - 1
    if idle > 0 and not gpu:
        logger.info("%s: one core works; --workers %d would be quicker", doing, idle + 1)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


HERE = LocalEngine()  # this process alone


def packed(job: Job[Unit], doing: str) -> bytes:
    """A job as it is sent to other processes.

    Raises:
        CislensError: if it cannot be.
    """
    try:
        return pickle.dumps(job)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise CislensError(
            f"{doing}: this cannot be sent to other processes ({error}); use one worker, or give "
            "what a folder or a name says instead of an object."
        ) from None


def threads_of(workers: int) -> int:
    """Threads for each of so many workers of one machine."""
    return max(1, cores() // workers)


def too_many_deaths(doing: str, workers: int) -> CislensError:
    """The error of workers that keep dying."""
    return CislensError(
        f"{doing}: workers were ended by the system {DEATHS} times in a row, perhaps for lack of "
        f"memory; run the same command again with fewer than {workers} workers, it goes on where "
        "it stopped."
    )


@dataclass
class _Process:
    """What a worker process knows: the job as it was sent, and once it is needed, ready."""

    job: bytes = b""
    worker: Worker = Worker()
    work: Callable[[Any], None] | None = None


_process = _Process()


def _start(job: bytes, numbers: Any, workers: int, followed: Connection) -> None:
    """Make a worker ready; it ends when the process that started it is gone, or lets go.

    Ctrl-C means that process alone: it is blocked in a worker, from its start.
    """
    threading.Thread(target=_follow, args=(followed,), daemon=True).start()
    # Read by the libraries that the job will import.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_of(workers)))
    with numbers.get_lock():
        number = numbers.value
        numbers.value += 1
    _process.job, _process.worker = job, Worker(number % workers, workers)


def _follow(followed: Connection) -> None:
    with suppress(EOFError, OSError):
        followed.recv_bytes()
    os._exit(1)


def _work(unit: Any) -> None:
    if _process.work is None:
        _process.work = pickle.loads(_process.job)(_process.worker)
    _process.work(unit)
