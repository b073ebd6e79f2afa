"""`cislens data basenji` on a folder of two records that is written here."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from cislens.cli.app import main
from cislens.signal.store import ProfileStore

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("data", "basenji", ...)` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cislens", "data", "basenji", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capfd.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


def field(number: int, payload: bytes) -> bytes:
    size = len(payload)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([number << 3 | 2]) + length + payload


def checked(part: bytes) -> bytes:
    crc = google_crc32c.value(part)
    return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def records(path: Path, codes: np.ndarray, targets: np.ndarray) -> None:
    """Records of codes (n, L) and float32 targets (n, bins, T)."""
    raw = b""
    for row, bins in zip(codes, targets, strict=True):
        entries = b""
        for name, data in (("sequence", row.tobytes()), ("target", bins.tobytes())):
            value = field(2, field(1, field(1, data)))
            entries += field(1, field(1, name.encode()) + value)
        example = field(1, entries)
        length = len(example).to_bytes(8, "little")
        raw += length + checked(length) + example + checked(example)
    path.write_bytes(zlib.compress(raw))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two windows of 512 bp, four bins of 128 bp, two tracks."""
    rng = np.random.default_rng(1)
    found = tmp_path / "yeast"
    found.mkdir()
    codes = rng.integers(0, 4, (2, 512)).astype(np.uint8)
    targets = rng.gamma(1, 1, (2, 4, 2)).astype("<f4")
    records(found / "train-0.tfr", codes[:1], targets[:1])
    records(found / "test-0.tfr", codes[1:], targets[1:])
    np.save(found / "targets.npy", targets)
    (found / "targets.txt").write_text(
        "identifier\tfile\tclip\tscale\tsum_stat\tdescription\n"
        "a\ta.w5\t32\t2\tmean\tCHIP:.:x\nb\tb.w5\t384\t1\tsum\tCAGE:x\n"
    )
    return found


def test_a_folder_becomes_a_store(
    run: Run, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "store"
    code, _, err = run(folder, "--species", "yeast", "--out", out, "--crop", 0, "--dry-run")
    assert code == 0, err
    assert not out.exists()
    code, answer, err = run(folder, "--species", "yeast", "--out", out, "--crop", 0, "--json")
    assert code == 0, err
    said = json.loads(answer)
    assert said["windows"] == {"yeast": 2}
    assert said["species"]["yeast"]["files"] == {"train": 1, "valid": 0, "test": 1}
    assert said["species"]["yeast"]["stored_as"] == "float32"
    assert "has no record for valid" in caplog.text
    store = ProfileStore.open(out)
    assert said["digest"] == store.digest
    expected = np.load(folder / "targets.npy").astype(np.float16)
    np.testing.assert_array_equal(store.targets("yeast", [0, 1]), expected)
    assert [t.group for t in store.tracks("yeast").rows()] == ["TF", "CAGE"]


def test_two_folders_are_two_species(run: Run, folder: Path, tmp_path: Path) -> None:
    table = folder / "targets.txt"
    code, _, err = run(
        folder, folder, "--species", "one", "--species", "two", "--targets", table,
        "--targets", table, "--out", tmp_path / "store", "--crop", 0,
    )  # fmt: skip
    assert code == 0, err
    assert ProfileStore.open(tmp_path / "store").species == ("one", "two")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--species", "a", "--species", "b"], "1 folders were given and 2 times --species"),
        (["--species", "a", "--genome", "x", "--genome", "y"], "2 times --genome"),
        (["--species", "a/b"], "species name 'a/b' cannot name a folder"),
        (["--species", "a", "--targets", "nowhere.txt"], "nowhere.txt does not exist"),
        (["--species", "a", "--length", "1024"], "give the genome they come from"),
        (["--species", "a", "--length", "640"], "choose 512 or 768"),
        (["--species", "a", "--bin-size", "100"], "expected 500 or 600"),
    ],
)
def test_a_mistake_is_one_message(
    run: Run, folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, out, err = run(folder, *arguments, "--crop", 0, "--out", tmp_path / "store")
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("store*"))


def test_a_table_of_other_species_is_named(run: Run, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "tracks.tsv"
    table.write_text("id\tfile\tspecies\na\tf\tfly\nb\tf\tfly\n")
    code, _, err = run(
        folder, "--species", "yeast", "--targets", table, "--out", tmp_path / "store"
    )
    assert code == 2
    assert "has no track of species 'yeast'; it names fly" in err


def test_a_damaged_file_is_named(run: Run, folder: Path, tmp_path: Path) -> None:
    path = folder / "test-0.tfr"
    raw = bytearray(zlib.decompress(path.read_bytes()))
    raw[100] ^= 4
    path.write_bytes(zlib.compress(raw))
    code, _, err = run(folder, "--species", "yeast", "--crop", 0, "--out", tmp_path / "store")
    assert code == 2
    assert "test-0.tfr record 0 (byte 0): the checksum of its data is wrong" in err
