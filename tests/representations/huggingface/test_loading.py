"""Model folders: what is refused, with which words, and what a healthy one gives."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cislens.errors import CislensError, MissingFileError
from cislens.extras import extra
from cislens.genome.codes import encode
from cislens.representations.huggingface.families import load_huggingface, write_parity
from cislens.representations.huggingface.loading import audit, constants

Folder = Callable[..., Path]
FAMILY = "nucleotide-transformer"


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    return folder


def test_an_unknown_family_names_the_nearest(nt_folder: Folder) -> None:
    with pytest.raises(CislensError, match="Did you mean 'nucleotide-transformer'"):
        load_huggingface("nucleotide-transfomer", nt_folder(), "x")
    with pytest.raises(CislensError, match=r"caduceus is not read in-process: .*worker"):
        load_huggingface("caduceus", nt_folder(), "x")


def test_learned_positions_that_a_rotary_model_does_not_use_are_left_out(nt_folder: Folder) -> None:
    plain = load_huggingface(FAMILY + "-v2", nt_folder(2), "x")
    stored = {"esm.embeddings.position_embeddings.weight": torch.zeros(42, 16)}
    folder = edit(nt_folder(2, name="more"), lambda w: w.update(stored))
    assert load_huggingface(FAMILY + "-v2", folder, "x").digest == plain.digest


def test_a_pickle_is_refused_with_advice(nt_folder: Folder) -> None:
    folder = nt_folder()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CislensError, match=r"pickle \(pytorch_model.bin\).*Convert it once"):
        load_huggingface(FAMILY, folder, "x")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(MissingFileError, match=r"no model.safetensors"):
        load_huggingface(FAMILY, folder, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("esm.encoder.layer.1.output.dense.bias"), "1 missing: blocks.1.narrow"),
        (lambda w: w.update({"esm.extra": torch.zeros(1)}), "does not have: esm.extra"),
        (
            lambda w: w.update({"lm_head.bias": torch.zeros(3)}),
            r"another shape: head.bias \(found \(3,\)",
        ),
        (
            lambda w: w.update({"lm_head.decoder.bias": torch.zeros(25)}),
            "two different tensors for head.bias",
        ),
        (lambda w: w["lm_head.bias"].fill_(torch.nan), "head.bias is not finite"),
    ],
)
def test_every_tensor_is_accounted_for(nt_folder: Folder, change: Any, message: str) -> None:
    with pytest.raises(CislensError, match=message):
        load_huggingface(FAMILY, edit(nt_folder(), change), "x")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "config.json is not JSON"),
        ("config.json", "[]", "no JSON object"),
        ("model.safetensors", "garbage", "not a whole safetensors file"),
        ("vocab.txt", "<unk>\n<pad>\n<mask>\n<cls>\nA\nC\nG\nT\nA\n", "holds a token twice"),
        ("vocab.txt", "<unk>\n<pad>\n<mask>\n<cls>\nAA\nA\nC\nG\nT\nN\n", "expected 16"),
        ("cislens_parity.json", "{}", "is damaged"),
    ],
)
def test_damaged_files_are_named(nt_folder: Folder, name: str, text: str, message: str) -> None:
    folder = nt_folder()
    (folder / name).write_text(text)
    with pytest.raises(CislensError, match=message):
        load_huggingface(FAMILY, folder, "x")


def test_a_config_of_another_type_or_without_a_key_is_named(nt_folder: Folder) -> None:
    folder = nt_folder()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}))
    with pytest.raises(CislensError, match="hidden_size is 'wide', expected int"):
        load_huggingface(FAMILY, folder, "x")
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CislensError, match="hidden_size is None"):
        load_huggingface(FAMILY, folder, "x")


def test_missing_folder_and_missing_tokenizer(nt_folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="model folder"):
        load_huggingface(FAMILY, tmp_path / "none", "x")
    folder = nt_folder()
    (folder / "vocab.txt").unlink()
    with pytest.raises(MissingFileError, match=r"no tokenizer file \(vocab.txt\)"):
        load_huggingface(FAMILY, folder, "x")


def test_shards_are_read_together_and_a_lost_one_is_named(nt_folder: Folder) -> None:
    whole = load_huggingface(FAMILY, nt_folder(), "x")
    folder = nt_folder(name="shards")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[::2]}
    parts["model-00002-of-00002.safetensors"] = names[1::2]
    for part, keys in parts.items():
        save_file({key: weights[key].contiguous() for key in keys}, folder / part)
    index = {"weight_map": {key: part for part, keys in parts.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_huggingface(FAMILY, folder, "x").digest == whole.digest
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(MissingFileError, match="lacks model-00002-of-00002"):
        load_huggingface(FAMILY, folder, "x")


def test_half_precision_weights_are_used_in_float32(nt_folder: Folder) -> None:
    folder = edit(nt_folder(), lambda w: w.update({k: v.half() for k, v in w.items()}))
    found = load_huggingface(FAMILY, folder, "x")
    assert {p.dtype for p in found.model.parameters()} == {torch.float32}


def test_a_bare_encoder_loads_without_its_prefix_and_has_no_likelihood(nt_folder: Folder) -> None:
    def bare(weights: dict[str, torch.Tensor]) -> None:
        for key in list(weights):
            value = weights.pop(key)
            if key.startswith("esm."):
                weights[key.removeprefix("esm.")] = value

    with_head = load_huggingface(FAMILY, nt_folder(), "x")
    without = load_huggingface(FAMILY, edit(nt_folder(name="bare"), bare), "x")
    assert not hasattr(without, "base_log_probabilities")
    sequences = [encode("ACGTTGCA")]
    np.testing.assert_array_equal(without.embed(sequences, None), with_head.embed(sequences, None))


def test_stored_outputs_must_be_reproduced(nt_folder: Folder) -> None:
    folder = nt_folder()
    write_parity(load_huggingface(FAMILY, folder, "x"), folder, ["ACGT", "ACGNNT", "TTTGACA"])
    load_huggingface(FAMILY, folder, "x")
    edit(folder, lambda w: w["esm.encoder.emb_layer_norm_after.bias"].add_(0.01))
    with pytest.raises(CislensError, match=r"does not reproduce .*cislens_parity.json: off by"):
        load_huggingface(FAMILY, folder, "x")


class Counting(torch.nn.Module):
    """One stored buffer, one that is not stored, one plain tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stored", torch.zeros(2))
        self.register_buffer("made", torch.arange(3.0), persistent=False)
        self.plain = torch.ones(2)


