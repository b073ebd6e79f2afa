"""A model in another Python: it needs no cislens, survives crashes, and is believed nothing."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.files import file_digest
from cislens.genome.codes import reverse_complement
from cislens.representations import planning, worker
from cislens.representations.store import EmbeddingStore, StoredEmbedding, partial_folder
from cislens.representations.worker_client import Runner, run_worker

pyarrow = pytest.importorskip("pyarrow", reason="the worker reads parquet by pyarrow")

RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(0, 5, 60).astype(np.uint8) for _ in range(40)]
IDS = [f"e{row:02d}" for row in range(40)]
ADAPTER = """
import os, sys
import numpy as np

class Model:
    info = {"name": "counts", "parameters": 7, "revision": "main", "batch": 3}

    def encode(self, sequences):
        HOOK
        print("a library talks to standard output")
        counts = [[s.count(b) for b in "ACGTN"] for s in sequences]
        x = np.array(counts, dtype=np.float64)
        return {"half": x / 2, "whole": x}

def load(argument):
    return Model()
"""


def adapter(folder: Path, hook: str = "pass") -> Path:
    path = folder / "my_model.py"
    path.write_text(ADAPTER.replace("HOOK", hook))
    return path


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that sees numpy and pyarrow and nothing else that is installed."""
    folder = tmp_path_factory.mktemp("bare")
    for module in (np, pyarrow):
        home = Path(module.__file__).parent
        for found in (home, home.with_name(f"{home.name}.libs")):
            if found.exists():
                (folder / found.name).symlink_to(found)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" -s -S "$@"\n')
    python.chmod(0o755)
    return python


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_CHUNK_BASES", 60 * 8)


def contents(store: EmbeddingStore) -> dict[str, str]:
    files = [file for file in store.path.rglob("*") if file.is_file()]
    names = {str(file.relative_to(store.path)): file for file in files}
    return {name: file_digest(file) for name, file in names.items() if name != "ledger.json"}


def counts(codes: np.ndarray) -> list[float]:
    return np.bincount(codes, minlength=5).tolist()


