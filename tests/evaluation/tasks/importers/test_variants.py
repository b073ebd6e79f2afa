from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.genome.reference import Genome

Make = Callable[..., Any]
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


def base(genome: Genome, chrom: str, pos: int) -> str:
    return decode(genome.fetch(chrom, pos - 1, pos))


@pytest.fixture
def traits(tmp_path: Path, genome: Genome) -> Callable[..., str]:
    """Forty matched sets of one causal variant and three controls, 800 bp apart, chromosomes
    without `chr`; `shift` moves the positions."""

    def call(shift: int = 0, labels: list[float] | None = None) -> str:
        rows = []
        for number in range(160):
            chrom, pos = str(1 + number % 2), 500 + 700 * (number // 2)
            ref = base(genome, f"chr{chrom}", pos)
            rows.append({
                "chrom": chrom, "pos": pos + shift, "ref": ref, "alt": OTHER[ref],
                "label": number % 4 == 0, "tss_dist": 10 * number, "match_group": f"g{number // 4}",
                "consequence": "intron",
            })  # fmt: skip
        frame = pl.DataFrame(rows)
        if labels is not None:
            frame = frame.with_columns(label=pl.Series(labels))
        frame.write_parquet(tmp_path / "traits.parquet")
        return str(tmp_path / "traits.parquet")

    return call


def test_matched_sets_stay_whole_and_in_one_block(
    make: Make, traits: Callable[..., str], genome: Genome
) -> None:
    task = make("traitgym", file=traits(), genome=str(genome.path), width=100)
    frame = task.examples
    assert (task.card.kind, task.card.score_sign) == ("variant", "unsigned")
    assert task.card.metric.names == ("auprc", "auroc", "within_auroc")
    sets = frame.group_by("match_group").agg(
        pl.len(), pl.col("split").n_unique(), pl.col("block_id").n_unique().alias("blocks"),
        pl.col("y").list.first().sum().alias("causal"),
    )  # fmt: skip
    assert sets.select("len", "split", "blocks", "causal").unique().rows() == [(4, 1, 1, 1.0)]
    row = frame.row(0, named=True)
    assert row["chrom"].startswith("chr")
    assert (row["sequence"][50], row["alt_sequence"][50]) == (row["ref"], row["alt"])
    assert row["tss_dist"] is not None


def test_positions_count_from_one_or_the_genome_objects(
    make: Make, traits: Callable[..., str], genome: Genome
) -> None:
    with pytest.raises(CislensError, match=r"With pos \+1 100.0% match: the positions are 0-based"):
        make("traitgym", file=traits(shift=-1), genome=str(genome.path), width=100)


def test_a_set_that_lost_its_positive_is_left_out(
    make: Make, traits: Callable[..., str], genome: Genome
) -> None:
    labels = [float(n % 4 == 0) for n in range(160)]
    labels[0] = float("nan")
    task = make("traitgym", file=traits(labels=labels), genome=str(genome.path), width=100)
    assert task.card.report["variants without a label"] == 1
    assert task.card.report["variants of incomplete matched sets"] == 3
    assert "g0" not in set(task.examples["match_group"])
    with pytest.raises(CislensError, match=r"a label is 0\.5, expected 0 or 1"):
        make("traitgym", file=traits(labels=[0.5, *labels[1:]]), genome=str(genome.path), width=100)


@pytest.fixture
def vcf(tmp_path: Path, genome: Genome) -> Callable[..., str]:
    """Sixty SNVs with an effect, and a site of two alleles."""

    def call(*more: str, flip: int = 0) -> str:
        lines = ["##fileformat=VCFv4.2", "##contig=<ID=1>",
                 '##INFO=<ID=ES,Number=A,Type=Float,Description="effect">',
                 '##INFO=<ID=CLNSIG,Number=1,Type=String,Description="class">',
                 "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]  # fmt: skip
        for number in range(60):
            pos = 300 + 900 * number
            ref = base(genome, "chr1", pos)
            alt = OTHER[ref]
            if number < flip:
                ref, alt = alt, ref
            kind = ("Benign", "Pathogenic")[number // 3 % 2]
            lines.append(f"1\t{pos}\tv{number}\t{ref}\t{alt}\t.\t.\tES={number / 7};CLNSIG={kind}")
        (tmp_path / "v.vcf").write_text("\n".join([*lines, *more]) + "\n")
        return str(tmp_path / "v.vcf")

    return call


def test_an_info_key_is_the_label(make: Make, vcf: Callable[..., str], genome: Genome) -> None:
    fields = {"genome": str(genome.path), "width": 100}
    effects = make("vcf", file=vcf(), label="ES", signed=True, **fields)
    assert (effects.card.metric.primary, effects.card.score_sign) == ("pearson", "signed")
    by_pos = dict(effects.examples.select("pos", pl.col("y").list.first()).iter_rows())
    assert by_pos[300 + 900 * 21] == pytest.approx(3.0)
    classes = make("vcf", file=vcf(), label="CLNSIG", classes={"Benign": 0, "Pathogenic": 1},
                   **fields)  # fmt: skip
    assert classes.card.metric.primary == "auprc"
    assert sum(y[0] for y in classes.examples["y"]) == 30
    with pytest.raises(CislensError, match=r"record 4: CLNSIG is 'Pathogenic'; give its number"):
        make("vcf", file=vcf(), label="CLNSIG", classes={"Benign": 0}, **fields)
    with pytest.raises(CislensError, match="expected 0 or 1; for effects say whether they are"):
        make("vcf", file=vcf(), label="ES", **fields)


def test_sites_of_two_alleles_and_insertions(
    make: Make, vcf: Callable[..., str], genome: Genome
) -> None:
    two = base(genome, "chr1", 55_000)
    alts = [letter for letter in "ACGT" if letter != two][:2]
    anchor = base(genome, "chr1", 56_000)
    text = vcf(
        f"1\t55000\t.\t{two}\t{','.join(alts)}\t.\t.\tES=0.5,-0.5",
        f"1\t56000\t.\t{anchor}\t{anchor}ACGT\t.\t.\tES=2",
    )
    task = make("vcf", file=text, label="ES", signed=True, genome=str(genome.path), width=100)
    split = task.examples.filter(pl.col("pos") == 55_000).sort("alt")
    assert dict(zip(split["alt"], (y[0] for y in split["y"]), strict=True)) == pytest.approx(
        dict(zip(alts, (0.5, -0.5), strict=True))
    )
    (inserted,) = task.examples.filter(pl.col("alt").str.len_bytes() == 5).iter_rows(named=True)
    assert inserted["alt_sequence"][50:55] == inserted["alt"]
    assert inserted["alt_sequence"][55:] == inserted["sequence"][51:96]


def test_wrong_reference_alleles_are_fatal_above_a_thousandth(
    make: Make, vcf: Callable[..., str], genome: Genome
) -> None:
    with pytest.raises(CislensError, match=r"ref allele of 3 of 60 variants.*in 3 alt is"):
        make("vcf", file=vcf(flip=3), label="ES", signed=True, genome=str(genome.path), width=100)


@pytest.fixture
def confounded(write: Callable[..., Path], genome: Genome) -> str:
    """Thirty positives whose covariate is one higher than that of most of 600 controls."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(630):
        chrom, pos = f"chr{1 + number % 2}", 200 + 180 * (number // 2)
        ref = base(genome, chrom, pos)
        label = "bad" if number % 21 == 0 else "fine"
        value = rng.normal() + (label == "bad")
        rows.append((chrom, pos, ref, OTHER[ref], label, value, "ab"[number % 3 == 0]))
    header = ("chrom", "pos", "ref", "alt", "label", "conservation", "region")
    return str(write("variants.tsv", header, *rows))


def test_controls_are_matched_to_positives(make: Make, confounded: str, genome: Genome) -> None:
    task = make(
        "variants", file=confounded, genome=str(genome.path), classes={"fine": 0, "bad": 1},
        covariates=["conservation"], controls=3, caliper=0.2, within=["region"], width=60,
    )  # fmt: skip
    report = task.card.report
    assert report["standardized difference of conservation before"] > 0.6
    assert abs(report["standardized difference of conservation"]) < 0.1
    sizes = task.examples.group_by("match_group").agg(
        pl.len(), causal=pl.col("y").list.first().sum(), parts=pl.col("split").n_unique()
    )
    assert (sizes["causal"] == 1).all() and (sizes["parts"] == 1).all()
    assert sizes["len"].max() == 4
    with pytest.raises(CislensError, match=r"line 2: label is 'bad', which is none of the class"):
        make("variants", file=confounded, genome=str(genome.path), classes={"fine": 0},
             covariates=["conservation"])  # fmt: skip
