"""The doctor names what is broken and what to do; every finding is made to happen once."""

import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path

import pytest

from cislens.cli import doctor_machine as machine
from cislens.cli.doctor_libraries import (
    Need,
    loaded,
    needs,
    of_extras,
    of_gpu,
    of_versions,
)
from cislens.cli.doctor_report import text


def plant(folder: Path, name: str, body: str, version: str = "1.0") -> Need:
    """An installed distribution of one module in a folder."""
    (folder / f"{name}.py").write_text(body)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return Need(name, ">=0.5")


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that this process and those that it starts import from before any other."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_needs_are_those_of_the_metadata() -> None:
    lines = [
        "numpy>=2.0", "torch<2.14,>=2.11", "cislens[hf]; extra == 'test'", "typing-extensions",
        "moto[server]>=5.1; extra == 'test'", 'ray[data]<2.64,>=2.40 ; extra == "scale"',
    ]  # fmt: skip
    assert needs(lines) == [
        Need("numpy", ">=2.0"), Need("torch", "<2.14,>=2.11"), Need("typing-extensions", ""),
        Need("moto", ">=5.1", "test"), Need("ray", "<2.64,>=2.40", "scale"),
    ]  # fmt: skip


def test_every_installed_need_is_imported_under_the_name_that_the_doctor_tries() -> None:
    there = [need for need in needs() if need.installed() is not None and need.module]
    assert {"torch", "polars", "typer"} <= {need.name for need in there}
    assert [need.name for need in there if find_spec(need.module) is None] == []


def test_versions_outside_the_bounds_and_missing_libraries_are_told(planted: Path) -> None:
    plant(planted, "oldlib", "", version="1.2")
    assert of_versions(Need("oldlib", ">=1.0,<2")) is None
    found = of_versions(Need("oldlib", ">=1.20"))
    assert found is not None and found.level == "warning"
    assert found.found == "oldlib is 1.2; cislens is tested with >=1.20."
    assert found.remedy.endswith("-m pip install 'oldlib>=1.20'")
    newer = of_versions(Need("oldlib", "<1.1"))
    assert newer is not None and newer.level == "warning"
    missing = of_versions(Need("no-such-lib", ">=3"))
    assert missing is not None and missing.level == "broken"
    assert missing.remedy.endswith("-m pip install 'no-such-lib>=3'")


def test_libraries_that_fail_or_crash_are_named_and_the_rest_is_still_tried(planted: Path) -> None:
    wanted = [
        plant(planted, "wholelib", ""),
        plant(planted, "sharedlib", "raise ImportError('libgomp.so.1: cannot open shared object')"),
        plant(planted, "importer", "import sharedlib"),
        plant(planted, "crasher", f"import os; os.kill(os.getpid(), {signal.SIGILL:d})"),
        plant(planted, "chatty", "print('hello'); raise SystemExit(3)"),
        Need("not-installed", ""),
    ]
    findings, torch = loaded(wanted)
    assert torch == {}
    assert [finding.topic for finding in findings] == ["sharedlib", "crasher", "chatty"]
    assert {finding.level for finding in findings} == {"broken"}
    assert "the system's package that holds libgomp.so.1" in findings[0].remedy
    assert "signal 4" in findings[1].found and "processor" in findings[1].remedy
    assert "SystemExit: 3" in findings[2].found and "--force-reinstall" in findings[2].remedy


def test_extras_say_what_they_lack_and_how_to_get_it(planted: Path) -> None:
    plant(planted, "oldlib", "", version="1.2")
    wanted = [Need("numpy", ">=2"), Need("oldlib", ">=1", "a"), Need("oldlib", ">=2", "b"),
              Need("no-such-lib", "", "b")]  # fmt: skip
    extras = of_extras(wanted)
    assert extras["a"]["missing"] == []
    assert extras["b"]["missing"] == ["oldlib>=2 (not 1.2)", "no-such-lib"]
    assert extras["b"]["install"] == f"{sys.executable} -m pip install 'cislens[b]'"


def test_a_gpu_that_torch_cannot_use_is_told(tmp_path: Path) -> None:
    none, cpu_build = {"cuda": "13.0", "gpus": []}, {"cuda": None, "gpus": []}
    assert of_gpu(none, tmp_path) is None  # a machine without a device is no fault
    (tmp_path / "nvidiactl").touch()
    driver, build = of_gpu(none, tmp_path), of_gpu(cpu_build, tmp_path)
    assert driver is not None and "CUDA 13.0, cannot use it" in driver.found
    assert build is not None and "built for CPUs alone" in build.found
    assert of_gpu({"cuda": "13.0", "gpus": ["a"]}, tmp_path) is None


