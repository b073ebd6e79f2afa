"""The audit from the command line: exit codes, JSON, page, fix, and one message for mistakes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.cli.app import main
from cislens.genome.codes import decode
from cislens.randomness import generator

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run(FILE, "--json", ...)` -> exit code, stdout, stderr of `cislens audit`."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cislens", "audit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capfd.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


def table(path: Path, copies: int = 0, n: int = 200) -> Path:
    """Random sequences; so many test rows are copies of train rows."""
    rng = generator("cli", copies)
    texts = [decode(codes) for codes in rng.integers(0, 4, (n, 100), np.uint8)]
    train = n * 3 // 4
    texts[train : train + copies] = texts[:copies]
    label = ["on" if row % 2 else "off" for row in range(n)]
    split = ["train"] * train + ["test"] * (n - train)
    pl.DataFrame({"sequence": texts, "label": label, "split": split}).write_csv(path)
    return path


def test_the_exit_code_is_the_verdict(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(table(tmp_path / "clean.csv"), "--split-by", "homology")
    assert code == 0
    assert "The audit passed" in out
    code, out, _ = run(table(tmp_path / "one.csv", 1, n=400), "--json")
    report = json.loads(out)
    assert (code, report["verdict"]) == (1, "warn")
    code, out, _ = run(table(tmp_path / "leaky.csv", 10), "--json")
    report = json.loads(out)
    assert (code, report["verdict"], report["leakage"]) == (2, "fail", "fail")
    exact = next(c for c in report["checks"] if c["name"] == "exact duplicates")
    assert exact["value"] == 0.2
    assert exact["classes"] == {"off": 0.2, "on": 0.2}


def test_the_same_seed_gives_the_same_report_and_page(run: Run, tmp_path: Path) -> None:
    path = table(tmp_path / "leaky.csv", 10)
    outs = [run(path, "--json", "--out", tmp_path / f"{i}.html", "--seed", 3)[1] for i in (1, 2)]
    first, second = (json.loads(out) for out in outs)
    assert first.pop("page") != second.pop("page")
    assert first == second
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "2.html").read_bytes()


def test_a_dry_run_reads_and_checks_nothing(run: Run, tmp_path: Path) -> None:
    out_page = tmp_path / "page.html"
    code, out, _ = run(
        table(tmp_path / "a.csv"), "--json", "--dry-run", "--out", out_page, "--fix",
        tmp_path / "b.csv",
    )  # fmt: skip
    plan = json.loads(out)
    assert code == 0
    assert plan["parts"]["test"] == {"rows": 50, "off": 25, "on": 25}
    assert plan["classes"] == ["off", "on"]
    assert len(plan["first_sequence"]) == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv"]


def test_fix_writes_a_version_that_passes(run: Run, tmp_path: Path) -> None:
    path, fixed = table(tmp_path / "leaky.csv", 10), tmp_path / "fixed.csv"
    code, out, _ = run(path, "--fix", fixed, "--json", "--out", tmp_path / "page.html")
    report = json.loads(out)
    assert (code, report["verdict"]) == (0, "fail")  # of the input; the code is the output's
    assert report["fixed"]["dropped"] == {"copy of an earlier row": 10}
    assert report["fixed"]["audit"]["verdict"] == "pass"
    assert "Before the fix" in (tmp_path / "page.html").read_text()
    again = json.loads(run(fixed, "--split-by", "homology", "--json")[1])
    assert again["verdict"] == "pass"
    values = {c["name"]: c["value"] for c in again["checks"]}
    assert values["exact duplicates"] == values["homology"] == 0


def test_packaged_data_goes_by_its_name(run: Run) -> None:
    parts = [f"--{part}=example:tables/PUM2_{part}.csv.gz" for part in ("train", "valid", "test")]
    code, out, _ = run(*parts, "--label", "binding_site", "--stranded", "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["parts"]["train"] == {"rows": 17_713, "FALSE": 14_097, "TRUE": 3_616}


def test_a_genome_gives_intervals_their_sequences(run: Run, tmp_path: Path) -> None:
    rng = generator("soft")
    bases = np.array(list(decode(rng.integers(0, 4, 60_000, np.uint8))))
    soft = np.arange(60_000) // 100 % 2 == 1
    bases[soft] = np.char.lower(bases[soft])
    (tmp_path / "g.fa").write_text(">chr1\n" + "".join(bases) + "\n")
    for part, first in (("train", 0), ("test", 40_000)):
        rows = [
            f"chr1\t{first + 100 * i}\t{first + 100 * i + 100}\n"
            for i in range(200 if part == "test" else 400)
        ]
        for offset, name in ((0, "hard"), (1, "soft")):
            (tmp_path / f"{part}_{name}.bed").write_text("".join(rows[offset::2]))
    named = [f"--{p}={c}={tmp_path}/{p}_{c}.bed" for p in ("train", "test")
             for c in ("hard", "soft")]  # fmt: skip
    report = json.loads(run(*named, "--genome", tmp_path / "g.fa", "--json")[1])
    verdicts = {c["name"]: c["verdict"] for c in report["checks"]}
    assert verdicts["N and case only"] == "fail"
    assert verdicts["GC only"] == "pass"
    assert verdicts["homology"] == "pass"


def refused(result: tuple[int, str, str], *parts: str) -> None:
    code, out, err = result
    messages = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2, err
    assert len(messages) == 1, err
    assert "Traceback" not in err
    assert out == ""
    for part in parts:
        assert part in err


def test_mistakes_give_one_message(run: Run, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv")
    refused(run(), "name one table or folder")
    refused(run(path, "--train", path), "name one table or folder")
    refused(run(tmp_path / "absent.csv"), "absent.csv does not exist")
    refused(run("--train", path, "--test", path), "is named for train and for test")
    refused(run(path, "--fix", tmp_path / "b.xlsx"), "end the name in")
    refused(run(path, "--fix", path), "is the input itself")
    refused(run(path, "--out", tmp_path), "is a folder")
    refused(run(path, "--label", "lable"), "Did you mean 'label'")
    (tmp_path / "broken.csv").write_text("sequence,label,split\nACGT,1,train\nAC-!,0,test\n")
    refused(run(tmp_path / "broken.csv"), "broken.csv line 3", "'!'")


def test_json_tells_a_failed_audit_from_wrong_input(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(tmp_path / "absent.csv", "--json")
    assert code == 2
    assert set(json.loads(out)) == {"error"}
