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
    with pytest.raises(CislensError, match="no torch file of plain tensors"):
        read_checkpoint(tmp_path / "w.bin")
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
