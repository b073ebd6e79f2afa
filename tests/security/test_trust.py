"""No code is loaded from data, no link is followed out of a folder, every string is escaped."""

import ast
import json
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
import torch
from tests.security.test_untrusted import Harmful

import cislens
from cislens.errors import CislensError
from cislens.evaluation.results import _SAFE
from cislens.files import atomic_path, claimed, clear_partial, read_parquet
from cislens.models.published.files import read_checkpoint
from cislens.report.figures.canvas import canvas, picture

ROOT = Path(cislens.__file__).parent
# Calls that may run what a file holds, and the modules that may make them.
RUNNING = {
    "eval", "exec", "compile", "pickle.load", "pickle.loads", "torch.hub.load", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "joblib.load", "os.system", "tarfile.open",
    "shutil.unpack_archive", "gzip.decompress", "zarr.open_array", "zarr.open", "zarr.open_group",
    "importlib.util.spec_from_file_location", "subprocess.Popen", "subprocess.run",
}  # fmt: skip
MAY = {
    ("scale/ray_engine.py", "pickle.loads"),  # a job of this very run, sent to its own actors
    ("engines.py", "pickle.loads"),  # and to its own processes
    ("representations/worker.py", "importlib.util.spec_from_file_location"),  # --adapter
    ("representations/worker_client.py", "subprocess.Popen"),  # the interpreter of --python
    ("cli/doctor_libraries.py", "subprocess.run"),  # this Python, to import one library
    ("untrusted.py", "zarr.open_array"),
    ("effects/track_files.py", "zarr.open_group"),  # writes
}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def dangers(source: str) -> set[str]:
    found = set()
    for name, call in calls(ast.parse(source)):
        given = {each.arg: ast.unparse(each.value) for each in call.keywords}
        if name in RUNNING or name.endswith((".extractall", ".Markup", ".from_pretrained")):
            found.add(name)
        if name == "torch.load" and given.get("weights_only") != "True":
            found.add("torch.load without weights_only")
        if given.get("allow_pickle") == "True" or given.get("shell") == "True":
            found.add(f"{name} with pickle or shell")
        if "trust_remote_code" in given:
            found.add("trust_remote_code")
    return found


def test_no_module_runs_what_it_reads() -> None:
    found = {
        (str(path.relative_to(ROOT)), danger)
        for path in ROOT.rglob("*.py")
        for danger in dangers(path.read_text())
    }
    assert found - MAY == set()


@pytest.mark.parametrize(
    "source",
    [
        "eval(x)", "pickle.loads(x)", "torch.load(x)", "torch.load(x, weights_only=False)",
        "np.load(x, allow_pickle=True)", "yaml.load(x, Loader=L)", "archive.extractall(x)",
        "subprocess.run(x, shell=True)", "AutoModel.from_pretrained(x)",
        "f(x, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_rule_finds_each_way_to_run_code(source: str) -> None:
    assert dangers(source)


def test_weights_that_are_a_program_are_not_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "model.pt"
    torch.save({"x": Harmful(mark)}, path)
    with pytest.raises(CislensError, match="code in it would run"):
        read_checkpoint(path)
    assert not mark.exists()


def test_weights_that_unpack_to_more_than_they_are_are_not_read(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1 << 18)}, tmp_path / "plain.pt")
    assert read_checkpoint(tmp_path / "plain.pt").tensors["x"].numel() == 1 << 18
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.namelist():
            bomb.writestr(entry, plain.read(entry))
    assert (tmp_path / "bomb.pt").stat().st_size < 1 << 14
    with pytest.raises(CislensError, match="is compressed; it is not read"):
        read_checkpoint(tmp_path / "bomb.pt")


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "a/../../b"])
def test_an_index_of_shards_names_files_of_its_folder(tmp_path: Path, name: str) -> None:
    index = {"weight_map": {"x": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CislensError, match="expected the name of a file in its folder"):
        read_checkpoint(tmp_path)


def test_names_of_arms_are_no_way_out_of_the_results() -> None:
    for name in ("..", ".", "../x", "a/b", "", "a\n"):
        assert _SAFE.fullmatch(name) is None
    assert _SAFE.fullmatch("one-hot_v1.2+gc")


def test_a_lock_that_is_a_link_makes_and_empties_nothing(tmp_path: Path) -> None:
    folder, target = tmp_path / "run", tmp_path / "keys"
    folder.mkdir()
    target.write_text("mine")
    (folder / "lock").symlink_to(target)
    with pytest.raises(CislensError, match="is a link; remove it"), claimed(folder, "training"):
        pass
    assert target.read_text() == "mine"


def test_what_is_written_takes_the_place_of_a_link_and_not_of_its_target(tmp_path: Path) -> None:
    target = tmp_path / "keys"
    target.write_text("mine")
    (tmp_path / "out").symlink_to(target)
    with atomic_path(tmp_path / "out") as aside:
        aside.write_text("new")
    assert (target.read_text(), (tmp_path / "out").read_text()) == ("mine", "new")


def test_clearing_up_removes_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    folder.mkdir()
    (outside / "mine").write_text("x")
    (folder / ".a.1.2.partial").symlink_to(outside)
    clear_partial(folder)
    assert list(folder.iterdir()) == []
    assert (outside / "mine").read_text() == "x"


def test_a_table_of_more_rows_than_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pl.DataFrame({"a": [0]}).select(pl.col("a").repeat_by(1 << 20).explode()).write_parquet(
        tmp_path / "x.parquet"
    )
    assert read_parquet(tmp_path / "x.parquet", "table").height == 1 << 20
    monkeypatch.setattr("cislens.files.os.sysconf", lambda name: 1000)
    with pytest.raises(CislensError, match="1,048,576 rows, more than this machine holds"):
        read_parquet(tmp_path / "x.parquet", "table")


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)></svg></style>{{7*7}}&amp;"


class Tags(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def harmless(text: str) -> bool:
    tags = Tags(text).seen
    names = {name for _, attributes in tags for name in attributes}
    return not (
        {"script", "img"} & {tag for tag, _ in tags} or any(name.startswith("on") for name in names)
    )


def test_the_check_of_pages_finds_what_it_looks_for() -> None:
    assert not harmless(f"<p>{HOSTILE}</p>")
    assert not harmless('<p onclick="x">')


def test_no_string_of_data_becomes_markup_in_a_figure() -> None:
    """Of pages, `tests/report/test_hostile_names.py` asks the same."""
    with canvas(200, 100) as figure:
        figure.text(0.1, 0.5, HOSTILE)
        drawn = picture(figure, HOSTILE, pl.DataFrame({"name": [HOSTILE]}))
    assert harmless(drawn.svg)
    assert "&lt;script&gt;" in drawn.svg
