"""The page of an audit says every verdict and number, and needs nothing but itself."""

import re
from html.parser import HTMLParser

import pytest

from cislens.evaluation.audit.report import AuditReport, Check
from cislens.report.audit import check_table, headline, render_audit, write_audit

CHECKS = (
    Check("exact duplicates", "leakage", "rows seen before", 0.1234, 0.1, 0.15, warn=0.0,
          fail=0.01, verdict="fail", classes={"pos": 0.2, "neg": 0.05}, detail={"rows": 1234}),
    Check("chromosome sharing", "leakage", "chromosomes", 1.0, warn=0.0, verdict="warn",
          why="say how"),
    Check("length only", "shortcut", "accuracy", 0.5, 0.48, 0.52, 0.5, 0.05, 0.15),
    Check("strand only", "shortcut", "accuracy", verdict="skipped", why="there is no <strand>"),
)  # fmt: skip


def report(*checks: Check) -> AuditReport:
    counts = {"train": {"rows": 70, "pos": 35, "neg": 35}, "test": {"rows": 30, "pos": 15}}
    return AuditReport(
        "set & <b>", "classes", ("neg", "pos"), "unknown", counts, checks, ("read so",), 7
    )


class Reader(HTMLParser):
    """Texts, ids and everything that a browser would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.ids, self.links, self.open = "", set[str](), list[str](), list[str]()
        self.feed(page)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found["id"]} if "id" in found else set()
        self.links += [found[name] for name in ("href", "src") if name in found]
        self.open.append(tag)

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += f" {data}"


def test_every_check_is_there_with_its_numbers():
    page = Reader(render_audit(report(*CHECKS)))
    for words in (
        "Audit of set & <b>", "The audit failed", "Failed: exact duplicates.",
        "Warned: chromosome sharing.", "0.123 [0.100, 0.150]", "fails above 0.01",
        "1,234", "0.0500", "interval warns above 0.55, fails above 0.65", "there is no <strand>",
        "read so", "say how",
    ):  # fmt: skip
        assert words in page.text, words
    assert {"leakage", "shortcut", "input", "headline"} <= page.ids
    assert "alleles" not in page.ids


def test_the_page_is_self_contained():
    html = render_audit(report(*CHECKS))
    page = Reader(html)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert not re.search(r"https?://|@import|url\(", html)
    assert page.open.count("script") == 1


def test_a_fixed_table_shows_what_was_before():
    fixed = Check("exact duplicates", "leakage", "rows seen before", 0.0, 0.0, 0.01)
    page = Reader(render_audit(report(fixed), report(*CHECKS)))
    assert "The audit passed" in page.text
    assert "0.123 [0.100, 0.150] (fail)" in page.text


@pytest.mark.parametrize(
    ("checks", "opening"),
    [(CHECKS, "The audit failed"), (CHECKS[1:], "The audit warns"),
     (CHECKS[2:], "The audit passed"), (CHECKS[3:], "Nothing could be checked")],
)  # fmt: skip
def test_the_headline_is_the_worst_verdict(checks, opening):
    assert headline(report(*checks))[0].startswith(opening)


def test_the_terminal_has_the_same_rows_in_ascii(tmp_path):
    from rich.console import Console

    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    console.print(check_table(report(*CHECKS)))
    text = console.export_text()
    assert text.isascii()
    assert re.search(r"exact duplicates +fail +0.123 \[0.100, 0.150\]", text)
    assert re.search(r"strand only +skipped +- +- +there is no <strand>", text)


def test_writing_is_the_same_bytes_again(tmp_path):
    first = write_audit(report(*CHECKS), tmp_path / "a.html").read_bytes()
    assert write_audit(report(*CHECKS), tmp_path / "b.html").read_bytes() == first
