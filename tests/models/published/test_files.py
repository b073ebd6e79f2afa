"""Reading files of tensors: every kind, and what must not be read."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cislens.errors import CislensError, MissingFileError
from cislens.files import file_digest
from cislens.models.published.files import read_checkpoint, write_tensors

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}


def holds(path: Path) -> None:
    found = read_checkpoint(path).tensors
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[key], value) for key, value in TENSORS.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt"])
def test_each_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    write_tensors(path, TENSORS, suffix)
    holds(path)
    holds(tmp_path)  # the one file of its folder
    assert read_checkpoint(path).sha256 == file_digest(path)


def test_weights_nested_in_a_training_checkpoint(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS, "epoch": 3}, tmp_path / "last.ckpt")
    holds(tmp_path / "last.ckpt")


def test_shards(tmp_path: Path) -> None:
    names = {}
    for number, (key, value) in enumerate(TENSORS.items(), 1):
        names[key] = f"model-0000{number}-of-00002.safetensors"
        save_file({key: value}, tmp_path / names[key])
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    holds(tmp_path)
    (tmp_path / names["b"]).unlink()
    with pytest.raises(MissingFileError, match=r"lacks model-00002-of-00002.safetensors"):
        read_checkpoint(tmp_path)
    index.write_text("{}")
    with pytest.raises(CislensError, match="is damaged"):
        read_checkpoint(tmp_path)


def test_torch_shards(tmp_path: Path) -> None:
    """All files that the index names are read, and no other."""
    names = {}
    for number, (key, value) in enumerate(TENSORS.items(), 1):
        names[key] = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({key: value}, tmp_path / names[key])
    torch.save({"lr": 0.1}, tmp_path / "training_args.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    holds(tmp_path)
    assert [file.name for file in read_checkpoint(tmp_path).files] == list(names.values())
    (tmp_path / names["b"]).unlink()
    with pytest.raises(MissingFileError, match=r"lacks pytorch_model-00002.* pytorch_model.bin.in"):
        read_checkpoint(tmp_path)
    index.write_text("{}")
    with pytest.raises(CislensError, match=r"pytorch_model.bin.index.json is damaged"):
        read_checkpoint(tmp_path)


def test_a_tensor_under_two_names_is_written_twice(tmp_path: Path) -> None:
    twice = {"one": TENSORS["a.weight"], "two": TENSORS["a.weight"]}
    for suffix in (".safetensors", ".bin"):
        write_tensors(tmp_path / f"w{suffix}", twice, suffix)
        found = read_checkpoint(tmp_path / f"w{suffix}").tensors
        assert torch.equal(found["one"], found["two"])


class Harmful:
    """A pickle of it runs code when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("import pathlib; pathlib.Path('ran').write_text('ran')",))


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Harmful()}, tmp_path / "w.bin")
    with pytest.raises(CislensError, match="no torch file of plain tensors") as raised:
        read_checkpoint(tmp_path / "w.bin")
    assert "(Unsupported global: GLOBAL exec); it is not read" in str(raised.value)
    assert "\x1b" not in str(raised.value)  # torch's own text has codes of a terminal
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_half_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    write_tensors(path, TENSORS, suffix)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CislensError, match="not a whole"):
        read_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(CislensError, match="not a whole"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("cut", [10, 50, 400, 0.5])
def test_a_torch_file_cut_short(tmp_path: Path, cut: float, zipped: bool) -> None:
    """Bytes, or a share of them, are missing at the end; as torch saves now and up to 1.5."""
    path = tmp_path / "w.pt"
    stored = {"state_dict": {f"k{i}": torch.zeros(9, 9) for i in range(20)}, "epoch": 3}
    torch.save(stored, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - int(cut if cut >= 1 else cut * len(whole))])
    with pytest.raises(CislensError, match=r"w\.pt is not a whole torch file.*; get it again\.$"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "held", [b"\x80\x02.", b"\x80", b"", b"hello", b"\x80\x02]q.", b"PK\x03\x04"]
)
def test_bytes_that_are_no_torch_file(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "w.bin").write_bytes(held)
    with pytest.raises(CislensError, match=r"w\.bin is not a whole torch file") as raised:
        read_checkpoint(tmp_path / "w.bin")
    assert "()" not in str(raised.value)


def test_every_start_of_an_old_torch_file(tmp_path: Path) -> None:
    """Also one that ends within the name of a type, which is then one that is not read."""
    path = tmp_path / "w.pt"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        either = r"not a whole torch file|tensors, or is cut short"
        with pytest.raises(CislensError, match=either):
            read_checkpoint(path)


def test_an_error_of_the_file_system_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    torch.save(TENSORS, tmp_path / "w.bin")
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        read_checkpoint(tmp_path / "w.bin")


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="does not exist"):
        read_checkpoint(tmp_path / "no.bin")
    with pytest.raises(MissingFileError, match=r"holds no model.safetensors"):
        read_checkpoint(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(CislensError, match="no file of tensors by its name"):
        read_checkpoint(tmp_path / "a.txt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CislensError, match="holds no state dict"):
        read_checkpoint(tmp_path / "list.pt")
    save_file(TENSORS, tmp_path / "x.safetensors")
    save_file(TENSORS, tmp_path / "y.safetensors")
    with pytest.raises(CislensError, match=r"several files of weights \(x.safetensors, y.safe"):
        read_checkpoint(tmp_path)
    save_file(TENSORS, tmp_path / "model.safetensors")
    holds(tmp_path)
