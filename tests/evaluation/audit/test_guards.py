"""Every planted fault fires its check and no other; the clean twin is silent."""

from dataclasses import replace

import numpy as np
import pytest
from audit_plants import clean, copied, mutated, other_strand, placed, same, verdicts

from cislens.evaluation.audit.report import AuditReport
from cislens.evaluation.audit.run import audit
from cislens.evaluation.audit.similarity import leaking_rows
from cislens.genome.shuffling import dinucleotide_shuffle
from cislens.randomness import generator

SHARE, WITHIN = 0.20, 0.02


def judged(table) -> AuditReport:
    return audit(table, composition=False)


def with_gc(share):
    weights = [(1 - share) / 2, share / 2, share / 2, (1 - share) / 2]
    return lambda rng, n: rng.choice(4, (n, 200), p=weights).astype(np.uint8)


def test_the_clean_table_is_silent():
    report = judged(clean(0))
    assert verdicts(report) == {}
    assert report.exit_code == 0
    assert report.check("GC only").value == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_gc_shift_of_five_percent_fires_the_gc_check_alone(seed):
    report = judged(clean(seed, positives=with_gc(0.55)))
    assert verdicts(report) == {"GC only": "fail"}
    # Two normals of sd sqrt(.25/200) a distance of .05 apart: accuracy Phi(.05 / (2 sd)) = .76.
    assert report.check("GC only").value == pytest.approx(0.76, abs=0.05)
    assert verdicts(judged(clean(seed, positives=with_gc(0.50)))) == {}


def test_ten_more_base_pairs_fire_the_length_check_alone():
    longer = clean(3, positives=lambda rng, n: rng.integers(0, 4, (n, 210), np.uint8))
    report = judged(longer)
    assert verdicts(report) == {"length only": "fail"}
    assert report.check("length only").value == 1.0
    assert report.check("length only").detail["best predictor"] == "table of exact lengths"


def test_the_strand_fires_the_strand_check_alone():
    table = clean(4)
    rng = generator(4, "strand")
    told = np.where(rng.random(len(table)) < 0.9, table.y_NT[:, 0], 1 - table.y_NT[:, 0])
    strand = np.where(told > 0, "+", "-")
    report = judged(replace(table, strand=strand))
    assert verdicts(report) == {"strand only": "fail"}
    assert report.check("strand only").value == pytest.approx(0.9, abs=0.04)
    assert verdicts(judged(replace(table, strand=rng.permutation(strand)))) == {}


def test_lower_case_fires_the_case_check_alone():
    table = clean(5)
    rng = generator(5, "case")
    soft = np.clip(rng.normal(0.3, 0.1, len(table)) + 0.15 * table.y_NT[:, 0], 0, 1)
    report = judged(replace(table, soft=soft))
    assert verdicts(report) == {"N and case only": "fail"}
    assert verdicts(judged(replace(table, soft=rng.permutation(soft)))) == {}


def test_n_fires_the_same_check():
    table = clean(6)
    sequences = [codes.copy() for codes in table.sequences]
    for row in np.flatnonzero(table.y_NT[:, 0]).tolist():
        sequences[row][: 1 + row % 5] = 4
    report = judged(replace(table, sequences=tuple(sequences)))
    assert report.check("N and case only").verdict == "fail"


@pytest.mark.parametrize(
    ("change", "fires", "recall"),
    [
        (same, {"exact duplicates": "fail", "homology": "fail"}, 1.0),
        (other_strand, {"reverse-complement duplicates": "fail", "homology": "fail"}, 1.0),
        (mutated(0.90), {"homology": "fail"}, 0.99),
        (mutated(0.80), {"homology": "fail"}, 0.90),
    ],
    ids=["copies", "reverse complements", "identity .90", "identity .80"],
)
def test_leaks_fire_with_the_planted_fraction(change, fires, recall):
    table, rows = copied(clean(7), SHARE, change, 8)
    report = judged(table)
    assert verdicts(report) == fires
    for name in fires:
        assert report.check(name).value == pytest.approx(SHARE, abs=WITHIN)
    near = leaking_rows(table, 0)
    assert near[rows].mean() >= recall
    assert near.sum() - near[rows].sum() <= 1


def test_the_identity_of_the_nearest_neighbor_is_told():
    table, _ = copied(clean(9), SHARE, mutated(0.85), 10)
    detail = judged(table).check("homology").detail
    assert detail["identity 0.8 to 0.9"] >= 0.9 * SHARE * 500


