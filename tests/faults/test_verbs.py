"""Every long verb meets a full disk, one that is read-only, another run of itself, other clocks.

A fault is put where every writer passes: `os.fsync`, without which nothing is called written.
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.verbs import TRAIN, VERBS, Undisturbed, cislens, inside, promised, refusal

from cislens.files import claimed


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
