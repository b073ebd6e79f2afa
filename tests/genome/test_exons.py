import gzip
from pathlib import Path

import pytest

from cislens.errors import CislensError
from cislens.genome.exons import gene_spans, introns, read_exons

GTF = """\
chr1\tx\tgene\t101\t900\t.\t+\t.\tgene_id "a";
chr1\tx\texon\t101\t200\t.\t+\t.\tgene_id "t1"; transcript_id "t1";
chr1\tx\texon\t301\t400\t.\t+\t.\tgene_id "t1"; transcript_id "t1";
chr1\tx\texon\t351\t500\t.\t+\t.\tgene_id "t2"; transcript_id "t2";
chr1\tx\texon\t801\t900\t.\t+\t.\tgene_id "t2"; transcript_id "t2";
chr1\tx\texon\t351\t450\t.\t-\t.\tgene_id "t3"; transcript_id "t3";
"""
GFF3 = """\
chr1\tx\tmRNA\t101\t400\t.\t+\t.\tID=t1;Parent=g1
chr1\tx\texon\t101\t200\t.\t+\t.\tParent=t1,t2
chr1\tx\texon\t301\t400\t.\t+\t.\tParent=t1
chr1\tx\texon\t351\t400\t.\t+\t.\tParent=t2
"""


def test_transcripts_whose_exons_overlap_are_one_gene(tmp_path: Path) -> None:
    (tmp_path / "a.gtf").write_text(GTF)
    exons = read_exons(tmp_path / "a.gtf")
    assert exons.select("start", "end", "gene").rows() == [
        (100, 200, "g0"), (300, 400, "g0"), (350, 500, "g0"), (800, 900, "g0"), (350, 450, "g1"),
    ]  # fmt: skip
    assert introns(exons).select("start", "end", "strand").rows() == [
        (200, 300, "+"), (500, 800, "+"),
    ]  # fmt: skip
    assert gene_spans(exons).select("start", "end", "strand").rows() == [
        (100, 900, "+"), (350, 450, "-"),
    ]  # fmt: skip


def test_gff3_exons_of_several_transcripts(tmp_path: Path) -> None:
    (tmp_path / "a.gff3.gz").write_bytes(gzip.compress(GFF3.encode()))
    exons = read_exons(tmp_path / "a.gff3.gz")
    assert len(exons) == 4
    assert set(introns(exons).select("start", "end").rows()) == {(200, 300), (200, 350)}


def test_blocks_of_bed12_are_exons(tmp_path: Path) -> None:
    row = ("chr1", 100, 900, "t", 0, "-", 100, 900, 0, 2, "50,100,", "0,700,")
    (tmp_path / "a.bed").write_text("\t".join(map(str, row)) + "\n")
    exons = read_exons(tmp_path / "a.bed")
    assert exons.select("start", "end").rows() == [(100, 150), (800, 900)]
    assert introns(exons).rows() == [("chr1", 150, 800, "-", "g0")]


def test_what_has_no_exons_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.bed").write_text("chr1\t1\t5\tt\t0\t+\n")
    with pytest.raises(CislensError, match="read from GTF, GFF3 or BED with twelve columns"):
        read_exons(tmp_path / "a.bed")
    (tmp_path / "a.gtf").write_text(GTF.splitlines()[0] + "\n")
    with pytest.raises(CislensError, match="holds no exon"):
        read_exons(tmp_path / "a.gtf")
    (tmp_path / "b.gtf").write_text('chr1\tx\texon\t1\t5\t.\t.\t.\ttranscript_id "t";\n')
    with pytest.raises(CislensError, match=r"b.gtf line 1: strand is '\.'"):
        read_exons(tmp_path / "b.gtf")
