import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.genome.reference import Genome, open_genome
from cislens.genome.variant_checks import REASONS
from cislens.genome.variant_doctor import Doctor, _Seen, examine_file
from cislens.genome.variant_stream import stream_variants
from cislens.randomness import generator

KEYS = ["chrom", "pos", "ref", "alt"]
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
PLUS = {"A": "T", "C": "G", "G": "C", "T": "A"}


def chunk(*rows: tuple[str | None, int | None, str | None, str | None]) -> pl.DataFrame:
    frame = pl.DataFrame(
        rows, schema=dict.fromkeys(KEYS, pl.String) | {"pos": pl.Int64}, orient="row"
    )
    return frame.with_columns(
        id=pl.lit(None, pl.String), source_row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
        allele=pl.lit(0, pl.Int32),
    )  # fmt: skip


def genome_of(folder: Path, **chromosomes: str) -> Genome:
    path = folder / "genome.fa"
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in chromosomes.items()))
    return open_genome(path)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    rng = generator(1, "doctor")
    bases = "".join(rng.choice(list("ACGT"), 20_000))
    repeats = "".join(rng.choice(["A", "C", "CA", "CAG", "TT", "GATA"], 200))
    return genome_of(tmp_path_factory.mktemp("genome"), chr1=bases, chr2=repeats)


def snvs(genome: Genome, number: int, shift: int = 0) -> pl.DataFrame:
    """Substitutions by every other base in turn, each position once."""
    bases = decode(genome.chromosome("chr1"))
    places = np.sort(generator(2, "snvs").permutation(len(bases) - 20)[:number] + 10)
    alts = ["ACGT"[("ACGT".index(bases[at]) + 1 + n % 3) % 4] for n, at in enumerate(places)]
    return chunk(
        *(
            ("chr1", int(at) + 1 + shift, bases[at], alt)
            for at, alt in zip(places, alts, strict=True)
        )
    )


def changed(frame: pl.DataFrame, every: int, **columns: pl.Expr) -> pl.DataFrame:
    """Every so many rows with other values."""
    chosen = pl.int_range(pl.len()) % every == 0
    return frame.with_columns(
        pl.when(chosen).then(value).otherwise(name).alias(name) for name, value in columns.items()
    )


def test_every_planted_fault_is_named_and_the_others_are_kept(tmp_path):
    genome = genome_of(tmp_path, chr1="ACGTACGGGT", chr2="TTTTT")
    rows = {
        ("1", 2, "c", "g"): None,
        ("1", 7, "GG", "G"): None,
        ("1", 3, "G", "-"): None,
        ("1", None, "A", "C"): ("missing", ""),
        (None, 1, "A", "C"): ("missing", ""),
        ("1", 1, "A", None): ("missing", ""),
        ("1", 1, "A", "."): ("missing", ""),
        ("1", 1, "A", "*"): ("star", ""),
        ("1", 1, "A", "<NON_REF>"): ("symbolic", ""),
        ("1", 1, "A", "A]chr2:3]"): ("breakend", ""),
        ("1", 1, "A", ".A"): ("breakend", ""),
        ("1", 1, "A", "N"): ("not_bases", ""),
        ("1", 1, "R", "C"): ("not_bases", ""),
        ("1", 1, "A", "a"): ("same_alleles", ""),
        ("3", 1, "A", "C"): ("unknown_chromosome", ""),
        ("1", 11, "A", "C"): ("beyond_end", "chr1 has the positions 1 to 10"),
        ("1", 10, "TA", "T"): ("beyond_end", "chr1 has the positions 1 to 10"),
        ("1", 0, "A", "C"): ("beyond_end", "chr1 has the positions 1 to 10"),
        ("1", 4, "C", "T"): ("flipped", "the genome has T"),
        ("1", 5, "G", "ACG"): ("flipped", "the genome has ACG"),
        ("1", 3, "C", "A"): ("other_strand", "the genome has G"),
        ("1", 1, "CGT", "C"): ("other_strand", "the genome has ACG"),
        ("1", 6, "A", "T"): ("ref_mismatch", "the genome has C"),
        ("1", 8, "GG", "G"): ("duplicate", "chr1:6:CG:C came before"),
        ("1", 2, "C", "G"): ("duplicate", "chr1:2:C:G came before"),
    }
    given_rows = chunk(*rows)
    doctor = Doctor(genome, "planted")
    found = doctor.examine(given_rows)
    assert found.kept.columns == [*KEYS, "id", "source_row", "allele", "given"]
    assert found.kept.select(*KEYS, "source_row", "given").rows() == [
        ("chr1", 2, "C", "G", 1, "1:2:c:g"),
        ("chr1", 6, "CG", "C", 2, "1:7:GG:G"),
        ("chr1", 2, "CG", "C", 3, "1:3:G:-"),
    ]
    left_out = found.left_out
    assert left_out.columns == [
        "source_row", "allele", "chrom", "pos", "ref", "alt", "id", "reason", "detail",
    ]  # fmt: skip
    faults = {row: fault for row, fault in rows.items() if fault}
    assert left_out.select(KEYS).rows() == list(faults)
    # What is said of a repeat is its normalized place, which only the count of rows can show.
    assert left_out["reason"].to_list() == [reason for reason, _ in faults.values()]
    said = dict(zip(left_out.select(KEYS).rows(), left_out["detail"], strict=True))
    for row, (reason, detail) in faults.items():
        if reason != "duplicate":
            assert said[row] == detail
    report = doctor.report()
    assert set(report.left_out) == set(REASONS) and sum(report.left_out.values()) == 22
    assert (report.alleles, report.kept, report.unknown) == (25, 3, {"3": 1})
    assert report.renamed == {"1": "chr1"}
    assert report.checked == 3 + 2 + 3 + 5 and report.share_wrong == pytest.approx(8 / 13)


