"""Alleles of haplotypes from VCF."""

import gzip

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.genome.haplotypes import read_haplotypes
from cislens.genome.reference import open_genome

BASES = {"chrI": "ACGTACGTACGTACGTACGT", "chrII": "TTTTTGGGGG", "chrIII": "ACACACACAC"}
HEAD = "##fileformat=VCFv4.2\n##contig=<ID=I>\n##contig=<ID=II>\n##contig=<ID=X9>\n"
HEAD += '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
HEAD += '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="d">\n'
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
PEOPLE = "\tFORMAT\ts1\ts2\ts3\n"


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in BASES.items()))
    return open_genome(path)


@pytest.fixture
def vcf(tmp_path):
    def write(*records, head=HEAD + COLUMNS + PEOPLE):
        path = tmp_path / "v.vcf"
        lines = []
        for chrom, pos, ref, alt, *rest in records:
            lines.append("\t".join([chrom, str(pos), ".", ref, alt, ".", ".", ".", *rest]) + "\n")
        path.write_text(head + "".join(lines))
        return path

    return write


def told(haplotypes, chrom, start, end, number):
    return [(pos, taken, decode(alt)) for pos, taken, alt
            in haplotypes.alleles(chrom, start, end, number)]  # fmt: skip


def test_a_haplotype_has_its_own_alleles_alone(vcf, genome, caplog):
    path = vcf(
        ("II", 6, "G", "A", "GT", "1|1", "0|0", "0|0"),
        ("I", 3, "G", "T", "GT", "0|1", "1|0", ".|."),
        ("I", 5, "AC", "A,ACCC", "GT:DP", "0|1:3", "2|0:4", "0/1:5"),
        ("I", 6, "C", "G", "GT", "0|1", "1|0", "0|0"),
        ("I", 8, "T", "<DEL>", "GT", "1|1", "1|1", "1|1"),
        ("I", 12, "T", "C", "GT", "0|1", "0|0", "0|0"),
    )
    found = read_haplotypes(path, genome)
    assert found.count == 6
    assert found.variants["chrom"].to_list() == ["chrI"] * 5 + ["chrII"]
    everything = [told(found, "chrI", 0, 20, number) for number in range(6)]
    # The substitution within what the deletion takes, or the insertion replaces, is left out.
    assert everything == [
        [],
        [(2, 1, "T"), (4, 2, "A"), (11, 1, "C")],
        [(2, 1, "T"), (4, 2, "ACCC")],
        [],
        [],
        [(4, 2, "A")],
    ]
    assert told(found, "chrI", 3, 12, 1) == [(4, 2, "A"), (11, 1, "C")]
    assert told(found, "chrI", 4, 5, 1) == []  # would reach over the end
    assert told(found, "chrI", 5, 20, 1) == [(5, 1, "G"), (11, 1, "C")]
    assert told(found, "chrII", 0, 10, 0) == told(found, "chrII", 0, 10, 1) == [(5, 1, "A")]
    assert told(found, "chrIII", 0, 10, 0) == []
    assert "1 alleles without a sequence left out; 1 genotypes" in caplog.text


def test_both_ways_of_reading_genotypes_agree(vcf, genome):
    rng = np.random.default_rng(0)
    called = [[f"{a}|{b}" for a, b in rng.integers(0, 2, (3, 2))] for _ in range(10)]
    sites = [("I", pos, BASES["chrI"][pos - 1], "N") for pos in range(1, 11)]
    sites = [(c, p, r, "ACGT"["ACGT".index(r) - 1]) for c, p, r, _ in sites]
    rows = zip(sites, called, strict=True)
    plain = read_haplotypes(vcf(*((*s, "GT", *g) for s, g in rows)), genome)
    rows = zip(sites, called, strict=True)
    deep = read_haplotypes(vcf(*((*s, "GT:DP", *(f"{x}:7" for x in g)) for s, g in rows)), genome)
    assert np.array_equal(plain.carried_VW, deep.carried_VW)
    bits = np.unpackbits(plain.carried_VW, axis=1)[:, :6]
    assert bits.tolist() == [[int(x) for pair in row for x in pair.split("|")] for row in called]


def test_a_single_dot_stands_for_all_alleles_of_a_person(vcf, genome):
    found = read_haplotypes(
        vcf(
            ("I", 3, "G", "T", "GT", ".", "1|0", "0|1"),
            ("I", 4, "T", "A", "GT:DP", "1|1:3", ".", ".:0"),
        ),
        genome,
    )
    assert found.count == 6
    bits = np.unpackbits(found.carried_VW, axis=1)[:, :6]
    assert bits.tolist() == [[0, 0, 1, 0, 0, 1], [1, 1, 0, 0, 0, 0]]


def test_bad_files_are_refused(vcf, genome, tmp_path):
    good = ("I", 3, "G", "T", "GT", "0|1", "1|0", "0|0")
    with pytest.raises(CislensError, match=r"variants of .*v\.vcf lie on X9, .*chrI, chrII"):
        read_haplotypes(vcf(("X9", *good[1:])), genome)
    with pytest.raises(CislensError, match="no people"):
        read_haplotypes(vcf(good[:4], head=HEAD + COLUMNS + "\n"), genome)
    with pytest.raises(CislensError, match="record 1: no GT"):
        read_haplotypes(vcf((*good[:4], "DP", "1", "2", "3")), genome)
    with pytest.raises(CislensError, match="ref allele of 1 of 1 variants"):
        read_haplotypes(vcf(("I", 3, "A", "T", *good[4:])), genome)
    with pytest.raises(CislensError, match="record 2: 5 alleles of 3 people, 6 in"):
        read_haplotypes(vcf(good, ("I", 4, "T", "A", "GT", "0", "1|0", "0|0")), genome)
    (tmp_path / "v.vcf.gz").write_bytes(gzip.compress(vcf(good).read_bytes()))
    with pytest.raises(CislensError, match="compressed by gzip, not bgzip; unpack it"):
        read_haplotypes(tmp_path / "v.vcf.gz", genome)
    (tmp_path / "text.vcf").write_text("hello\n")
    with pytest.raises(CislensError, match="no readable VCF"):
        read_haplotypes(tmp_path / "text.vcf", genome)