def test_leaks_of_one_class_are_told_by_class():
    table, rows = copied(clean(11), SHARE, same, 12)
    of_class = {
        name: np.isin(table.of("test")[table.y_NT[table.of("test"), 0] == number], rows).mean()
        for number, name in enumerate(table.classes)
    }
    assert judged(table).check("exact duplicates").classes == pytest.approx(of_class)


def test_overlap_fires_with_the_planted_fraction():
    report = judged(placed(13, SHARE))
    assert verdicts(report) == {"interval overlap": "fail"}
    overlap = report.check("interval overlap")
    assert overlap.value == pytest.approx(SHARE, abs=1e-9)
    assert overlap.detail["at least half of the shorter interval"] == pytest.approx(SHARE)
    assert verdicts(judged(placed(13))) == {}


def test_a_label_told_by_the_overlapped_row_fires_the_look_up():
    report = judged(placed(13, 0.6))
    assert verdicts(report) == {"interval overlap": "fail", "coordinate look-up": "fail"}
    # Three fifths are told by their neighbor, the rest is guessed.
    assert report.check("coordinate look-up").value == pytest.approx(0.8, abs=0.05)


def test_shared_chromosomes_warn_unless_the_split_means_to():
    table = placed(14)
    assert judged(table).check("chromosome sharing").verdict == "pass"
    unknown = judged(replace(table, design="unknown")).check("chromosome sharing")
    assert (unknown.verdict, unknown.value) == ("warn", 1.0)
    declared = judged(replace(table, design="chromosome")).check("chromosome sharing")
    assert declared.verdict == "fail"


def test_conflicting_labels_fire():
    table = clean(15)
    sequences = list(table.sequences)
    rows = np.flatnonzero((table.split == "train") & (table.y_NT[:, 0] == 0))[:20]
    partners = np.flatnonzero((table.split == "train") & (table.y_NT[:, 0] == 1))[:20]
    for row, partner in zip(rows.tolist(), partners.tolist(), strict=True):
        sequences[row] = other_strand(sequences[partner], None)
    table = replace(table, sequences=tuple(sequences))
    conflict = judged(table).check("conflicting labels")
    assert conflict.detail["rows"] == 40
    assert conflict.verdict == "fail"
    # On a strand of its own each is another example.
    assert judged(replace(table, stranded=True)).check("conflicting labels").verdict == "pass"


def test_a_test_part_used_as_valid_fails():
    table = clean(16)
    rows = np.concatenate([np.arange(len(table)), table.of("test")])
    twice = replace(
        table.take(rows), split=np.array(["train"] * 1200 + ["valid"] * 500 + ["test"] * 500)
    )
    report = judged(twice)
    assert report.check("exact duplicates").verdict == "fail"
    assert report.check("exact duplicates").value == 1.0


def test_values_have_their_own_measures():
    table = clean(17, positives=with_gc(0.6))
    gc = np.array([np.isin(codes, (1, 2)).mean() for codes in table.sequences])
    y = gc + generator(17).normal(0, 0.02, len(gc))
    report = judged(replace(table, y_NT=y[:, None], classes=()))
    assert verdicts(report) == {"GC only": "fail"}
    assert report.check("GC only").value > 0.9


def test_a_table_without_labels_is_audited_for_leaks_alone():
    table, _ = copied(clean(18), SHARE, same, 19)
    report = judged(replace(table, y_NT=np.zeros((len(table), 1)), classes=("all rows",)))
    assert verdicts(report) == {"exact duplicates": "fail", "homology": "fail"}
    assert report.check("GC only").verdict == "skipped"


def test_a_table_without_a_split_is_audited_for_shortcuts_alone():
    table = clean(20, positives=with_gc(0.55))
    report = judged(replace(table, split=np.full(len(table), "")))
    assert verdicts(report) == {"GC only": "fail"}
    assert report.check("homology").why == "there is no split"


def test_composition_is_reported_and_not_judged():
    report = audit(clean(21, positives=with_gc(0.6)))
    kmers = report.check("k-mer composition")
    assert kmers.verdict == "pass"
    assert kmers.value > 0.85
    assert (kmers.warn, kmers.fail) == (None, None)
    assert report.check("one-hot linear").value > 0.8


@pytest.mark.slow
def test_ten_thousand_shuffled_sequences_have_almost_no_neighbors():
    rng = generator(22)
    skewed = rng.choice(4, (10_000, 200), p=[0.35, 0.15, 0.15, 0.35]).astype(np.uint8)
    sequences = tuple(dinucleotide_shuffle(skewed, rng))
    table = replace(clean(22, train=7000, test=3000), sequences=sequences)
    assert leaking_rows(table, 0).sum() <= 3
