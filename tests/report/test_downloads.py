import csv
import io
from urllib.parse import unquote

import polars as pl
import pytest

from cislens.report.downloads import data_url, file_name, frame_csv, plain_cell, rows_csv


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(A1)", "\t=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert plain_cell(text) == f"'{text}"


def test_numbers_stay_numbers_with_the_sign_of_ascii() -> None:
    assert plain_cell("\u22120.147 [\u22120.276, \u22120.075]") == "-0.147 [-0.276, -0.075]"
    assert plain_cell("+0.5") == "+0.5"


def test_what_is_absent_is_empty_and_lists_are_words() -> None:
    frame = pl.DataFrame({"=x": [1.5, float("nan")], "l": [[0, 1], None], "t": ['a,"b', "-"]})
    rows = list(csv.reader(io.StringIO(frame_csv(frame))))
    assert rows == [["'=x", "l", "t"], ["1.5", "0 1", 'a,"b'], ["", "", "-"]]


def test_a_link_holds_the_whole_text() -> None:
    text = rows_csv(["a<b>", "c"], [['"&#', "\u00e9\n"]])
    url = data_url(text)
    assert url.startswith("data:text/csv;charset=utf-8,")
    assert not set(url) & set('<>"#&\n')
    assert unquote(url.partition(",")[2]) == text


def test_file_names_hold_no_path() -> None:
    assert file_name("../../etc/<passwd>") == "etc-passwd"
    assert file_name("\u2014") == "data"
