from pathlib import Path

import pytest

from cislens.errors import CislensError
from cislens.example import example_path
from cislens.genome.transcripts import read_transcripts

# Gene b has two transcripts: t1 with 20 coding bases, t2 with longer exons and 10.
GTF = """chr1\tX\tgene\t11\t200\t.\t-\t.\tgene_id "G1"; gene_name "b";
chr1\tX\texon\t11\t40\t.\t-\t.\tgene_id "G1"; transcript_id "t1";
chr1\tX\texon\t101\t200\t.\t-\t.\tgene_id "G1"; transcript_id "t1";
chr1\tX\tCDS\t31\t40\t.\t-\t0\tgene_id "G1"; transcript_id "t1";
chr1\tX\tCDS\t101\t110\t.\t-\t0\tgene_id "G1"; transcript_id "t1";
chr1\tX\texon\t11\t200\t.\t-\t.\tgene_id "G1"; transcript_id "t2";
chr1\tX\tCDS\t31\t40\t.\t-\t0\tgene_id "G1"; transcript_id "t2";
chr1\tX\tgene\t301\t400\t.\t+\t.\tgene_id "G2";
chr2\tX\texon\t5\t9\t.\t+\t.\tgene_id "G3"; transcript_id "t3";
"""
GFF3 = """##gff-version 3
chr1\tX\tgene\t11\t200\t.\t-\t.\tID=gene:G1;Name=b
chr1\tX\tmRNA\t11\t200\t.\t-\t.\tID=t1;Parent=gene:G1;Name=b.1
chr1\tX\texon\t11\t40\t.\t-\t.\tParent=t1,t2
chr1\tX\texon\t101\t200\t.\t-\t.\tParent=t1
chr1\tX\tCDS\t31\t40\t.\t-\t0\tID=c;Parent=t1
chr1\tX\tCDS\t101\t110\t.\t-\t0\tID=c;Parent=t1
chr1\tX\tmRNA\t11\t40\t.\t-\t.\tID=t2;Parent=gene:G1
chr1\tX\tgene\t301\t400\t.\t+\t.\tID=G2;Name=a%20b
chr2\tX\tgene\t5\t9\t.\t+\t.\tID=G3
chr2\tX\tCDS\t5\t9\t.\t+\t.\tID=c3;Parent=G3
##FASTA
>chr1
ACGT
"""
SPLICED = ("chr1", 10, 200, "b", "-", 30, 110, "30,100", "0,90")


def read(tmp_path: Path, name: str, text: str) -> list[tuple[object, ...]]:
    (tmp_path / name).write_text(text)
    return read_transcripts(tmp_path / name).rows()


def test_the_transcript_with_most_coding_bases_stands_for_its_gene(tmp_path: Path) -> None:
    assert read(tmp_path, "a.gtf", GTF) == [
        SPLICED,
        ("chr2", 4, 9, "G3", "+", 9, 9, "5", "0"),
        ("chr1", 300, 400, "G2", "+", 300, 400, "100", "0"),
    ]
    assert read(tmp_path, "a.gff3", GFF3) == [
        SPLICED,
        ("chr2", 4, 9, "G3", "+", 4, 9, "5", "0"),
        ("chr1", 300, 400, "a b", "+", 300, 400, "100", "0"),
    ]


def test_rows_of_bed12_are_kept_and_those_of_narrower_files_are_whole(tmp_path: Path) -> None:
    bed = "chr1\t10\t200\tb\t0\t-\t30\t110\t0\t2\t30,100\t0,90\n"
    assert read(tmp_path, "a.bed", bed) == [SPLICED]
    six = ("chr1", 10, 200, "b", "-", 10, 200, "190", "0")
    assert read(tmp_path, "b.bed", "\t".join(bed.split("\t")[:6]) + "\n") == [six]
    first = read_transcripts(example_path("pombe_mini/genes.bed12.gz")).row(0)
    assert first == ("pombe_chrI_1.0_2.5Mb", 362174, 363806, "SPAC19E9.03", "+", 362570, 363806,
                     "1632", "0")  # fmt: skip


def test_whole_annotations_have_one_transcript_a_gene(core_data: Path) -> None:
    yeast = read_transcripts(core_data / "scerevisiae_sacCer3" / "genes.gtf.gz")
    assert len(yeast) == 7126
    worm = read_transcripts(core_data / "celegans_ce11_chrI" / "ce11_chrI.gff3.gz")
    assert len(worm) == 2878 + 1138 + 188
    assert worm.row(1)[3:8] == ("homt-1", "-", 4220, 10148, "243,102,291,120,136")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.gtf", GTF.replace("\t31\t40", "\t41\t40"), "line 4: start '41' and end '40'"),
        ("a.gtf", GTF.replace("-", "."), r"line 2: strand is '\.', an exon needs"),
        ("a.gff3", GFF3.replace("Parent=t1,t2", "x=y"), "line 4: no transcript among"),
        ("a.gtf", "chr1\tX\tgene\t1\t2\n", "line 1: 5 columns, expected 9"),
        ("a.gtf", 'chr1\tX\tstart_codon\t1\t3\t.\t+\t.\tgene_id "a";\n', "neither genes nor exons"),
        ("a.bed", "chr1\t0\t9\tg\t0\t-\t0\t9\t0\t2\t3\t0,5\n", "as many whole numbers in both"),
    ],
)
def test_broken_annotations_name_file_and_line(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    with pytest.raises(CislensError, match=said):
        read(tmp_path, name, text)