def test_audit_names_what_a_constructor_would_not_make() -> None:
    model, fresh = Counting(), constants(Counting())
    assert set(fresh) == {"made", "plain"}
    assert audit(model, fresh) == []
    model.made[1] = 7
    model.plain = torch.tensor([torch.inf, 1])
    assert audit(model, fresh) == [
        "made is not what the constructor makes it",
        "plain is not finite",
    ]
    with torch.device("meta"):
        hollow = Counting()
    assert [problem.split()[0] for problem in audit(hollow, fresh)] == ["made", "plain", "stored"]
    assert all("meta" in problem for problem in audit(hollow, fresh))


def test_digest_follows_weights_and_tokenizer(nt_folder: Folder) -> None:
    one = load_huggingface(FAMILY, nt_folder(), "x")
    assert one.digest == load_huggingface(FAMILY, nt_folder(), "y").digest
    changed = edit(nt_folder(name="z"), lambda w: w["lm_head.bias"].add_(1))
    assert one.digest != load_huggingface(FAMILY, changed, "x").digest
    assert one.digest != one.twin(0).digest != one.twin(1).digest
    words = (changed / "vocab.txt").read_text().splitlines()
    words[4], words[5] = words[5], words[4]
    other = nt_folder(name="w")
    (other / "vocab.txt").write_text("\n".join(words))
    assert one.digest != load_huggingface(FAMILY, other, "x").digest


def test_controls_keep_the_shape_and_change_what_they_say(nt_folder: Folder) -> None:
    trained = load_huggingface(FAMILY, nt_folder(), "x")
    before = trained.model.state_dict()
    shuffled = trained.control("shuffle", 0).model.state_dict()
    mixed = trained.control("embed", 0).model.state_dict()
    assert before.keys() == shuffled.keys() == mixed.keys()
    key = "blocks.1.query.weight"
    assert not torch.equal(shuffled[key], before[key])
    assert torch.equal(shuffled[key].flatten().sort()[0], before[key].flatten().sort()[0])
    assert [k for k in before if not torch.equal(before[k], mixed[k])] == ["tokens.weight"]
    assert trained.twin(3).parameters == trained.parameters
    assert trained.twin(3).kind == "random"


def test_libraries_of_the_extra_are_imported_when_needed() -> None:
    code = "import sys, cislens.representations.huggingface.families\n"
    code += "print(sorted({'transformers', 'tokenizers', 'peft'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_missing_extra_says_how_to_install_it() -> None:
    with pytest.raises(CislensError, match=r"pip install 'cislens\[hf\]'"):
        extra("a_package_that_is_not_there", "hf")
    assert extra("json", "hf") is json


def test_symbols_without_a_token_are_counted_and_told(
    nt_folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder = nt_folder()
    found = load_huggingface(FAMILY, folder, "x")
    found.embed([encode("ACGNACGT")], None)
    assert found.remapped == {}
    found.tokenize("ACGRT")
    found.embed([encode("ACG")], None)
    assert found.remapped == {"R": 1}
    assert "1 times R" in caplog.text
