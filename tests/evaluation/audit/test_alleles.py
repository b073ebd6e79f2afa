from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from audit_plants import clean

from cislens.evaluation.audit.alleles import allele_check
from cislens.genome.codes import decode
from cislens.genome.reference import open_genome
from cislens.randomness import generator

N = 1000


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    bases = decode(generator("toy").integers(0, 4, 20_000, np.uint8))
    path.write_text(f">chr1\n{bases}\n")
    return open_genome(path)


def variants(genome, flipped=0, shift=0):
    """A table of 1,000 SNVs: some with ref and alt swapped, all positions shifted."""
    rng = generator("variants", flipped, shift)
    pos = np.sort(rng.permutation(np.arange(100, 19_900))[:N])
    ref = [decode(genome.fetch("chr1", p - 1, p)) for p in pos.tolist()]
    alt = ["ACGT"[("ACGT".index(r) + int(rng.integers(1, 4))) % 4] for r in ref]
    for row in range(flipped):
        ref[row], alt[row] = alt[row], ref[row]
    frame = pl.DataFrame({"chrom": ["chr1"] * N, "pos": pos + shift, "ref": ref, "alt": alt})
    return replace(clean(0, length=20, train=700, test=300), variants=frame)


def test_right_alleles_pass(genome):
    check = allele_check(variants(genome), genome)
    assert (check.verdict, check.value) == ("pass", 0.0)


def test_a_fifth_of_flipped_alleles_fails(genome):
    check = allele_check(variants(genome, flipped=N // 5), genome)
    assert check.verdict == "fail"
    assert check.value == pytest.approx(0.2)
    assert check.detail["flipped"] == pytest.approx(0.2)
    assert "swapped" in check.why


def test_one_mismatch_in_a_thousand_warns(genome):
    assert allele_check(variants(genome, flipped=1), genome).verdict == "warn"


def test_positions_that_count_from_zero_are_recognized(genome):
    check = allele_check(variants(genome, shift=-1), genome)
    assert check.verdict == "fail"
    assert check.why == "positions +1 would match: they do not count from 1"


def test_another_assembly_is_recognized(genome):
    check = allele_check(variants(genome, shift=50), genome)
    assert "another assembly" in check.why


def test_without_variants_or_genome_it_is_skipped(genome):
    assert allele_check(clean(0, train=20, test=10), genome).verdict == "skipped"
    assert allele_check(variants(genome), None).why == "give --genome to check"
