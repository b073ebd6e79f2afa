"""`cislens variants` as it is called: answers, mistakes, and being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pysam
import pytest

from cislens.cli.app import main
from cislens.example import example_path
from cislens.files import claimed, file_digest
from cislens.genome.codes import decode
from cislens.genome.reference import open_genome
from cislens.randomness import generator

BASES = decode(generator("variants verb").integers(0, 4, 30_000).astype(np.uint8))

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("variants", ...)` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cislens", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 0
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A genome, 20 substitutions of it and its genes."""
    (tmp_path / "genome.fa").write_text(f">chr1\n{BASES}\n")
    rows = [
        (number, BASES[number - 1], "ACGT"["ACGT".index(BASES[number - 1]) - 1])
        for number in range(2_000, 22_000, 1_000)
    ]
    table = pl.DataFrame(rows, schema=["pos", "ref", "alt"], orient="row")
    table.with_columns(chrom=pl.lit("chr1")).write_csv(tmp_path / "v.tsv", separator="\t")
    (tmp_path / "genes.bed").write_text("chr1\t4000\t5000\tNEAR\t0\t+\n")
    return tmp_path


def arguments(project: Path, model: Path, *more: object) -> tuple[object, ...]:
    return (
        "variants", model, project / "v.tsv", "--genome", project / "genome.fa",
        "--out", project / "out", "--background", 30, "--device", "cpu", *more,
    )  # fmt: skip


def refused(result: tuple[int, str, str], project: Path, *parts: str) -> None:
    code, out, err = result
    messages = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, len(messages), out) == (2, 1, ""), err
    assert "Traceback" not in err
    for part in parts:
        assert part in messages[0]
    left = [p.name for p in (project / "out").rglob("*")] if (project / "out").exists() else []
    assert set(left) <= {"doctor.json", "left_out.tsv"}


def test_the_answer_names_the_files(run: Run, project: Path, model_folder: Path) -> None:
    code, out, _ = run(*arguments(project, model_folder, "--json"))
    answer = json.loads(out)
    assert code == 0
    assert answer["variants"] == 20
    assert all((project / "out" / name).exists() for name in answer["files"])
    table = pl.read_parquet(project / "out" / "variants.parquet")
    assert table["percentile"].to_numpy().shape == (20, 1)
    code, out, _ = run(*arguments(project, model_folder))
    assert code == 0
    assert out.startswith("20 variants of ")


def test_a_dry_run_says_what_would_be_done(run: Run, project: Path, model_folder: Path) -> None:
    more = ("--gene", "NEAR", "--genes", project / "genes.bed", "--center", 256)
    code, out, _ = run(*arguments(project, model_folder, "--dry-run", "--json", *more))
    plan = json.loads(out)
    assert code == 0
    assert plan["variants"] == 14  # within 10 kb of the gene
    assert plan["calibrated"][0] == "log_fold_center"
    assert plan["first_variant"] == f"chr1:2000:{BASES[1999]}:" + plan["first_variant"][-1]
    assert plan["first_bases"] == BASES[1989:2010]
    assert not (project / "out").exists()