def test_the_last_base_of_a_chromosome_is_within_it(tmp_path):
    genome = genome_of(tmp_path, chr1="ACGTACGGGT")
    last = chunk(("chr1", 10, "T", "A"), ("chr1", 9, "GT", "G"), ("chr1", 10, "T", "TA"))
    found = Doctor(genome, "last").examine(last)
    assert found.left_out.is_empty()
    beyond = chunk(("chr1", 11, "T", "A"), ("chr1", 10, "TT", "T"), ("chr1", 11, "-", "A"))
    left_out = Doctor(genome, "beyond").examine(beyond).left_out
    assert left_out["reason"].to_list() == ["beyond_end"] * 3


def test_repeats_are_found_over_chunks_however_they_are_written(genome):
    bases = decode(genome.chromosome("chr2"))
    at = bases.index("CAGCAG")
    one = ("chr2", at + 1, bases[at : at + 4], bases[at])  # the first CAG deleted
    other = ("chr2", at + 3, bases[at + 2 : at + 6], bases[at + 2])  # the same haplotype
    doctor = Doctor(genome, "twice")
    assert len(doctor.examine(chunk(one)).kept) == 1
    again = doctor.examine(chunk(other, ("chr2", 1, bases[0], PLUS[bases[0]])))
    assert again.left_out["reason"].to_list() == ["duplicate"] and len(again.kept) == 1


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=12))
def test_hashes_are_fresh_once(parts):
    seen, known = _Seen(), set()
    for part in parts:
        hashes = np.array(part, np.uint64)
        expected = [value not in known and value not in part[:at] for at, value in enumerate(part)]
        assert seen.add(hashes).tolist() == expected
        known |= set(part)
    runs = [run.size for run in seen._runs]
    assert sum(runs) == len(known)
    assert all(one >= 2 * other for one, other in pairwise(runs))


def refused(genome: Genome, frame: pl.DataFrame) -> str:
    doctor = Doctor(genome, "faulty")
    doctor.examine(frame)
    with pytest.raises(CislensError) as error:
        doctor.require()
    return str(error.value)


def test_clean_variants_pass_and_one_in_two_thousand_is_only_counted(genome):
    clean = snvs(genome, 4000)
    doctor = Doctor(genome, "clean")
    assert len(doctor.examine(clean).kept) == 4000
    doctor.require()
    assert doctor.report().guess == "" and doctor.report().share_wrong == 0
    doctor = Doctor(genome, "two wrong")
    doctor.examine(changed(clean, 2000, ref=pl.col("alt"), alt=pl.col("ref")))
    doctor.require()
    assert doctor.report().left_out == {"flipped": 2} and doctor.report().guess == ""
    with pytest.raises(CislensError, match=r"0.1% of 4000 alleles \(allowed 0.0%\)"):
        doctor.require(limit=0.0001)


def test_a_fifth_of_the_alleles_swapped_is_named(genome):
    swapped = changed(snvs(genome, 4000), 5, ref=pl.col("alt"), alt=pl.col("ref"))
    message = refused(genome, swapped)
    assert "20.0% of 4000 alleles (allowed 0.1%)" in message
    assert "In 800 of the 800 wrong single bases (20.0% of all) ref and alt are swapped:" in message


def test_variants_of_the_other_strand_are_named(genome):
    turned = {name: pl.col(name).replace(PLUS) for name in ("ref", "alt")}
    message = refused(genome, changed(snvs(genome, 4000), 1, **turned))
    assert "4000 of the 4000 wrong single bases (100.0% of all) are written on the other" in message


