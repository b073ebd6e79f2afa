import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cislens.effects.alleles import log_likelihood_ratio
from cislens.errors import CislensError
from cislens.genome.codes import Codes, N, encode, reverse_complement
from cislens.models.contract import Embedding, Encoder
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.genebert.presets import multimodal_config
from cislens.models.mixture import MixtureModel
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel
from cislens.models.reading import ANY_BASE, Reading
from cislens.models.sequence import SequenceModel, SequenceModelConfig
from cislens.motifs.store import RegionStore
from cislens.representations.contract import MaskedLikelihood, Twinned
from cislens.representations.encoder import EncoderEmbedding
from cislens.representations.language import LanguageEmbedding, language_model, tells_bases

RNG = np.random.default_rng(0)
_MASKED, _BLIND = {"name": "masked"}, {"name": "distillation", "masked": 0.0}


def _sequences(*lengths: int) -> list[Codes]:
    return [RNG.integers(0, 4, length).astype(np.uint8) for length in lengths]


def _sequence_model(preset: str) -> SequenceModel:
    profile = preset_config(preset, {"human": ["a"]})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SequenceModel(SequenceModelConfig(encoder=profile.encoder)).eval()


class Shown(Encoder):
    """One bin per base whose vector is what was shown of it."""

    def __init__(self) -> None:
        super().__init__()
        self.bin_size, self.dim, self.species = 1, 4, ("human",)
        self.weight = nn.Parameter(torch.ones(()))
        self.rows = 0

    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
        self.rows += len(x_B4L)
        values_BND = self.weight * x_B4L.transpose(1, 2)
        return Embedding(values_BND, 1, x_B4L.sum(1) > 0)


class RightNeighbor(nn.Module):
    """Says that a base is likely the one to its right, and shows where something was hidden."""

    def forward(self, reading: Reading) -> Tensor:
        assert reading.shown_B4L is not None
        hidden_BL = (reading.shown_B4L == ANY_BASE).all(1)
        assert bool((hidden_BL.sum(1) == 1).all()), "one base of each row is hidden"
        return 4 * reading.tokens_BJD.roll(-1, dims=1)


def test_the_hidden_base_is_told_from_its_neighbor() -> None:
    model = LanguageEmbedding(Shown(), RightNeighbor(), "toy")
    log_p = model.base_log_probabilities([encode("ACGTA"), encode("GGCA")], [1, 2], "human")
    weights = np.exp([4.0, 0.0, 0.0, 0.0])
    expected = np.log(weights / weights.sum())
    assert log_p[0] == pytest.approx(expected[[1, 2, 0, 3]], abs=1e-6)  # G follows C
    assert log_p[1] == pytest.approx(expected, abs=1e-6)  # A follows C
    assert np.exp(log_p).sum(1) == pytest.approx(1.0, abs=1e-6)


def test_a_question_that_comes_back_is_asked_once() -> None:
    encoder = Shown()
    model = LanguageEmbedding(encoder, RightNeighbor(), "toy")
    # What stands at the place asked is hidden, so that all of these are one question.
    alleles = [encode("ACGTA"), encode("AGGTA"), encode("ACGTA")]
    log_p = model.base_log_probabilities([*alleles, alleles[0]], [1, 1, 1, 2], None)
    assert encoder.rows == 2
    assert (log_p[0] == log_p[1]).all()
    assert (log_p[0] != log_p[3]).any()


@pytest.mark.parametrize("preset", ["findna-plus-tiny", "space-plus-tiny"])
def test_nothing_of_the_hidden_base_is_seen_and_the_batch_does_not_matter(preset: str) -> None:
    found = language_model(_sequence_model(preset), preset)
    assert isinstance(found, MaskedLikelihood)
    sequences = _sequences(256, 200, 256, 131)
    places = [130, 7, 0, 130]
    together = found.base_log_probabilities(sequences, places, "human")
    for row, (codes, place) in enumerate(zip(sequences, places, strict=True)):
        other = codes.copy()
        other[place] = (other[place] + 1) % 4
        alone = found.base_log_probabilities([other], [place], "human")
        assert together[row] == pytest.approx(alone[0], abs=1e-4)


