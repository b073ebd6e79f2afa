from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from audit_plants import clean, copied, mutated, other_strand, placed, same

from cislens.errors import CislensError
from cislens.evaluation.audit.assemble import Reading, open_table, table_of_task
from cislens.evaluation.audit.fix import fix, fixed_task, write_table, write_task
from cislens.evaluation.audit.run import audit, audit_task
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.task import Task, make_task
from cislens.genome.codes import decode
from cislens.randomness import generator

LEAKS = ("exact duplicates", "reverse-complement duplicates", "homology", "interval overlap")


def leaks(report):
    return {c.name: c.value for c in report.checks if c.name in LEAKS and c.value}


@pytest.mark.parametrize("change", [same, other_strand, mutated(0.85), mutated(0.75)])
def test_after_a_fix_no_edge_crosses_the_parts(change):
    table, _ = copied(clean(30, train=700, test=300), 0.2, change, 31)
    assert leaks(audit(table, composition=False))
    fixed = fix(table)
    after = audit(fixed.table, composition=False)
    assert leaks(after) == {}
    assert after.exit_code == 0
    assert (fixed.table.split == "test").mean() == pytest.approx(0.3, abs=0.02)
    assert len(fixed.rows) + len(fixed.dropped) == 1000


def test_overlapping_intervals_go_to_one_part():
    fixed = fix(placed(32, 0.3, train=700, test=300))
    assert len(fixed.dropped) == 0
    assert leaks(audit(fixed.table)) == {}


def test_blocks_that_stay_whole_go_to_one_part():
    table = clean(40, train=280, test=120)
    genes = np.array([f"gene{row}" for row in generator(40).integers(0, 100, 400)])

    def genes_of(fixed, part):
        return set(fixed.table.block[fixed.table.of(part)].tolist())

    whole = fix(replace(table, block=genes, whole_blocks=True))
    assert not genes_of(whole, "train") & genes_of(whole, "test")
    apart = fix(replace(table, block=genes))
    assert genes_of(apart, "train") & genes_of(apart, "test")


def test_copies_and_contradictions_are_dropped_with_their_reason():
    table, rows = copied(clean(33, train=100, test=50), 0.2, same, 34)
    y = table.y_NT.copy()
    y[rows[:3]] = 1 - y[rows[:3]]
    fixed = fix(replace(table, y_NT=y))
    counted = dict(fixed.dropped["reason"].value_counts().iter_rows())
    assert counted == {"its sequence is there with another label": 6, "copy of an earlier row": 7}
    assert set(rows[3:].tolist()) < set(fixed.dropped["row"].to_list())


def test_a_giant_component_goes_whole_to_train_and_is_reported():
    rng = generator(35)
    # A chain: every row shares half of its bases with the next.
    strand = rng.integers(0, 4, 100 * 101, np.uint8)
    table = clean(35, train=400, test=200)
    sequences = list(table.sequences)
    chain = rng.permutation(600)[:100]
    for place, row in enumerate(chain.tolist()):
        sequences[row] = strand[100 * place : 100 * place + 200]
    fixed = fix(replace(table, sequences=tuple(sequences)))
    kept = np.isin(fixed.rows, chain)
    assert len(np.unique(fixed.cluster[kept])) == 1
    assert set(fixed.table.split[kept].tolist()) == {"train"}
    assert kept.sum() == 100
    assert fixed.notes[0].startswith("a component of 100 rows (16.7%)")
    assert fix(table).notes == ()


def test_rows_that_are_all_alike_cannot_be_split():
    rng = generator(36)
    first = rng.integers(0, 4, 200, np.uint8)
    change = mutated(0.9)
    table = clean(36, train=40, test=20)
    family = replace(table, sequences=tuple(change(first, rng) for _ in range(60)))
    with pytest.raises(CislensError, match="no row is left for test; the largest component joins"):
        fix(family)


def test_the_written_table_keeps_its_columns_and_lists_what_was_dropped(tmp_path):
    table, _ = copied(clean(37, train=200, test=100), 0.1, same, 38)
    frame = pl.DataFrame(
        {
            "dna": [decode(codes) for codes in table.sequences],
            "score": table.y_NT[:, 0] / 2,
            "set": table.split.tolist(),
            "note": [f"row {row}" for row in range(300)],
        }
    )
    frame.write_parquet(tmp_path / "in.parquet")
    frame.write_csv(tmp_path / "in.csv")
    for name, again in (("in.parquet", "out.parquet"), ("in.csv", "out.tsv")):
        fixed = fix(open_table(tmp_path / name, Reading(label="score", labels="classes")))
        listed = write_table(fixed, tmp_path / again)
        read = pl.read_parquet if again.endswith("parquet") else pl.read_csv
        options = {} if again.endswith("parquet") else {"separator": "\t"}
        out = read(tmp_path / again, **options)
        assert out.schema == frame.schema
        assert len(out) == 290
        assert out.drop("set").equals(frame.drop("set")[fixed.rows])
        dropped = pl.read_csv(listed, separator="\t")
        assert dropped["reason"].unique().to_list() == ["copy of an earlier row"]
        line = int(dropped["source"][0].rsplit(" ", 1)[1])
        assert line == dropped["row"][0] + (1 if name.endswith("parquet") else 2)
    again = open_table(tmp_path / "out.tsv", Reading(label="score", labels="classes"))
    assert leaks(audit(again, composition=False)) == {}
    with pytest.raises(CislensError, match="end the name in"):
        write_table(fixed, tmp_path / "out.xlsx")


def leaky_task(seed):
    table, _ = copied(clean(seed, train=300, test=100), 0.3, mutated(0.85), seed)
    rng = generator(seed, "task")
    split = table.split.astype(object)
    split[rng.permutation(table.of("train"))[:60]] = "valid"
    n = len(table)
    rows = pl.DataFrame(
        {
            "example_id": [f"e{row:04d}" for row in range(n)],
            "y": table.y_NT.tolist(),
            "split": split.tolist(),
            "cluster_id": [f"c{row}" for row in range(n)],
            "block_id": [f"b{row}" for row in range(n)],
        }
    )
    card = TaskCard(
        name="leaky", kind="binary", window=None, target=Target(names=["site"]),
        metric=Metric(primary="auroc"), split="predefined", block="row",
    )  # fmt: skip
    return make_task(card, rows, list(table.sequences))


def test_a_fixed_task_is_a_revision_that_passes(tmp_path):
    task = leaky_task(39)
    before = audit_task(task)
    assert before.check("homology").value == pytest.approx(0.3, abs=0.03)
    assert before.leakage == "fail"
    assert before.summary["leakage"] == "fail"
    assert before.summary["homology"] == pytest.approx(0.3, abs=0.03)
    fixed = fix(table_of_task(task))
    write_task(task, fixed, tmp_path / "fixed")
    again = Task.load(tmp_path / "fixed")
    assert again.card.revision == "1+resplit"
    assert again.card.split == "homology"
    assert again.task_hash == fixed_task(task, fixed).task_hash != task.task_hash
    assert (tmp_path / "fixed" / "dropped.tsv").exists()
    after = audit_task(again)
    assert leaks(after) == {}
    assert after.leakage == "pass"
    TaskCard.model_validate({**again.card.model_dump(), "audit": after.summary})
