"""Whether the libraries that cislens names in its own metadata are there, fit and can be loaded.

Of the standard library alone, besides `packaging`: it has to work where hardly anything does.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

PACKAGE = "cislens"
# What a distribution is imported as, where that is not its name.
_MODULES = {
    "mkdocs-material": "material", "modisco-lite": "modiscolite",
    "pybigwig": "pyBigWig", "pytest-xdist": "xdist", "pyyaml": "yaml", "scikit-learn": "sklearn",
    "types-pyyaml": "", "umap-learn": "umap",
}  # fmt: skip
# Loaded before those that are built on them, so that a fault is told of where it lies.
_FIRST = ("numpy", "pydantic", "torch")
_IMPORT_SECONDS = 180
# Loads module after module and says of each, at once, what came of it; a crash names its module
# by being the last that was begun.
_PROBE = """
import importlib, json, os, sys
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for module in sys.argv[1:]:
    print(json.dumps({"begun": module}), file=out, flush=True)
    try:
        loaded = importlib.import_module(module)
    except BaseException as error:
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"}), file=out, flush=True)
    if module == "torch" and module in sys.modules:
        gpus = [loaded.cuda.get_device_name(i) for i in range(loaded.cuda.device_count())]
        told = {"cuda": loaded.version.cuda, "gpus": gpus, "threads": loaded.get_num_threads()}
        print(json.dumps({"torch": told}), file=out, flush=True)
