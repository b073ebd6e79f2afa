"""What every writer of stores does: in units, by any engine, on after any interruption.

A store grows in `<out>.partial/store` beside `plan.json`, the digest of what is being built, and
`done`, the markers of finished units. Nothing half-written ever has the name `<out>`.
"""

import errno
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cislens.engines import Engine, LocalEngine, Worker
from cislens.errors import CislensError
from cislens.files import claimed, sync, write_atomic
from cislens.remote import Address
from cislens.signal.manifests import partial_folder
from cislens.signal.sharing import WHOLE, Part, shared

logger = logging.getLogger("cislens")

_PLAN = "plan.json"
_MARKERS = 2  # version of what markers say

# Of a unit: does it in the folder of the store and returns what its marker says.
DoUnit = Callable[[str], Mapping[str, Any]]


class Builder(Protocol):
    """How a kind of store is made. It can be sent to other processes.

    Attributes:
        digest: sha256 of all that determines the store's bytes.
        settings: the same, readable.
        doing: what the progress is called.
    """

    @property
    def doing(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def units(self) -> Sequence[str]:
        """Names of the units of work; each can be done by itself and names a file."""

    def unit_bytes(self, unit: str) -> int:
        """What a unit writes."""

    def begin(self, store: Path) -> None:
        """Write what there is before any unit."""

    def worker(self, store: Path) -> DoUnit:
        """What does units; called once in each worker."""

    def finish(self, store: Path, markers: Mapping[str, Mapping[str, Any]]) -> None:
        """Write what follows when all units are done, last the manifest."""


class Store(Protocol):
    """What every store knows of itself."""

    path: Path


AnyStore = TypeVar("AnyStore", bound=Store)


@dataclass(frozen=True)
class UnitsLeft:
    """What a part of a build leaves to the other parts."""

    units: int
    of: int


def build(
    out: Path, builder: Builder, engine: Engine | None = None, part: Part = WHOLE
) -> UnitsLeft | None:
    """Build a store, or its share of the units; None when the store is whole and has its name.

    A build that was killed, or ended by a full disk, goes on where it stopped when it is started
    again; what another plan left behind is discarded with a warning in the log. The bytes depend
    neither on the engine, the parts nor interruptions. Of parts that work at the same time, the
    one that does the last unit finishes the store.

    Raises:
        CislensError: if another build of it is running, or the disk is full.
    """
    partial = partial_folder(out)
    with _full_disk_told(out, builder):
        if part == WHOLE:
            with claimed(partial, "building"):
                _prepare(partial, builder)
                _do(out, builder, engine, part)
                _finish(out, builder)
            return None
        with shared(partial, part, lambda: _prepare(partial, builder)) as alone:
            _require_plan(partial, builder)
            _do(out, builder, engine, part)
            left = _unfinished(partial, builder)
            if left:
                return UnitsLeft(len(left), len(builder.units()))
            with alone():
                if not out.exists():
                    _finish(out, builder)
    return None


def _prepare(partial: Path, builder: Builder) -> None:
    """Keep what an earlier run of this plan left, or start anew."""
    state, store = partial / _PLAN, partial / "store"
    if state.exists():
        # The store is gone where a run was killed right after it gave it its name.
        if _is_of(state, builder) and store.exists():
            for stale in partial.rglob(".*.partial"):
                stale.unlink()
            done, units = len(builder.units()), len(builder.units())
            done -= len(_unfinished(partial, builder))
            logger.info("resuming %s: %d of %d units are done", partial, done, units)
            return
        if not _is_of(state, builder):
            logger.warning(
                "%s was left by a build of other inputs or settings; starting anew", partial
            )
    for name in ("done", "store"):
        shutil.rmtree(partial / name, ignore_errors=True)
    state.unlink(missing_ok=True)
    for name in ("done", "store"):
        (partial / name).mkdir()
    builder.begin(store)
    write_atomic(state, plan_text(builder))


def plan_text(builder: Builder) -> str:
    """What says of which plan an unfinished store is."""
    state = {"digest": builder.digest, "markers": _MARKERS, "recipe": builder.settings}
    return json.dumps(state, indent=1)


def is_of(text: str | bytes, builder: Builder) -> bool:
    """Whether that is what `plan_text` gives for this plan."""
    left = json.loads(text)
    return bool(left["digest"] == builder.digest and left.get("markers") == _MARKERS)


def _is_of(state: Path, builder: Builder) -> bool:
    return is_of(state.read_bytes(), builder)


def _require_plan(partial: Path, builder: Builder) -> None:
    if not _is_of(partial / _PLAN, builder):
        raise CislensError(
            f"{partial} is being built of other inputs or settings; wait for it, or choose "
            "another path."
        )


@dataclass(frozen=True)
class _Job:
    """Units as an engine does them: in the partial store, then marked."""

    out: Path
    builder: Builder

    def __call__(self, worker: Worker) -> Callable[[str], None]:
        partial = partial_folder(self.out)
        do = self.builder.worker(partial / "store")

        def work(unit: str) -> None:
            with _full_disk_told(self.out, self.builder):
                write_atomic(_marker(partial, unit), json.dumps(do(unit)))

        return work


def _do(out: Path, builder: Builder, engine: Engine | None, part: Part) -> None:
    left = set(_unfinished(partial_folder(out), builder))
    todo = [unit for unit in part.share(builder.units()) if unit in left]
    needed = sum(map(builder.unit_bytes, todo))
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise CislensError(
            f"{out} needs {needed:,} more bytes, {free:,} are free on its disk; free some space "
            "or choose another path."
        )
    (engine or LocalEngine()).run(_Job(out, builder), todo, builder.doing)


def _finish(out: Path, builder: Builder) -> None:
    """Write what follows the units, give the whole store its name and remove what is left."""
    partial = partial_folder(out)
    markers = {unit: json.loads(_marker(partial, unit).read_text()) for unit in builder.units()}
    builder.finish(partial / "store", markers)
    (partial / "store").rename(out)
    sync(out.parent)
    shutil.rmtree(partial)


def _unfinished(partial: Path, builder: Builder) -> list[str]:
    return [unit for unit in builder.units() if not _marker(partial, unit).exists()]


def _marker(partial: Path, unit: str) -> Path:
    return partial / "done" / f"{unit}.json"


@contextmanager
def _full_disk_told(out: Path, builder: Builder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        partial, units = partial_folder(out), builder.units()
        left = _unfinished(partial, builder)
        total, needed = (sum(map(builder.unit_bytes, some)) for some in (units, left))
        raise CislensError(
            f"the disk is full: {out} needs {total:,} bytes, {needed:,} of them are still to be "
            f"written. {len(units) - len(left)} of {len(units)} units are done and kept in "
            f"{partial}; free some space and run the same command again."
        ) from error


def accepted(store: AnyStore, same: bool, kind: str) -> AnyStore:
    """A store that exists already, if it is what would be built.

    Raises:
        CislensError: if it is not.
    """
    if not same:
        raise CislensError(
            f"{store.path} is a {kind} store of other inputs or settings; remove it or choose "
            "another path."
        )
    logger.info("%s is already built", store.path)
    # Left behind where a build was killed right after it gave the store its name.
    if not isinstance(store.path, Address):
        shutil.rmtree(partial_folder(store.path), ignore_errors=True)
    return store