@pytest.mark.parametrize(("shift", "words"), [(-1, "0-based; add 1"), (1, "subtract 1")])
def test_positions_off_by_one_are_named(genome, shift, words):
    assert f"100.0% match with another position: the positions are {words}" in refused(
        genome, snvs(genome, 4000, shift)
    ).replace("one too high; ", "")


def test_nothing_is_guessed_from_a_few_alleles(genome):
    assert "follow no pattern" in refused(genome, snvs(genome, 3, shift=7))


def test_a_header_of_the_same_assembly_with_another_mitochondrion_is_no_contradiction(
    core_data, tmp_path
):
    genome = open_genome(core_data / "human_hg19_chr20_21" / "hg19_chr20_21.fa.gz")
    path = tmp_path / "v.vcf"
    contigs = "##contig=<ID=20,length=63025520>\n##contig=<ID=MT,length=16569>\n"
    path.write_text("##fileformat=VCFv4.2\n" + contigs + COLUMNS + "20\t1\t.\tN\tA\t.\t.\t.\n")
    report = examine_file(path, genome)
    report.require()
    assert not report.contradicted and report.kept == 1


def test_a_plain_table_is_examined_and_long_alleles_are_cut_in_messages(genome):
    bases = decode(genome.chromosome("chr1"))
    table = snvs(genome, 20).select(KEYS)
    found = Doctor(genome, "table").examine(table)
    assert found.kept["source_row"].to_list() == list(range(1, 21))
    assert set(found.kept["allele"]) == {0} and found.kept["id"].null_count() == 20
    long = chunk(("chr1", 5, bases[5:205], "A"))
    assert f"e.g. chr1:5:{bases[5:29]}...:A." in refused(genome, long)


def test_alleles_by_chance_are_of_another_assembly(genome):
    message = refused(genome, snvs(genome, 4000, shift=7))
    assert "single bases match, as by chance: the variants are of another assembly" in message


def test_wrong_alleles_without_a_pattern_are_said_to_have_none(genome):
    odd = changed(snvs(genome, 4000), 5, ref=pl.col("alt"))
    odd = odd.with_columns(
        alt=pl.when(pl.col("ref") == "A").then(pl.lit("C")).otherwise(pl.lit("A"))
    )
    assert "no pattern" in refused(genome, odd)


def test_the_header_names_another_assembly_even_if_all_alleles_fit(tmp_path):
    genome = genome_of(tmp_path, chr20="ACGT" * 50)
    path = tmp_path / "v.vcf"
    contigs = "##contig=<ID=20,length=64444167>\n##contig=<ID=21,length=46709983>\n"
    path.write_text("##fileformat=VCFv4.2\n" + contigs + COLUMNS + "20\t1\t.\tA\tC\t.\t.\t.\n")
    report = examine_file(path, genome)
    assert report.contradicted and report.kept == 1
    words = r"By the header 20 has 64444167 bp, as in GRCh38 \(hg38\); in genome.fa it has 200:"
    few = "1 allele is too few to tell whether its header is wrong. "
    with pytest.raises(CislensError, match=few + words):
        report.require()
    # Many that fit cannot do so by chance: the header is wrong, which is only told.
    rows = [
        f"20\t{at}\t.\t{'ACGT'[(at - 1) % 4]}\t{'CATG'[(at - 1) % 4]}\t.\t.\t.\n"
        for at in range(1, 50)
    ]
    path.write_text("##fileformat=VCFv4.2\n" + contigs + COLUMNS + "".join(rows))
    report = examine_file(path, genome)
    report.require()
    assert "By the header 20 has" in report.guess


def test_roman_names_are_understood_whichever_chunk_they_come_in(tmp_path):
    genome = genome_of(tmp_path, chr1="AAAA", chr2="CCCC", chr10="GGGG")
    path = tmp_path / "v.vcf"
    rows = [
        f"{name}\t2\t.\t{base}\tT\t.\t.\t.\n"
        for name, base in (("X", "G"), ("I", "A"), ("II", "C"))
    ]
    path.write_text("##fileformat=VCFv4.2\n" + COLUMNS + "".join(rows))
    doctor = Doctor(genome, path)
    kept = pl.concat([doctor.examine(part).kept for part in stream_variants(path, chunk=1)])
    assert kept["chrom"].to_list() == ["chr10", "chr1", "chr2"]
    path.write_text("##fileformat=VCFv4.2\n" + COLUMNS + "Y\t2\t.\tA\tT\t.\t.\t.\n")
    report = examine_file(path, genome)
    assert report.left_out == {"unknown_chromosome": 1} and not report.kept
    with pytest.raises(CislensError, match=r"no chromosome of .*v.vcf is in the genome"):
        report.require()