print(json.dumps({"done": True}), file=out, flush=True)
"""


@dataclass(frozen=True)
class Finding:
    """Something about the environment that is not as it should be.

    Attributes:
        level: "broken", cislens cannot work; "warning", something will be slow, wrong or fail.
        topic: what it is about, one word or name.
        found: what is the case, one sentence.
        remedy: what to do about it, one sentence or command.
    """

    level: Literal["broken", "warning"]
    topic: str
    found: str
    remedy: str


@dataclass(frozen=True)
class Need:
    """A library that the metadata ask for: its distribution, the versions, and for which extra."""

    name: str
    versions: str
    extra: str | None = None

    @property
    def module(self) -> str:
        """What it is imported as; empty for what holds no module."""
        return _MODULES.get(self.name.lower(), self.name.replace("-", "_"))

    @property
    def requirement(self) -> str:
        return f"{self.name}{self.versions}"

    def installed(self) -> str | None:
        try:
            return version(self.name)
        except PackageNotFoundError:
            return None

    def fits(self, installed: str) -> bool:
        """Whether a version is within the bounds; so taken where `packaging` is missing."""
        try:
            from packaging.specifiers import SpecifierSet
        except ImportError:
            return True
        return SpecifierSet(self.versions).contains(installed, prereleases=True)


def needs(lines: list[str] | None = None) -> list[Need]:
    """Needs by the installed metadata (`Requires-Dist`), without what `cislens` asks of itself.

    Raises:
        PackageNotFoundError: if cislens runs from a folder and is not installed.
    """
    found = []
    for line in requires(PACKAGE) or [] if lines is None else lines:
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?$", line)
        if match is None or match[1] == PACKAGE:
            continue
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", match[3] or "")
        found.append(Need(match[1], match[2].strip(), extra[1] if extra else None))
    return found


def of_versions(need: Need) -> Finding | None:
    """What is wrong with the version of a library that cislens cannot do without."""
    installed = need.installed()
    remedy = f"{pip()} '{need.requirement}'"
    if installed is None:
        return Finding("broken", need.name, f"{need.name} is not installed.", remedy)
    if not need.fits(installed):
        found = f"{need.name} is {installed}; cislens is tested with {need.versions}."
        return Finding("warning", need.name, found, remedy)
    return None


def of_extras(wanted: list[Need]) -> dict[str, dict[str, Any]]:
    """By extra: its libraries that are missing or outside the bounds, and how to get them."""
    extras: dict[str, dict[str, Any]] = {}
    for need in wanted:
        if need.extra is None:
            continue
        state = extras.setdefault(
            need.extra, {"missing": [], "install": f"{pip()} '{PACKAGE}[{need.extra}]'"}
        )
        installed = need.installed()
        there = not need.module or find_spec(need.module.split(".")[0]) is not None
        if installed is None or not there:
            state["missing"].append(need.name)
        elif not need.fits(installed):
            state["missing"].append(f"{need.requirement} (not {installed})")
    return extras


def loaded(wanted: list[Need]) -> tuple[list[Finding], dict[str, Any]]:
    """Load libraries in a process of its own, which a broken one may take down.

    Returns:
        What could not be loaded, and what torch says: `cuda` (version that it is built for or
        None), `gpus` (names), `threads`; empty if it could not be loaded.
    """
    findings: list[Finding] = []
    torch: dict[str, Any] = {}
    wanted = sorted(wanted, key=lambda need: need.name not in _FIRST)
    left = {need.module: need for need in wanted if need.installed() is not None}
    seen: set[str] = set()
    while left:
        told, ending = _probe(list(left))
        if not told:
            found = f"{sys.executable} cannot be started: {ending}."
            return [Finding("broken", "python", found, "install Python again")], {}
        module = ""
        for line in told:
            module = line.get("begun", module)
            torch = line.get("torch", torch)
            if (why := line.get("failed")) and why not in seen:  # told once, not by each importer
                seen.add(why)
                findings.append(_unloadable(left[module], why))
        if "done" in told[-1]:
            break
        findings.append(_unloadable(left[module], f"the process ended with {ending}"))
        left = dict(list(left.items())[list(left).index(module) + 1 :])
    return findings, torch


def of_gpu(torch: dict[str, Any], devices: Path = Path("/dev")) -> Finding | None:
    """A GPU that is there, and that torch cannot use."""
    if not torch or torch["gpus"] or not (devices / "nvidiactl").exists():
        return None
    if torch["cuda"] is None:
        return Finding(
            "warning", "gpu", "There is an NVIDIA device, and this torch is built for CPUs alone.",
            "install a torch that is built for CUDA",
        )  # fmt: skip
    return Finding(
        "warning", "gpu",
        f"There is an NVIDIA device, and torch, built for CUDA {torch['cuda']}, cannot use it.",
        "run nvidia-smi: if it fails, install the driver; if its CUDA version is lower, a newer "
        "driver or a torch for that CUDA; if it works, look at CUDA_VISIBLE_DEVICES",
    )  # fmt: skip


def pip() -> str:
    """How to install into the Python that runs this."""
    return f"{sys.executable} -m pip install"


def _probe(modules: list[str]) -> tuple[list[dict[str, Any]], str]:
    try:
        run = subprocess.run(
            [sys.executable, "-c", _PROBE, *modules],
            capture_output=True, text=True, check=False, timeout=_IMPORT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        raw = late.stdout or b""
        text = raw if isinstance(raw, str) else raw.decode(errors="replace")
        return [json.loads(line) for line in text.splitlines()], f"no end in {_IMPORT_SECONDS} s"
    except OSError as error:
        return [], str(error)
    ending = f"signal {-run.returncode}" if run.returncode < 0 else f"exit code {run.returncode}"
    return [json.loads(line) for line in run.stdout.splitlines()], ending


def _unloadable(need: Need, why: str) -> Finding:
    why = " ".join(why.split())
    remedy = f"{pip()} --force-reinstall '{need.requirement}'"
    if lacks := re.search(r"(\S+\.so[.\d]*): cannot open shared object", why):
        remedy = f"install the system's package that holds {lacks[1]}; else {remedy}"
    elif "NumPy 1" in why or "multiarray" in why:
        remedy = f"{pip()} --upgrade --force-reinstall numpy {need.name}"
    elif "signal 4" in why:
        remedy = f"this processor lacks what {need.name} was built for; see its install page"
    return Finding("broken", need.name, f"{need.name} cannot be loaded: {why}", remedy)
