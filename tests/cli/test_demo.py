"""`cislens demo`: what can be seen of it without its minutes of work."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cislens.cli.app import app


def test_a_dry_run_plans_the_packaged_data_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data", "train", "bench"):  # files of a user are no recipes of the demo
        (tmp_path / name).write_text("mine")
    ran = CliRunner().invoke(app, ["demo", "--dry-run", "--json"])
    assert ran.exit_code == 0
    plan = json.loads(ran.stdout)
    assert {name: each["tracks"] for name, each in plan["species"].items()} == {
        "yeast": 3, "human": 2, "fly": 1,
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench", "data", "train"]
