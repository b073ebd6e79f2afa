import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.genome.codes import decode, encode, reverse_complement

Write = Callable[..., Path]
Make = Callable[..., Any]
Library = Callable[..., list[str]]


def y_of(task: Any) -> np.ndarray:
    return np.array(task.examples["y"].to_list())


@pytest.fixture
def measured(write: Write, library: Library) -> Path:
    """Eighty RNA sequences with an activity, in usual but not our own column names."""
    rows = [
        (text.replace("T", "U"), 0.5 * number - 3, number % 10)
        for number, text in enumerate(library(80))
    ]
    return write("measured.tsv", ("seq", "activity", "fold"), *rows)


def test_usual_names_of_columns_are_found_and_reported(
    make: Make, measured: Path, library: Library
) -> None:
    task = make("table", file=str(measured))
    report = task.card.report
    assert task.card.kind == "regression"
    assert (report["column of the sequence"], report["column of the label"]) == ("seq", "activity")
    assert report["sequences whose U was read as T (row)"] == 80
    assert set(task.examples["sequence"]) == set(library(80))
    assert dict(task.examples["split"].value_counts().iter_rows()) == pytest.approx(
        {"train": 56, "valid": 12, "test": 12}, abs=2
    )
    (file,) = task.card.files
    assert file.sha256 == hashlib.sha256(measured.read_bytes()).hexdigest()
    assert (file.name, file.rows, file.bytes) == ("measured.tsv", 80, measured.stat().st_size)
    first = task.examples.row(0, named=True)
    line = measured.read_text().splitlines()[first["source_row"] - 1].split("\t")
    assert line[0].replace("U", "T") == first["sequence"]
    assert float(line[1]) == first["y"][0]


def test_folds_decide_the_parts(make: Make, measured: Path) -> None:
    split = {"by": "fold", "column": "fold", "valid": [8], "test": [9]}
    task = make("table", file=str(measured), split=split)
    assert task.card.split == "fold"
    folds = task.examples.group_by("split").agg(pl.col("fold").unique().sort())
    assert dict(folds.iter_rows()) == {"train": list(range(8)), "valid": [8], "test": [9]}
    carved = make("table", file=str(measured), split={"by": "fold", "column": "fold", "test": [9]})
    folds = carved.examples.group_by("split").agg(pl.col("fold").unique().sort())
    assert dict(folds.iter_rows())["test"] == [9]
    assert carved.card.report["valid examples carved from train by homology"] == pytest.approx(
        0.15 * 72, abs=1
    )
    with pytest.raises(CislensError, match=r"no example has fold '12'"):
        make("table", file=str(measured), split={"by": "fold", "column": "fold", "test": [12]})


def test_a_log_of_potential_as_insert_seq_has_it(
    make: Make, write: Write, library: Library
) -> None:
    # INSERT-seq: 173 bp inserts and their elongation potential, log(1 + y).
    potential = [0.25 * number for number in range(60)]
    rows = zip(library(60, 173), potential, strict=True)
    table = write("insert.csv", ("sequence", "potential"), *rows)
    task = make("table", file=str(table), label="potential", transform="log1p", stranded=True)
    assert (task.card.kind, task.card.target.transform, task.card.window) == (
        "regression", "log1p", 173,
    )  # fmt: skip
    np.testing.assert_allclose(np.sort(y_of(task)[:, 0]), np.log1p(potential), rtol=1e-6)
    bad = write("bad.csv", ("sequence", "potential"), *zip(library(3), (1, -0.5, 2), strict=True))
    with pytest.raises(CislensError, match=r"bad.csv line 3: a label is negative"):
        make("table", file=str(bad), label="potential", transform="log1p")


def test_classes_make_binary_and_multiclass_tasks(
    make: Make, write: Write, library: Library
) -> None:
    words = ["no", "weak", "strong"]
    rows = [(text, words[number % 3]) for number, text in enumerate(library(90))]
    table = str(write("t.csv", ("sequence", "label"), *rows))
    task = make("table", file=table, classes={"no": 0, "weak": 1, "strong": 2})
    assert (task.card.kind, task.card.target.classes) == ("multiclass", words)
    joined = make("table", file=table, classes={"no": 0, "weak": 1, "strong": 1})
    assert joined.card.kind == "binary"
    assert y_of(joined).mean() == pytest.approx(2 / 3)
    with pytest.raises(CislensError, match=r"t.csv line 4: label 'strong' is not among"):
        make("table", file=table, classes={"no": 0, "weak": 1})


def test_whole_numbers_are_not_guessed_to_be_classes(
    make: Make, write: Write, library: Library
) -> None:
    rows = [(text, number % 4) for number, text in enumerate(library(80))]
    table = str(write("t.csv", ("sequence", "label"), *rows))
    with pytest.raises(CislensError, match="multiclass or a regression target"):
        make("table", file=table)
    assert make("table", file=table, target="multiclass").card.target.classes == list("0123")
    assert make("table", file=table, target="regression").card.kind == "regression"


