"""The log as programs read it: whole lines of strict JSON, beside what people see."""

import io
import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cislens.logs import LOG, logged, note, tell
from cislens.progress import track

logger = logging.getLogger("cislens")


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_messages_and_events_become_lines(tmp_path: Path) -> None:
    with logged(tmp_path / LOG):
        logger.warning("%d of %d", 3, 4)
        note(logging.INFO, "half done", "progress", done=2, total=4)
        tell("began", verb="train")
    logger.warning("later")
    first, second, third = lines(tmp_path / LOG)
    assert (first["level"], first["message"]) == ("warning", "3 of 4")
    assert (second["event"], second["done"], second["message"]) == ("progress", 2, "half done")
    assert (third["event"], third["verb"]) == ("began", "train")
    assert third["memory_bytes"] > 1 << 20
    assert first["elapsed_s"] <= third["elapsed_s"]


def test_events_for_programs_are_not_shown(tmp_path: Path) -> None:
    shown = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(shown)
    try:
        with logged(tmp_path / LOG):
            tell("began")
            logger.info("shown")
    finally:
        logging.getLogger().removeHandler(shown)
    assert shown.stream.getvalue() == "shown\n"


def test_lines_are_strict_json_whatever_the_fields_are(tmp_path: Path) -> None:
    with logged(tmp_path / LOG):
        tell("odd", value=math.nan, more=[math.inf, Path("a\nb")], nested={1: -math.inf})
    (line,) = lines(tmp_path / LOG)
    assert (line["value"], line["more"], line["nested"]) == (None, [None, "a\nb"], {"1": None})


def test_a_run_that_goes_on_adds_to_its_log(tmp_path: Path) -> None:
    for message in ("before the kill", "after it"):
        with logged(tmp_path / LOG):
            logger.warning(message)
    assert [line["message"] for line in lines(tmp_path / LOG)] == ["before the kill", "after it"]


def test_progress_says_how_long_the_rest_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 10_000, 20))  # every look at the clock is 20 s later
    monkeypatch.setattr("cislens.progress.time.monotonic", lambda: float(next(clock)))
    with logged(tmp_path / LOG), caplog.at_level(logging.INFO):
        assert list(track("abc", "letters")) == ["a", "b", "c"]
    assert caplog.messages[0] == "letters: 1/3, about 40 s left"
    assert caplog.messages[-1] == "letters: 3/3 done"
    progress = lines(tmp_path / LOG)
    assert (progress[0]["done"], progress[0]["total"], progress[0]["seconds_left"]) == (1, 3, 40.0)


def test_log_of_a_verb_tells_how_it_began_and_ended(tmp_path: Path) -> None:
    command = ["--log", str(tmp_path / LOG), "model", "show", "no-such-preset"]
    run = subprocess.run([sys.executable, "-m", "cislens.cli.app", *command], capture_output=True)
    assert run.returncode == 2
    began, ended = lines(tmp_path / LOG)
    assert (began["event"], began["verb"], began["arguments"]) == ("began", "model", command)
    assert (ended["event"], ended["verb"]) == ("ended", "model")
    assert "no-such-preset" in ended["error"]
    assert ended["memory_bytes"] >= began["memory_bytes"]
