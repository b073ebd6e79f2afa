"""The model folder: a round trip, and each way in which a folder can be wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cislens.errors import CislensError, MissingFileError
from cislens.models.genebert.contract import RegionContext
from cislens.models.genebert.multimodal import MultimodalConfig, MultimodalModel
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.models.saving import load_model, load_profile_model, save_model

COUNTER = "encoder.tower.stem.1.inner.norm.num_batches_tracked"
SMALL: dict[str, Any] = {
    "dim": 24,
    "stem_dim": 12,
    "depth": 1,
    "heads": 2,
    "key_dim": 8,
    "width_multiple": 4,
    "bin_size": 16,
}


@pytest.fixture
def model() -> ProfileModel:
    torch.manual_seed(0)
    net = build_model(preset_config("space-plus-tiny", {"yeast": ("a", "b")}, crop=1, **SMALL))
    net(torch.rand(2, 4, 128))  # moves the batch norm statistics
    return net.eval()


@pytest.fixture
def folder(model: ProfileModel, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "model", "# A card\n")
    return tmp_path / "model"


def test_round_trip_is_exact(model: ProfileModel, folder: Path) -> None:
    loaded = load_model(folder)
    assert loaded.config == model.config
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    x = torch.rand(2, 4, 300)
    assert torch.equal(loaded(x), model(x))
    assert all(p.requires_grad for p in loaded.parameters())


def test_folder_has_the_hugging_face_shape_and_no_pickles(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert (folder / "README.md").read_text() == "# A card\n"
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "cislens-profile"
    assert config["config"]["heads"][0]["tracks"] == ["a", "b"]


def test_saving_again_replaces_and_gives_the_same_bytes(model: ProfileModel, folder: Path) -> None:
    first = (folder / "model.safetensors").read_bytes()
    save_model(model, folder, "# Another card\n")
    assert (folder / "model.safetensors").read_bytes() == first
    assert (folder / "README.md").read_text() == "# Another card\n"
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def change_weights(folder: Path, change: Any) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("encoder.codes.0"), "1 missing: encoder.codes.0"),
        (lambda w: w.update(surplus=torch.zeros(2)), "1 not of this model: surplus"),
        (
            lambda w: w.update({"heads.0.bias": torch.zeros(3)}),
            r"heads.0.bias \(found \(3,\), expected \(2,\)\)",
        ),
        (
            lambda w: w.update({"heads.0.bias": torch.zeros(2).half()}),
            r"1 of another type: heads.0.bias \(found float16, expected float32\)\.",
        ),
        (
            lambda w: w.update({COUNTER: w[COUNTER].int()}),
            r"1 of another type: .*num_batches_tracked \(found int32, expected int64\)\.",
        ),
        (
            lambda w: w.update({k: v.double() for k, v in w.items() if k.startswith("heads.")}),
            r"2 of another type: heads.0.* \(found float64, expected float32\), heads",
        ),
        (lambda w: [w.pop(k) for k in list(w)[:9]], "9 missing: .* and 4 more"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder: Path, change: Any, message: str) -> None:
    change_weights(folder, change)
    with pytest.raises(CislensError, match=message):
        load_model(folder)


def test_missing_and_damaged_files(folder: Path) -> None:
    with pytest.raises(MissingFileError, match=r"model folder .* does not exist"):
        load_model(folder / "nowhere")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CislensError, match="not a whole safetensors file"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match="model weights"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(CislensError, match="is not JSON"):
        load_model(folder)


def test_foreign_configurations(folder: Path) -> None:
    path = folder / "config.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, "format": 99}))
    with pytest.raises(CislensError, match="format 99; this cislens reads 2"):
        load_model(folder)
    path.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CislensError, match="does not describe a model of cislens"):
        load_model(folder)
    path.write_text(json.dumps({**good, "config": {**good["config"], "crops": 3}}))
    with pytest.raises(CislensError, match=r"unknown key 'crops'\. Did you mean 'crop'"):
        load_model(folder)


def test_only_a_model_folder_or_an_empty_one_is_replaced(
    model: ProfileModel, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    save_model(model, tmp_path / "empty", "# In an empty folder\n")
    assert load_model(tmp_path / "empty").config == model.config
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(CislensError, match=r"other is a folder that holds 'notes\.txt' and no"):
        save_model(model, other, "# A card\n")
    for config in ("{", "[]", '{"model_type": "bert"}'):
        (other / "config.json").write_text(config)
        with pytest.raises(CislensError, match="choose another folder, it would be replaced"):
            save_model(model, other, "# A card\n")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CislensError, match="file is a file"):
        save_model(model, tmp_path / "file", "# A card\n")
    assert (other / "notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "other"]


@pytest.mark.parametrize(
    ("encoder", "regions", "match"),
    [
        ({"kind": "genebert-plus", "dim": 16, "depth": 1, "heads": 2}, "tokens", "cross"),
        ({"kind": "genebert-paper", "dim": 16, "depth": 1, "heads": 2, "k": 3}, "mean", "mlp"),
        ({"kind": "genebert-plus", "dim": 16, "depth": 1, "heads": 2}, "swin", "mlp"),
    ],
    ids=["tokens", "mean", "swin"],
)
def test_a_multimodal_model_comes_back_exactly(
    encoder: dict[str, Any], regions: str, match: str, tmp_path: Path
) -> None:
    if regions == "swin":
        pytest.importorskip("transformers", reason="Swin comes with the extra multimodal")
    shapes = {
        "tokens": {"dim": 16, "depth": 1, "heads": 2},
        "mean": {"dim": 16},
        "swin": {"dim": 8, "depths": (1,), "heads": (2,)},
    }
    config = MultimodalConfig.model_validate({
        "encoder": encoder, "regions": {"kind": regions, **shapes[regions]},
        "motifs": tuple(f"M{number}" for number in range(5)), "width": 64, "context": 4,
        "expression": True, "constants": "0" * 64, "match": match, "joint_dim": 16,
    })  # fmt: skip
    torch.manual_seed(0)
    model = MultimodalModel(config).eval()
    save_model(model, tmp_path / "model", "# A card\n")
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded, MultimodalModel)
    assert loaded.config == config
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    x, context = torch.eye(4)[torch.randint(4, (2, 64))].mT, regions_around(2, 4, 5)
    with torch.no_grad():
        assert torch.equal(loaded.encoder(x).values_BND, model.encoder(x).values_BND)
        assert torch.equal(loaded.joint(x, context), model.joint(x, context))
    stored = json.loads((tmp_path / "model" / "config.json").read_text())
    assert stored["model_type"] == "cislens-multimodal"
    with pytest.raises(CislensError, match="holds a MultimodalModel, which predicts no profiles"):
        load_profile_model(tmp_path / "model")
    first = (tmp_path / "model" / "model.safetensors").read_bytes()
    save_model(loaded, tmp_path / "again", "# A card\n")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == first


def regions_around(loci: int, regions: int, motifs: int) -> RegionContext:
    """Random contexts whose last region is padding."""
    nothing = torch.zeros(loci, regions, dtype=torch.bool)
    pad = torch.arange(regions).expand(loci, -1) == regions - 1
    return RegionContext(
        row_BR=torch.arange(loci * regions).reshape(loci, regions),
        motif_BRT=torch.randn(loci, regions, motifs),
        access_BR=torch.randn(loci, regions),
        expression_BT=torch.randn(loci, motifs),
        offset_BR=1000.0 * torch.arange(regions).expand(loci, -1),
        pad_BR=pad,
        center_B=torch.ones(loci, dtype=torch.int64),
        hidden_BR=nothing,
        access_hidden_BR=nothing,
        gc_B=torch.full((loci,), 0.4),
    )
