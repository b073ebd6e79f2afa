import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.example import example_path
from cislens.genome.annotation import promoters, read_genes
from cislens.genome.intervals import within
from cislens.genome.reference import open_genome

GTF = """# comment
chr1\tX\tgene\t11\t20\t.\t+\t.\tgene_id "G1"; gene_name "abc"; gene_biotype "protein_coding";
chr1\tX\texon\t11\t15\t.\t+\t.\tgene_id "G1"; transcript_id "T1";
chr1\tX\tgene\t31\t90\t.\t-\t.\tgene_id "G2"; gene_type "lncRNA";
"""
EXONS = """chr1\tX\texon\t11\t15\t.\t+\t.\tgene_id "G1"; transcript_id "T1";
chr1\tX\texon\t31\t35\t.\t+\t.\tgene_id "G1"; transcript_id "T1";
chr2\tX\texon\t5\t9\t.\t+\t.\tgene_id "G1"; transcript_id "T2";
"""
GFF3 = """##gff-version 3
chr1\tX\tgene\t11\t20\t.\t+\t.\tID=gene:G1;Name=a%20b;biotype=protein_coding
chr1\tX\tncRNA_gene\t31\t90\t.\t-\t.\tID=gene:G2;biotype=snoRNA
chr1\tX\tmRNA\t11\t20\t.\t+\t.\tID=t1;Parent=gene:G1
##FASTA
>chr1
ACGT
"""


def genes(tmp_path, text, name):
    path = tmp_path / name
    path.write_text(text)
    return read_genes(path)


def test_gtf_and_gff3_coordinates_become_0_based_half_open(tmp_path):
    gtf = genes(tmp_path, GTF, "a.gtf")
    assert gtf.columns == ["chrom", "start", "end", "name", "strand", "gene_type"]
    assert gtf.rows() == [
        ("chr1", 10, 20, "abc", "+", "protein_coding"),
        ("chr1", 30, 90, "G2", "-", "lncRNA"),
    ]
    assert genes(tmp_path, GFF3, "a.gff3").rows() == [
        ("chr1", 10, 20, "a b", "+", "protein_coding"),
        ("chr1", 30, 90, "gene:G2", "-", "snoRNA"),
    ]


def test_exons_without_genes_are_joined_by_gene_and_chromosome(tmp_path):
    assert genes(tmp_path, EXONS, "a.gtf").rows() == [
        ("chr1", 10, 35, "G1", "+", ""),
        ("chr2", 4, 9, "G1", "+", ""),
    ]


def test_packaged_genes_are_read():
    yeast = read_genes(example_path("yeast_mini/genes.bed.gz"))
    assert len(yeast) == 1910
    assert yeast["gene_type"][0] == "protein_coding"
    pombe = read_genes(example_path("pombe_mini/genes.bed12.gz"))
    assert (len(pombe), pombe["gene_type"][0]) == (644, "")


def test_whole_annotations_hold_the_published_number_of_genes(core_data):
    assert len(read_genes(core_data / "scerevisiae_sacCer3" / "genes.gtf.gz")) == 7126
    worm = read_genes(core_data / "celegans_ce11_chrI" / "ce11_chrI.gff3.gz")
    assert worm["gene_type"].value_counts(sort=True)["gene_type"][0] == "protein_coding"


def test_most_yeast_proteins_start_with_atg():
    genome = open_genome(example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"))
    all_genes = read_genes(example_path("yeast_mini/genes.bed.gz"))
    coding = all_genes.filter(pl.col("gene_type") == "protein_coding")
    first = promoters(coding, 0, 3)
    codons = genome.windows(first["chrom"], first["start"], 3)
    reverse = (first["strand"] == "-").to_numpy()
    codons[reverse] = 3 - codons[reverse][:, ::-1]
    assert (codons == np.array([0, 3, 2])).all(1).mean() > 0.99


def test_promoters_are_mirrored_on_the_minus_strand():
    frame = pl.DataFrame(
        {"chrom": ["a", "a"], "start": [100, 100], "end": [200, 200], "name": ["p", "m"],
         "strand": ["+", "-"], "gene_type": ["", ""]}
    )  # fmt: skip
    windows = promoters(frame, 30, 10)
    assert windows.select("start", "end", "tss").rows() == [(70, 110, 100), (190, 230, 199)]
    assert windows["name"].to_list() == ["p", "m"]
    assert within(promoters(frame, 150, 10), {"a": 1000}).height == 1
    with pytest.raises(CislensError, match="empty"):
        promoters(frame, 5, -5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.gtf", "chr1\tX\tgene\t11\t20\n", "line 1: 5 columns, expected 9"),
        ("a.gtf", GTF.replace("\t31\t90", "\t91\t90"), "line 4: start '91' and end '90'"),
        ("a.gtf", GTF.replace("\t11\t20", "\t0\t20"), "line 2: start '0' and end '20', expected 1"),
        ("a.gtf", GTF.replace("-", "."), "line 4: strand is '.'"),
        ("a.gtf", 'chr1\tX\tCDS\t1\t2\t.\t+\t.\tgene_id "G1";\n', "neither genes nor exons"),
        ("a.gff3", "chr1\tX\tgene\t1\t2\t.\t+\t.\tnote=x\n", "line 1: no gene_name or Name"),
        ("a.bed", "chr1\t0\t10\tg\n", "genes need a strand"),
        ("a.bed", "chr1\t0\t10\tg\t0\t.\n", "gene 'g' has no strand"),
    ],
)
def test_broken_annotations_name_file_and_line(tmp_path, name, text, message):
    with pytest.raises(CislensError, match=message) as error:
        genes(tmp_path, text, name)
    assert str(tmp_path / name) in str(error.value)
