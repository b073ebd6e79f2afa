"""The command as a whole: help, and what shells complete."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cislens.cli.app import app, help_asked_for
from cislens.cli.train import PARTS
from cislens.recipes import ablations
from cislens.recipes.packaged import packaged_names

TYPER = typer.main.get_command(app)


def verbs(command: object, *names: str) -> list[tuple[str, ...]]:
    """Every path of names that ends in a verb."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return [names]
    return [path for name, each in inner.items() for path in verbs(each, *names, name)]


@pytest.mark.parametrize("path", verbs(TYPER), ids=" ".join)
def test_every_verb_has_help_whose_first_sentence_is_listed_whole(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"], prog_name="cislens")
    assert shown.exit_code == 0
    quick = help_asked_for([*path, "--help"])
    assert quick is not None
    assert "".join(quick.split()) == "".join(shown.stdout.split())  # lines may be of other widths
    listed = CliRunner().invoke(app, [*path[:-1], "--help"]).stdout.splitlines()
    line = next(line for line in listed if line.split()[:1] == [path[-1]])
    assert line.endswith(".")
    assert not [line for line in listed if line.endswith("...") and "Usage" not in line]


def test_only_names_and_help_are_answered_without_reading_options() -> None:
    for words in (
        [],
        ["train"],
        ["no-verb", "--help"],
        ["train", "--help", "x"],
        ["--log", "--help"],
    ):
        assert help_asked_for(words) is None


def test_help_names_the_parts_that_a_control_can_lack() -> None:
    assert tuple(ablations.PARTS) == PARTS


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cislens da", ["data"]),
        ("cislens data re", ["regions"]),
        ("cislens train genebert-plus", [n for n in packaged_names("train") if "t-plus" in n]),
        ("cislens bench ya", []),
    ],
)
def test_shells_complete_verbs_and_packaged_recipes(words: str, expected: list[str]) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    run = subprocess.run(
        [Path(sys.executable).with_name("cislens")],
        env={**os.environ, **asked, "_CISLENS_COMPLETE": "complete_bash"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.split() == expected
