import errno
import hashlib
import shutil
from pathlib import Path

import pytest

from cislens.errors import CislensError, MissingFileError, nearest
from cislens.files import atomic_path, clear_partial, file_digest, require_file, write_atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "table.txt"
    write_atomic(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "store"
    for name in ("first", "second"):
        with atomic_path(target) as aside:
            aside.mkdir()
            (aside / name).touch()
    assert [path.name for path in target.iterdir()] == ["second"]


def test_digest_is_sha256_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192  # longer than one block
    write_atomic(tmp_path / "data", data)
    assert file_digest(tmp_path / "data") == hashlib.sha256(data).hexdigest()


def test_a_missing_file_is_a_user_error_that_names_its_role(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"genome .*x.fa does not exist") as caught:
        require_file(tmp_path / "x.fa", "genome")
    assert isinstance(caught.value, CislensError)
    assert isinstance(caught.value, FileNotFoundError)


def test_nearest_names_one_or_all() -> None:
    assert nearest("chr", ["chr1", "scaffold"]) == "Did you mean 'chr1'?"
    assert nearest("zzz", ["b", "a"]) == "Known: a, b."


def test_what_killed_processes_left_in_a_folder_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".a.npz.0f9c3b21.12.34.partial").write_text("half")
    (tmp_path / ".logos.12.34.partial").mkdir()
    (tmp_path / ".logos.12.34.partial" / "x.svg").write_text("half")
    kept = {"a.npz", ".hidden", ".mine.partial"}
    for name in kept:
        (tmp_path / name).write_text("whole")
    clear_partial(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


WITHOUT_ROOM = {
    "of the system": OSError(errno.ENOSPC, "No space left on device"),
    "of a quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "of a library in Rust": RuntimeError("underlying IO error: No space left (os error 28)"),
}


@pytest.mark.parametrize("said", WITHOUT_ROOM.values(), ids=WITHOUT_ROOM)
def test_a_full_disk_is_one_error_that_names_the_file(tmp_path: Path, said: Exception) -> None:
    with pytest.raises(OSError, match="No space left") as caught, atomic_path(tmp_path / "table"):
        raise said
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "table"))
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_a_write_stay_what_they_are(tmp_path: Path) -> None:
    for said in (OSError("100 requested and 10 written"), PermissionError(13, "denied")):
        with pytest.raises(type(said)) as caught, atomic_path(tmp_path / "table"):
            raise said
        assert caught.value is said


def test_a_short_write_is_of_a_full_disk_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="No space left"), atomic_path(tmp_path / "table"):
        raise OSError("100 requested and 10 written")


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    target = tmp_path / "store"
    with atomic_path(target) as aside:
        name = aside.name
        aside.mkdir()
    (tmp_path / name).mkdir()
    (tmp_path / name / "half").touch()
    with atomic_path(target) as aside:
        aside.mkdir()
        (aside / "whole").touch()
    assert [path.name for path in target.iterdir()] == ["whole"]
    assert list(tmp_path.iterdir()) == [target]
