"""Builds that many processes share without an engine: each does its part of the units.

The parts hold the folder together, by a lock that a build of the whole cannot get meanwhile, and
each its own, so that no part is done twice at the same time. The locks are those of `flock`; on a
network file system they reach other machines where it supports them (NFS 4, Lustre with `flock`).
"""

import fcntl
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from cislens.errors import CislensError
from cislens.files import claimed

_PREPARED_WITHIN = 60.0  # seconds
_ASKED_EVERY = 0.05

Unit = TypeVar("Unit")


@dataclass(frozen=True)
class Part:
    """One of so many equal shares of the units; `number` from 1."""

    number: int = 1
    of: int = 1

    def share(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """Every `of`-th unit, so that the shares of all parts are equally long."""
        return units[self.number - 1 :: self.of]


WHOLE = Part()


def read_part(text: str) -> Part:
    """A part as the command line gives it, e.g. `3/8`.

    Raises:
        CislensError: for anything else.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    part = Part(int(match[1]), int(match[2])) if match else Part(0)
    if not 1 <= part.number <= part.of:
        raise CislensError(
            f"--part {text!r} is not of the form I/N with I from 1 to N; e.g. 3/8, or in a SLURM "
            "array of 8: $SLURM_ARRAY_TASK_ID/8."
        )
    return part


@contextmanager
def shared(
    partial: Path, part: Part, prepare: Callable[[], None]
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Hold a folder together with other parts; the first there prepares it, alone.

    Yields:
        What waits until no other part holds the folder, and keeps the others out of it.

    Raises:
        CislensError: if the same part, or a build of the whole, holds it.
    """
    own = partial / "parts" / f"{part.number}-of-{part.of}"
    partial.mkdir(parents=True, exist_ok=True)
    with claimed(own, "building"), (partial / "lock").open("a+") as lock:
        _join(lock, partial, prepare)

        @contextmanager
        def alone() -> Iterator[None]:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

        yield alone


def _join(lock: IO[str], partial: Path, prepare: Callable[[], None]) -> None:
    """The shared lock, after preparing where nobody else holds it."""
    end = time.monotonic() + _PREPARED_WITHIN
    while time.monotonic() < end:
        if not (partial / "lock").exists():
            raise CislensError(
                f"{partial} was finished by another part at this moment; nothing is left to do."
            )
        if _locked(lock, fcntl.LOCK_EX):
            prepare()
            fcntl.flock(lock, fcntl.LOCK_SH)
            return
        if _locked(lock, fcntl.LOCK_SH):
            if (partial / "plan.json").exists():
                return
            fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(_ASKED_EVERY)
    raise CislensError(f"another process is building all of {partial}; wait for it or stop it.")


def _locked(lock: IO[str], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