def test_missing_labels_are_refused_dropped_or_masked(
    make: Make, write: Write, library: Library
) -> None:
    rows = [
        (text, "NA" if number == 5 else number / 7, number / 3)
        for number, text in enumerate(library(80))
    ]
    table = str(write("t.tsv", ("sequence", "a", "b"), *rows))
    with pytest.raises(CislensError, match=r"t.tsv line 7: a has no label \(1 such rows\)"):
        make("table", file=table, label="a")
    dropped = make("table", file=table, label="a", missing="drop")
    assert len(dropped.examples) == 79
    assert dropped.card.report["examples without a label"] == 1
    masked = make("table", file=table, label=["a", "b"], missing="mask")
    assert masked.card.target.masked
    assert np.isnan(y_of(masked)).sum(axis=0).tolist() == [1, 0]
    with pytest.raises(CislensError, match="for several outputs"):
        make("table", file=table, label="a", missing="mask")


def test_bad_rows_are_named(make: Make, write: Write, library: Library, measured: Path) -> None:
    one, two, three = library(3)
    twice = write("twice.csv", ("id", "sequence", "y"), ("a", one, 0.1), ("b", two, 1.5),
                  ("a", three, 2.2))  # fmt: skip
    with pytest.raises(CislensError, match=r"twice.csv line 4: the id 'a' occurs more than once"):
        make("table", file=str(twice), id="id")
    letter = write("letter.csv", ("sequence", "y"), (one, 0.1), (two[:-1] + "5", 1.5))
    with pytest.raises(CislensError, match=r"letter.csv line 3: sequence holds '5'"):
        make("table", file=str(letter))
    text = write("text.csv", ("sequence", "y"), (one, 0.1), (two, "high"))
    with pytest.raises(CislensError, match=r"text.csv line 3: y is 'high', expected a number"):
        make("table", file=str(text))
    with pytest.raises(CislensError, match=r"no column 'sequense'. Did you mean 'seq'"):
        make("table", file=str(measured), sequence="sequense")


def test_a_class_absent_from_a_part_is_refused(make: Make, write: Write, library: Library) -> None:
    rows = [
        (text, int(number < 20), "test" if number >= 40 else "train")
        for number, text in enumerate(library(60))
    ]
    table = str(write("t.csv", ("sequence", "label", "set"), *rows))
    split = {"by": "column", "column": "set", "test": ["test"]}
    with pytest.raises(
        CislensError, match="the test split has 20 examples and 'label' is the same"
    ):
        make("table", file=table, split=split)


def test_another_file_than_the_recipe_knows_is_refused(make: Make, measured: Path) -> None:
    digest = hashlib.sha256(measured.read_bytes()).hexdigest()
    make("table", file=str(measured), sha256={"measured.tsv": digest})
    with pytest.raises(CislensError, match=rf"sha256 is {digest}, expected 00"):
        make("table", file=str(measured), sha256={"measured.tsv": "00"})
    with pytest.raises(CislensError, match=r"'mesured.tsv', which is not read. Did you mean"):
        make("table", file=str(measured), sha256={"mesured.tsv": digest})


@pytest.mark.parametrize("base", [0, 1])
def test_the_length_tells_from_where_coordinates_count(
    make: Make, write: Write, library: Library, base: int
) -> None:
    rows = [
        (text, number / 7, "chr1", 1000 * number + base, 1000 * number + 60)
        for number, text in enumerate(library(80))
    ]
    header = ("sequence", "y", "chrom", "start", "end")
    task = make("table", file=str(write("t.csv", header, *rows)))
    assert task.card.report["coordinates"] == f"{base}-based"
    assert (task.examples["end"] - task.examples["start"] == 60).all()
    rows[3] = (*rows[3][:4], rows[3][4] + 1)
    with pytest.raises(CislensError, match=r"t.csv line 5: 3\d\d\d-3061 has"):
        make("table", file=str(write("t.csv", header, *rows)))


def test_planted_copies_are_dropped_and_their_clean_twin_is_not(
    make: Make, write: Write, library: Library
) -> None:
    train, test = library(60, 80), library(30, 80, seed=1)
    rng = np.random.default_rng(0)
    planted = list(test)
    planted[0] = train[7]
    planted[1] = decode(reverse_complement(encode(train[9])))
    changed = encode(train[11]).copy()
    changed[rng.choice(80, 8, replace=False)] = rng.integers(0, 4, 8)
    planted[2] = decode(changed)

    def build(held_out: list[str]) -> Any:
        files = {
            name: str(write(f"{name}.csv", ("sequence", "y"), *[
                (text, number / 7) for number, text in enumerate(texts)
            ]))
            for name, texts in (("train", train), ("test", held_out))
        }  # fmt: skip
        return make("table", **files)

    dropped = "test examples with a homolog in train or valid"
    assert build(test).card.report[dropped] == 0
    leaky = build(planted)
    assert leaky.card.report[dropped] == 3
    assert not {"test0000000", "test0000001", "test0000002"} & set(leaky.examples["example_id"])


