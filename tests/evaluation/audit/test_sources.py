import gzip

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError, MissingFileError
from cislens.evaluation.audit.assemble import Reading, open_parts, open_table
from cislens.evaluation.audit.run import audit
from cislens.genome.codes import decode
from cislens.randomness import generator


def sequences(n, length, seed=0):
    return [decode(codes) for codes in generator(seed, "s").integers(0, 4, (n, length), np.uint8)]


def frame(n=40):
    return pl.DataFrame(
        {
            "sequence": sequences(n, 60),
            "label": ["pos" if row % 2 else "neg" for row in range(n)],
            "split": ["train"] * (n // 2) + ["val"] * (n // 4) + ["test"] * (n // 4),
        }
    )


def written(path, table, separator=","):
    path.write_text(table.write_csv(separator=separator))
    return path


def refused(call, *parts):
    with pytest.raises(CislensError) as found:
        call()
    for part in parts:
        assert part in str(found.value)


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "parquet"])
def test_a_table_reads_alike_in_every_format(tmp_path, kind):
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        frame().write_parquet(path)
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(frame().write_csv().encode()))
    else:
        written(path, frame(), "\t" if kind == "tsv" else ",")
    table = open_table(path)
    assert (table.classes, len(table)) == (("neg", "pos"), 40)
    assert [int((table.split == part).sum()) for part in ("train", "valid", "test")] == [20, 10, 10]
    assert table.y_NT[:3, 0].tolist() == [0, 1, 0]
    assert "column of the split: split" in table.notes


def test_whole_numbers_are_classes_and_others_values(tmp_path):
    table = frame()
    whole = table.with_columns(label=pl.int_range(40) % 3)
    assert open_table(written(tmp_path / "a.csv", whole)).classes == ("0", "1", "2")
    floats = table.with_columns(label=pl.int_range(40) / 3)
    assert open_table(written(tmp_path / "b.csv", floats)).classes == ()
    many = table.with_columns(label=pl.int_range(40))
    assert open_table(written(tmp_path / "c.csv", many)).classes == ()
    asked = open_table(written(tmp_path / "a.csv", whole), Reading(labels="values"))
    assert asked.y_NT[:4, 0].tolist() == [0, 1, 2, 0]


def test_coordinates_and_lower_case_are_read(tmp_path):
    table = frame(20).with_columns(
        chrom=pl.lit("chr1"), start=pl.int_range(20) * 100.0 + 1, end=pl.int_range(20) * 100 + 60,
        sequence=pl.col("sequence").str.slice(0, 30).str.to_lowercase()
        + pl.col("sequence").str.slice(30),
    )  # fmt: skip
    found = open_table(written(tmp_path / "a.csv", table))
    assert found.soft.tolist() == [0.5] * 20
    assert found.places.start[:2].tolist() == [0, 100]  # 1-based, as the lengths tell
    assert found.places.end[:2].tolist() == [60, 160]


def test_bed_files_of_each_part_with_a_class_each(tmp_path):
    for name, start in (("a", 0), ("b", 50_000), ("c", 20_000), ("d", 70_000)):
        lines = [f"chr1\t{start + 500 * i}\t{start + 500 * i + 200}\n" for i in range(12)]
        (tmp_path / f"{name}.bed").write_text("".join(lines))
    named = {
        "train": [f"peak={tmp_path}/a.bed", f"other={tmp_path}/b.bed"],
        "test": [f"peak={tmp_path}/c.bed", f"other={tmp_path}/d.bed"],
    }
    table = open_parts(named)
    assert table.classes == ("other", "peak")
    assert table.y_NT[:, 0].tolist() == ([1] * 12 + [0] * 12) * 2
    assert table.sequences is None
    report = audit(table)
    assert report.check("interval overlap").value == 0
    assert report.check("homology").verdict == "skipped"
    plain = open_parts({"train": [f"{tmp_path}/a.bed"], "test": [f"{tmp_path}/c.bed"]})
    assert plain.classes == ("all rows",)


