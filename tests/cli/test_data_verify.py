"""`cislens data verify`: every kind of store against the digests in its manifest."""

import json
from pathlib import Path

import pytest

from cislens.cli.app import main
from cislens.signal.store import ProfileStore


def test_a_whole_store_is_told_and_a_flipped_bit_ends_with_its_window(
    small_store: ProfileStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def verify(path: Path) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["cislens", "data", "verify", str(path), "--json"])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capfd.readouterr()

    copy = tmp_path / "copy"
    for file in small_store.path.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(small_store.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    code, told, _ = verify(copy)
    assert code in (0, None)
    assert json.loads(told)["files"] == len(small_store.manifest["files"])
    species = small_store.species[0]
    name = f"species/{species}/targets/c/0/0/0"
    data = bytearray((copy / name).read_bytes())
    data[0] ^= 1
    (copy / name).write_bytes(data)
    code, told, _ = verify(copy)
    assert code == 2
    error = json.loads(told)["error"]
    chrom, start, end = small_store.windows(species).row(0)[:3]
    assert f"{chrom}:{start}-{end}" in error
    assert name in error