def test_the_ratio_is_of_both_strands_and_turns_with_the_alleles() -> None:
    found = language_model(_sequence_model("findna-plus-tiny"), "own")
    assert found is not None
    reference = np.stack(_sequences(128, 128))
    alternate = reference.copy()
    alternate[:, 64] = (alternate[:, 64] + 1) % 4
    ratio = log_likelihood_ratio(found, reference, alternate, "human")
    turned = [reverse_complement(each) for each in (reference, alternate)]
    assert ratio == pytest.approx(log_likelihood_ratio(found, *turned, "human"), abs=1e-5)
    assert ratio == pytest.approx(
        -log_likelihood_ratio(found, alternate, reference, "human"), abs=1e-5
    )
    assert np.abs(ratio).min() > 1e-6


def test_places_without_a_base_are_refused() -> None:
    model = LanguageEmbedding(Shown(), RightNeighbor(), "toy")
    with pytest.raises(CislensError, match="position 5 of sequence 1 lies outside its 5 bp"):
        model.base_log_probabilities([encode("ACGTA"), encode("ACGTA")], [0, 5], None)
    with pytest.raises(CislensError, match="sequence 0 reads N at position 2"):
        model.base_log_probabilities([np.array([0, 1, N, 3], np.uint8)], [2], None)


def test_damaged_weights_are_said() -> None:
    model = LanguageEmbedding(Shown(), RightNeighbor(), "toy")
    with torch.no_grad():
        model.encoder.weight.fill_(float("nan"))
    with pytest.raises(CislensError, match="toy: probabilities of bases are not finite"):
        model.base_log_probabilities([encode("ACGTA")], [1], None)


def test_which_models_tell_bases(region_store: RegionStore) -> None:
    config = multimodal_config(
        "genebert-plus-tiny", region_store.motif_ids, region_store.width, 8, False,
        region_store.constants_digest,
    )  # fmt: skip
    multimodal = MultimodalModel(config)
    profile = ProfileModel(preset_config("findna-plus-tiny", {"human": ["a"]}))
    masked = _sequence_model("findna-plus-tiny")
    assert language_model(profile, "profile") is None
    mixed = MixtureModel.of({"profile": profile, "masked": masked})
    assert language_model(MixtureModel.of({"profile": profile}), "profile") is None
    of_mixture = language_model(mixed, "mixed")
    assert of_mixture is not None
    assert of_mixture.encoder is mixed.encoder
    assert of_mixture.head is masked.base_head
    of_regions = language_model(multimodal, "multimodal")
    assert of_regions is not None
    log_p = of_regions.base_log_probabilities(_sequences(256), [128], None)
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-5)


def test_features_are_those_of_the_encoder_and_the_twin_knows_nothing() -> None:
    model = _sequence_model("findna-plus-tiny")
    found = language_model(model, "own")
    assert isinstance(found, Twinned)
    sequences = _sequences(128, 128)
    plain = EncoderEmbedding(model.encoder, "own")
    assert (found.embed(sequences, None) == plain.embed(sequences, None)).all()
    assert (found.twin(1).embed(sequences, None) == plain.twin(1).embed(sequences, None)).all()
    assert found.twin(1).digest == found.twin(1).digest
    assert len({found.digest, found.twin(1).digest, found.twin(2).digest, plain.digest}) == 4
    asked = (sequences, [64, 64], None)
    own = found.base_log_probabilities(*asked)
    other = found.twin(1).base_log_probabilities(*asked)
    assert np.abs(own - other).max() > 1e-3


@pytest.mark.parametrize(
    "objective, told",
    [
        (_MASKED, True),
        (_BLIND, False),
        ({"name": "distillation"}, True),
        ({"name": "multimodal"}, True),
        ({"name": "multimodal", "masked": 0.0}, False),
        ({"name": "profile"}, False),
        ({"name": "mixture", "parts": [{"objective": {}}, {"objective": _MASKED}]}, True),
        (
            {"name": "mixture", "parts": [{"objective": {}}, {"objective": _MASKED, "weight": 0}]},
            False,
        ),
        ({"name": "mixture", "parts": [{"objective": {}}, {"objective": _BLIND}]}, False),
    ],
)
def test_a_head_for_bases_counts_only_if_it_was_trained(
    objective: dict[str, Any], told: bool, tmp_path: Path
) -> None:
    recipe = {"store": "store", "model": "own", "training": {"steps": 1}, "objective": objective}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert tells_bases(tmp_path) is told
