from dataclasses import replace

import polars as pl

from cislens.report.evidence import sections
from cislens.report.inputs import ReportInput
from cislens.report.page import render


def _section(run: ReportInput, key: str):  # type: ignore[no-untyped-def]
    return next(section for section in sections(run) if section.key == key)


def test_every_section_stands_where_its_table_is_given_and_says_what_is_absent(
    run: ReportInput,
) -> None:
    assert not any(section.empty for section in sections(run))
    bare = replace(
        run, ranks=None, maps=(), efficiency=None, label_areas=None, layers=None, calibration=None,
        costs=None, audits=(),
    )  # fmt: skip
    empty = [section.key for section in sections(bare) if section.empty]
    assert empty == ["ranks", "labels", "layers", "maps", "calibration", "cost", "leakage"]
    html = render(bare)
    for section in sections(bare):
        assert (section.absent in html) == section.empty


def test_controls_hold_the_arm_and_what_its_verdicts_name(run: ReportInput) -> None:
    [auroc, pearson, window] = _section(run, "controls").panels
    assert [panel.sub for panel in (auroc, pearson, window)] == [
        "AUROC, 3 tasks", "Pearson r, 1 task", "Pearson r, window, 1 task",
    ]  # fmt: skip
    said = auroc.picture.alt
    assert "Yeast promoters, space-plus-tiny: 0.874" in said
    assert "GC content" not in said  # no verdict names it


def test_ranks_of_one_task_are_not_drawn(run: ReportInput) -> None:
    assert run.ranks is not None
    single = replace(run, ranks=run.ranks.with_columns(tasks=pl.lit(1)))
    assert _section(single, "ranks").empty
    alt = _section(run, "ranks").panels[0].picture.alt
    assert "space-plus-tiny: mean rank 1.6 [1.0, 2.3], best in 62 % of draws" in alt


def test_the_curve_of_labels_says_where_it_begins_and_ends(run: ReportInput) -> None:
    panel = _section(run, "labels").panels[0]
    assert panel.title == "Yeast promoters"
    assert "with 30," in panel.picture.alt and "with 4,096" in panel.picture.alt
    [table] = _section(run, "labels").tables
    assert [row[-1] for row in table.rows] == ["812", "more than there are"]


def test_the_chosen_layer_is_named(run: ReportInput) -> None:
    [panel] = _section(run, "layers").panels
    assert "chosen: out, mean, 0.840" in panel.picture.alt


def test_a_passed_audit_is_one_row_and_a_finding_one_each(run: ReportInput) -> None:
    [table] = _section(run, "leakage").tables
    assert [row[2:4] for row in table.rows] == [("gc-only", "warn"), ("1 check", "pass")]
