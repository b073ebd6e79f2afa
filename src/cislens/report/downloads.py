"""Tables that a page hands out: CSV in the link itself, so that it needs neither net nor script."""

import csv
import io
import math
import re
from collections.abc import Iterable
from urllib.parse import quote

import polars as pl

# A cell of text that begins so is a formula to a spreadsheet, unless it is a plain number.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMERIC = re.compile(r"[-+0-9.,eE%\[\] ]*")
_UNSAFE = re.compile(r"[^\w.+-]+")


def frame_csv(frame: pl.DataFrame) -> str:
    """The frame as CSV with a header; see `rows_csv`."""
    return rows_csv(frame.columns, frame.iter_rows())


def rows_csv(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A header and rows as CSV: what is absent is empty, lists are words, no cell a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in (columns, *rows):
        writer.writerow([_cell(value) for value in row])
    return buffer.getvalue()


def plain_cell(text: str) -> str:
    """The text as no spreadsheet takes it for a formula; numbers get the sign of ASCII."""
    ascii_signs = text.replace("\u2212", "-")
    if _NUMERIC.fullmatch(ascii_signs):
        return ascii_signs
    return f"'{text}" if _FORMULA.match(text) else text


def data_url(text: str, kind: str = "text/csv") -> str:
    """The text as the address of a link."""
    return f"data:{kind};charset=utf-8,{quote(text, safe=' ,:;/()[]')}"


def file_name(text: object) -> str:
    """A name of letters, digits and . _ + - that says what the text says."""
    return _UNSAFE.sub("-", str(text)).strip("-.")[:80].lower() or "data"


def _cell(value: object) -> object:
    if isinstance(value, str):
        return plain_cell(value)
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else value
