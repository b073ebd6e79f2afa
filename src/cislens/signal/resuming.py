"""What every writer of profile stores does about interruptions.

A store grows in `<out>.partial/store` beside `plan.json`, the digest of what is being built, and
`done`, the markers of finished parts. Nothing half-written ever has the name `<out>`.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cislens.errors import CislensError
from cislens.files import sync, write_atomic
from cislens.signal.store import ProfileStore, partial_folder

logger = logging.getLogger("cislens")

_PLAN = "plan.json"


def open_finished(out: Path, digest: str) -> ProfileStore:
    """The store at `out`, which exists, if it is of the plan with this digest.

    Raises:
        CislensError: if it is another one, or no store.
    """
    store = ProfileStore.open(out)
    if store.manifest["plan_digest"] != digest:
        raise CislensError(
            f"{out} is a profile store of other inputs or settings; remove it or choose another "
            "path."
        )
    logger.info("%s is already built", out)
    shutil.rmtree(partial_folder(out), ignore_errors=True)
    return store


def keeps(partial: Path, digest: str) -> bool:
    """Whether an earlier run of the same plan left its work; what another left is removed."""
    state = partial / _PLAN
    if state.exists():
        same = json.loads(state.read_text())["digest"] == digest
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
    write_atomic(partial / _PLAN, json.dumps({"digest": digest, "recipe": recipe}, indent=1))


def publish(partial: Path, out: Path) -> ProfileStore:
    """Give the whole store its name and remove what is left."""
    (partial / "store").rename(out)
    sync(out.parent)
    shutil.rmtree(partial)
    return ProfileStore.open(out)
