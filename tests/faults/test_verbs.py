"""Every long verb meets a full disk, one that is read-only, another run of itself, other clocks.

A fault is put where every writer passes: `os.fsync`, without which nothing is called written.
"""

import errno
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from cislens.cli.app import main
from cislens.files import claimed
from cislens.genome.codes import decode
from cislens.randomness import generator
from cislens.signal.bigwig import write_bigwig

BASES = decode(generator("faults").integers(0, 4, 60_000).astype(np.uint8))
DATA = """\
genomes: {yeast: genome.fa}
tracks: tracks.tsv
length: 512
split: {block_bp: 1024, fractions: {train: 0.5, valid: 0.25, test: 0.25}}
"""
SEQUENCE = """\
genomes: {yeast: genome.fa}
window: 128
split: {block_bp: 8192, fractions: {train: 0.6, valid: 0.2, test: 0.2}}
"""
TRAIN = """\
store: store
model: {preset: space-plus-tiny, dim: 16, stem_dim: 8, depth: 1, heads: 2}
training: {steps: 4, batch_size: 4, validate_every: 2, ema_decay: 0.5}
"""
BENCH = """\
runs: {small: run}
store: store
tasks: {windows: {kind: windows, species: yeast, width: 256, limit: 60}}
settings: {seeds: 1, cnn: [], kmer: 2, trials: 1}
audit: false
"""


@dataclass(frozen=True)
class Verb:
    """A command, the names of what it promises to leave the same, and what it locks.

    Attributes:
        lock: folder that it holds while it works, beside or below `out`.
    """

    command: tuple[str, ...]
    promised: tuple[str, ...]
    lock: str


GENOME = ("--genome", "genome.fa", "--species", "yeast")
VERBS = {
    "profile": Verb(("data", "profile", "data.yaml"), ("**/*",), "out.partial"),
    "sequence": Verb(("data", "sequence", "sequence.yaml"), ("**/*",), "out.partial"),
    "train": Verb(("train", "train.yaml"), ("metrics.parquet", "model/*"), "out"),
    "embed": Verb(
        ("embed", "--model", "run", "--bed", "regions.bed", *GENOME),
        ("index.parquet", "views/**/*"), "out.partial",
    ),
    "predict": Verb(("predict", "run/model", *GENOME), ("*",), "out/.parts"),
    "variants": Verb(
        ("variants", "run/model", "variants.tsv", *GENOME, "--background", "0"),
        ("variants.parquet", "summary.json"), "out/parts",
    ),
    "bench": Verb(("bench", "bench.yaml"), ("*.parquet",), "out"),
}  # fmt: skip


def cislens(*arguments: object) -> int:
    """The exit code of a command."""
    before, sys.argv = sys.argv, ["cislens", *map(str, arguments)]
    try:
        main()
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else 0
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of every verb, a store and a trained run."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "genome.fa").write_text(f">chr1\n{BASES}\n")
    starts = np.arange(0, 60_000, 100)
    values = generator("signal").integers(0, 9, len(starts)).astype(np.float32)
    write_bigwig(folder / "a.bw", {"chr1": 60_000}, ["chr1"] * 600, starts, starts + 100, values)
    (folder / "tracks.tsv").write_text("id\tfile\tspecies\na\ta.bw\tyeast\n")
    for name, text in {
        "data": DATA, "sequence": SEQUENCE, "train": TRAIN, "bench": BENCH,
    }.items():  # fmt: skip
        (folder / f"{name}.yaml").write_text(text)
    (folder / "regions.bed").write_text(
        "".join(f"chr1\t{at}\t{at + 512}\n" for at in range(1024, 40_000, 1024))
    )
    rows = [f"chr1\t{at + 1}\t{BASES[at]}\t{'CGTA'['ACGT'.index(BASES[at])]}" for at in
            range(2000, 50_000, 1000)]  # fmt: skip
    (folder / "variants.tsv").write_text("\n".join(["chrom\tpos\tref\talt", *rows, ""]))
    with inside(folder):
        assert cislens("data", "profile", "data.yaml", "--out", "store") == 0
        assert cislens("train", "train.yaml", "--out", "run") == 0
    return folder


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The folder as the current one."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def promised(verb: Verb, out: Path) -> dict[str, str]:
    """sha256 of what a verb promises to leave the same."""
    files = {path for pattern in verb.promised for path in out.glob(pattern) if path.is_file()}
    found = {path for path in files if path.name != "lock"}
    assert found
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found
    }


@pytest.fixture
def at_write(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """`at_write(number, error)`: raise it at this write and all that follow; -1 for never.

    Gives the list of writes that were asked for.
    """
    real = os.fsync

    def plant(number: int, error: BaseException) -> list[int]:
        writes: list[int] = []

        def fsync(descriptor: int) -> None:
            writes.append(descriptor)
            if 0 <= number < len(writes):
                raise error
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        return writes

    return plant


@pytest.fixture(scope="session")
def undisturbed(project: Path) -> dict[str, tuple[dict[str, str], int]]:
    """By verb: what it leaves, and how often it writes."""
    found = {}
    real = os.fsync
    for name, verb in VERBS.items():
        writes: list[int] = []
        with inside(project), pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda fd, seen=writes: (seen.append(fd), real(fd)))
            out = project / "undisturbed" / name
            assert cislens(*verb.command, "--out", out) == 0
        found[name] = (promised(verb, out), len(writes))
    return found


