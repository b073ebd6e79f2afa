"""Enformer from a folder: enformer-pytorch's numbers, both names of a part, the stored table."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cislens.errors import CislensError
from cislens.genome.codes import one_hot
from cislens.nn.positions import RelativeBasis
from cislens.representations.conformance import check
from cislens.representations.huggingface.enformer import KEYS, StoredBasis, load_enformer
from cislens.representations.huggingface.families import load_huggingface
from cislens.representations.huggingface.loading import rename

Folder = Callable[..., Path]

pytestmark = pytest.mark.peers
peer = pytest.importorskip("enformer_pytorch", reason="enformer-pytorch is not installed")

SHAPE: dict[str, Any] = {
    "dim": 48,
    "depth": 2,
    "heads": 2,
    "attn_dim_key": 8,
    "dim_divisible_by": 8,
    "num_downsamples": 4,
    "target_length": -1,
    "output_heads": {"human": 3},
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A random Enformer as enformer-pytorch would save it, each part under one of its names."""

    def make(trunk: bool = False, name: str = "enformer", **changes: Any) -> Path:
        torch.manual_seed(0)
        model = peer.Enformer.from_hparams(**SHAPE, use_tf_gamma=False).eval()
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if key.endswith("running_var"):
                    value.uniform_(0.5, 2)
                elif value.is_floating_point() and (value.ndim == 1 or "to_out" in key):
                    value.normal_(std=0.3)
        parts = ("stem", "conv_tower", "transformer", "final_pointwise")
        keep = ("_trunk",) if trunk else parts
        stored = {
            key: value.clone()
            for key, value in model.state_dict().items()
            if key.startswith((*keep, "_heads"))
        }
        path = tmp_path / name
        path.mkdir()
        (path / "config.json").write_text(json.dumps(SHAPE | {"use_tf_gamma": False} | changes))
        save_file(stored, path / "model.safetensors")
        make.model = model  # type: ignore[attr-defined]
        return path

    return make


def test_features_are_those_of_enformer_pytorch(folder: Folder, tmp_path: Path) -> None:
    found = load_enformer(folder(), "enformer")
    assert found.encoder.config.positions == "feature-axis"
    assert load_huggingface("enformer", tmp_path / "enformer", "x").digest == found.digest
    codes = np.random.default_rng(0).integers(0, 4, (2, 16 * 24)).astype(np.uint8)
    x_B4L = torch.from_numpy(one_hot(codes))
    with torch.no_grad():
        theirs = folder.model(x_B4L.transpose(1, 2), return_only_embeddings=True)  # type: ignore[attr-defined]
        ours = found.encoder(x_B4L).values_BND
    assert theirs.abs().mean() > 0.05
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_only_padding_for_training_is_seen(folder: Folder) -> None:
    """The published positions follow the length, so a padded sequence has other ones."""
    path = folder()
    found = check(load_enformer(path, "x"), lengths=(160, 161, 96, 47))
    assert [finding.check for finding in found] == ["mask"]
    assert check(load_enformer(path, "x"), lengths=(160, 160, 160)) == []
    assert check(load_enformer(path, "x", "bp"), lengths=(160, 161, 96, 47)) == []


def test_either_name_of_a_part_will_do(folder: Folder) -> None:
    one = load_enformer(folder(), "x")
    assert load_enformer(folder(trunk=True, name="trunk"), "x").digest == one.digest
    both = load_file(folder(name="both") / "model.safetensors")
    both["_trunk.1.0.bias"] = both["stem.0.bias"] + 1
    with pytest.raises(CislensError, match=r"two different tensors for tower\.stem\.0\.bias"):
        rename(both, KEYS, "", "both")


def test_positions_follow_the_weights(folder: Folder) -> None:
    """enformer-pytorch trains without TensorFlow's features, the published weights with them."""
    for stored, expected in ((True, "position"), (None, "position"), (False, "feature-axis")):
        path = folder(name=f"tf-{stored}", use_tf_gamma=stored)
        assert load_enformer(path, "x").encoder.config.positions == expected
    assert load_enformer(path, "x", "bp").encoder.config.positions == "bp"


def test_published_table_is_used_at_its_length() -> None:
    """TensorFlow's own table for 1,536 bins, as enformer-pytorch ships it."""
    from enformer_pytorch.modeling_enformer import TF_GAMMAS, get_positional_embed

    theirs = get_positional_embed(1_536, 192, torch.device("cpu"), True)
    made = RelativeBasis(192, "position", 128)
    stored = StoredBasis(made, TF_GAMMAS)
    torch.testing.assert_close(
        stored.table(1_536, torch.device("cpu")), theirs, atol=1e-6, rtol=1e-6
    )
    # Without it the formula in fp64 is off by what fp32 cost TensorFlow.
    off = (made.table(1_536, torch.device("cpu")) - theirs).abs().max()
    assert 1e-3 < off < 3e-3
    cpu = torch.device("cpu")
    assert torch.equal(stored.table(100, cpu), made.table(100, cpu))


def test_a_table_in_the_folder_changes_the_digest(folder: Folder) -> None:
    path = folder()
    plain = load_enformer(path, "x")
    codes = np.random.default_rng(0).integers(0, 4, 16 * 24).astype(np.uint8)
    save_file({"gamma": torch.rand(47, 4)}, path / "gamma_table.safetensors")
    found = load_enformer(path, "x")
    assert found.digest != plain.digest
    assert np.abs(found.embed([codes], None) - plain.embed([codes], None)).max() > 1e-4
    shorter = [codes[: 16 * 20]]
    np.testing.assert_array_equal(found.embed(shorter, None), plain.embed(shorter, None))
    save_file({"gamma": torch.rand(47, 5)}, path / "gamma_table.safetensors")
    with pytest.raises(CislensError, match=r"needs a tensor `gamma` \(2 N - 1, 4\)"):
        load_enformer(path, "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_convnext": True}, "use_convnext is true"),
        ({"dim": None}, "does not say dim"),
        ({"heads": 5}, "describes no Enformer"),
        ({"depth": 3}, "missing: blocks.2"),
    ],
)
def test_other_folders_are_refused(folder: Folder, changes: Any, message: str) -> None:
    with pytest.raises(CislensError, match=message):
        load_enformer(folder(**changes), "x")
