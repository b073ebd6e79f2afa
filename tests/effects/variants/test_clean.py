import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.effects.variants.clean import clean_variants
from cislens.effects.variants.scores import score_variants
from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.genome.reference import Genome

FIRST = 700


def one(genome: Genome, alt: str | None, **changes: object) -> pl.DataFrame:
    ref = decode(genome.fetch("chr1", FIRST, FIRST + 1))
    row = {"chrom": "chr1", "pos": FIRST + 1, "ref": ref, "alt": alt} | changes
    return pl.DataFrame({name: [value] for name, value in row.items()})


@pytest.mark.parametrize("alt", ["<DEL>", "*", "R", "", "A.", "A,C"])
def test_an_allele_that_is_no_bases_is_refused(toy_genome: Genome, alt: str) -> None:
    """They would encode as N, or as nothing, and get a number that means nothing."""
    with pytest.raises(CislensError, match="has an allele that is not one or more of A, C, G, T"):
        clean_variants(one(toy_genome, alt), toy_genome)


def test_a_table_of_another_kind_is_refused(toy_genome: Genome) -> None:
    with pytest.raises(CislensError, match=r"'alt' of the variants is .* with 1 nulls"):
        clean_variants(one(toy_genome, None), toy_genome)
    with pytest.raises(CislensError, match="'pos' of the variants is String"):
        clean_variants(one(toy_genome, "A", pos="12"), toy_genome)
    with pytest.raises(CislensError, match="are a dict, expected a polars table"):
        clean_variants({"chrom": ["chr1"]}, toy_genome)  # type: ignore[arg-type]


def test_case_does_not_matter(toy_genome: Genome, toy_model: Path) -> None:
    ref = decode(toy_genome.fetch("chr1", FIRST, FIRST + 1))
    same = score_variants(toy_model, toy_genome, one(toy_genome, ref, ref=ref.lower()))
    assert same.variants["ref"].to_list() == [ref]
    assert not same.by_track["profile_l2"].any()
    assert all(value == 0 for value in same.scalars.values())


def test_a_genome_may_be_a_file(toy_genome: Genome, toy_model: Path) -> None:
    variants = one(toy_genome, "A").vstack(one(toy_genome, "C"))
    opened = score_variants(toy_model, toy_genome, variants).by_track["log_fold"]
    named = score_variants(toy_model, str(toy_genome.path), variants).by_track["log_fold"]
    np.testing.assert_array_equal(named, opened)


def test_names_of_chromosomes_are_matched_and_told(
    toy_genome: Genome, toy_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = one(toy_genome, "A").vstack(one(toy_genome, "C"))
    bare = known.with_columns(chrom=pl.lit("1"))
    with caplog.at_level(logging.INFO, logger="cislens"):
        found = score_variants(toy_model, toy_genome, bare)
    assert "Renamed: 1 -> chr1" in caplog.text
    assert found.variants["chrom"].to_list() == ["chr1", "chr1"]
    expected = score_variants(toy_model, toy_genome, known)
    np.testing.assert_array_equal(found.by_track["log_fold"], expected.by_track["log_fold"])
    other = known.vstack(one(toy_genome, "A", chrom="9"))
    with pytest.raises(CislensError, match="has no chromosome '9', which the variants lie on"):
        score_variants(toy_model, toy_genome, other)
    with pytest.raises(CislensError, match="no chromosome of the table of variants is in"):
        score_variants(toy_model, toy_genome, one(toy_genome, "A", chrom="9"))
