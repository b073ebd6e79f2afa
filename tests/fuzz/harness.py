"""One hostile input at a time: a reader may give a value or one CislensError, and nothing else.

A reader is asked in a folder of its own, with a clock that rings, a limit on memory, and an eye on
what it prints and leaves behind.
"""

import gc
import logging
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.fuzz.mutation import mutated

from cislens.errors import CislensError, CislensWarning

ACCEPTED, REFUSED = "accepted", "refused"
CRASHED, HUNG, PRINTED, STRAY = "crashed", "hung", "printed", "stray file"
OUTCOMES = (ACCEPTED, REFUSED, CRASHED, HUNG, PRINTED, STRAY)
GOOD = (ACCEPTED, REFUSED)

LIMIT_S = 5.0  # of the processor's time for one input; a busy machine does not count
_ASLEEP = 12  # times as long may pass by the clock on the wall
_MEMORY = 3 << 30  # bytes that a reader may add to what the process has


@dataclass(frozen=True)
class Reader:
    """A way into the library.

    Attributes:
        name: of the reader, unique.
        file: what the hostile file is called in its folder.
        seeds: inputs that mutation begins with; the first is whole and must be accepted.
        cases: inputs that are tried as they are: each was a fault once.
        read: what is called, with the path of the file.
        words: pieces of the format that are mixed in.
        prepare: puts what the file needs beside it into the folder, once.
        loud: a library in Rust below says itself that it gave up; that is no fault.
        cost: how much longer than a millisecond an input takes, about; a million is shared by it.
    """

    name: str
    file: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    words: tuple[bytes, ...] = ()
    cases: tuple[bytes, ...] = ()
    prepare: Callable[[Path], object] | None = None
    cost: float = 1.0
    loud: bool = False

    @property
    def whole(self) -> int:
        """How many inputs are tried as they are."""
        return len(self.seeds) + len(self.cases)

    def input(self, number: int) -> bytes:
        """Input `number`: seeds and cases as they are come first, then what mutation makes."""
        if number < self.whole:
            return (*self.seeds, *self.cases)[number]
        return mutated(self.seeds, self.words, random.Random(f"{self.name} {number}"))


@dataclass(frozen=True)
class Trial:
    """What came of one input."""

    outcome: str
    detail: str = ""


class _Rang(BaseException):
    """The clock; no reader may catch it."""


class Arena:
    """A folder in memory where files (if there is such a place) and the ear for what is printed."""

    def __init__(self, folder: Path, limit_s: float = LIMIT_S) -> None:
        self.folder = folder
        self.limit_s = limit_s
        self._prepared: dict[str, tuple[Path, frozenset[str]]] = {}

    def attempt(self, reader: Reader, data: bytes) -> Trial:
        """Give one input to a reader."""
        folder, before = self._place(reader)
        path = folder / reader.file
        path.write_bytes(data)
        began = time.process_time()
        trial = _asked(reader, path, self.limit_s)
        taken = time.process_time() - began
        if taken > self.limit_s:  # in a library that the alarm does not interrupt
            trial = Trial(HUNG, f"{taken:.1f} s")
        stray = _files(folder) - before - {reader.file}
        if stray:
            self._forget(reader)
            return Trial(STRAY, ", ".join(sorted(stray)))
        path.unlink(missing_ok=True)
        return trial

    def _place(self, reader: Reader) -> tuple[Path, frozenset[str]]:
        if reader.name not in self._prepared:
            folder = self.folder / reader.name.replace(" ", "-")
            folder.mkdir(parents=True)
            if reader.prepare is not None:
                reader.prepare(folder)
            self._prepared[reader.name] = (folder, _files(folder))
        return self._prepared[reader.name]

    def _forget(self, reader: Reader) -> None:
        shutil.rmtree(self._prepared.pop(reader.name)[0])


def _files(folder: Path) -> frozenset[str]:
    found: set[str] = set()
    for root, folders, files in os.walk(folder):
        below = root[len(str(folder)) + 1 :]
        found.update(f"{below}/{name}" if below else name for name in folders + files)
    return frozenset(found)


def _asked(reader: Reader, path: Path, limit_s: float) -> Trial:
    def ring(number: int, frame: FrameType | None) -> None:
        raise _Rang

    clocks = (
        (signal.SIGPROF, signal.ITIMER_PROF, limit_s),
        (signal.SIGALRM, signal.ITIMER_REAL, limit_s * _ASLEEP),
    )
    previous = [signal.signal(number, ring) for number, _, _ in clocks]
    for _, clock, seconds in clocks:
        signal.setitimer(clock, seconds)
    try:
        try:
            reader.read(path)
            found = Trial(ACCEPTED)
        except CislensError as error:
            found = Trial(REFUSED, str(error)) if str(error) else Trial(CRASHED, "empty message")
        finally:
            for _, clock, _ in clocks:
                signal.setitimer(clock, 0)
    except _Rang:
        found = Trial(HUNG, f"{limit_s:g} s")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what Rust throws is no Exception
        kind = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "cislens" in frame.filename] or list(frames)
        where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
        found = Trial(CRASHED, f"{kind} at {where}: {str(error)[:200]}")
        del error, frames, own
        gc.collect(0)
    finally:
        for (number, _, _), handler in zip(clocks, previous, strict=True):
            signal.signal(number, handler)
    return found


@contextmanager
def overheard(memory: int | None = _MEMORY) -> Iterator[Callable[[], str]]:
    """Take what goes to both outputs of the process, and bound its memory.

    Gives a function that tells what was printed since it was asked last.
    """
    ear = os.memfd_create("printed")
    kept = [os.dup(1), os.dup(2)]
    sys.stdout.flush()
    sys.stderr.flush()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    silent = logging.NullHandler()
    logging.getLogger("cislens").addHandler(silent)

    def listen() -> str:
        sys.stdout.flush()
        sys.stderr.flush()
        size = os.fstat(ear).st_size
        if not size:
            return ""
        text = os.pread(ear, min(size, 2000), 0).decode(errors="replace")
        os.ftruncate(ear, 0)
        os.lseek(ear, 0, os.SEEK_SET)
        return text

    try:
        for number in (1, 2):
            os.dup2(ear, number)
        if memory is not None:
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + memory, limits[1]))
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # else a warning is told once
            warnings.simplefilter("ignore", CislensWarning)
            yield listen
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        resource.setrlimit(resource.RLIMIT_AS, limits)
        logging.getLogger("cislens").removeHandler(silent)
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(ear)


def attempts(
    arena: Arena, reader: Reader, numbers: Sequence[int], listen: Callable[[], str]
) -> Iterator[tuple[int, Trial]]:
    """The trials of some inputs; what is printed with a value or an error is a fault of its own."""
    for number in numbers:
        trial = arena.attempt(reader, reader.input(number))
        printed = listen()
        if printed and trial.outcome in GOOD and not reader.loud:
            trial = Trial(PRINTED, printed)
        yield number, trial
