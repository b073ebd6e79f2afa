"""What holds for every family: published sizes, tuning, adapters, bins of long sequences."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cislens.errors import CislensError
from cislens.genome.codes import encode
from cislens.representations.huggingface.dnabert2 import MosaicBert, MosaicShape
from cislens.representations.huggingface.embedding import LanguageModelEmbedding
from cislens.representations.huggingface.families import FAMILIES, load_huggingface
from cislens.representations.huggingface.gpn import ConvNet, ConvNetShape
from cislens.representations.huggingface.hyenadna import Hyena, HyenaShape
from cislens.representations.huggingface.nucleotide_transformer import (
    EsmShape,
    NucleotideTransformer,
)

SIZES: list[tuple[Any, Any, str, int]] = [
    (
        NucleotideTransformer,
        EsmShape(4105, 2560, 32, 20, 10240, 1002, gated=False, has_head=True, tied=False),
        "NT 2.5B",
        2_500_000_000,
    ),
    (
        NucleotideTransformer,
        EsmShape(
            *(4107, 1024, 29, 16, 4096, 2050),
            gated=True,
            has_head=True,
            tied=False,
            position_embedding_type="rotary",
            add_bias_fnn=False,
        ),
        "NT v2 500M",
        500_000_000,
    ),
    (
        MosaicBert,
        MosaicShape(4096, 768, 12, 12, 3072, has_head=True, tied=True),
        "DNABERT-2",
        117_000_000,
    ),
    (
        Hyena,
        HyenaShape(256, 8, 1024, 160_002, 12, has_head=True),
        "HyenaDNA 160k (-hf)",
        12_900_000,
    ),
    (ConvNet, ConvNetShape(7, 512, 25, has_head=True), "GPN brassicales", 65_900_000),
]


@pytest.mark.parametrize(("kind", "shape", "name", "published"), SIZES, ids=[s[2] for s in SIZES])
def test_parameters_of_published_models(kind: Any, shape: Any, name: str, published: int) -> None:
    """Counts as their model pages give them; 2 % for what the names round."""
    with torch.device("meta"):
        count = sum(p.numel() for p in kind(shape).parameters())
    assert abs(count / published - 1) < 0.02


@pytest.fixture(params=sorted(FAMILIES))
def loaded(request: pytest.FixtureRequest) -> LanguageModelEmbedding:
    """A tiny model of each family."""
    family = request.param
    if family == "modernbert":
        pytest.importorskip("transformers", reason="transformers is not installed")
    if family == "dnabert2":
        pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    fixture = "nt_folder" if family.startswith("nucleotide") else f"{family}_folder"
    make = request.getfixturevalue(fixture)
    folder = make(2) if family == "nucleotide-transformer-v2" else make()
    return load_huggingface(family, folder, family)


@pytest.mark.peers
def test_a_tuned_copy_trains_all_and_leaves_the_original(loaded: LanguageModelEmbedding) -> None:
    before = {key: value.clone() for key, value in loaded.model.state_dict().items()}
    network = loaded.network().train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    values, weight = network(loaded.collate([encode("ACGTTGACCA"), encode("GATTACA")], None))
    assert weight.sum(1).tolist() == [10, 7]
    (values * weight[..., None]).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    optimizer.step()
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, before[key])
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    for target in loaded.lora_targets:
        assert any(name.endswith(f".{target}") for name in linear)


@pytest.mark.peers
def test_adapters_go_onto_the_named_layers(loaded: LanguageModelEmbedding) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    config = peft.LoraConfig(r=2, target_modules=list(loaded.lora_targets))
    network = peft.get_peft_model(loaded.network(), config)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    batch = loaded.collate([encode("ACGTTGACCA")], None)
    values, _ = network(batch)
    assert values.isfinite().all()


@pytest.mark.peers
def test_controls_of_every_family(loaded: LanguageModelEmbedding) -> None:
    sequences = [encode("ACGTTGACCAGATTACA"), encode("GGGTTTCCCAAATGCAT")]
    features = {"trained": loaded.embed(sequences, None)}
    for name, made in {
        "twin": loaded.twin(0),
        "other": loaded.twin(1),
        "shuffle": loaded.control("shuffle", 0),
        "embed": loaded.control("embed", 0),
    }.items():
        assert (made.kind, made.parameters) == ("random", loaded.parameters)
        assert type(made) is type(loaded)
        features[name] = made.embed(sequences, None)
    names = list(features)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert np.abs(features[one] - features[other]).max() > 1e-4, (one, other)
    again = loaded.twin(0).embed(sequences, None)
    np.testing.assert_array_equal(again, features["twin"])


@pytest.mark.peers
def test_bins_of_long_sequences_are_as_large_as_tokens(loaded: LanguageModelEmbedding) -> None:
    codes = np.random.default_rng(0).integers(0, 4, 1_030).astype(np.uint8)
    size = loaded.tokenizer.token_size
    bins = loaded.embed_bins([codes], None)
    assert bins.shape == (1, -(-1_030 // size), 16)
    short = loaded.embed_bins([codes[:100]], None)
    assert short.shape == (1, 100, 16)
    assert loaded.bin_size == loaded.bin_size_for(1_024) == 1


def test_wrong_views_lengths_and_sequences_are_named(nt_folder: Any) -> None:
    found = load_huggingface("nucleotide-transformer", nt_folder(), "nt")
    one = encode("ACGT")
    assert set(found.embed_views([one], None, True, ("L2.mean_tok",))) == {"L2.mean_tok"}
    with pytest.raises(CislensError, match=r"no view 'L9.mean_bp'.*Did you mean"):
        found.embed_views([one], None, True, ("L9.mean_bp",))
    with pytest.raises(CislensError, match="one length, found 4 to 5 bp"):
        found.embed_bins([one, encode("ACGTA")], None)
    with pytest.raises(CislensError, match="sequence 1 holds no called base"):
        found.embed([one, encode("NNN")], None)
    with pytest.raises(CislensError, match="no sequence to embed"):
        found.embed([], None)
    with pytest.raises(CislensError, match="takes 40 tokens at once, sequence 0 of 400 bp"):
        found.collate([encode("ACGT" * 100)], None)
