"""`cislens risk` on simulated people with a planted liability."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from cislens.cli.app import app
from cislens.errors import CislensError
from cislens.evaluation.risk.simulate import simulate_genotypes, simulate_status
from cislens.example import example_path
from cislens.genome.codes import decode
from cislens.genome.reference import open_genome
from cislens.randomness import generator

GENOME = "yeast_mini/sacCer3_II_IV_XVI.fa.gz"
GENES = "yeast_mini/genes.bed.gz"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 people with variants on yeast chromosome II, written as chromosome `II`."""
    folder = tmp_path_factory.mktemp("risk")
    genome, rng = open_genome(example_path(GENOME)), generator("cli risk")
    places = np.sort(rng.choice(np.arange(1000, 800_000), 120, replace=False))
    refs = [decode(genome.fetch("chrII", at, at + 1)) for at in places]
    alts = ["ACGT"[("ACGT".index(ref) + 1) % 4] for ref in refs]
    variants = pl.DataFrame({"chrom": "II", "pos": places + 1, "ref": refs, "alt": alts})
    people = simulate_genotypes(variants, 150, 0)
    effect = np.where(rng.random(120) < 0.3, np.abs(rng.standard_normal(120)), 0)
    status = simulate_status(people.dosage_NV, effect, 0.8, 0.4, 0)
    rows = ["##fileformat=VCFv4.2", "##contig=<ID=II,length=813184>",
            '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">']  # fmt: skip
    head = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
    rows.append("\t".join([*head, *people.samples]))
    called = np.array(["0/0", "0/1", "1/1"])[people.dosage_NV.astype(int)]
    for row, (chrom, pos, ref, alt) in enumerate(variants.iter_rows()):
        fields = [chrom, str(pos), ".", ref, alt, ".", ".", ".", "GT", *called[:, row]]
        rows.append("\t".join(fields))
    (folder / "g.vcf").write_text("\n".join(rows) + "\n")
    table = variants.with_columns(chrom=pl.lit("chrII"), effect=pl.Series(effect))
    table.head(110).write_csv(folder / "effects.tsv", separator="\t")
    sex = np.array(["f", "m"])[rng.integers(0, 2, 150)]
    who = pl.DataFrame({"sample": people.samples, "status": status, "sex": sex})
    who.head(148).write_csv(folder / "people.tsv", separator="\t")
    return folder


def risk(files: Path, *arguments: str, out: str = "out") -> dict[str, Any]:
    result = CliRunner().invoke(
        app,
        ["risk", str(files / "g.vcf"), "--phenotype", str(files / "people.tsv"), "--out",
         str(files / out), "--permutations", "99", "--json", *arguments],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_table_of_effects_is_judged_beside_controls(files: Path) -> None:
    given = ("--effects", str(files / "effects.tsv"), "--locus-bp", "100000")
    plan = risk(files, *given, "--dry-run")
    assert (plan["people"], plan["people without a row in the table"]) == (148, 2)
    assert (plan["variants"], plan["variants with genotypes and no effect"]) == (110, 10)
    assert not (files / "out").exists()
    found = risk(files, *given, "--covariate", "sex", "--genes", str(example_path(GENES)))
    rows = {row["arm"]: row for row in found["risk"]}
    assert set(rows) == {
        "covariates", "effects", "variant count", "random effects", "TSS distance",
    }  # fmt: skip
    assert rows["effects"]["p"] <= 0.02 and rows["effects"]["auroc"] > 0.65
    assert rows["effects"]["loci"] == 8
    table = pl.read_csv(files / "out" / "risk.tsv", separator="\t")
    assert table["arm"].to_list() == list(rows)
    people = pl.read_csv(files / "out" / "people.tsv", separator="\t")
    assert people.height == 5 * 148
    record = json.loads((files / "out" / "risk.json").read_text())
    assert set(record["files"]) == {"genotypes", "people", "effects", "genes.1"}


def test_a_baseline_may_give_the_effects(files: Path) -> None:
    genome = ("--genome", str(example_path(GENOME)), "--width", "64")
    risk(files, "--baseline", "kmer-1to5", *genome, out="kmers")
    record = json.loads((files / "kmers" / "risk.json").read_text())
    assert record["model"] and record["counts"]["variants"] == 120
    effects = pl.read_csv(files / "kmers" / "effects.tsv", separator="\t")
    # A change between palindromes is none to counts that do not know the strand.
    assert (effects["effect"] >= 0).all() and (effects["effect"] > 0).mean() > 0.95  # type: ignore[operator]


def test_mistakes_are_named(files: Path, tmp_path: Path) -> None:
    effects = ("--effects", str(files / "effects.tsv"))
    with pytest.raises(CislensError, match="name one of --effects, --model and --baseline"):
        risk(files)
    with pytest.raises(CislensError, match="--genome goes with"):
        risk(files, "--baseline", "gc")
    with pytest.raises(CislensError, match=r"no column 'efect' of effects. Did you mean 'effect'"):
        risk(files, *effects, "--score", "efect")
    (tmp_path / "people.tsv").write_text("sample\tstatus\np00001\t1\nx\t0\n")
    with pytest.raises(CislensError, match=r"1 of 2 people have no genotypes, e.g. 'x'"):
        risk(files, *effects, "--phenotype", str(tmp_path / "people.tsv"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(CislensError, match=r"holds 'thesis.txt'"):
        risk(files, *effects, "--out", str(tmp_path / "mine"))
