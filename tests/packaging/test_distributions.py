"""The wheel and the source archive: the same bytes anywhere, small, whole, and they install."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LARGEST = 12_000_000  # bytes of the wheel


def build(tree: Path, out: Path, **changed: str) -> dict[str, Path]:
    """Both distributions of a tree, as `make dist` builds them; by what their names end in."""
    pytest.importorskip("hatchling", reason="hatchling of the `test` extra is missing")
    environment = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"}
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree],
        env={**environment, **changed}, check=True, capture_output=True,
        umask=0o077 if changed else 0o022,
    )  # fmt: skip
    return {path.suffix: path for path in out.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(built: dict[str, Path]) -> zipfile.ZipFile:
    return zipfile.ZipFile(built[".whl"])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_bytes_from_another_folder_user_mask_zone_and_time(
    built: dict[str, Path], tmp_path: Path
) -> None:
    # The archive holds all that the build needs: unpacked, it builds the same again.
    with tarfile.open(built[".gz"]) as archive:
        archive.extractall(tmp_path, filter="data")
    [tree] = tmp_path.iterdir()
    for path in tree.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(path.stat().st_mode & 0o700)
    again = build(tree, tmp_path / "dist", TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="7")
    assert {name: digest(path) for name, path in again.items()} == {
        name: digest(path) for name, path in built.items()
    }


def test_the_wheel_is_small_and_holds_what_the_package_reads(wheel: zipfile.ZipFile) -> None:
    assert Path(str(wheel.filename)).stat().st_size < LARGEST
    names = {name for name in wheel.namelist() if name.startswith("cislens/")}
    source = ROOT / "src" / "cislens"
    kept = {
        f"cislens/{path.relative_to(source)}"
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == kept
    assert {"cislens/py.typed", "cislens/SKILL.md", "cislens/example/SHA256SUMS"} <= names
    for folder, ending, least in (
        ("recipes", ".yaml", 20), ("example", ".bw", 6), ("example", ".fa.gz", 4),
        ("report", ".j2", 5), ("report", ".css", 1), ("report/static", "igv.min.js", 1),
        ("report/static", "LICENSE", 1),
    ):  # fmt: skip
        found = [n for n in names if n.startswith(f"cislens/{folder}/") and n.endswith(ending)]
        assert len(found) >= least, (folder, ending)
    others = {name.split("/")[0] for name in wheel.namelist()} - {"cislens"}
    assert others == {f"cislens-{METADATA['version']}.dist-info"}


def test_the_metadata_say_what_pyproject_says(wheel: zipfile.ZipFile) -> None:
    import cislens

    info = f"cislens-{METADATA['version']}.dist-info"
    said = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert said["Version"] == cislens.__version__
    assert (said["License-Expression"], said["Requires-Python"]) == ("MIT", ">=3.11")
    assert said["Description-Content-Type"] == "text/markdown"
    pythons = {
        line.rsplit(" ", 1)[1] for line in said.get_all("Classifier") or [] if ":: 3." in line
    }
    assert pythons == {"3.11", "3.12", "3.13"}
    extras = set(said.get_all("Provides-Extra") or [])
    assert {"hf", "scale", "interpret", "multimodal", "scverse", "docs", "test"} <= extras
    assert "MIT License" in wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "cislens = cislens.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_the_source_archive_holds_what_its_makefile_needs(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames()}
        owners = {(member.uid, member.uname) for member in archive.getmembers()}
    wanted = {
        "Makefile", "LICENSE", "README.md", "CITATION.cff", "pyproject.toml", "mkdocs.yml",
        "CHANGELOG.md", ".ci/run", "tests/conftest.py", "src/cislens/example/SHA256SUMS",
    }  # fmt: skip
    assert wanted <= inside
    assert owners == {(0, "")}
    assert not [name for name in inside if "__pycache__" in name or name.startswith(".git/")]


def test_the_citation_names_the_version_the_papers_and_the_sources_of_the_data() -> None:
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == METADATA["version"] and citation["license"] == "MIT"
    named = json.dumps(citation["references"])
    for paper in ("2506.01833", "2110.05231", "2405.08538", "10.1186/s13059-025-03674-8"):
        assert paper in named, paper
    sources = {
        plain(row["authors"][0]["name"]) for row in citation["references"] if row["type"] == "data"
    }
    assert len(sources) == 11
    told = plain((ROOT / "src/cislens/example/README.md").read_text())
    assert [source for source in sources if source not in told] == []


def plain(text: str) -> str:
    """Lower case without the hyphens that sources and citations disagree on."""
    return text.lower().replace("-", "")


@pytest.mark.slow
def test_an_installed_wheel_plans_the_demo(built: dict[str, Path], tmp_path: Path) -> None:
    # A new environment that sees this one's libraries, and of cislens only the wheel.
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", built[".whl"]], check=True)
    [packages] = environment.glob("lib/python3*/site-packages")
    (packages / "these.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    command = environment / "bin" / "cislens"
    work = tmp_path / "work"
    work.mkdir()
    where = subprocess.run(
        [python, "-c", "import cislens; print(cislens.__file__)"],
        cwd=work, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(packages)
    demo = subprocess.run(
        [command, "demo", "--out", "out", "--dry-run", "--json"],
        cwd=work, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stderr
    assert json.loads(demo.stdout.splitlines()[-1])
    shutil.rmtree(packages / "cislens" / "example" / "motifs")
    doctor = subprocess.run(
        [command, "doctor", "--json"], cwd=work, capture_output=True, text=True, check=False
    )
    report = json.loads(doctor.stdout)
    assert [finding["topic"] for finding in report["findings"]] == ["packaged data"]
    assert doctor.returncode == 2
