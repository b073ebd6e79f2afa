"""What of the machine and of the user's settings keeps cislens from working, or from being quick.

Of the standard library alone: it has to work where hardly anything does.
"""

import hashlib
import locale
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cislens
from cislens.cli.doctor_libraries import Finding

EXAMPLE = Path(cislens.__file__).parent / "example"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_ROOM = 2 << 30  # bytes; what a store or the parts of a bench take on their way
_SHARED = 256 << 20  # bytes; containers give 64 MB where nobody asks for more
_GROUP = Path("/sys/fs/cgroup")


def of_temporary_files() -> Finding | None:
    """No place to write temporary files, or little room there."""
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"written")
            file.flush()
    except OSError as error:
        return Finding(
            "broken", "temporary files", f"None can be written: {error.strerror or error}.",
            "make room, or let TMPDIR name a folder that you may write to",
        )  # fmt: skip
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        return Finding(
            "warning", "temporary files", f"{folder} has {free / 1e9:.1f} GB left.",
            "make room, or let TMPDIR name a folder on a larger disk",
        )  # fmt: skip
    return None


def of_shared_memory(folder: Path = Path("/dev/shm")) -> Finding | None:
    """No memory that processes can share, or so little that workers die of it."""
    remedy = "mount a tmpfs there with mode 1777; a container takes --shm-size=2g"
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("broken", "shared memory", f"{folder} cannot be written to.", remedy)
    size = shutil.disk_usage(folder).total
    if size < _SHARED:
        found = f"{folder} holds {size / 1e6:.0f} MB; workers may end with a bus error."
        return Finding("warning", "shared memory", found, remedy)
    return None


def of_packaged_data(folder: Path = EXAMPLE) -> Finding | None:
    """Packaged files that are missing or not those that were packaged, by their sha256."""
    remedy = f"{sys.executable} -m pip install --force-reinstall --no-deps cislens"
    try:
        rows = [line.split(maxsplit=1) for line in (folder / "SHA256SUMS").read_text().splitlines()]
    except OSError as error:
        return Finding("broken", "packaged data", f"{folder / 'SHA256SUMS'}: {error}.", remedy)
    wrong = []
    for digest, name in rows:
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            wrong.append(f"{name} is damaged")
    if not wrong:
        return None
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return Finding("broken", "packaged data", f"In {folder}, {wrong[0]}{more}.", remedy)


def of_encoding() -> Finding | None:
    """A locale in which names and texts beyond ASCII are read wrong."""
    names = {sys.getfilesystemencoding(), locale.getpreferredencoding(False)}
    other = sorted(name for name in names if name.replace("-", "").lower() != "utf8")
    if not other:
        return None
    return Finding(
        "warning", "encoding", f"Files and their names are read as {other[0]}, not as UTF-8.",
        "export LANG=C.UTF-8, or PYTHONUTF8=1",
    )  # fmt: skip


def cores(group: Path = _GROUP) -> float:
    """How many cores this process may use at once: by its affinity and its control group."""
    allowed = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return allowed if quota == "max" else min(allowed, int(quota) / int(period))
    except (OSError, ValueError):
        return allowed


def of_threads(environment: Mapping[str, str], group: Path = _GROUP) -> list[Finding]:
    """Settings by which threads wait for each other instead of working."""
    found = []
    mine = cores(group)
    wanted = environment.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > mine:
        found.append(Finding(
            "warning", "threads", f"OMP_NUM_THREADS is {wanted} on {mine:g} cores.",
            f"export OMP_NUM_THREADS={max(1, int(mine))}",
        ))  # fmt: skip
    elif not wanted and mine < len(os.sched_getaffinity(0)):
        found.append(Finding(
            "warning", "threads",
            f"This container may use {mine:g} of {len(os.sched_getaffinity(0))} cores, and "
            "libraries start a thread for each.", f"export OMP_NUM_THREADS={max(1, int(mine))}",
        ))  # fmt: skip
    if environment.get("OMP_WAIT_POLICY", "PASSIVE").upper() == "ACTIVE":
        found.append(Finding(
            "warning", "threads", "OMP_WAIT_POLICY is ACTIVE: threads that wait take the cores.",
            "unset OMP_WAIT_POLICY",
        ))  # fmt: skip
    return found


def of_command(search: str | None = None) -> Finding | None:
    """Another installation's command comes first on the path."""
    first = shutil.which("cislens", path=search)
    if first is None or Path(first).parent.resolve() == Path(sys.executable).parent.resolve():
        return None
    return Finding(
        "warning", "command", f"`cislens` is {first}, of another Python than {sys.executable}.",
        "activate the environment that you mean, or call its own bin/cislens",
    )  # fmt: skip


def of_data_folder(environment: Mapping[str, str]) -> Finding | None:
    """CISLENS_DATA names no folder."""
    named = environment.get("CISLENS_DATA")
    if named is None or Path(named).is_dir():
        return None
    return Finding(
        "warning", "development data", f"CISLENS_DATA names {named}, which is no folder.",
        "unset it, or let it name the folder that holds the data",
    )  # fmt: skip


def browser() -> str | None:
    """The browser that the tests of pages drive."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)
