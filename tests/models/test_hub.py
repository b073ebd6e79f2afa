"""Model folders go to a hub and come back; nothing else does, and every refusal is said."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.models.hub_server import Hub, serving

from cislens.errors import CislensError, MissingFileError
from cislens.models.hub import FILES, folder_of, pull, push
from cislens.models.presets import encoder_config
from cislens.models.saving import load_model, save_model
from cislens.models.sequence import SequenceModel, SequenceModelConfig

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra hf is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = SequenceModelConfig(encoder=encoder_config("findna-plus-tiny", ("yeast",)))
    save_model(SequenceModel(config), tmp_path / "model", "---\nlicense: mit\n---\n# A card\n")
    return tmp_path / "model"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    constants = huggingface_hub.constants
    with serving() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            served.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield served


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_stands_in_for_a_hub(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    moved = push(folder, f"{tmp_path}/hub/yeast")
    assert moved.left_out == ("notes.txt",)
    pulled = pull(f"{tmp_path}/hub/yeast", tmp_path / "again")
    (folder / "notes.txt").unlink()
    assert contents(tmp_path / "again") == contents(folder)
    assert pulled.files == moved.files
    assert pulled.commit is None
    card = huggingface_hub.ModelCard.load(tmp_path / "hub/yeast/README.md")
    assert card.data.license == "mit"


def test_what_the_hub_gets_is_the_model_folder_and_comes_back_the_same(
    folder: Path, hub: Hub, tmp_path: Path
) -> None:
    (folder / "secrets.env").write_text("TOKEN=1")
    (folder / "checkpoints").mkdir()
    moved = push(folder, "lab/yeast")
    assert moved.left_out == ("checkpoints", "secrets.env")
    assert moved.commit == hub.commit("lab/yeast")
    assert set(hub.files["lab/yeast"]) == set(FILES) - {"data.json"}
    assert hub.private == {"lab/yeast": True}
    hub.files["lab/yeast"]["run.py"] = b"import os"
    pulled = pull("lab/yeast", tmp_path / "again")
    assert pulled.commit == hub.commit("lab/yeast")
    assert pulled.files == moved.files
    assert "run.py" not in contents(tmp_path / "again")
    assert not any(path.is_symlink() for path in (tmp_path / "again").iterdir())
    a, b = load_model(folder).state_dict(), load_model(tmp_path / "again").state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    # Once more, into the same repository.
    assert push(folder, "lab/yeast", public=True).commit == hub.commit("lab/yeast")
    assert hub.private == {"lab/yeast": True}


def test_what_does_not_load_takes_no_place(folder: Path, hub: Hub, tmp_path: Path) -> None:
    push(folder, "lab/yeast")
    out = tmp_path / "out"
    pull("lab/yeast", out)
    before = contents(out)
    weights = hub.files["lab/yeast"]["model.safetensors"]
    hub.files["lab/yeast"]["model.safetensors"] = weights[:-8]
    with pytest.raises(CislensError, match=r"lab/yeast is not taken: .*safetensors"):
        pull("lab/yeast", out)
    hub.files["lab/yeast"].pop("model.safetensors")
    hub.files["lab/yeast"]["pytorch_model.bin"] = b"a pickle"
    with pytest.raises(CislensError, match=r"lab/yeast is not taken: model weights .*not exist"):
        pull("lab/yeast", out)
    assert contents(out) == before
    assert {path.name for path in tmp_path.iterdir()} == {"model", "cache", "out"}


def test_what_the_hub_refuses_is_said(
    folder: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CislensError, match="the hub has no lab/nothing that you may see"):
        pull("lab/nothing", tmp_path / "out")
    push(folder, "lab/yeast")
    with pytest.raises(CislensError, match="lab/yeast has no revision 'v9'"):
        pull("lab/yeast", tmp_path / "out", "v9")
    hub.token = "secret"
    with pytest.raises(CislensError, match=r"does not permit this\. Log in"):
        push(folder, "lab/yeast")
    monkeypatch.setenv("HF_TOKEN", "secret")
    push(folder, "lab/yeast")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    with pytest.raises(CislensError, match=r"lab/other: the hub cannot be reached"):
        pull("lab/other", tmp_path / "out")
    with pytest.raises(CislensError, match=r"lab/yeast: the hub cannot be reached"):
        push(folder, "lab/yeast")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CislensError, match="HF_HUB_OFFLINE is set"):
        push(folder, "lab/yeast")
    assert not (tmp_path / "out").exists()


def test_only_a_model_folder_is_pushed(folder: Path, tmp_path: Path) -> None:
    to = f"{tmp_path}/hub"
    with pytest.raises(MissingFileError, match="model configuration"):
        push(tmp_path, to)
    (tmp_path / "secret").write_text("key")
    (folder / "README.md").unlink()
    with pytest.raises(CislensError, match=r"no README\.md, the model card"):
        push(folder, to)
    (folder / "README.md").symlink_to("../secret")
    with pytest.raises(CislensError, match="a link that leads out of"):
        push(folder, to)
    with pytest.raises(CislensError, match="a link that leads out of"):
        pull(f"{folder}", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "secret"}


def test_no_folder_but_a_model_is_replaced(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    for act in (lambda: push(folder, str(other)), lambda: pull(str(folder), other)):
        with pytest.raises(CislensError, match=r"holds 'thesis\.tex' and no model"):
            act()
    with pytest.raises(CislensError, match=r"lies in .* itself"):
        push(folder, f"{folder}/inner")
    with pytest.raises(CislensError, match="which has no revisions"):
        pull(str(folder), tmp_path / "out", "main")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(CislensError, match=r"is not taken: config\.json has format 99"):
        pull(str(folder), tmp_path / "out")


@pytest.mark.parametrize("name", ["yeast", "a/b/c", "lab/", "-lab/x", "http://x/y", "lab/ye ast"])
def test_a_name_is_a_repository_or_clearly_a_folder(name: str) -> None:
    with pytest.raises(CislensError, match="neither OWNER/NAME"):
        folder_of(name)
    assert folder_of("./yeast") == Path("yeast")
    assert folder_of("..") == Path("..")
    assert folder_of("lab/yeast.v2") is None
