"""What every writer of stores does about interruptions.

A store grows in `<out>.partial/store` beside `plan.json`, the digest of what is being built, and
`done`, the markers of finished parts. Nothing half-written ever has the name `<out>`.
"""

import errno
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cislens.errors import CislensError
from cislens.files import claimed, sync, write_atomic
from cislens.signal.store import ProfileStore, partial_folder

logger = logging.getLogger("cislens")

_PLAN = "plan.json"
_MARKERS = 2  # version of what markers say


class Store(Protocol):
    """What every store knows of itself."""

    path: Path


AnyStore = TypeVar("AnyStore", bound=Store)


def open_finished(out: Path, digest: str) -> ProfileStore:
    """The store at `out`, which exists, if it is of the plan with this digest.

    Raises:
        CislensError: if it is another one, or no store.
    """
    store = ProfileStore.open(out)
    return accepted(store, store.manifest["plan_digest"] == digest, "profile")


def keeps(partial: Path, digest: str) -> bool:
    """Whether an earlier run of the same plan left its work; what another left is removed."""
    state = partial / _PLAN
    if state.exists():
        left = json.loads(state.read_text())
        same = left["digest"] == digest and left.get("markers") == _MARKERS
        # The store is gone where a run was killed right after it gave it its name.
        if same and (partial / "store").exists():
            for stale in partial.rglob(".*.partial"):
                stale.unlink()
            return True
        if not same:
            logger.warning(
                "%s was left by a build of other inputs or settings; starting anew", partial
            )
    for name in ("done", "store"):
        shutil.rmtree(partial / name, ignore_errors=True)
    state.unlink(missing_ok=True)
    (partial / "done").mkdir()
    return False


def begin(partial: Path, digest: str, recipe: Mapping[str, Any]) -> None:
    """Say what is being built; from here on a later run of the same plan resumes."""
    state = {"digest": digest, "markers": _MARKERS, "recipe": recipe}
    write_atomic(partial / _PLAN, json.dumps(state, indent=1))


@contextmanager
def building(out: Path, needs: int) -> Iterator[Path]:
    """The folder in which the store `out` of `needs` bytes grows, as its `store`.

    When the block ends the store gets its name, and what is left is removed.

    Raises:
        CislensError: if another build of it is running, or the disk is full.
    """
    partial = partial_folder(out)
    with claimed(partial, "building"):
        try:
            yield partial
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise CislensError(
                f"the disk is full: {out} needs {needs:,} bytes. What is done is kept in "
                f"{partial}; free some space and run the same command again."
            ) from error
        (partial / "store").rename(out)
        sync(out.parent)
        shutil.rmtree(partial)


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
    shutil.rmtree(partial_folder(store.path), ignore_errors=True)
    return store


def publish(partial: Path, out: Path) -> ProfileStore:
    """Give the whole store its name and remove what is left."""
    (partial / "store").rename(out)
    sync(out.parent)
    shutil.rmtree(partial)
    return ProfileStore.open(out)