def test_packaged_data_are_checked_by_their_digests(tmp_path: Path) -> None:
    assert machine.of_packaged_data() is None
    listed = (machine.EXAMPLE / "SHA256SUMS").read_text().split()[1::2]
    packaged = {
        str(path.relative_to(machine.EXAMPLE))
        for path in machine.EXAMPLE.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc", ".md"}
    }
    assert set(listed) == packaged - {"SHA256SUMS"}
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / "SHA256SUMS").write_text(f"{empty}  a.bw\n{empty}  b.bw\n")
    (tmp_path / "b.bw").write_text("bits that rotted")
    found = machine.of_packaged_data(tmp_path)
    assert found is not None and found.level == "broken"
    assert "a.bw is missing and 1 more" in found.found
    (tmp_path / "a.bw").touch()
    found = machine.of_packaged_data(tmp_path)
    assert found is not None and "b.bw is damaged." in found.found


def test_no_place_or_little_room_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    usage = namedtuple("usage", "free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage(1_500_000_000))
    little = machine.of_temporary_files()
    assert little is not None and little.level == "warning" and "has 1.5 GB left" in little.found
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage(10**12))
    assert machine.of_temporary_files() is None
    monkeypatch.setattr(machine.tempfile, "gettempdir", nowhere)
    none = machine.of_temporary_files()
    assert none is not None and none.level == "broken" and "TMPDIR" in none.remedy


def test_memory_that_processes_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage(64 << 20))
    small = machine.of_shared_memory(tmp_path)
    assert small is not None and small.level == "warning" and "holds 67 MB" in small.found
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage(2 << 30))
    assert machine.of_shared_memory(tmp_path) is None
    gone = machine.of_shared_memory(tmp_path / "gone")
    assert gone is not None and gone.level == "broken" and "--shm-size" in gone.remedy


def test_a_locale_without_utf8_is_told() -> None:
    program = "from cislens.cli.doctor_machine import of_encoding; print(of_encoding())"
    told = {}
    for utf8 in "01":
        plain = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": utf8}
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **plain}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        told[utf8] = run.stdout.strip()
    assert told["1"] == "None"
    assert "not as UTF-8" in told["0"] and "PYTHONUTF8=1" in told["0"]


def test_threads_beyond_the_cores_of_a_container_are_told(tmp_path: Path) -> None:
    allowed = len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cores(tmp_path) == allowed
    assert machine.of_threads({}, tmp_path) == []
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert machine.cores(tmp_path) == 0.5
    [container] = machine.of_threads({}, tmp_path)
    assert f"0.5 of {allowed} cores" in container.found
    assert container.remedy == "export OMP_NUM_THREADS=1"
    many, spinning = machine.of_threads(
        {"OMP_NUM_THREADS": "64", "OMP_WAIT_POLICY": "active"}, tmp_path
    )
    assert many.found == "OMP_NUM_THREADS is 64 on 0.5 cores."
    assert spinning.remedy == "unset OMP_WAIT_POLICY"


def test_another_installation_first_on_the_path_and_a_data_folder_that_is_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "cislens").write_text("#!/bin/sh\n")
    (tmp_path / "cislens").chmod(0o755)
    other = machine.of_command(str(tmp_path))
    assert other is not None and str(tmp_path / "cislens") in other.found
    assert machine.of_command(str(Path(sys.executable).parent)) is None
    folder = machine.of_data_folder({"CISLENS_DATA": str(tmp_path / "gone")})
    assert folder is not None and "gone, which is no folder" in folder.found
    assert machine.of_data_folder({"CISLENS_DATA": str(tmp_path)}) is None


BROKEN = "raise ImportError('planted: no {}')"


def run_broken(planted: Path, *arguments: str, modules: tuple[str, ...]) -> tuple[int, str, str]:
    for module in modules:
        (planted / f"{module}.py").write_text(BROKEN.format(module))
    run = subprocess.run(
        [sys.executable, "-m", "cislens", *arguments], capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout, run.stderr


def test_the_doctor_works_where_no_array_library_can_be_loaded(planted: Path) -> None:
    broken = ("torch", "polars", "numpy", "lightning")
    code, out, _ = run_broken(planted, "doctor", "--json", modules=broken)
    assert code == 2
    report = json.loads(out)
    assert not report["works"] and report["torch_threads"] is None
    told = {finding["topic"]: finding for finding in report["findings"]}
    assert set(broken) <= set(told)
    assert told["polars"]["found"] == "polars cannot be loaded: ImportError: planted: no polars"
    assert "--force-reinstall 'polars>=1." in told["polars"]["remedy"]
    shown = text(report)
    assert shown.splitlines()[2] == "cislens cannot work here."
    assert "  broken: polars cannot be loaded: ImportError: planted: no polars" in shown


def test_a_command_that_cannot_start_says_why(planted: Path) -> None:
    others = ("torch", "polars", "numpy", "lightning")
    code, out, err = run_broken(planted, "train", "x", modules=("typer", *others))
    assert (code, out) == (2, "")
    assert err.startswith("error: planted: no typer\n")
    assert "broken: typer cannot be loaded" in err and "Traceback" not in err
