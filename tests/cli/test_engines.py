"""`--engine` and `--workers` of the verbs that have them."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cislens.cli.app import main
from cislens.genome.codes import decode

Run = Callable[..., tuple[object, str]]

VERBS = {
    "predict": ("predict", "m", "--genome", "g.fa", "--out", "out"),
    "variants": ("variants", "m", "v.vcf", "--genome", "g.fa", "--out", "out"),
    "embed": ("embed", "--baseline", "kmer-1to6", "--fasta", "s.fa", "--out", "out"),
    "profile": ("data", "profile", "r.yaml", "--out", "out"),
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """`run(...)` of `cislens` in an empty folder -> exit code, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr("sys.argv", ["cislens", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capfd.readouterr().err

    return call


@pytest.mark.parametrize("verb", VERBS)
def test_an_engine_that_is_not_there_is_one_message(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    code, error = run(*VERBS[verb], "--engine", "rai")
    assert code == 2
    assert error == "error: there is no engine 'rai'. Did you mean 'ray'?\n"
    monkeypatch.setitem(sys.modules, "ray", None)
    code, error = run(*VERBS[verb], "--engine", "ray", "--workers", 2)
    assert code == 2
    assert "pip install 'cislens[scale]'" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_workers_embed_the_bytes_of_one(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = (decode(rng.integers(0, 4, 2_000).astype(np.uint8)) for _ in range(300))
    lines = (f">s{at}\n{record}" for at, record in enumerate(records))
    (tmp_path / "s.fa").write_text("\n".join(lines) + "\n")
    for workers in (1, 2):
        command = (*VERBS["embed"][:-1], f"by{workers}", "--workers", workers)
        code, error = run(*command)
        assert code in (0, None), error
    one, two = tmp_path / "by1", tmp_path / "by2"
    files = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(two) for path in two.rglob("*") if path.is_file()}
    for file in files - {Path("ledger.json")}:
        assert (one / file).read_bytes() == (two / file).read_bytes()
