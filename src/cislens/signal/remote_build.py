"""Stores built on object storage: shards are put there whole.

A shard is made in a scratch folder and put under its name; a marker under `<address>/.build/done`
follows. There is no lock, and two who do the same unit put the same bytes. The manifest is put
last: where it is, the store is whole.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cislens.engines import Engine, LocalEngine, Worker
from cislens.errors import CislensError, MissingFileError
from cislens.remote import Address, Remote, scratch
from cislens.signal.manifests import BUILD, MANIFEST
from cislens.signal.resuming import Builder, UnitsLeft, is_of, plan_text
from cislens.signal.sharing import WHOLE, Part

logger = logging.getLogger("cislens")

_PLAN = f"{BUILD}/plan.json"


def is_there(store: Path) -> bool:
    """Whether something has the store's name: at an address, whether it is whole."""
    if isinstance(store, Address):
        return MANIFEST in Remote(store).sizes()
    return store.exists()


def build_remote(
    address: Address, builder: Builder, engine: Engine | None = None, part: Part = WHOLE
) -> UnitsLeft | None:
    """As `resuming.build`, at an address.

    Raises:
        CislensError: if an unfinished build of something else is there.
    """
    remote = Remote(address)
    there = remote.sizes()
    if _PLAN in there:
        if not is_of(remote.read(_PLAN), builder):
            raise CislensError(
                f"{address} holds an unfinished build of other inputs or settings; remove "
                f"{address / BUILD} and what is beside it, or choose another address."
            )
        logger.info(
            "resuming %s: %d units are done", address, len(there.keys() & _markers(builder))
        )
    elif there:
        raise CislensError(
            f"{address} holds {next(iter(there))} and is no store; choose another address."
        )
    with scratch() as folder:
        builder.begin(folder)
        _deliver(remote, folder)
    remote.write(_PLAN, plan_text(builder).encode())
    todo = [unit for unit in part.share(builder.units()) if _marker(unit) not in there]
    (engine or LocalEngine()).run(_Job(remote, builder), todo, builder.doing)
    left = _markers(builder) - remote.sizes(BUILD).keys()
    if left:
        return UnitsLeft(len(left), len(builder.units()))
    _finish(remote, builder)
    return None


@dataclass(frozen=True)
class _Job:
    """Units as an engine does them: in a scratch folder, then put there, then marked."""

    remote: Remote
    builder: Builder

    def __call__(self, worker: Worker) -> Callable[[str], None]:
        def work(unit: str) -> None:
            with scratch() as folder:
                said = self.builder.worker(folder)(unit)
                _deliver(self.remote, folder)
            self.remote.write(_marker(unit), json.dumps(said).encode())

        return work


def _deliver(remote: Remote, folder: Path) -> None:
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        remote.upload(file, str(file.relative_to(folder)))


def _finish(remote: Remote, builder: Builder) -> None:
    try:
        markers: Mapping[str, Any] = {
            unit: json.loads(remote.read(_marker(unit))) for unit in builder.units()
        }
    except MissingFileError:
        if MANIFEST not in remote.sizes():
            raise
        return  # another part has finished it at this moment
    with scratch() as folder:
        builder.begin(folder)
        builder.finish(folder, markers)
        manifest = (folder / MANIFEST).read_bytes()
        (folder / MANIFEST).unlink()
        _deliver(remote, folder)
        remote.write(MANIFEST, manifest)
    remote.remove(sorted(remote.sizes(BUILD)))


def _markers(builder: Builder) -> set[str]:
    return {_marker(unit) for unit in builder.units()}


def _marker(unit: str) -> str:
    return f"{BUILD}/done/{unit}.json"