def test_columns_of_a_table_are_named(run: Run, project: Path, model_folder: Path) -> None:
    table = pl.read_csv(project / "v.tsv", separator="\t", infer_schema=False)
    named = table.rename({"chrom": "c", "pos": "bp", "ref": "A2", "alt": "A1"})
    named.write_csv(project / "v.tsv", separator="\t")
    given = "--columns=chrom=c,pos=bp,ref=A2,alt=A1"
    assert run(*arguments(project, model_folder, given, "--dry-run"))[0] == 0
    refused(run(*arguments(project, model_folder)), project, "no column for chrom", "v.tsv")
    wrong = run(*arguments(project, model_folder, "--columns=chrm=c"))
    refused(wrong, project, "unknown role 'chrm'", "'chrom'")
    refused(run(*arguments(project, model_folder, "--columns=c")), project, "chrom=NAME")


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--gene", "NEAR"), ("--gene needs --genes",)),
        (("--tracks", 'assay == "nothing"'), ("nothing",)),
        (("--device", "cuda:7"), ("cuda:7", "GPU")),
        (("--species", "mouse"), ("mouse", "yeast")),
        (("--average", "both"), ("both", "shift")),
        (("--background", "-1"), ("--background -1",)),
        (("--center", "0"), ("center",)),
    ],
)
def test_a_mistake_is_one_message(
    run: Run, project: Path, model_folder: Path, more: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    refused(run(*arguments(project, model_folder, *more)), project, *parts)
    refused(run(*arguments(project, model_folder, *more, "--dry-run")), project, *parts)


def test_a_gene_that_the_annotation_lacks(run: Run, project: Path, model_folder: Path) -> None:
    more = ("--genes", project / "genes.bed", "--gene", "NEARR")
    refused(run(*arguments(project, model_folder, *more)), project, "no gene 'NEARR'", "NEAR?")


def test_another_reference_is_refused_and_listed(
    run: Run, project: Path, model_folder: Path
) -> None:
    shifted = pl.read_csv(project / "v.tsv", separator="\t").with_columns(pl.col("pos") + 777)
    shifted.write_csv(project / "v.tsv", separator="\t")
    refused(run(*arguments(project, model_folder)), project, "left_out.tsv", "--keep-going")
    listed = pl.read_csv(project / "out" / "left_out.tsv", separator="\t")
    assert listed.height > 5
    report = json.loads((project / "out" / "doctor.json").read_text())
    assert report["left_out"] and report["guess"]
    code, out, _ = run(*arguments(project, model_folder, "--keep-going", "--json"))
    assert code == 0
    assert json.loads(out)["variants"] == 20 - listed.height


def test_a_position_beyond_the_chromosome_is_told(
    run: Run, project: Path, model_folder: Path
) -> None:
    far = pl.read_csv(project / "v.tsv", separator="\t").with_columns(pl.col("pos") + 20_000)
    far.write_csv(project / "v.tsv", separator="\t")
    refused(run(*arguments(project, model_folder)), project, "beyond the end")


def test_a_truncated_file_and_another_assembly_are_told(
    run: Run, project: Path, model_folder: Path
) -> None:
    header = (
        "##fileformat=VCFv4.2\n##contig=<ID=1,length=249250621>\n"
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    )
    others = {"A": "C\tG", "C": "G\tT", "G": "T\tA", "T": "A\tC"}
    records = [f"1\t{p}\t.\t{others[BASES[p - 1]]}\t.\t.\t.\n" for p in range(50, 20_000, 10)]
    (project / "whole.vcf").write_text(header + "".join(records))
    pysam.tabix_compress(str(project / "whole.vcf"), str(project / "v.vcf.gz"))
    given = list(arguments(project, model_folder))
    given[2] = project / "v.vcf.gz"
    refused(run(*given), project, "249250621", "30000")
    whole = (project / "v.vcf.gz").read_bytes()
    (project / "v.vcf.gz").write_bytes(whole[: len(whole) // 2])
    refused(run(*given), project, "v.vcf.gz", "truncated")


def test_two_runs_do_not_share_a_folder(run: Run, project: Path, model_folder: Path) -> None:
    with claimed(project / "out" / "parts", "testing"):
        code, _, err = run(*arguments(project, model_folder))
    assert code == 2
    assert "another process is scoring variants into" in err


def test_packaged_data_are_named_as_in_recipes(run: Run, project: Path, model_folder: Path) -> None:
    genome = open_genome(example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"))
    ref = decode(genome.fetch("chrXVI", 424_999, 425_000))
    alt = "ACGT"["ACGT".index(ref) - 1]
    (project / "v.tsv").write_text(f"chrom\tpos\tref\talt\nXVI\t425000\t{ref}\t{alt}\n")
    given = list(arguments(project, model_folder, "--genes", "example:yeast_mini/genes.bed.gz"))
    given[given.index("--genome") + 1] = "example:yeast_mini/sacCer3_II_IV_XVI.fa.gz"
    code, out, err = run(*given, "--background", 20)
    assert code == 0, err
    assert out.startswith("1 variant of ")
    # The model is untrained: what it sees is rounding or is not, but then it says so.
    assert "percentiles, p and q of it mean nothing" in out  # the model is untrained
    given[2] = "example:none.vcf"
    refused(run(*given, "--out", project / "other"), project / "other", "none.vcf")


def test_missing_files_are_named(run: Run, project: Path, model_folder: Path) -> None:
    refused(run(*arguments(project, project / "none")), project, "none does not exist")
    (project / "v.tsv").unlink()
    refused(run(*arguments(project, model_folder)), project, "v.tsv does not exist")


@pytest.mark.slow
def test_killed_and_started_again(run: Run, project: Path, model_folder: Path) -> None:
    rows = [(p, BASES[p - 1], "ACGT"["ACGT".index(BASES[p - 1]) - 1]) for p in range(600, 7600)]
    table = pl.DataFrame(rows, schema=["pos", "ref", "alt"], orient="row")
    table.with_columns(chrom=pl.lit("chr1")).write_csv(project / "v.tsv", separator="\t")
    given = arguments(project, model_folder, "--average", "none")
    command = [sys.executable, "-m", "cislens.cli.app", *map(str, given)]
    out = project / "out"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ}) as child:
        stop = time.monotonic() + 120
        while not list(out.glob("parts/variants-*.parquet")) and time.monotonic() < stop:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    parts = {path.name: file_digest(path) for path in out.glob("parts/variants-*.parquet")}
    assert 1 <= len(parts) < 4
    assert not (out / "variants.parquet").exists()
    assert run(*given)[0] == 0
    whole = {path.name: file_digest(path) for path in out.iterdir()}
    other = arguments(project, model_folder, "--average", "none", "--out", project / "again")
    assert run(*other)[0] == 0
    assert whole == {path.name: file_digest(path) for path in (project / "again").iterdir()}
    assert "variants.parquet" in whole
