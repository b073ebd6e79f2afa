from dataclasses import replace
from io import StringIO

import polars as pl
from rich.console import Console

from cislens.report.inputs import ReportInput
from cislens.report.terminal import verdict_table


def printed(run: ReportInput, width: int = 80) -> str:
    console = Console(width=width, file=StringIO(), force_terminal=False)
    console.print(verdict_table(run))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_table_fits_80_columns_and_holds_the_numbers(run: ReportInput) -> None:
    text = printed(run)
    assert max(len(line) for line in text.splitlines()) <= 80
    for row in run.verdicts.filter(pl.col("verdict") != "").iter_rows(named=True):
        assert f"{row['difference']:+.3f}" in text
        assert f"[{row['diff_low']:+.3f}, {row['diff_high']:+.3f}]" in text
        assert f"[{row['low']:.3f}, {row['high']:.3f}]" in text
        assert f"{row['mde']:.3f}" in text
    assert "no detectable gain" in text
    assert "not pretraining" in text


def test_long_names_are_folded_not_cut(run: ReportInput) -> None:
    name = "a_task_with_a_name_far_longer_than_any_column_of_a_terminal_could_be"
    text = printed(replace(run, verdicts=run.verdicts.with_columns(task=pl.lit(name))))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "[+0.021, +0.043]" in text


def test_names_are_no_markup(run: ReportInput) -> None:
    text = printed(replace(run, verdicts=run.verdicts.with_columns(task=pl.lit("[red]x[/red]"))))
    assert "[red]x[/red]" in text


def test_everything_is_ascii(run: ReportInput) -> None:
    assert printed(run).isascii()


def test_no_comparison_is_said(run: ReportInput) -> None:
    assert "nothing is claimed" in printed(replace(run, verdicts=run.verdicts.clear()))
