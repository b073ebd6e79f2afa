"""The input's own records with INFO fields."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pysam
import pytest

from cislens.effects.variants.annotated import (
    field_values,
    info_fields,
    write_annotated,
    write_own,
)
from cislens.effects.variants.output import Columns
from cislens.effects.variants.request import Request
from cislens.effects.variants.run import run_variants
from cislens.effects.variants.scores import Scoring
from cislens.genome.reference import Genome
from cislens.signal.tracks import Track, track_table

TRACKS = track_table([Track("a|1", "a.bw", "toy"), Track("b;2", "b.bw", "toy")])
COLUMNS = Columns(TRACKS, "log_fold", ("llr",))


def finished_table() -> pl.DataFrame:
    arrays = {"log_fold": [[0.5, -2], [0, 0.25]]}
    return pl.DataFrame(
        {
            "source_row": [1, 2], "allele": [0, 1], "chrom": ["chr1"] * 2, "pos": [5, 9],
            "ref": ["A", "C"], "alt": ["G", "CT"], "given": ["1:5:a:g", "1:10:CC:CCT"],
            "llr": [-1.5, None], "llr_percentile": [80.0, None],
            "top_1_track": ["a|1", "b;2"], "top_1_score": [0.5, 0.25],
            "top_1_percentile": [90.0, 50.0], "top_1_q": [0.25, 0.5],
            "any_percentile": [60.0, 20.0], "any_q": [0.75, 1.0],
        }
    ).with_columns(
        pl.Series(name, np.array(values, np.float32), dtype=pl.Array(pl.Float32, 2))
        for name, values in arrays.items()
    )  # fmt: skip


def lines_of(path: Path) -> list[str]:
    with gzip.open(path, "rt") as handle:
        return handle.read().splitlines()


def test_fields_say_what_the_table_says() -> None:
    first, second = field_values(finished_table(), COLUMNS, calibrated=True, genes=False)
    assert first == (
        (1, 0),
        {
            "CISLENS_TOP": "a%7C1|0.5|90|0.25", "CISLENS_MAX": "-2", "CISLENS_PCT": "60",
            "CISLENS_Q": "0.75", "CISLENS_LLR": "-1.5", "CISLENS_LLR_PCT": "80",
        },
    )  # fmt: skip
    assert second[0] == (2, 1)
    assert second[1]["CISLENS_TOP"] == "b%3B2|0.25|50|0.5"
    assert second[1]["CISLENS_LLR"] == "."
    # The insertion was trimmed and moved.
    assert second[1]["CISLENS_NORM"] == "9:C:CT"


def test_each_allele_has_its_own_values_and_the_record_stays(tmp_path: Path) -> None:
    source = tmp_path / "a.vcf"
    head = '##fileformat=VCFv4.2\n##INFO=<ID=CISLENS_MAX,Number=A,Type=Float,Description="old">\n'
    source.write_bytes(
        head.encode() + b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        b"1\t5\tx\xff\tA\tG,<DEL>,T\t.\t.\tCISLENS_MAX=9,9,9;DP=4\n\n1\t7\t.\tC\tT\t.\t.\t.\n"
    )
    fields = info_fields(COLUMNS, calibrated=True, genes=False)
    scored = iter([((1, 0), {"CISLENS_MAX": "1"}), ((1, 2), {"CISLENS_MAX": "-3"})])
    left_out = iter([((1, 1), "symbolic"), ((2, 0), "ref_mismatch")])
    assert write_annotated(tmp_path / "o.vcf.gz", source, fields, scored, left_out)
    raw = gzip.decompress((tmp_path / "o.vcf.gz").read_bytes()).splitlines()
    records = [line for line in raw if not line.startswith(b"#")]
    assert records == [
        b"1\t5\tx\xff\tA\tG,<DEL>,T\t.\t.\tDP=4;CISLENS_MAX=1,.,-3;CISLENS_LEFT_OUT=.,symbolic,.",
        b"1\t7\t.\tC\tT\t.\t.\tCISLENS_LEFT_OUT=ref_mismatch",
    ]
    assert sum(b"ID=CISLENS_MAX," in line for line in raw) == 1
    assert b'Description="old"' not in b"".join(raw)


def test_alleles_that_nothing_is_known_of_get_a_mark_if_there_is_one(tmp_path: Path) -> None:
    source = tmp_path / "a.vcf"
    source.write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        "1\t5\t.\tA\tG,<DEL>,T\t.\t.\tDP=4\n1\t7\t.\tC\tT\t.\t.\t.\n"
    )
    fields = {"CISLENS_MAX": ("Float", "x")}
    for rest, marks in (("", (".,symbolic,.", "")), ("elsewhere", (".,symbolic,elsewhere", "x"))):
        scored = iter([((1, 0), {"CISLENS_MAX": "1"})])
        lost = iter([((1, 1), "symbolic")])
        assert write_annotated(tmp_path / "o.vcf.gz", source, fields, scored, lost, rest)
        first, second = lines_of(tmp_path / "o.vcf.gz")[-2:]
        assert first.endswith(f"\tDP=4;CISLENS_MAX=1,.,.;CISLENS_LEFT_OUT={marks[0]}")
        assert second.endswith("\tCISLENS_LEFT_OUT=elsewhere" if marks[1] else "\t.")


def test_unsorted_records_are_written_and_not_indexed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, places in {"back": [(1, 9), (1, 8)], "again": [(1, 9), (2, 8), (1, 10)]}.items():
        source = tmp_path / f"{name}.vcf"
        records = "".join(f"{c}\t{p}\t.\tA\tG\t.\t.\t.\n" for c, p in places)
        source.write_text(
            f"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{records}"
        )
        out = tmp_path / f"{name}.vcf.gz"
        assert not write_annotated(out, source, {}, iter([]), iter([]))
        assert lines_of(out)[-len(places) :] == records.splitlines()
        assert not out.with_name(out.name + ".tbi").exists()
        assert "not sorted by position" in caplog.text


def test_positions_that_tabix_cannot_hold_are_indexed_by_csi(tmp_path: Path) -> None:
    source = tmp_path / "long.vcf"
    source.write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        "1\t600000000\t.\tA\tG\t.\t.\t.\n"
    )
    assert write_annotated(tmp_path / "o.vcf.gz", source, {}, iter([]), iter([]))
    assert (tmp_path / "o.vcf.gz.csi").exists()
    with pysam.TabixFile(str(tmp_path / "o.vcf.gz"), index=str(tmp_path / "o.vcf.gz.csi")) as file:
        assert len(list(file.fetch("1", 599_999_000, 600_000_001))) == 1


def test_records_without_the_columns_up_to_info_get_them(tmp_path: Path) -> None:
    source = tmp_path / "sites.vcf"
    source.write_text(
        "##fileformat=VCFv4.2\n##contig=<ID=1>\n#CHROM\tPOS\tID\tREF\tALT\n1\t5\t.\tA\tG\n"
    )
    fields = {"CISLENS_MAX": ("Float", "x")}
    scored = iter([((1, 0), {"CISLENS_MAX": "0.5"})])
    assert write_annotated(tmp_path / "o.vcf.gz", source, fields, scored, iter([]))
    with pysam.VariantFile(str(tmp_path / "o.vcf.gz")) as file:
        (record,) = file
        assert record.info["CISLENS_MAX"] == (0.5,)


def test_a_table_becomes_records_under_the_genome_s_names(
    tmp_path: Path, toy_genome: Genome
) -> None:
    rows = [
        {"chrom": "chr1", "pos": 5, "id": name, "ref": "A", "alt": "G"}
        for name in ("my first", None)
    ]
    fields = info_fields(COLUMNS, calibrated=False, genes=False)
    assert write_own(
        tmp_path / "o.vcf.gz", toy_genome, fields, [(row, {"CISLENS_MAX": "0.5"}) for row in rows]
    )
    found = lines_of(tmp_path / "o.vcf.gz")
    assert "##contig=<ID=chr1,length=40000>" in found
    assert found[-2] == "chr1\t5\tmy_first\tA\tG\t.\t.\tCISLENS_MAX=0.5"
    assert found[-1] == "chr1\t5\t.\tA\tG\t.\t.\tCISLENS_MAX=0.5"


def test_records_of_a_table_that_were_moved_are_in_order(
    tmp_path: Path, toy_genome: Genome
) -> None:
    places = [("chr1", p + shift) for p in range(10, 30_000, 5) for shift in ([0, -7][p % 2],)]
    places += [("chr2", 40), ("chr2", 39)]
    rows = [({"chrom": c, "pos": p, "id": str(n), "ref": "A", "alt": "G"}, {"CISLENS_MAX": str(n)})
            for n, (c, p) in enumerate(places)]  # fmt: skip
    assert write_own(tmp_path / "o.vcf.gz", toy_genome, {"CISLENS_MAX": ("Float", "x")}, rows)
    with pysam.TabixFile(str(tmp_path / "o.vcf.gz")) as file:
        found = [line.split("\t") for line in file.fetch()]
    assert sorted(places) == [(cells[0], int(cells[1])) for cells in found]
    assert all(cells[7] == f"CISLENS_MAX={cells[2]}" for cells in found)
    # Chromosomes are never brought together.
    assert not write_own(tmp_path / "o.vcf.gz", toy_genome, {}, [rows[0], rows[-1], rows[1]])


@pytest.mark.parametrize("kind", ["vcf", "bcf"])
def test_other_tools_read_what_is_written(
    toy_model: Path, toy_vcf: Path, toy_genome: Genome, toy_genes: Path, tmp_path: Path, kind: str
) -> None:
    source = tmp_path / f"in.{kind}"
    with (
        pysam.VariantFile(str(toy_vcf)) as given,
        pysam.VariantFile(str(source), "wb" if kind == "bcf" else "w", header=given.header) as copy,
    ):
        for record in given:
            copy.write(record)
    scoring = Scoring(device="cpu")
    request = Request(toy_model, source, toy_genome, scoring, genes=toy_genes, background=20)
    assert run_variants(request, tmp_path / "out")["indexed"]
    table = pl.read_parquet(tmp_path / "out" / "variants.parquet")
    largest = np.abs(table["log_fold"].to_numpy()).max(1)
    by_place = dict(zip(table.select("source_row", "allele").rows(), largest, strict=True))
    lost = pl.read_csv(tmp_path / "out" / "left_out.tsv", separator="\t")
    left_out = dict(zip(lost.select("source_row", "allele").rows(), lost["reason"], strict=True))
    with (
        pysam.VariantFile(str(tmp_path / "out" / "variants.vcf.gz")) as found,
        pysam.VariantFile(str(toy_vcf)) as given,
    ):
        assert [str(line) for line in given.header.records if line.key == "source"] == [
            str(line) for line in found.header.records if line.key == "source"
        ]
        seen = 0
        for number, (record, original) in enumerate(zip(found, given, strict=True), 1):
            assert record.samples["s1"]["GT"] == (0, 1)
            for name in ("chrom", "pos", "id", "ref", "alts", "qual"):
                assert getattr(record, name) == getattr(original, name)
            assert record.info["AC"] == original.info["AC"]
            for allele in range(len(record.alts)):
                key = (number, allele)
                if key in by_place:
                    seen += 1
                    value = record.info["CISLENS_MAX"][allele]
                    assert abs(value) == pytest.approx(by_place[key], rel=1e-4)
                    assert record.info["CISLENS_TOP"][allele].count("|") == 3
                else:
                    assert record.info["CISLENS_LEFT_OUT"][allele] == left_out[key]
        assert seen == table.height == 84
        assert [r.pos for r in found.fetch("2", 600, 1300)] == [601, 1221]
