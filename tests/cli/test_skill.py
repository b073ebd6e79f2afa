"""The packaged skill: its commands are read by the real command line, its recipes by schemas."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

import cislens
from cislens.cli.app import app
from cislens.cli.skill import SKILL
from cislens.errors import CislensError
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe

# typer brings a click of its own, or takes the installed one.
UsageError = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
TEXT = SKILL.read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    inline = re.findall(r"`(cislens [^`]+)`", TEXT)
    return [line for line in lines + inline if "VERB" not in line]


def parsed(command: str) -> None:
    """The command line's own reading of a command, which is not run.

    Raises:
        UsageError: for a verb or an option that there is not, or one that is missing.
    """
    name, *words = shlex.split(command)
    assert name == "cislens"
    found = typer.main.get_command(app)
    context = found.context_class(found, info_name=name)
    while hasattr(found, "commands"):
        verb, found, words = found.resolve_command(context, words)
        context = found.context_class(found, info_name=verb, parent=context)
    found.make_context(found.name, words, parent=context.parent)


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one(command: str) -> None:
    parsed(command)


@pytest.mark.parametrize(
    "command", ["cislens bensh x", "cislens bench x --runs a=b", "cislens predict run/model"]
)
def test_what_is_no_command_is_found(command: str) -> None:
    with pytest.raises(UsageError):
        parsed(command)


def test_verbs_of_the_table_and_names_of_the_package_exist() -> None:
    table = TEXT.split("| the user has")[1].split("\n\n")[0]
    cells = [row.split("|")[3] for row in table.splitlines()[2:]]
    verbs = [verb for cell in cells for verb in re.findall(r"`([^`]+)`", cell)]
    assert len(verbs) >= 14
    found = typer.main.get_command(app)
    for verb in verbs:
        group, words = found, verb.split()
        while words and hasattr(group, "commands"):
            assert words[0] in group.commands, verb
            group, words = group.commands[words[0]], words[1:]
    names = set(re.findall(r"`cislens\.(\w+)[.\w]*`", TEXT))
    assert {"predict", "fit"} <= names <= set(dir(cislens))


def test_recipes_are_recipes(tmp_path: Path) -> None:
    for name in ("genome.fa.gz", "tracks.tsv"):
        (tmp_path / name).touch()
    (tmp_path / "store").mkdir()
    data, train = blocks("yaml")
    for text, kind in ((data, DataRecipe), (train, TrainRecipe)):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        read_recipe(path, kind)


def test_it_has_the_head_of_a_skill_and_is_written_where_one_is_looked_for(tmp_path: Path) -> None:
    head = yaml.safe_load(TEXT.split("---")[1])
    assert head["name"] == "cislens" and 100 < len(head["description"]) < 1024
    assert CliRunner().invoke(app, ["skill"]).stdout == TEXT
    out = tmp_path / "skills" / "cislens"
    for _ in range(2):
        CliRunner().invoke(app, ["skill", "--out", str(out)], catch_exceptions=False)
    assert (out / "SKILL.md").read_text() == TEXT
    (out / "SKILL.md").write_text("mine")
    with pytest.raises(CislensError, match="says something else"):
        CliRunner().invoke(app, ["skill", "--out", str(out)], catch_exceptions=False)
    assert (out / "SKILL.md").read_text() == "mine"
