import math
from dataclasses import replace

import polars as pl
import pytest

from cislens.report.inputs import ReportInput
from cislens.report.words import (
    headline,
    interval,
    main_comparisons,
    number,
    other_comparisons,
    outcome,
    p_value,
    read_verdict,
)


@pytest.mark.parametrize(
    ("text", "expected", "suffixes"),
    [
        ("gain over one-hot (diff +0.031, 95% CI [+0.020, +0.042])", "gain", ()),
        ("gain over one-hot (diff +0.031); not pretraining", "gain", ("not pretraining",)),
        ("loss against one-hot (diff -0.031)", "loss", ()),
        ("equivalent to one-hot within 0.01 (diff +0.001)", "equivalent", ()),
        ("no detectable gain over one-hot (diff +0.01, MDE 0.02)", "none", ()),
        (
            "no detectable gain over one-hot; composition-explained; not pretraining",
            "none",
            ("composition-explained", "not pretraining"),
        ),
        ("something else", "none", ()),
    ],
)
def test_a_verdict_text_is_taken_apart(text: str, expected: str, suffixes: tuple[str, ...]) -> None:
    verdict = read_verdict(text)
    assert (verdict.outcome, verdict.suffixes) == (expected, suffixes)


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.01, 0.03, 0.01, "gain"),
        (-0.03, -0.01, 0.01, "loss"),
        (0.01, 0.03, 0.06, "none"),
        (-0.01, 0.03, 0.01, "none"),
        (0.01, 0.03, None, "none"),
    ],
)
def test_a_comparison_without_text_needs_both_p_and_interval(
    low: float, high: float, p: float | None, expected: str
) -> None:
    row = {"verdict": "", "diff_low": low, "diff_high": high, "p_holm": p}
    assert outcome(row).outcome == expected


def test_numbers_have_fixed_digits_and_a_true_minus() -> None:
    assert number(0.12345) == "0.123"
    assert number(-0.5, signed=True) == "\u22120.500"
    assert number(-0.0001) == "0.000"
    assert number(-0.0001, signed=True) == "\u22120.000"
    assert number(math.nan) == number(None) == "\u2013"


def test_a_number_without_its_interval_is_not_printed() -> None:
    assert interval(0.5, 0.4, 0.6) == "0.500 [0.400, 0.600]"
    assert interval(0.5, None, 0.6) == interval(0.5, 0.4, math.nan) == "\u2013"


def test_p_is_never_zero() -> None:
    assert p_value(0.0) == "<0.001"
    assert p_value(0.05) == "0.050"


def test_headline_counts_the_verdicts(run: ReportInput) -> None:
    assert headline(run) == [
        "space-plus-tiny beats one-hot CNN on 1 of 4 tasks; it does worse on 1 and shows no "
        "detectable gain on 2.",
        "space-plus-tiny beats its untrained twin on 4 of 5 tasks; it shows no detectable gain "
        "on 1.",
        "Caution: no gain over the untrained twin is shown on Yeast peak accessibility.",
    ]


def test_headline_follows_the_verdicts(run: ReportInput) -> None:
    rows = run.verdicts.filter(pl.col("baseline") == "one-hot CNN")
    lost = replace(run, verdicts=rows.with_columns(verdict=pl.lit("loss against one-hot")))
    assert headline(lost) == [
        "space-plus-tiny beats one-hot CNN on none of 4 tasks; it does worse on 4."
    ]
    won = replace(run, verdicts=rows.with_columns(verdict=pl.lit("gain over one-hot")))
    assert headline(won) == ["space-plus-tiny beats one-hot CNN on all 4 tasks."]
    one = replace(run, verdicts=rows.head(1))
    assert headline(one) == ["space-plus-tiny beats one-hot CNN on Yeast promoters."]


def test_baselines_that_differ_by_task_get_their_common_name(run: ReportInput) -> None:
    rows = run.verdicts.filter(pl.col("baseline") == "one-hot CNN").with_row_index()
    names = pl.when(pl.col("index") == 0).then(pl.lit("one-hot logistic"))
    rows = rows.with_columns(baseline=names.otherwise("baseline")).drop("index")
    assert "beats the strongest one-hot baseline on" in headline(replace(run, verdicts=rows))[0]


def test_nothing_compared_is_nothing_claimed(run: ReportInput) -> None:
    empty = replace(run, verdicts=run.verdicts.clear())
    assert headline(empty) == ["This run holds no comparison, so nothing is claimed."]


def test_main_and_other_comparisons_are_all_of_them_once(run: ReportInput) -> None:
    main, others = main_comparisons(run), other_comparisons(run)
    assert main["baseline"].to_list() == ["one-hot CNN"] * 4 + ["space-plus-tiny, random weights"]
    assert len(main) + len(others) == len(run.verdicts)
    assert pl.concat([main, others]).n_unique() == len(run.verdicts)
