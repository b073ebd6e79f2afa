import gzip
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pysam
import pysam.bcftools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cislens.errors import CislensError
from cislens.genome.codes import decode, reverse_complement
from cislens.genome.reference import Genome, open_genome
from cislens.genome.variants import (
    anchored,
    check_reference,
    normalize,
    on_elements,
    read_variants,
    require_reference,
    windows,
)
from cislens.randomness import generator

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def table(*rows: tuple[str, int, str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["chrom", "pos", "ref", "alt"], orient="row")


def genome_of(folder: Path, **chromosomes: str) -> Genome:
    path = folder / "genome.fa"
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in chromosomes.items()))
    return open_genome(path)


@pytest.fixture(scope="module")
def repeats(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    """Sequence in which many insertions and deletions can be written at several positions."""
    rng = generator(0, "repeats")
    bases = "".join(rng.choice(["A", "C", "CA", "CAG", "TT", "GATA"], 60))
    return genome_of(tmp_path_factory.mktemp("genome"), chr1=bases, chr2="ACGT" * 30)


def applied(genome: Genome, chrom: str, pos: int, ref: str, alt: str) -> str:
    bases = decode(genome.chromosome(chrom))
    assert bases[pos - 1 : pos - 1 + len(ref)] == ref
    return bases[: pos - 1] + alt + bases[pos - 1 + len(ref) :]


def test_a_vcf_gives_one_row_per_allele_with_its_own_info(tmp_path, caplog):
    path = tmp_path / "v.vcf.gz"
    body = "1\t3\trs1\ta\tC,GT\t.\tPASS\tAF=0.1,0.2;DP=7\n1\t5\t.\tT\t<DEL>,*\t.\t.\t.\n"
    path.write_bytes(gzip.compress((HEADER + body).encode()))
    with caplog.at_level(logging.WARNING, "cislens"):
        frame = read_variants(path, info=["AF", "DP"])
    assert frame.select("chrom", "pos", "ref", "alt", "id", "AF", "DP", "source_row").rows() == [
        ("1", 3, "A", "C", "rs1", 0.1, 7, 1),
        ("1", 3, "A", "GT", "rs1", 0.2, 7, 1),
    ]
    assert "2 alleles without a sequence left out, e.g. <DEL>" in caplog.text


def test_a_vcf_of_many_blocks_with_samples_and_windows_line_ends_is_read(tmp_path):
    path = tmp_path / "v.vcf"
    lines = [f"chr1\t{i + 1}\t.\tA\tC\t50\tPASS\tX={i}\tGT\t0|1\t1|1\n" for i in range(9000)]
    path.write_text(HEADER.rstrip() + "\tFORMAT\ta\ta\n" + "".join(lines))
    pysam.tabix_compress(str(path), str(tmp_path / "v.vcf.gz"))  # bgzip: several gzip members
    for name in ("v.vcf", "v.vcf.gz"):
        frame = read_variants(tmp_path / name, info=["X"])
        assert frame.columns == ["chrom", "pos", "ref", "alt", "id", "filter", "X", "source_row"]
        assert (frame["X"] == frame["pos"] - 1).all() and len(frame) == 9000
    path.write_bytes(HEADER.replace("\n", "\r\n").encode() + b"chr1\t7\t.\tA\tC\t.\t.\tX=5\r\n")
    assert read_variants(path, info=["X"]).row(0) == ("chr1", 7, "A", "C", None, None, 5, 1)
    with pytest.raises(CislensError, match="INFO key 'alt' has the name"):
        read_variants(path, info=["alt"])


@pytest.mark.parametrize("kind", ["tsv", "csv.gz", "parquet"])
def test_tables_of_every_kind_keep_their_other_columns(tmp_path, kind):
    frame = pl.DataFrame(
        {"Chrom": ["20", "20"], "Position": [4, 9], "REF": ["A", "G"], "Alt": ["t", "-"],
         "effect": [0.5, None], "locus": ["x", "y"]}
    )  # fmt: skip
    path = tmp_path / f"v.{kind}"
    if kind == "parquet":
        frame.write_parquet(path)
    elif kind == "tsv":
        frame.write_csv(path, separator="\t", null_value="NA")
    else:
        path.write_bytes(gzip.compress(frame.write_csv(null_value="NA").encode()))
    read = read_variants(path)
    assert read.select("chrom", "pos", "ref", "alt", "effect", "locus").rows() == [
        ("20", 4, "A", "T", 0.5, "x"),
        ("20", 9, "G", "-", None, "y"),
    ]


def test_columns_of_other_names_are_named_by_the_caller(tmp_path):
    path = tmp_path / "v.tsv"
    path.write_text("where\tat\tfrom\tto\nchr1\t3\tG\tT\n")
    names = {"chrom": "where", "pos": "at", "ref": "from", "alt": "to"}
    assert read_variants(path, columns=names).row(0)[:4] == ("chr1", 3, "G", "T")
    with pytest.raises(CislensError, match=r"v.tsv has no column 'fro'. Did you mean 'from'"):
        read_variants(path, columns={**names, "ref": "fro"})
    with pytest.raises(CislensError, match="no column for chrom"):
        read_variants(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("chr1\t0\tA\tC", "line 3: pos is '0', expected a whole number from 1 on"),
        ("chr1\t1.5\tA\tC", "line 3: pos is '1.5'"),
        ("NA\t1\tA\tC", "line 3: chrom is None"),
        ("chr1\t1\tA\t<DUP>", "line 3: alt is '<DUP>', expected bases"),
        ("chr1\t1\tR\tC", "line 3: ref is 'R'"),
        ("chr1\t1\tA\ta", "line 3: alt is 'A', expected another sequence than ref"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    path = tmp_path / "v.tsv"
    path.write_text(f"chrom\tpos\tref\talt\nchr1\t2\tC\tG\n{row}\n")
    with pytest.raises(CislensError, match=message):
        read_variants(path)


def test_foreign_and_empty_files_are_refused(tmp_path):
    (tmp_path / "a.vcf").write_text("1\t2\t.\tA\tC\n")
    (tmp_path / "b.tsv").write_text("chrom\tpos\tref\talt\n")
    (tmp_path / "c.bcf").write_bytes(b"BCF\2\2")
    for name, message in (
        ("a.vcf", "no VCF header"),
        ("b.tsv", "no variant"),
        ("c.bcf", "no readable BCF"),
    ):
        with pytest.raises(CislensError, match=message):
            read_variants(tmp_path / name)
    with pytest.raises(CislensError, match="does not exist"):
        read_variants(tmp_path / "d.vcf")


def test_with_a_genome_names_are_matched_and_dashes_anchored(tmp_path):
    genome = genome_of(tmp_path, chr1="ACGTAC")
    path = tmp_path / "v.csv"
    path.write_text("chr,pos,ref,alt\n1,3,G,-\n1,3,-,TT\n1,1,AC,-\n1,2,C,T\n")
    assert read_variants(path, genome).select("chrom", "pos", "ref", "alt").rows() == [
        ("chr1", 2, "CG", "C"),
        ("chr1", 3, "G", "GTT"),
        ("chr1", 1, "ACG", "G"),
        ("chr1", 2, "C", "T"),
    ]


def test_reference_alleles_match_or_are_flipped_or_neither(tmp_path):
    genome = genome_of(tmp_path, chr1="ACGTAC")
    variants = table(
        ("chr1", 1, "A", "C"), ("chr1", 2, "T", "C"), ("chr1", 3, "A", "T"),
        ("chr1", 5, "ACG", "A"), ("chr1", 4, "TA", "T"), ("chr1", 6, "CA", "C"),
    )  # fmt: skip
    states = check_reference(variants, genome)["ref_match"].to_list()
    assert states == ["match", "flip", "mismatch", "flip", "match", "flip"]
    with pytest.raises(CislensError, match="no chromosome 'chr2'"):
        check_reference(table(("chr2", 1, "A", "C")), genome)
    with pytest.raises(CislensError, match="call `anchored`"):
        check_reference(table(("chr1", 1, "A", "-")), genome)


def snvs(genome: Genome, shift: int = 0) -> pl.DataFrame:
    bases = decode(genome.chromosome("chr1"))
    rows = [("chr1", i + 1 + shift, b, "ACGT"["CATG".index(b)]) for i, b in enumerate(bases)]
    return table(*rows[5:-5])


def test_the_reference_check_passes_clean_variants_and_counts_flips(repeats, caplog):
    clean = snvs(repeats)
    assert len(require_reference(clean, repeats)) == len(clean)
    fifth = pl.int_range(pl.len()) % 5 == 0
    flipped = clean.with_columns(
        ref=pl.when(fifth).then("alt").otherwise("ref"),
        alt=pl.when(fifth).then("ref").otherwise("alt"),
    )
    wrong = (len(clean) + 4) // 5
    with pytest.raises(CislensError, match=f"of {wrong} of .*20.* in {wrong} alt is .* swapped"):
        require_reference(flipped, repeats)
    with caplog.at_level(logging.WARNING, "cislens"):
        kept = require_reference(flipped, repeats, limit=0.5)
    assert len(kept) == len(clean) - wrong and f"{wrong} flipped" in caplog.text


@pytest.mark.parametrize(("shift", "words"), [(-1, "0-based; add 1"), (1, "subtract 1")])
def test_positions_off_by_one_are_recognized(repeats, shift, words):
    with pytest.raises(CislensError, match=words):
        require_reference(snvs(repeats, shift), repeats)


def test_another_assembly_is_suspected_where_no_shift_helps(repeats):
    with pytest.raises(CislensError, match="another assembly"):
        require_reference(snvs(repeats, 11), repeats)


@st.composite
def events(draw):
    start = draw(st.integers(0, 60))
    removed = draw(st.integers(0, 6))
    added = draw(st.text("ACGT", max_size=6))
    return start, removed, added


@settings(max_examples=150, deadline=None)
@given(events())
def test_normalizing_keeps_the_haplotype_and_gives_the_leftmost_shortest_form(repeats, event):
    start, removed, added = event
    bases = decode(repeats.chromosome("chr1"))
    pad = 1 if not removed or not added else 0  # no allele may be empty
    ref = bases[start : start + removed + pad]
    alt = added + bases[start + removed : start + removed + pad]
    if ref == alt:
        return
    before = ("chr1", start + 1, ref, alt)
    after = normalize(table(before), repeats).row(0)
    haplotype = applied(repeats, *before)
    assert applied(repeats, *after) == haplotype
    # Independent of how it is found: of all ways to write this haplotype as one replacement
    # with non-empty alleles, the shortest, and of these the leftmost.
    assert (after[1], after[2], after[3]) == shortest_leftmost(bases, haplotype)


def test_normalizing_gives_what_bcftools_gives(repeats, tmp_path):
    rng = generator(2, "bcftools")
    bases = decode(repeats.chromosome("chr1"))
    rows = []
    while len(rows) < 300:
        start, removed, added = (int(rng.integers(0, high)) for high in (100, 7, 7))
        alt = "".join(rng.choice(list("ACGT"), added)) + bases[start + removed]
        ref = bases[start : start + removed + 1]
        if ref != alt:
            rows.append(("chr1", start + 1, ref, alt))
    body = "".join(f"{c}\t{p}\t.\t{r}\t{a}\t.\t.\t.\n" for c, p, r, a in rows)
    path = tmp_path / "v.vcf"
    contig = f"##contig=<ID=chr1,length={len(bases)}>\n"
    path.write_text(HEADER.replace("#CHROM", contig + "#CHROM") + body)
    fasta = tmp_path / "g.fa"
    fasta.write_text(f">chr1\n{bases}\n")
    lines = pysam.bcftools.norm("-f", str(fasta), str(path)).splitlines()
    theirs = [line.split("\t")[:5] for line in lines if not line.startswith("#")]
    ours = normalize(table(*rows), repeats).rows()
    # bcftools sorts what it moves.
    assert sorted(ours) == sorted((c, int(p), r, a) for c, p, _, r, a in theirs)


def shortest_leftmost(reference: str, haplotype: str) -> tuple[int, str, str]:
    change = len(haplotype) - len(reference)
    for length in range(1, len(reference)):  # of the reference allele
        if length + change < 1:
            continue
        for start in range(len(reference) - length + 1):
            end = start + length
            if (
                reference[:start] == haplotype[:start]
                and reference[end:] == haplotype[end + change :]
            ):
                return start + 1, reference[start:end], haplotype[start : end + change]
    raise AssertionError("the haplotypes are not one event apart")


def test_normalizing_at_the_start_of_a_chromosome_takes_the_base_after(tmp_path):
    genome = genome_of(tmp_path, chr1="AAAACGT")
    assert normalize(table(("chr1", 3, "AA", "A")), genome).row(0) == ("chr1", 1, "AA", "A")
    assert normalize(table(("chr1", 5, "C", "-")), genome).row(0) == ("chr1", 4, "AC", "A")
    with pytest.raises(CislensError, match="ref allele of 1 of 1"):
        normalize(table(("chr1", 4, "AA", "A")), genome)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_windows_are_what_stands_around_the_variant_in_either_haplotype(repeats, data):
    start, removed, added = data.draw(events())
    width = data.draw(st.integers(1, 90))
    bases = decode(repeats.chromosome("chr1"))
    variant = ("chr1", start + 1, bases[start : start + removed + 1], (added or "A") + "C")
    reference, alternate = windows(table(variant), repeats, width)
    assert reference.shape == alternate.shape == (1, width)
    anchor = width // 2
    for codes, haplotype in ((reference, bases), (alternate, applied(repeats, *variant))):
        padded = "N" * width + haplotype + "N" * width
        first = start + width - anchor
        assert decode(codes[0]) == padded[first : first + width]
    assert np.array_equal(reference[0, :anchor], alternate[0, :anchor])


def test_windows_of_a_substitution_differ_at_the_center_only(repeats):
    variants = snvs(repeats)
    reference, alternate = windows(variants, repeats, 21)
    rows, places = np.nonzero(reference != alternate)
    assert rows.tolist() == list(range(len(variants))) and set(places) == {10}
    assert decode(reference[:, 10]) == "".join(variants["ref"])
    assert decode(alternate[:, 10]) == "".join(variants["alt"])


def test_windows_of_the_other_strand_are_the_reverse_complements(tmp_path, repeats):
    forward = repeats.chromosome("chr1")
    other = genome_of(tmp_path, chr1=decode(reverse_complement(forward)))
    variants = snvs(repeats)
    flip = {"A": "T", "C": "G", "G": "C", "T": "A"}
    turned = variants.with_columns(
        pos=forward.size + 1 - pl.col("pos"),
        ref=pl.col("ref").replace(flip), alt=pl.col("alt").replace(flip),
    )  # fmt: skip
    for mine, theirs in zip(
        windows(variants, repeats, 31), windows(turned, other, 31), strict=True
    ):
        assert np.array_equal(reverse_complement(mine), theirs)


def test_windows_of_a_wrong_reference_allele_are_refused(repeats):
    with pytest.raises(CislensError, match="ref allele of 1 of 1"):
        windows(table(("chr2", 1, "T", "C")), repeats, 9)
    with pytest.raises(CislensError, match="must be positive"):
        windows(table(("chr2", 1, "A", "C")), repeats, 0)


def test_an_element_serves_as_its_own_genome(tmp_path):
    genome = genome_of(tmp_path, LDLR="ACGTACG")
    variants = table(("19", 1003, "G", "T"), ("19", 1001, "A", "-")).with_columns(
        element=pl.lit("LDLR")
    )
    elements = pl.DataFrame({"element": ["LDLR"], "start": [1000]})
    moved = anchored(on_elements(variants, elements), genome)
    assert moved.select("chrom", "pos", "ref", "alt", "assembly_pos").rows() == [
        ("LDLR", 3, "G", "T", 1003),
        ("LDLR", 1, "AC", "C", 1001),
    ]
    reference, alternate = windows(moved, genome, 9)
    assert decode(reference[0]) == "NNACGTACG" and decode(alternate[0]) == "NNACTTACG"
    with pytest.raises(CislensError, match="unknown element 'LDL'"):
        on_elements(variants.with_columns(element=pl.lit("LDL")), elements)


def test_real_variants_match_their_assembly_and_no_other(core_data):
    genome = open_genome(core_data / "human_hg19_chr20_21" / "hg19_chr20_21.fa.gz")
    folder = core_data / "mpra_variants"
    real = read_variants(folder / "ncVarDB_snvs.hg19.chr20_21.tsv", genome)
    assert len(require_reference(real, genome)) == 278
    shifted = real.with_columns(pl.col("pos") - 1)
    with pytest.raises(CislensError, match=r"100.0% match: the positions are 0-based; add 1"):
        require_reference(shifted, genome)
    hg38 = read_variants(folder / "ncVarDB_benign.hg38.tsv.gz", genome)
    with pytest.raises(CislensError, match="another assembly"):
        require_reference(hg38.filter(pl.col("chrom") == "chr20"), genome)
