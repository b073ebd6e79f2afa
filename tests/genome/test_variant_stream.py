import gzip
import os
import shutil
from itertools import pairwise
from pathlib import Path

import polars as pl
import pysam
import pysam.bcftools
import pytest

from cislens.errors import CislensError
from cislens.genome import variant_stream
from cislens.genome.variant_stream import stream_variants, variant_chromosomes, variant_header
from cislens.genome.variants import read_variants

META = (
    "##fileformat=VCFv4.2\n##reference=file:///ref/hg19.fa\n##contig=<ID=chr1,length=1000>\n"
    '##contig=<ID=chr2,length=2000,assembly=GRCh37>\n##ALT=<ID=DEL,Description="x">\n'
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="depth">\n'
)
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
BODY = (
    "chr1\t3\trs1\tA\tC,GT\t.\tPASS\tDP=3\n"
    "chr1\t5\t.\tt\t<DEL>,*\t.\t.\t.\n"
    "chr1\t9\t.\tG\t.\t.\t.\t.\n"
    "chr2\t7\trs2\tG\tG]chr1:9]\t.\t.\t.\n"
    "chr2\t8\t.\tACG\tA\t.\t.\t.\n"
)
# chrom, pos, ref, alt, id, source_row, allele
ROWS = [
    ("chr1", 3, "A", "C", "rs1", 1, 0), ("chr1", 3, "A", "GT", "rs1", 1, 1),
    ("chr1", 5, "T", "<DEL>", None, 2, 0), ("chr1", 5, "T", "*", None, 2, 1),
    ("chr1", 9, "G", ".", None, 3, 0), ("chr2", 7, "G", "G]chr1:9]", "rs2", 4, 0),
    ("chr2", 8, "ACG", "A", None, 5, 0),
]  # fmt: skip
NAMES = ["chrom", "pos", "ref", "alt", "id", "source_row", "allele"]


def whole(path: Path, **options: object) -> pl.DataFrame:
    return pl.concat(list(stream_variants(path, **options)))  # type: ignore[arg-type]