Undisturbed = dict[str, tuple[dict[str, str], int]]


def refusal(capfd: pytest.CaptureFixture[str]) -> str:
    """The one message of a command that was refused."""
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    messages = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, errors
    return messages[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", VERBS)
def test_a_disk_that_runs_full_ends_a_verb_which_then_goes_on(
    project: Path,
    undisturbed: Undisturbed,
    tmp_path: Path,
    at_write: Callable[..., list[int]],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    verb, (expected, writes) = VERBS[name], undisturbed[name]
    command = (*verb.command, "--out", tmp_path / "out")
    full = OSError(errno.ENOSPC, "No space left on device")
    with inside(project):
        for number in (1, writes // 2, writes - 1):
            asked = at_write(number, full)
            capfd.readouterr()
            code = cislens(*command)
            if len(asked) > number:  # fewer writes are left to one that goes on
                assert code == 2
                message = refusal(capfd)
                assert "full" in message or "pace" in message
            monkeypatch.undo()
        assert cislens(*command) == 0
    assert promised(verb, tmp_path / "out") == expected


@pytest.mark.parametrize("name", VERBS)
def test_a_second_run_into_a_folder_is_refused_and_the_first_unharmed(
    project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    verb = VERBS[name]
    with inside(project), claimed(tmp_path / verb.lock, "busy with"):
        capfd.readouterr()
        assert cislens(*verb.command, "--out", tmp_path / "out") == 2
        message = refusal(capfd)
    assert "another process" in message
    assert str(tmp_path / verb.lock) in message
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["lock"]


@pytest.mark.parametrize("name", VERBS)
def test_a_disk_that_may_only_be_read_is_named(
    project: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    real = os.mkdir

    def mkdir(path: str, *more: object) -> None:
        if str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        real(path, *more)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with inside(project):
        capfd.readouterr()
        assert cislens(*VERBS[name].command, "--out", tmp_path / "out") == 2
        message = refusal(capfd)
    assert str(tmp_path / "out") in message
    assert "Read-only file system" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["profile", "train"])
def test_a_clock_that_moves_backwards_changes_nothing(
    project: Path,
    undisturbed: Undisturbed,
    tmp_path: Path,
    at_write: Callable[..., list[int]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """The first half is written in 2100 by a clock that runs backwards, the second in 1990."""
    verb, (expected, writes) = VERBS[name], undisturbed[name]
    command = (*verb.command, "--out", tmp_path / "out")
    now = 4.1e9

    def backwards() -> float:
        nonlocal now
        now -= 1.0
        return now

    with inside(project):
        at_write(2 * writes // 3, OSError(errno.ENOSPC, "No space left on device"))
        monkeypatch.setattr(time, "time", backwards)
        assert cislens(*command) == 2
        monkeypatch.undo()
        for path in tmp_path.rglob("*"):
            os.utime(path, (4.1e9, 4.1e9))
        now = 6.3e8
        monkeypatch.setattr(time, "time", backwards)
        assert cislens(*command) == 0
    assert promised(verb, tmp_path / "out") == expected


def test_a_loss_that_is_no_number_ends_a_run_and_keeps_its_last_checkpoint(
    project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from cislens.objectives.profile import ProfileObjective

    steps = 0
    real = ProfileObjective.loss

    def loss(self: ProfileObjective, batch: object) -> object:
        nonlocal steps
        found = real(self, batch)
        steps += self.training  # FLOPs are counted on one before the first
        return replace(found, total=found.total * float("nan")) if steps == 4 else found

    monkeypatch.setattr(ProfileObjective, "loss", loss)
    with inside(project):
        assert cislens("train", "train.yaml", "--out", tmp_path / "out") == 2
    message = refusal(capfd)
    for part in ("At step 3", "learning_rate 0.0003", "of step 2", "last.ckpt", "chr1:"):
        assert part in message
    assert (tmp_path / "out" / "checkpoints" / "last.ckpt").exists()
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("fault", ["flipped", "truncated"])
def test_a_damaged_chunk_is_caught_before_it_is_trained_on(
    project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    shutil.copytree(project / "store", tmp_path / "store")
    (tmp_path / "train.yaml").write_text(TRAIN)
    (chunk,) = (tmp_path / "store").glob("species/yeast/targets/c/*/*/*")
    data = bytearray(chunk.read_bytes())
    data[::32] = bytes(byte ^ 1 for byte in data[::32])
    chunk.write_bytes(data if fault == "flipped" else data[: len(data) // 2])
    assert cislens("train", tmp_path / "train.yaml", "--out", tmp_path / "out") == 2
    message = refusal(capfd)
    assert "species/yeast/targets" in message
    if fault == "flipped":
        assert re.search(r"chr1:[\d,]+-[\d,]+", message), message
    assert not (tmp_path / "out" / "model").exists()
