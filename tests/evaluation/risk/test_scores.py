"""Genotypes, effects of variants, and their sums by locus."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.risk.effects import allele_effects, scalar_effects, variant_effects
from cislens.evaluation.risk.people import read_people
from cislens.evaluation.risk.scores import joined, loci, principal_components, risk_scores
from cislens.evaluation.risk.simulate import simulate_genotypes
from cislens.genome.codes import reverse_complement
from cislens.genome.genotypes import read_genotypes
from cislens.genome.reference import open_genome
from cislens.randomness import generator
from cislens.representations.baselines import KmerCounts

HEADER = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=9000>\n"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="d">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tann\tbob\tcid\n"
)


def vcf(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "g.vcf"
    path.write_text(header + "".join("\t".join(row.split()) + "\n" for row in rows))
    return path


def test_dosages_count_each_alternate_allele(tmp_path: Path) -> None:
    path = vcf(
        tmp_path, "chr1 10 . A C . . . GT 0/0 0|1 1/1",
        "chr1 20 . A C,G . . . GT:DP 1/2:3 ./.:0 2/2:9",
        "chr1 30 . A <DEL> . . . GT 0/1 0/0 0/0", "chr1 40 . AT A . . . GT 1 0 0/.",
        "chr1 10 . A C . . . GT 1/1 1/1 1/1",
    )  # fmt: skip
    found = read_genotypes(path)
    assert found.samples == ("ann", "bob", "cid")
    assert found.variants.rows() == [
        ("chr1", 10, "A", "C"), ("chr1", 20, "A", "C"), ("chr1", 20, "A", "G"),
        ("chr1", 40, "AT", "A"),
    ]  # fmt: skip
    nan = np.nan
    expected = [[0, 1, 1, 1], [1, nan, nan, 0], [2, 0, 2, nan]]
    np.testing.assert_array_equal(found.dosage_NV, np.array(expected, np.float32))
    assert found.of_samples(["cid", "ann"]).dosage_NV[:, 0].tolist() == [2, 0]
    with pytest.raises(CislensError, match=r"1 of 2 people have no genotypes, e.g. 'anna'.*'ann'"):
        found.of_samples(["bob", "anna"])


def test_files_without_genotypes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CislensError, match="record 1: no GT"):
        read_genotypes(vcf(tmp_path, "chr1 10 . A C . . . DP 3 3 3"))
    bare = HEADER.replace("\tFORMAT\tann\tbob\tcid", "")
    with pytest.raises(CislensError, match="has no people"):
        read_genotypes(vcf(tmp_path, "chr1 10 . A C . . .", header=bare))
    (tmp_path / "x.vcf").write_text("hello\n")
    with pytest.raises(CislensError, match="no readable VCF"):
        read_genotypes(tmp_path / "x.vcf")


def test_risk_is_dosage_times_effect_by_locus() -> None:
    dosage = np.array([[0, 1, 2], [2, np.nan, 0], [1, 2, 1]], np.float32)
    score, names = risk_scores(dosage, [0.5, -1.0, 2.0], ["a", "b", "a"])
    assert names == ["a", "b"]
    # The genotype that was not called is the mean of the others, 1.5.
    np.testing.assert_allclose(score, [[4.0, -1.0], [1.0, -1.5], [2.5, -2.0]])
    with pytest.raises(CislensError, match="do not fit"):
        risk_scores(dosage, [0.5, -1.0], ["a", "b"])
    with pytest.raises(CislensError, match="effect of variant 1 is not finite"):
        risk_scores(dosage, [0.5, np.nan, 1.0], ["a", "b", "a"])


def table(*rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(
        rows, schema={"chrom": pl.String, "pos": pl.Int64, "ref": pl.String, "alt": pl.String,
                      "effect": pl.Float64}, orient="row",
    )  # fmt: skip


def test_variants_are_joined_by_place_and_alleles() -> None:
    variants = table(("chr1", 5, "A", "C", 0), ("chr1", 9, "A", "G", 0), ("chr2", 5, "T", "C", 0))
    people = simulate_genotypes(variants, 6, 0)
    effects = table(("2", 5, "T", "C", 3.0), ("1", 9, "A", "G", 2.0), ("1", 5, "A", "T", 9.0))
    genotypes, found = joined(people, effects, "effects.tsv")
    assert found.select("chrom", "pos", "effect").rows() == [("chr1", 9, 2.0), ("chr2", 5, 3.0)]
    np.testing.assert_array_equal(genotypes.dosage_NV, people.dosage_NV[:, [1, 2]])
    assert loci(found, 5).to_list() == ["chr1:5", "chr2:0"]
    swapped = table(("chr1", 9, "G", "A", 1.0))
    with pytest.raises(CislensError, match="1 have the same place but other alleles"):
        joined(people, swapped, "effects.tsv")
    with pytest.raises(CislensError, match="not even a place is common"):
        joined(people, table(("chr1", 7, "G", "A", 1.0)), "effects.tsv")
    with pytest.raises(CislensError, match=r"chr1:9 A>G more than once"):
        joined(people, table(*[("1", 9, "A", "G", 1.0)] * 2), "effects.tsv")


def test_an_effect_is_zero_where_nothing_changes_and_the_mean_of_both_strands() -> None:
    rng = generator("effects")
    weights = rng.standard_normal((20, 5))

    def predict(sequences: list[np.ndarray]) -> np.ndarray:
        # Noise in the last digits, as of another batch.
        sums = np.array([weights[np.arange(20), codes].sum() for codes in sequences])
        return np.stack([sums, sums**2], axis=1) + rng.normal(0, 1e-9, (len(sums), 2))

    reference = rng.integers(0, 4, (6, 20)).astype(np.uint8)
    alternate = reference.copy()
    alternate[:4, 10] = (alternate[:4, 10] + 1) % 4
    found = allele_effects(predict, reference, alternate)  # type: ignore[arg-type]
    assert (found[4:] == 0).all() and (np.abs(found[:4]) > 1e-3).all()
    one = allele_effects(predict, reference, alternate, stranded=True)  # type: ignore[arg-type]
    other = allele_effects(
        predict,
        reverse_complement(reference),
        reverse_complement(alternate),
        stranded=True,  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(found, (one + other) / 2, atol=1e-7)
    flipped = allele_effects(
        predict,
        reverse_complement(reference),
        reverse_complement(alternate),  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(found, flipped, atol=1e-7)
    np.testing.assert_allclose(
        allele_effects(predict, alternate, reference),
        -found,
        atol=1e-7,  # type: ignore[arg-type]
    )
    values = [[3.0, -4.0], [0.0, 0.0]]
    assert scalar_effects(values, "sum").tolist() == [-1.0, 0.0]
    assert scalar_effects(values, "l2").tolist() == [5.0, 0.0]
    assert scalar_effects(values, "max").tolist() == [4.0, 0.0]


def test_a_representation_gives_effects_of_variants_and_deletions(tmp_path: Path) -> None:
    text = "ACGTTGCATTTTTTGACCAGTACGATCGATTACA" * 3
    (tmp_path / "g.fa").write_text(f">chr1\n{text}\n")
    genome = open_genome(tmp_path / "g.fa")
    at = text.index("TTTTTT") + 1
    variants = table(
        ("chr1", 40, text[39], "ACGT"[("ACGT".index(text[39]) + 1) % 4], 0.0),
        ("chr1", at + 3, "TT", "T", 0.0),
    ).drop("effect")
    found = variant_effects(KmerCounts(3), variants, genome, 24)
    assert found.select("pos", "ref").rows() == variants.select("pos", "ref").rows()
    assert (found["effect"] > 0).all()
    with pytest.raises(CislensError, match="no variant score 'llr'"):
        variant_effects(KmerCounts(3), variants, genome, 24, score="llr")


def test_components_find_two_populations() -> None:
    rng = generator("populations")
    frequency = rng.uniform(0.1, 0.9, (2, 600))
    frequency[1] = np.clip(frequency[0] + rng.normal(0, 0.15, 600), 0.05, 0.95)
    home = np.repeat([0, 1], 40)
    dosage = rng.binomial(2, frequency[home]).astype(np.float32)
    dosage[3, 7] = np.nan
    first, second = principal_components(dosage, 2).T
    assert abs(np.corrcoef(first, home)[0, 1]) > 0.95
    assert abs(np.corrcoef(second, home)[0, 1]) < 0.2
    assert first.std() == pytest.approx(1, abs=0.05)
    with pytest.raises(CislensError, match="80 people"):
        principal_components(dosage, 80)


def test_people_without_status_are_left_out_and_mistakes_named(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"

    def write(*rows: str) -> Path:
        path.write_text("IID\tstatus\tsex\tage\n" + "".join(
            "\t".join(row.split()) + "\n" for row in rows))  # fmt: skip
        return path

    found = read_people(write("a 1 male 40", "b NA male 50", "c 0 female 60.5"), ["sex", "age"])
    assert (found.samples, found.incomplete) == (("a", "c"), 1)
    assert found.status_N.tolist() == [1, 0]
    assert found.covariates_NK.tolist() == [[1.0, 40.0], [0.0, 60.5]]
    with pytest.raises(CislensError, match=r"line 3: status is '2', expected 0"):
        read_people(write("a 1 m 1", "b 2 m 1"))
    with pytest.raises(CislensError, match=r"line 3: 'a' is there twice"):
        read_people(write("a 1 m 1", "a 0 m 1"))
    with pytest.raises(CislensError, match=r"no covariate 'ages'. Did you mean 'age'"):
        read_people(write("a 1 m 1"), ["ages"])
    with pytest.raises(CislensError, match="neither numbers nor two texts"):
        read_people(write("a 1 m 1", "b 0 f 1", "c 0 x 1"), ["sex"])
    path.write_text("IID\tstatus\trow\tstatus\na\t1\tx\t0\n")
    with pytest.raises(CislensError, match=r"line 1: column 'status' is there twice"):
        read_people(path)
    path.write_text("IID\tstatus\trow\na\t1\tx\n")
    assert read_people(path).samples == ("a",)