def upper(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.with_columns(pl.col("ref").str.to_uppercase()).rows()


@pytest.fixture
def vcf(tmp_path: Path) -> Path:
    path = tmp_path / "v.vcf"
    path.write_text(META + COLUMNS + BODY)
    return path


@pytest.fixture
def bgzip(vcf: Path) -> Path:
    path = vcf.with_name("b.vcf.gz")
    pysam.tabix_compress(str(vcf), str(path))
    return path


@pytest.fixture
def bcf(vcf: Path) -> Path:
    path = vcf.with_name("v.bcf")
    pysam.bcftools.view("-Ob", "-o", str(path), str(vcf), catch_stdout=False)
    return path


def test_every_kind_of_vcf_gives_the_same_rows(vcf, bgzip, bcf):
    packed = vcf.with_name("g.vcf.gz")
    packed.write_bytes(gzip.compress(vcf.read_bytes()))
    for path in (vcf, packed, bgzip, bcf):
        frame = whole(path)
        assert frame.columns == NAMES
        # pysam writes a missing alternate allele as ".", and keeps lower case.
        assert upper(frame) == ROWS, path
        assert frame.schema["pos"] == pl.Int64


@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
def test_rows_do_not_depend_on_chunks_and_records_stay_whole(vcf, bcf, monkeypatch, chunk):
    monkeypatch.setattr(variant_stream, "_BLOCK", 50)
    monkeypatch.setattr(variant_stream, "_RECORDS", 2)
    for path in (vcf, bcf):
        parts = list(stream_variants(path, chunk=chunk))
        assert upper(pl.concat(parts)) == ROWS
        rows = [set(part["source_row"]) for part in parts]
        assert [len(records) for records in rows[:-1]] == [chunk] * (len(rows) - 1)
        assert not any(one & other for one, other in pairwise(rows))


@pytest.mark.parametrize("kind", ["tsv", "txt.gz", "csv.gz", "csv", "parquet"])
def test_tables_give_lines_or_rows_and_what_is_missing(tmp_path, kind):
    frame = pl.DataFrame(
        {"effect": [0.5, 1.0, 2.0], "CHR": ["20", "20", None], "from": ["A", "g", "T"],
         "at": [4, 9, None], "to": ["T,C", "-", "A"]}
    )  # fmt: skip
    path = tmp_path / f"v.{kind}"
    if kind == "parquet":
        frame.write_parquet(path)
    else:
        text = frame.write_csv(separator="," if "csv" in kind else "\t", null_value="NA")
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    names = {"pos": "at", "ref": "from", "alt": "to"}
    first = 1 if kind == "parquet" else 2
    assert whole(path, columns=names, chunk=2).rows() == [
        ("20", 4, "A", "T", None, first, 0),
        ("20", 4, "A", "C", None, first, 1),
        ("20", 9, "g", "-", None, first + 1, 0),
        (None, None, "T", "A", None, first + 2, 0),
    ]
    with pytest.raises(CislensError, match=r"has no column 'form'. Did you mean 'from'"):
        whole(path, columns={**names, "ref": "form"})
    with pytest.raises(CislensError, match="no column for pos"):
        whole(path)


def test_positions_of_floats_are_whole_or_missing_or_refused(tmp_path):
    path = tmp_path / "v.parquet"
    frame = pl.DataFrame({"chrom": "1", "pos": [4.0, float("nan"), None], "ref": "A", "alt": "C"})
    frame.write_parquet(path)
    assert whole(path)["pos"].to_list() == [4, None, None]
    frame.with_columns(pos=pl.Series([4.0, 5.5, 6.0])).write_parquet(path)
    for read in (whole, read_variants):
        with pytest.raises(CislensError, match=r"5\.5, expected a whole number"):
            read(path)


def test_lines_are_those_of_the_file_with_its_comments_and_empty_lines(tmp_path, monkeypatch):
    path = tmp_path / "v.tsv"
    path.write_text("## CADD v1.6\n## (c)\n#Chrom\tPos\tRef\tAlt\n1\t5\tA\tC\n\n1\t6\tA\tC\n\n")
    for block in (1 << 22, 1):
        monkeypatch.setattr(variant_stream, "_BLOCK", block)
        assert whole(path)["source_row"].to_list() == [4, 6]
    path.write_text("chrom\tpos\tref\talt\n1\t5\tA\tC\n1\t5.5\tA\tC\n")
    with pytest.raises(CislensError, match=r"v.tsv line 3: pos is '5.5', expected a whole number"):
        whole(path)


def test_a_vcf_with_empty_lines_at_its_end_is_whole(vcf, monkeypatch):
    vcf.write_text(vcf.read_text() + "\n\n")
    for block in (1 << 22, 16, 1):
        monkeypatch.setattr(variant_stream, "_BLOCK", block)
        assert upper(whole(vcf)) == ROWS


def test_windows_line_ends_and_samples_change_nothing(vcf):
    names = COLUMNS.rstrip() + "\tFORMAT" + "".join(f"\ts{i}" for i in range(500)) + "\r\n"
    lines = [line + "\tGT" + "\t0|1" * 500 + "\r\n" for line in BODY.splitlines()]
    vcf.write_bytes((META + names + "".join(lines)).encode())
    assert upper(whole(vcf)) == ROWS


def test_a_file_is_read_as_far_as_it_is_asked_for(vcf, monkeypatch):
    monkeypatch.setattr(variant_stream, "_BLOCK", 64)
    vcf.write_text(META + COLUMNS + BODY * 200 + "chr1\t5")
    parts = stream_variants(vcf, chunk=2)
    assert len(next(parts)) == 4
    with pytest.raises(CislensError, match=r"v.vcf record 1001 has no five columns"):
        list(parts)


@pytest.mark.parametrize("lost", [28, 40])
def test_a_truncated_bgzip_file_is_refused_at_once(bgzip, bcf, lost):
    for path in (bgzip, bcf):
        data = path.read_bytes()
        path.write_bytes(data[:-lost])
        for read in (whole, read_variants, variant_chromosomes):
            with pytest.raises(CislensError, match=rf"{path.name} is truncated: .* copy or down"):
                read(path)


def test_a_bgzip_file_without_a_block_in_its_middle_is_refused(bcf, tmp_path):
    lines = [f"chr1\t{i + 1}\t.\tA\tC\t.\t.\tDP={i * 7919 % 10007}\n" for i in range(20000)]
    (tmp_path / "long.vcf").write_text(META + COLUMNS + "".join(lines))
    path = tmp_path / "long.bcf"
    pysam.bcftools.view("-Ob", "-o", str(path), str(tmp_path / "long.vcf"), catch_stdout=False)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes(200) + data[middle + 200 :])
    with pytest.raises(CislensError, match="no readable BCF or is truncated"):
        whole(path)


