"""`cislens data task`: one message and exit code 2 for a mistake, JSON that a script can read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cislens.cli.app import main
from cislens.evaluation.tasks.registry import KINDS
from cislens.evaluation.tasks.task import Task
from cislens.genome.codes import decode
from cislens.randomness import generator
from cislens.recipes.packaged import packaged_names
from cislens.recipes.task_recipe import read_tasks

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("build", ...)` -> exit code, stdout, stderr of `cislens data task build ...`."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cislens", "data", "task", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capfd.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Two tasks from two tables."""
    codes = generator("cli task").integers(0, 4, (120, 50)).astype("uint8")
    rows = [f"{decode(row)},{n % 2},{n / 7}" for n, row in enumerate(codes)]
    (tmp_path / "data.csv").write_text("\n".join(["sequence,open,activity", *rows]) + "\n")
    (tmp_path / "tasks.yaml").write_text(
        "tasks:\n"
        "  open: {kind: table, species: fly, file: data.csv, label: open}\n"
        "  activity: {kind: mpra, species: fly, file: data.csv, label: activity}\n"
    )
    return tmp_path / "tasks.yaml"


def test_a_recipe_becomes_folders_that_show_and_validate(run: Run, recipe: Path) -> None:
    out = recipe.parent / "tasks"
    code, _, _ = run("build", recipe, "--out", out)
    assert code == 0
    task = Task.load(out / "open")
    code, shown, _ = run("show", out / "open", "--json")
    found = json.loads(shown)
    assert found["card"]["name"] == "open" and found["card"]["files"][0]["name"] == "data.csv"
    assert sum(found["examples"].values()) == len(task.examples) == 120
    assert {label: sum(parts.values()) for label, parts in found["classes"].items()} == {
        "0": 60, "1": 60,
    }  # fmt: skip
    code, shown, _ = run("show", out / "activity")
    first = task.examples["example_id"][0]
    assert f"{first} (" in shown and "kind: regression" in shown
    code, listed, _ = run("ls", out, "--json")
    assert set(json.loads(listed)) == {"open", "activity"}
    code, valid, _ = run("validate", out / "open", "--json")
    assert json.loads(valid)["task_hash"] == task.task_hash


def test_a_changed_folder_is_not_valid(run: Run, recipe: Path) -> None:
    out = recipe.parent / "tasks"
    run("build", recipe, "--out", out, "--name", "open")
    assert [folder.name for folder in out.iterdir()] == ["open"]
    card = out / "open" / "card.yaml"
    card.write_text(card.read_text().replace("species: fly", "species: worm"))
    code, _, message = run("validate", out / "open")
    assert code == 2 and "was changed after it was written" in message


def test_a_dry_run_writes_nothing_and_checks_the_files(run: Run, recipe: Path) -> None:
    out = recipe.parent / "tasks"
    code, plan, _ = run("build", recipe, "--out", out, "--dry-run", "--json")
    assert code == 0 and not out.exists()
    assert json.loads(plan)["open"] == {
        "kind": "table", "files": [str(recipe.parent / "data.csv")],
    }  # fmt: skip
    (recipe.parent / "data.csv").unlink()
    code, _, message = run("build", recipe, "--out", out, "--dry-run")
    assert code == 2 and "data.csv does not exist" in message


def test_the_seed_changes_the_parts(run: Run, recipe: Path) -> None:
    for seed in (0, 1):
        run("build", recipe, "--out", recipe.parent / f"s{seed}", "--seed", seed, "--name", "open")
    one, other = (Task.load(recipe.parent / f"s{seed}" / "open") for seed in (0, 1))
    assert set(one.examples["sequence"]) == set(other.examples["sequence"])
    assert one.task_hash != other.task_hash


def test_one_task_without_a_recipe(run: Run, recipe: Path) -> None:
    data, out = recipe.parent / "data.csv", recipe.parent / "mine"
    code, _, _ = run(
        "import", "table", f"file={data}", "label=activity", "species=fly", "stranded=true",
        "--out", out,
    )  # fmt: skip
    assert code == 0
    card = Task.load(out).card
    assert (card.name, card.kind, card.stranded) == ("mine", "regression", True)
    code, _, message = run("import", "tabel", f"file={data}", "--out", out)
    assert code == 2 and "'table'" in message
    code, _, message = run("import", "table", f"file={data}", "labl=open", "--out", out)
    assert code == 2 and "Did you mean 'label'?" in message
    code, _, message = run("import", "table", "label", "--out", out)
    assert code == 2 and "write key=value" in message


def test_unknown_names_get_the_nearest_one(run: Run, recipe: Path, tmp_path: Path) -> None:
    code, _, message = run("build", recipe, "--out", tmp_path / "o", "--name", "opn")
    assert code == 2 and "Did you mean 'open'?" in message
    code, _, message = run("ls", "exmaple")
    assert code == 2 and "Did you mean 'example'?" in message
    (tmp_path / "empty").mkdir()
    code, _, message = run("ls", tmp_path / "empty")
    assert code == 2 and "holds no task" in message


def test_packaged_recipes_can_be_read(core_data: Path) -> None:
    assert packaged_names("tasks") == [
        "core",
        "example",
        "regulatory",
        "selfdistillation",
        "variants",
    ]
    tasks = read_tasks("core").tasks
    assert len(tasks) >= 30
    # Whatever has files of its own names the digest of each.
    for name, section in tasks.items():
        if section.kind in KINDS and section.kind != "shuffled":
            assert section.sha256, name  # type: ignore[union-attr]
    kinds = {section.kind for section in tasks.values()}
    assert {"promoters", "tfbs", "splice", "gue", "mpra", "saturation", "variants"} <= kinds


def test_real_tables_of_the_data_folder_become_tasks(
    run: Run, core_data: Path, tmp_path: Path
) -> None:
    wanted = ("mpra.lenti-k562", "tfbs.mouse-2", "mpsa.5ss")
    names = [part for name in wanted for part in ("--name", name)]
    code, made, _ = run("build", "core", "--out", tmp_path, "--json", *names)
    assert code == 0
    counts = {name: result["examples"] for name, result in json.loads(made).items()}
    assert counts["mpra.lenti-k562"]["train"] == 1000
    assert counts["mpsa.5ss"] == {"train": 2452, "valid": 777, "test": 771}
    report = Task.load(tmp_path / "mpra.lenti-k562").card.report
    # The sample parts the two orientations of an element, and 15 bases of adapter are at each end.
    assert report["examples whose block is in an earlier split"] == 111
    assert report["bases that all sequences begin with"] == 15


def test_a_folder_of_something_else_is_not_replaced(run: Run, recipe: Path) -> None:
    mine = recipe.parent / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    for arguments in (
        ("import", "table", "species=fly", f"file={recipe.parent}/data.csv", "label=open",
         "--out", mine),
        ("build", recipe, "--out", mine.parent, "--name", "open"),
    ):  # fmt: skip
        (mine.parent / "open").mkdir(exist_ok=True)
        (mine.parent / "open" / "notes.txt").write_text("mine")
        code, _, err = run(*arguments)
        assert code == 2
        assert "holds 'notes.txt', which is no part of a task" in err
    assert (
        (mine / "notes.txt").read_text() == "mine" == (mine.parent / "open/notes.txt").read_text()
    )
    (mine / "notes.txt").unlink()
    again = ("import", "table", "species=fly", f"file={recipe.parent}/data.csv", "label=open")
    assert [run(*again, "--out", mine)[0] for _ in range(2)] == [0, 0]