def test_fasta_headers_give_places_and_labels(tmp_path):
    for split, offset in (("train", 0), ("test", 9000)):
        records = [
            f">chr2:{offset + 100 * i}-{offset + 100 * i + 60}|{i % 2}\n{text}\n"
            for i, text in enumerate(sequences(12, 60, offset))
        ]
        (tmp_path / f"{split}.fa").write_text("".join(records))
    table = open_parts({s: [str(tmp_path / f"{s}.fa")] for s in ("train", "test")})
    assert table.classes == ("0", "1")
    assert table.places.start[:2].tolist() == [0, 100]
    plain = tmp_path / "plain.fa"
    plain.write_text("".join(f">read{i}\n{text}\n" for i, text in enumerate(sequences(5, 60, 1))))
    table = open_parts({"train": [str(plain)], "test": [str(tmp_path / "test.fa")]})
    assert table.places is None
    assert table.classes == ("all rows",)


def test_a_folder_with_a_file_for_each_split_is_read(tmp_path):
    for name in ("train", "dev", "test"):
        written(tmp_path / f"{name}.csv", frame(12).drop("split"))
    table = open_table(tmp_path)
    assert sorted(set(table.split.tolist())) == ["test", "train", "valid"]


def test_names_with_and_without_chr_are_compared_as_one(tmp_path):
    for name, chrom in (("a", "chr1"), ("b", "1")):
        (tmp_path / f"{name}.bed").write_text(f"{chrom}\t100\t300\n" * 12)
    table = open_parts({"train": [f"{tmp_path}/a.bed"], "test": [f"{tmp_path}/b.bed"]})
    assert audit(table).check("interval overlap").value == 1.0
    assert any("chr1" in note for note in table.notes)


def test_bad_rows_are_named_with_file_and_line(tmp_path):
    def table(**columns):
        return lambda: open_table(written(tmp_path / "t.csv", frame().with_columns(**columns)))

    third = pl.int_range(pl.len()) == 2
    refused(table(sequence=pl.when(third).then(pl.lit("ACGT!")).otherwise("sequence")),
            "t.csv line 4", "'!'")  # fmt: skip
    refused(table(label=pl.when(third).then(None).otherwise("label")), "line 4", "label is empty")
    refused(table(split=pl.when(third).then(pl.lit("tset")).otherwise("split")),
            "line 4", "'tset'", "--split")  # fmt: skip
    refused(table(chrom=pl.lit("chr1"), start=pl.lit(90), end=pl.lit(10)), "line 2", "90")
    refused(table(split=pl.lit("train")), "rows for train only")


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        open_table(tmp_path / "absent.csv")
    (tmp_path / "notes.md").write_text("nothing")
    refused(lambda: open_table(tmp_path), "is no folder that can be audited", "notes.md")
    path = written(tmp_path / "a.csv", frame().rename({"sequence": "dnaseq"}))
    refused(lambda: open_table(path), "neither a sequence column nor")
    refused(lambda: open_table(path, Reading(sequence="dnasek")), "Did you mean 'dnaseq'")


def test_one_file_for_two_parts_is_refused(tmp_path):
    path = str(written(tmp_path / "a.csv", frame().drop("split")))
    other = str(written(tmp_path / "b.csv", frame().drop("split")))
    named = {"train": [other], "valid": [path], "test": [path]}
    refused(lambda: open_parts(named), "is named for valid and for test")
    refused(lambda: open_parts({"test": [path]}), "--train A --test B")


def test_a_folder_whose_parts_have_other_classes_is_refused(tmp_path):
    for part, label in (("train", "a"), ("train", "b"), ("test", "a")):
        folder = tmp_path / part
        folder.mkdir(exist_ok=True)
        (folder / f"{label}.csv").write_text("region,start,end,strand\nchr1,1,9,+\n")
    refused(lambda: open_table(tmp_path), "classes of test/ are a, those of train/ a, b")