def test_a_table_with_a_quote_that_is_not_closed_is_one_line(tmp_path):
    path = tmp_path / "v.tsv"
    path.write_text("chrom\tpos\tref\talt\tid\n" + '1\t2\tA\tC\t"x\n' * 3)
    with pytest.raises(CislensError, match="no readable table of variants") as error:
        whole(path)
    assert "\n" not in str(error.value)


def test_truncated_gzip_and_foreign_files_are_refused(vcf, tmp_path):
    lines = [f"chr1\t{i + 1}\t.\tA\tC\t.\t.\tDP={i * 7919 % 10007}\n" for i in range(20000)]
    packed = gzip.compress((META + COLUMNS + "".join(lines)).encode())
    path = tmp_path / "cut.vcf.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(CislensError, match=r"cut.vcf.gz is truncated or damaged .*copy or"):
        whole(path)
    with pytest.raises(CislensError, match="end of file"):
        read_variants(path)
    (tmp_path / "empty.vcf.gz").write_bytes(b"")
    (tmp_path / "no.bcf").write_bytes(b"BCF\2\2")
    (tmp_path / "no.vcf").write_text("1\t2\t.\tA\tC\n")
    (tmp_path / "no.parquet").write_bytes(b"PAR1 but not really PAR1")
    (tmp_path / "no.bed").write_text("1\t2\t3\n")
    for name, message in (
        ("empty.vcf.gz", "is empty"), ("no.bcf", "no readable BCF"),
        ("no.vcf", "no VCF header"), ("no.parquet", "no readable parquet"),
        ("no.bed", "variants are read from"),
        ("not.vcf", "does not exist"),
    ):  # fmt: skip
        with pytest.raises(CislensError, match=message):
            whole(tmp_path / name)
    with pytest.raises(CislensError, match="must be positive"):
        whole(vcf, chunk=0)


def test_the_header_says_what_the_variants_belong_to(vcf, bgzip, bcf, tmp_path):
    for path in (vcf, bgzip, bcf):
        header = variant_header(path)
        assert header.contigs == {"chr1": 1000, "chr2": 2000}
        assert header.reference == "file:///ref/hg19.fa" and header.assembly == "GRCh37"
    assert variant_header(vcf).lines == META + COLUMNS
    (tmp_path / "v.tsv").write_text("chrom\tpos\tref\talt\n")
    assert variant_header(tmp_path / "v.tsv").contigs == {}
    assert variant_header(tmp_path / "v.tsv").lines is None


def test_chromosomes_come_from_an_index_that_is_not_older_than_its_file(vcf, bgzip, bcf):
    for path in (vcf, bgzip, bcf):
        assert variant_chromosomes(path) == ["chr1", "chr2"]
    pysam.tabix_index(str(bgzip), preset="vcf")
    other = bgzip.with_name("other.vcf")
    other.write_text(META + COLUMNS + "chr2\t5\t.\tA\tC\t.\t.\t.\n")
    pysam.tabix_compress(str(other), str(other.with_suffix(".vcf.gz")))
    index = Path(f"{bgzip}.tbi")
    shutil.copy(other.with_suffix(".vcf.gz"), bgzip)
    os.utime(index, (bgzip.stat().st_mtime + 9,) * 2)
    assert variant_chromosomes(bgzip) == ["chr1", "chr2"]  # as the index says
    os.utime(index, (bgzip.stat().st_mtime - 9,) * 2)
    assert variant_chromosomes(bgzip) == ["chr2"]


def test_a_bcf_is_read_whole_as_its_vcf_is(vcf, bcf):
    for info in ([], ["DP"]):
        kept = [
            frame.filter(pl.col("source_row") != 2)
            for frame in (read_variants(vcf, info=info), read_variants(bcf, info=info))
        ]
        assert kept[0].equals(kept[1]) and len(kept[0]) == 3


@pytest.mark.parametrize("pos", [[b"12"], [[12]], [True]])
def test_positions_of_another_type_than_numbers_are_refused(
    tmp_path: Path, pos: list[object]
) -> None:
    frame = {"chrom": ["chr1"], "pos": pos, "ref": ["A"], "alt": ["C"]}
    pl.DataFrame(frame).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(CislensError, match="pos"):
        list(stream_variants(tmp_path / "v.parquet"))