def test_the_worker_needs_no_cislens(bare_python: Path, tmp_path: Path) -> None:
    probe = [str(bare_python), "-c", "import numpy, pyarrow.parquet; import cislens"]
    run = subprocess.run(probe, capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: No module named 'cislens'" in run.stderr
    hook = "assert 'cislens' not in sys.modules and 'polars' not in sys.modules"
    runner = Runner(bare_python, adapter(tmp_path, hook))
    store = run_worker(
        runner, SEQUENCES, IDS, tmp_path / "store", species="yeast", stranded=True,
        task=("promoters", "a" * 64),
    )  # fmt: skip
    stored = StoredEmbedding(store.path)
    assert (stored.name, stored.kind, stored.parameters) == ("counts", "trained", 7)
    assert stored.views == ("half", "whole")
    found = stored.embed(SEQUENCES[::-1], "yeast", True)
    assert np.array_equal(found, np.array([counts(codes) for codes in SEQUENCES[::-1]]))
    assert store.manifest["encoder"]["revision"] == "main"
    assert store.manifest["encoder"]["adapter"] == file_digest(runner.adapter)
    assert store.ledger["wall_s"] > 0
    assert not partial_folder(store.path).exists()


def test_both_strands_are_averaged(tmp_path: Path) -> None:
    store = run_worker(
        Runner(Path(sys.executable), adapter(tmp_path)), SEQUENCES, IDS, tmp_path / "store"
    )
    expected = [
        (np.array(counts(codes)) + counts(reverse_complement(codes))) / 2 for codes in SEQUENCES
    ]
    assert np.array_equal(StoredEmbedding(store.path).embed(SEQUENCES, None), np.array(expected))


def test_a_killed_worker_is_started_again_and_gives_the_same_bytes(tmp_path: Path) -> None:
    """It kills itself in its third chunk, and once more in the chunk after that."""
    hook = (
        "import pathlib, signal; log = pathlib.Path(__file__).with_name('calls'); "
        "calls = len(log.read_text()) if log.exists() else 0; log.write_text('x' * (calls + 1)); "
        "calls in (7, 12) and os.environ.get('DIES') and os.kill(os.getpid(), signal.SIGKILL)"
    )
    runner = Runner(Path(sys.executable), adapter(tmp_path, hook))
    whole = run_worker(runner, SEQUENCES, IDS, tmp_path / "whole", stranded=True)
    log = runner.adapter.with_name("calls")
    assert len(log.read_text()) == 15  # five chunks of eight, three calls each
    log.unlink()
    os.environ["DIES"] = "1"
    try:
        store = run_worker(runner, SEQUENCES, IDS, tmp_path / "killed", stranded=True)
    finally:
        del os.environ["DIES"]
    assert len(log.read_text()) == 15 + 2 + 2  # two calls of each broken chunk again
    assert contents(store) == contents(whole)


def test_a_client_that_was_stopped_resumes_from_whole_chunks(tmp_path: Path) -> None:
    hook = (
        "import pathlib; log = pathlib.Path(__file__).with_name('calls'); "
        "calls = len(log.read_text()) if log.exists() else 0; log.write_text('x' * (calls + 1)); "
        "calls == 7 and os._exit(3)"
    )
    runner = Runner(Path(sys.executable), adapter(tmp_path, hook))
    with pytest.raises(CislensError, match=r"died with 2 of 5 chunks done, 2 of them by its last"):
        run_worker(runner, SEQUENCES, IDS, tmp_path / "store", stranded=True, restarts=0)
    assert not (tmp_path / "store").exists()
    store = run_worker(runner, SEQUENCES, IDS, tmp_path / "store", stranded=True)
    assert len(runner.adapter.with_name("calls").read_text()) == 8 + 9
    assert len(store) == 40


def test_a_worker_that_always_dies_is_not_started_for_ever(tmp_path: Path) -> None:
    runner = Runner(Path(sys.executable), adapter(tmp_path, "sys.exit('no memory for this model')"))
    with pytest.raises(CislensError, match=r"died with 0 of 5.*no memory for this model"):
        run_worker(runner, SEQUENCES, IDS, tmp_path / "store", restarts=50)


def test_the_failing_example_is_named(tmp_path: Path) -> None:
    bad = [*SEQUENCES[:20], np.array([0, 1, 0], np.uint8), *SEQUENCES[21:]]
    hook = "assert 'ACA' not in sequences, 'nothing to see'"
    runner = Runner(Path(sys.executable), adapter(tmp_path, hook))
    with pytest.raises(CislensError, match="cannot embed example 'e20': AssertionError: nothing"):
        run_worker(runner, bad, IDS, tmp_path / "store")


def test_features_that_are_not_finite_or_not_there_are_refused(tmp_path: Path) -> None:
    hook = "return np.array([[np.nan if set(s) == {'G'} else 0.0] for s in sequences])"
    bad = [*SEQUENCES[:12], np.full(60, 2, np.uint8), *SEQUENCES[13:]]
    runner = Runner(Path(sys.executable), adapter(tmp_path, hook))
    with pytest.raises(CislensError, match="example 'e12': a value of features is not finite"):
        run_worker(runner, bad, IDS, tmp_path / "store", stranded=True)
    short = Runner(Path(sys.executable), adapter(tmp_path, "return np.zeros((1, 2))"))
    with pytest.raises(CislensError, match=r"gave \(1, 2\) for 3 sequences.*alone each passes"):
        run_worker(short, SEQUENCES, IDS, tmp_path / "store")


def test_an_adapter_that_does_not_load_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import a_library_that_is_not_there\n")
    runner = Runner(Path(sys.executable), path)
    with pytest.raises(CislensError, match="a_library_that_is_not_there"):
        run_worker(runner, SEQUENCES, IDS, tmp_path / "store")
    with pytest.raises(CislensError, match=r"adapter .*nowhere\.py does not exist"):
        run_worker(
            Runner(Path(sys.executable), tmp_path / "nowhere.py"), SEQUENCES, IDS, tmp_path / "s"
        )


def test_a_finished_store_is_kept_and_another_request_refused(tmp_path: Path) -> None:
    runner = Runner(Path(sys.executable), adapter(tmp_path))
    first = run_worker(runner, SEQUENCES, IDS, tmp_path / "store")
    no_python = Runner(tmp_path / "my_model.py", runner.adapter)  # would not run
    assert run_worker(no_python, SEQUENCES, IDS, tmp_path / "store").digest == first.digest
    with pytest.raises(CislensError, match="other sequences or settings"):
        run_worker(runner, SEQUENCES, IDS, tmp_path / "store", stranded=True)


def planted(folder: Path, change: str) -> Runner:
    """A worker of somebody else's, which follows the contract but for one thing."""
    source = Path(worker.__file__).read_text()
    for before, after in json.loads(change).items():
        assert source.count(before) == 1, before
        source = source.replace(before, after)
    script = folder / "their_worker.py"
    script.write_text(source)
    return Runner(Path(sys.executable), adapter(folder), worker=script)


IDS_WRITTEN = '{"ids": np.array(ids[some]), '
PLANTS: list[tuple[dict[str, str], str]] = [
    ({'"cislens-worker/1"': '"cislens-worker/0"'}, r"'cislens-worker/0', this .* 'cislens-worker"),
    ({IDS_WRITTEN: '{"ids": np.array(ids[some][::-1]), '}, "rows are in another order"),
    ({IDS_WRITTEN: '{"ids": np.array(ids[some][:-2]), '}, "2 rows are missing"),
    ({"view}\": values for": "view}\": values[1:] for"}, "features are missing"),
    ({"view}\": values for": "view}\": values * np.nan for"}, "example 'e00' is not finite"),
    (
        {"        if not path.exists():": "        if chunk != 3:"},
        r"chunk-000003\.npz does not exist",
    ),
    ({'speaker.say("done")': 'print("done", file=speaker._lines)'}, "said 'done', expected one"),
    ({'            "hello",': '            "hallo",'}, "did not start"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), PLANTS, ids=[message for _, message in PLANTS])
def test_a_worker_is_not_believed(tmp_path: Path, change: dict[str, str], message: str) -> None:
    runner = planted(tmp_path, json.dumps(change))
    with pytest.raises(CislensError, match=message):
        run_worker(runner, SEQUENCES, IDS, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_honest_copy_of_the_worker_passes(tmp_path: Path) -> None:
    store = run_worker(planted(tmp_path, "{}"), SEQUENCES, IDS, tmp_path / "store")
    assert len(store) == 40


def test_another_input_discards_the_chunks(tmp_path: Path) -> None:
    """The same folder with other sequences: nothing of the first run may be taken."""
    hook = "len(sequences[0]) == 60 and 'A' * 60 in sequences and os._exit(3)"
    runner = Runner(Path(sys.executable), adapter(tmp_path, hook))
    stop: Callable[[], list[np.ndarray]] = lambda: [*SEQUENCES[:39], np.zeros(60, np.uint8)]  # noqa: E731
    with pytest.raises(CislensError, match="died with 4 of 5"):
        run_worker(runner, stop(), IDS, tmp_path / "store", stranded=True, restarts=0)
    others = [np.roll(codes, 7)[::-1].copy() for codes in SEQUENCES]
    others[0][:] = 1
    store = run_worker(runner, others, IDS, tmp_path / "store", stranded=True)
    found = StoredEmbedding(store.path).embed(others, None, True)
    assert np.array_equal(found, np.array([counts(codes) for codes in others]))


def test_the_worker_is_plain_old_python() -> None:
    """One file in the grammar of Python 3.8, with nothing to import but numpy and pyarrow."""
    tree = ast.parse(Path(worker.__file__).read_text(), feature_version=(3, 8))
    names = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    names |= {
        str(node.module).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert names - set(sys.stdlib_module_names) == {"numpy"}