def test_a_window_cuts_to_the_middle_or_drops(make: Make, write: Write, library: Library) -> None:
    texts = [*library(60, 60), *library(20, 40, seed=1)]
    rows = [(text, number / 7) for number, text in enumerate(texts)]
    table = str(write("t.csv", ("sequence", "y"), *rows))
    assert make("table", file=table).card.window is None
    cut = make("table", file=table, window=50, longer="crop")
    assert cut.card.report["examples shorter than 50 bp"] == 20
    assert {text[5:55] for text in texts[:60]} == set(cut.examples["sequence"])
    exact = make("table", file=table, window=60)
    assert (len(exact.examples), exact.card.window) == (60, 60)


def test_both_orientations_and_tiles_of_an_element_stay_together(
    make: Make, write: Write, library: Library
) -> None:
    rows = [
        (f"e{number // 3}_{'FRT'[number % 3]}", text, number / 7)
        for number, text in enumerate(library(120))
    ]
    table = str(write("t.tsv", ("seq_id", "seq", "mean_value"), *rows))
    task = make("mpra", file=table, id="seq_id", element="^(e[0-9]+)_")
    parts = task.examples.group_by("block_id").agg(pl.col("split").n_unique(), pl.len())
    assert len(parts) == 40
    assert (parts["split"] == 1).all() and (parts["len"] == 3).all()
    files = {
        name: str(write(f"{name}.tsv", ("seq_id", "seq", "mean_value"), *rows[at::3]))
        for at, name in enumerate(("train", "valid", "test"))
    }
    header = ("seq_id", "seq", "mean_value")
    for name, planted, seed in (("test", rows[2::3], 1), ("valid", rows[1:7:3], 2)):
        others = [(f"{name[0]}{n}_F", text, n) for n, text in enumerate(library(9, seed=seed))]
        files[name] = str(write(f"{name}.tsv", header, *planted, *others))
    leaky = make("mpra", **files, id="seq_id", element="^([a-z][0-9]+)_")
    assert leaky.card.report["examples whose block is in an earlier split"] == 42
    with pytest.raises(CislensError, match=r"train.tsv line 2: seq_id is 'e0_F', in which"):
        make("mpra", **files, id="seq_id", element="^(y[0-9]+)_")


def test_adapters_that_all_sequences_share_join_nothing(
    make: Make, write: Write, library: Library
) -> None:
    adapter = library(1, 40, seed=3)[0]
    rows = [(adapter + text + adapter, n / 7) for n, text in enumerate(library(80))]
    task = make("mpra", file=str(write("t.csv", ("sequence", "y"), *rows)))
    assert task.card.report["bases that all sequences begin with"] == 40
    assert task.card.report["bases that all sequences end with"] == 40
    assert task.examples["cluster_id"].n_unique() == 80
    assert (task.examples["sequence"].str.len_bytes() == 140).all()


def test_errors_and_replicates_become_weights(make: Make, write: Write, library: Library) -> None:
    rows = [
        (text, n / 7, n / 7 + 0.2, n / 7 + 0.4 * (1 + n % 2), 0.1 * (1 + n % 2))
        for n, text in enumerate(library(80))
    ]
    table = str(write("t.csv", ("sequence", "r1", "r2", "r3", "se"), *rows))
    weighted = make("mpra", file=table, label="r1", error="se").examples
    weight = weighted["weight"].to_numpy()
    precise = np.round(weighted["y"].list.first().to_numpy() * 7) % 2 == 0
    assert weight.mean() == pytest.approx(1)
    assert weight[precise].mean() / weight[~precise].mean() == pytest.approx(4)
    means = make("mpra", file=table, replicates=["r1", "r2", "r3"])
    assert means.card.report["activity"] == "mean of r1, r2, r3"
    row = means.examples.row(0, named=True)
    values = np.array(rows[row["source_row"] - 2][1:4])
    assert row["y"][0] == pytest.approx(values.mean(), rel=1e-6)
    all_errors = np.array([np.std(r[1:4], ddof=1) / np.sqrt(3) for r in rows])
    expected = all_errors**-2.0 / (all_errors**-2.0).mean()
    assert row["weight"] == pytest.approx(expected[row["source_row"] - 2], rel=1e-5)


def test_a_missing_or_negative_weight_is_named(make: Make, write: Write, library: Library) -> None:
    def table(odd: str) -> Path:
        rows = [(text, n % 2, odd if n == 4 else 1 + n % 3) for n, text in enumerate(library(80))]
        return write("weighed.tsv", ("seq", "label", "w"), *rows)

    weight = make("table", file=str(table("2")), weight="w").fold("train").weights
    assert set(weight) == {1, 2, 3}
    for odd in ("", "-1", "inf"):
        with pytest.raises(
            CislensError, match=r"weighed.tsv line 6: w is .*expected a weight of 0"
        ):
            make("table", file=str(table(odd)), weight="w")