def test_a_file_of_which_nothing_is_left_is_refused(genome):
    symbolic = chunk(("chr1", 5, "A", "<DEL>"), ("chr1", 6, "A", "*"))
    message = refused(genome, symbolic)
    assert "none of 2 alleles can be scored (1 star, 1 symbolic)" in message


def test_the_report_is_plain_values_and_lines(genome):
    doctor = Doctor(genome, "some")
    doctor.examine(pl.concat([snvs(genome, 10), chunk(("chr9", 1, "A", "C"))]))
    report = doctor.report()
    assert json.loads(json.dumps(report.to_dict()))["left_out"] == {"unknown_chromosome": 1}
    lines = report.text().splitlines()
    assert lines[0] == "some: 10 of 11 alleles kept for genome.fa."
    assert lines[1] == "  1 left out: the genome lacks their chromosome"
    assert lines[2] == "Chromosomes that the genome lacks: chr9."


@st.composite
def events(draw):
    start = draw(st.integers(0, 150))
    return start, draw(st.integers(0, 8)), draw(st.text("ACGT", max_size=8))


@given(st.lists(events(), min_size=1, max_size=12))
def test_what_is_kept_is_the_same_haplotype_and_keeps_its_form(genome, made):
    bases = decode(genome.chromosome("chr2"))
    rows = []
    for start, removed, added in made:
        pad = 0 if removed and added else 1
        ref = bases[start : start + removed + pad]
        alt = added + bases[start + removed : start + removed + pad]
        if ref != alt:
            rows.append(("chr2", start + 1, ref, alt))
    if not rows:
        return

    def applied(pos: int, ref: str, alt: str) -> str:
        assert bases[pos - 1 : pos - 1 + len(ref)] == ref
        return bases[: pos - 1] + alt + bases[pos - 1 + len(ref) :]

    found = Doctor(genome, "events").examine(chunk(*rows))
    haplotypes = {applied(*row[1:]) for row in rows}
    kept = [applied(*row) for row in found.kept.select(KEYS[1:]).rows()]
    assert set(kept) == haplotypes and len(kept) == len(haplotypes)  # one form a haplotype
    for given_text, haplotype in zip(found.kept["given"], kept, strict=True):
        _, pos, ref, alt = given_text.split(":")
        assert applied(int(pos), ref, alt) == haplotype
    again = Doctor(genome, "again").examine(chunk(*found.kept.select(KEYS).rows()))
    assert again.kept.select(KEYS).equals(found.kept.select(KEYS)) and again.left_out.is_empty()


def test_positions_of_hg38_are_refused_for_hg19_and_named(core_data):
    genome = open_genome(core_data / "human_hg19_chr20_21" / "hg19_chr20_21.fa.gz")
    folder = core_data / "mpra_variants"
    report = examine_file(folder / "ncVarDB_benign.hg38.tsv.gz", genome)
    assert report.assembly == "GRCh37 (hg19)" and 0.7 < report.share_wrong < 0.9
    with pytest.raises(CislensError) as error:
        report.require()
    for words in (
        "as by chance: the variants are of another assembly",
        "3 lie beyond the end of their chromosome",
        "Its name says GRCh38 (hg38), the genome is GRCh37 (hg19)",
    ):
        assert words in str(error.value)
    clean = examine_file(folder / "ncVarDB_snvs.hg19.chr20_21.tsv", genome)
    clean.require()
    assert (clean.kept, clean.guess) == (278, "")


def test_without_a_name_the_positions_tell_the_assembly(core_data, tmp_path):
    genome = open_genome(core_data / "human_hg19_chr20_21" / "hg19_chr20_21.fa.gz")
    source = core_data / "mpra_variants" / "ncVarDB_benign.hg38.tsv.gz"
    (tmp_path / "mine.tsv.gz").write_bytes(source.read_bytes())
    guess = examine_file(tmp_path / "mine.tsv.gz", genome).guess
    assert "All positions exist in GRCh38 (hg38); the genome is GRCh37 (hg19)." in guess


def test_a_position_before_the_first_base_names_no_assembly(core_data):
    genome = open_genome(core_data / "human_hg19_chr20_21" / "hg19_chr20_21.fa.gz")
    doctor = Doctor(genome, "mine")
    doctor.examine(chunk(("chr20", 0, "N", "A"), ("chr20", 63025520, "N", "A")))
    assert doctor.report().guess == "1 lie beyond the end of their chromosome."


def test_real_variants_of_the_other_strand_are_named(core_data, tmp_path):
    genome = open_genome(core_data / "human_hg19_chr20_21" / "hg19_chr20_21.fa.gz")
    source = core_data / "mpra_variants" / "ncVarDB_snvs.hg19.chr20_21.tsv"
    turned = next(stream_variants(source)).with_columns(pl.col("ref", "alt").replace(PLUS))
    assert "other strand" in refused(genome, turned)
