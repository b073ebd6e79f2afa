"""What the doctor found, as data and as text; needs nothing but what can hardly be broken."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import cislens
from cislens.cli import doctor_libraries as libraries
from cislens.cli import doctor_machine as machine
from cislens.cli.doctor_libraries import Finding
from cislens.example import core_data


def examine() -> dict[str, Any]:
    """Facts about the environment and findings, ready for JSON; `works` is the verdict."""
    findings: list[Finding | None] = []
    try:
        wanted = libraries.needs()
    except PackageNotFoundError:
        wanted = []
        findings.append(Finding(
            "broken", "cislens", "It runs from a folder and is not installed.",
            f"{libraries.pip()} -e {Path(cislens.__file__).parents[2]}",
        ))  # fmt: skip
    own = [need for need in wanted if need.extra is None]
    findings += [libraries.of_versions(need) for need in own]
    unloadable, torch = libraries.loaded(own)
    findings += [*unloadable, libraries.of_gpu(torch)]
    findings += [machine.of_temporary_files(), machine.of_shared_memory()]
    findings += [machine.of_packaged_data(), machine.of_encoding()]
    findings += machine.of_threads(os.environ)
    findings += [machine.of_command(), machine.of_data_folder(os.environ)]
    told = [finding for finding in findings if finding is not None]
    return {
        "works": all(finding.level != "broken" for finding in told),
        "findings": [vars(finding) for finding in told],
        "cislens": cislens.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libraries": {need.name: need.installed() for need in own},
        "cpu_cores": machine.cores(),
        "torch_threads": torch.get("threads"),
        "torch_cuda": torch.get("cuda"),
        "gpus": torch.get("gpus", []),
        "extras": libraries.of_extras(wanted),
        "browser": machine.browser(),
        "packaged_data": str(machine.EXAMPLE),
        "development_data": _there(core_data()),
        "skill": _there(Path(cislens.__file__).parent / "SKILL.md"),
    }


def text(report: dict[str, Any]) -> str:
    """The report for people: the verdict, each finding with what to do, then the facts."""
    lines = [f"cislens {report['cislens']}, Python {report['python']}, {report['platform']}", ""]
    if not report["works"]:
        lines.append("cislens cannot work here.")
    elif report["findings"]:
        lines.append("cislens works here, not at its best.")
    else:
        lines.append("cislens works here.")
    for finding in sorted(report["findings"], key=lambda finding: finding["level"]):
        lines += [f"  {finding['level']}: {finding['found']}", f"    do: {finding['remedy']}"]
    lines += ["", "extras"]
    for name, state in sorted(report["extras"].items()):
        lacks = ", ".join(state["missing"])
        lines.append(f"  {name}: " + (f"lacks {lacks}: {state['install']}" if lacks else "whole"))
    gpus = ", ".join(report["gpus"]) or "none, everything runs on the CPU"
    built = f"built for CUDA {report['torch_cuda']}" if report["torch_cuda"] else "built for CPUs"
    lines += [
        "", "machine",
        f"  cores: {report['cpu_cores']:g}, threads of torch: {report['torch_threads']}",
        f"  GPUs: {gpus} (torch is {built})",
        f"  browser for the tests of pages: {report['browser'] or 'none (install chromium)'}",
        "", "folders",
        f"  packaged data: {report['packaged_data']}",
        f"  development data: {report['development_data'] or 'none (CISLENS_DATA is not set)'}",
    ]  # fmt: skip
    if report["skill"]:
        lines.append(f"  for coding assistants: {report['skill']}")
    versions = (f"{name} {found or 'missing'}" for name, found in report["libraries"].items())
    return "\n".join([*lines, "", "libraries", *(f"  {line}" for line in versions)])


def _there(path: Path | None) -> str | None:
    return str(path) if path is not None and path.exists() else None
