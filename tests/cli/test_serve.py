"""`cislens serve` and `cislens report --browser` on the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.report.browsing import attributed_folder, predicted_folder, yeast
from typer.testing import CliRunner

from cislens.cli.app import app
from cislens.errors import CislensError

GENOME = "example:yeast_mini/sacCer3_II_IV_XVI.fa.gz"


def call(*arguments: str) -> dict[str, object]:
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_browser_page_is_written_beside_the_results(tmp_path: Path) -> None:
    folders = [predicted_folder(tmp_path / "predicted"), attributed_folder(tmp_path / "attributed")]
    found = call("report", *map(str, folders), "--browser", "--genome", GENOME)
    assert found == {"browser": str(folders[0] / "browser.html")}
    page = (folders[0] / "browser.html").read_bytes()
    assert len(page) < 1_000_000
    call("report", *map(str, folders), "--browser", "--genome", GENOME)
    assert (folders[0] / "browser.html").read_bytes() == page


def test_a_mistake_leaves_no_page(tmp_path: Path) -> None:
    folder = predicted_folder(tmp_path / "predicted")
    (tmp_path / "empty").mkdir()
    shown = ["--browser", "--genome"]
    fly = "example:fly_mini/dm6_chr2L_4_7Mb.fa.gz"
    wrongs = (
        (folder, ["--browser"], "give --genome"),
        (folder, [*shown[1:], GENOME], "are of --browser"),
        (folder, [*shown, GENOME, "--at", "chrI:1-10"], "chrI"),
        (folder, [*shown, str(tmp_path / "no.fa")], "no.fa"),
        (folder, [*shown, fly], "made on another genome"),
        (tmp_path / "empty", ["--browser"], "empty holds no manifest of results, expected"),
        (tmp_path / "absent", ["--browser"], "absent"),
    )  # fmt: skip
    for place, wrong, said in wrongs:
        with pytest.raises(CislensError, match=re.escape(said)):
            CliRunner().invoke(app, ["report", str(place), *wrong], catch_exceptions=False)
    assert not list(tmp_path.rglob("*.html"))


def test_a_dry_run_names_what_would_be_served(tmp_path: Path) -> None:
    folder = predicted_folder(tmp_path / "predicted")
    found = call("serve", str(folder), "--genome", GENOME, "--dry-run")
    genome = yeast().path
    assert found["files"] == [str(genome), f"{genome}.fai", f"{genome}.gzi", str(folder / "a.bw")]


def test_it_serves_until_interrupted(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>the report")
    with subprocess.Popen(
        [sys.executable, "-m", "cislens.cli.app", "serve", str(tmp_path), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ},
    ) as server:  # fmt: skip
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["address"]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}report.html", timeout=10) as answer:
            assert answer.read() == b"<p>the report"
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=20)
    assert (server.returncode, said) == (0, "stopped\n")
