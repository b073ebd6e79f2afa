"""What all verbs of `cislens data` have in common."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cislens.cli.app import main
from cislens.files import file_digest
from cislens.genome.codes import decode

Run = Callable[..., tuple[object, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run(...)` of `cislens data` -> exit code, stderr."""

    def call(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr("sys.argv", ["cislens", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capfd.readouterr().err

    return call


@pytest.mark.parametrize(
    "verb",
    [
        ("regions", "example-regions"),
        ("sequence", "example-sequence", "--dry-run"),
        ("basenji", "human", "--species", "human"),
    ],
)
def test_only_profile_stores_can_be_at_an_address(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, error = run(*verb, "--out", "s3://bucket/store")
    assert code == 2
    assert error.startswith("error: s3://bucket/store: ")
    assert "is kept in a folder of this machine" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_that_build_their_parts_leave_the_store_of_one(
    run: Run, tmp_path: Path
) -> None:
    """Whichever does the last unit finishes; units of the other are not done twice."""
    recipe = tmp_path / "three.yaml"
    recipe.write_text(
        "genomes: {a: a.fa, b: b.fa, c: c.fa}\nwindow: 500\nsplit: {block_bp: 10000}\n"
    )
    for at, name in enumerate("abc"):
        bases = decode(np.random.default_rng(at).integers(0, 4, 300_000).astype(np.uint8))
        (tmp_path / f"{name}.fa").write_text(f">chr{at}\n{bases}\n")
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    code, error = run("sequence", recipe, "--out", whole)
    assert code in (0, None), error
    command = [sys.executable, "-m", "cislens.cli.app", "data", "sequence", recipe, "--json"]
    parts = []
    for number in (1, 2):
        own = [*map(str, command), "--out", str(shared), "--part", f"{number}/2"]
        parts.append(
            subprocess.Popen(own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    told = [part.communicate(timeout=120) for part in parts]
    assert [part.returncode for part in parts] == [0, 0], told
    answers = [json.loads(out) for out, _ in told]
    assert sum("digest" in answer for answer in answers) >= 1
    assert all("digest" in answer or answer["units_left"] >= 1 for answer in answers)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(shared) for p in shared.rglob("*") if p.is_file())
    for file in files:
        assert file_digest(whole / file) == file_digest(shared / file)
    assert not list(tmp_path.glob("*.partial"))
