"""What files of others claim is checked before it is believed."""

import gzip
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import cislens.untrusted
from cislens.errors import CislensError
from cislens.evaluation.tasks.importers.bed import _sidecar
from cislens.untrusted import inner_name, inside, npz_arrays, plain_bytes, zarr_array


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "", ".", "..", "a/..", "a\0b", "a\nb", 3, None, ["a"]],
)
def test_no_name_leads_out_of_its_folder(tmp_path: Path, name: object) -> None:
    with pytest.raises(CislensError, match="expected the name of a file in its folder"):
        inside(tmp_path, name, "manifest.json")


def test_names_of_files_and_folders_within_are_taken(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b.npy", "m") == tmp_path / "a/b.npy"
    assert inner_name("..a", "m") == "..a"


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "file").write_text("x")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to("..")
    (folder / "here").symlink_to("file")
    (tmp_path / "elsewhere").symlink_to(folder)
    for name in ("out", "up/secret"):
        with pytest.raises(CislensError, match="a link that leads out of"):
            inside(folder, name, "manifest.json")
    assert inside(folder, "here", "m").read_text() == "x"
    assert inside(tmp_path / "elsewhere", "here", "m").read_text() == "x"


def test_text_is_unpacked_to_a_limit_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(5 << 20)))
    assert path.stat().st_size < 1 << 13
    assert plain_bytes(path) == bytes(5 << 20)
    monkeypatch.setattr(cislens.untrusted, "MOST_TEXT", 1 << 20)
    with pytest.raises(CislensError, match="has more than 1,048,576 bytes of text"):
        plain_bytes(path)
    path.write_bytes(path.read_bytes()[:-3])
    monkeypatch.setattr(cislens.untrusted, "MOST_TEXT", 1 << 32)
    with pytest.raises(CislensError, match="truncated or damaged gzip"):
        plain_bytes(path)


def npz_with(path: Path, header: bytes, entry: bytes, **about: int) -> Path:
    """A file of one array whose header and length are what the test says."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header + entry)
    if about:  # both the entry's own head and the directory hold the sizes
        data = bytearray(path.read_bytes())
        for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            at = data.index(mark) + offset
            data[at : at + 4] = about["size"].to_bytes(4, "little")
        path.write_bytes(data)
    return path


def head(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_arrays_are_as_large_as_they_say_or_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(3), b=np.float32(2))
    assert npz_arrays(path, "x")["a"].tolist() == [0, 1, 2]
    for shape in ("(1000000000000,)", "(10, 10)", "(0,)", "(-1,)", "(True, 1)"):
        npz_with(path, head(shape), bytes(40))
        with pytest.raises(CislensError, match=r"is damaged, or no \.npz file"):
            npz_arrays(path, "x")
    npz_with(path, head("(1000000000,)"), bytes(40), size=4_000_000_128)
    with pytest.raises(CislensError, match="would have 4,000,000,128 bytes"):
        npz_arrays(path, "x")
    npz_with(path, head("(10,)"), bytes(40))
    assert npz_arrays(path, "x")["x"].tolist() == [0.0] * 10


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    objects = np.array([Harmful(mark)], object)
    np.savez(tmp_path / "x.npz", x=objects)
    npz_with(tmp_path / "y.npz", head("(1,)", "'|O'"), pickle.dumps(Harmful(mark)).ljust(8, b"."))
    for name in ("x.npz", "y.npz"):
        with pytest.raises(CislensError):
            npz_arrays(tmp_path / name, "x")
    assert not mark.exists()
    np.load(tmp_path / "x.npz", allow_pickle=True)["x"]
    assert mark.exists()  # the file would have been harmful


def write_zarr(folder: Path, **changes: Any) -> Path:
    zarr.create_array(folder, data=np.ones((4, 3), np.float32), chunks=(2, 3), compressors=None)
    meta = json.loads((folder / "zarr.json").read_text())
    (folder / "zarr.json").write_text(json.dumps(meta | changes))
    return folder


def test_arrays_of_zarr_are_as_their_manifest_says(tmp_path: Path) -> None:
    assert zarr_array(write_zarr(tmp_path / "a"), (4, 3), "float32")[...].sum() == 12
    huge = write_zarr(tmp_path / "b", shape=[10**12, 3])
    with pytest.raises(CislensError, match=r"expected float32 \[4, 3\]"):
        zarr_array(huge, (4, 3), "float32")
    with pytest.raises(CislensError, match="its chunks have 48 bytes, expected at least 12,000"):
        zarr_array(huge, (10**12, 3), "float32")
    packed = [{"name": "gzip", "configuration": {"level": 1}}]
    with pytest.raises(CislensError, match="by gzip, expected float32"):
        zarr_array(write_zarr(tmp_path / "c", codecs=packed), (4, 3), "float32")
    with pytest.raises(CislensError, match="by gzip, sharding_indexed"):
        inner = [{"name": "sharding_indexed", "configuration": {"codecs": packed}}]
        zarr_array(write_zarr(tmp_path / "d", codecs=inner), (4, 3), "float32")


def test_an_array_of_zarr_v2_is_not_opened_whose_filter_unpickles(tmp_path: Path) -> None:
    mark, folder = tmp_path / "ran", tmp_path / "a"
    folder.mkdir()
    meta = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None,
        "fill_value": None, "order": "C", "filters": [{"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(meta))
    (folder / "0").write_bytes(pickle.dumps(Harmful(mark)))
    with pytest.raises(CislensError, match=r"zarr\.json does not exist"):
        zarr_array(folder, (1,), "float32")
    write_zarr(tmp_path / "b")
    (tmp_path / "b" / "zarr.json").rename(folder / "zarr.json")
    with pytest.raises(CislensError):
        zarr_array(folder, (1,), "float32")
    assert not mark.exists()


def test_labels_in_hdf5_are_numbers_of_the_file_itself(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(range(64)))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["y"] = np.ones(3)
    path = tmp_path / "labels.h5"
    with h5py.File(path, "w") as handle:
        handle["y"] = np.ones((3, 2))
        handle["linked"] = h5py.ExternalLink("other.h5", "y")
        external = [(str(tmp_path / "secret"), 0, 64)]
        handle.create_dataset("outside", (8,), "f8", external=external)
        handle.create_dataset("huge", (10**12,), "f8", chunks=(1024,))
        handle["words"] = ["a", "b"]
        handle.create_group("group")
    assert _sidecar(path, "y").shape == (3, 2)
    for name in ("linked", "outside", "group"):
        with pytest.raises(CislensError, match="is no dataset of this file itself"):
            _sidecar(path, name)
    for name in ("huge", "words"):
        with pytest.raises(CislensError, match="expected numbers that fit into memory"):
            _sidecar(path, name)
