import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cislens.effects.alleles import (
    DISTANCES,
    SIGN,
    available_scores,
    embedding_distances,
    log_likelihood_ratio,
    score_alleles,
    sign_of,
)
from cislens.errors import CislensError
from cislens.genome.codes import N, reverse_complement
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.randomness import generator
from cislens.representations.baselines import KmerCounts
from cislens.representations.encoder import EncoderEmbedding

LENGTH = 256  # two bins of the tiny encoder


class PositionWeights:
    """A language model that knows one distribution per position, whatever stands beside it."""

    name, kind, parameters, digest = "position-weights", "trained", 0, "pw/1"

    def __init__(self, length: int = LENGTH) -> None:
        logits = generator(1, "weights").normal(size=(length, 4))
        self.log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def embed(self, sequences, species, stranded=False):
        return KmerCounts(2).embed(sequences, species, stranded)

    def base_log_probabilities(self, sequences, positions, species):
        return self.log_p[list(positions)].astype(np.float32)

    def log_likelihood(self, sequences, species):
        codes = np.stack(sequences)
        picked = np.take_along_axis(self.log_p[None], codes[..., None].astype(int), axis=2)
        return picked[..., 0].sum(1).astype(np.float32)


@pytest.fixture(scope="module")
def pairs():
    """40 reference windows and the same with another base in the center."""
    reference = generator(0, "windows").integers(0, 4, (40, LENGTH)).astype(np.uint8)
    alternate = reference.copy()
    alternate[:, LENGTH // 2] = (alternate[:, LENGTH // 2] + 1 + np.arange(40) % 3) % 4
    return reference, alternate


@pytest.fixture(scope="module")
def encoder():
    model = build_model(preset_config("space-plus-tiny", {"yeast": ["a", "b"]}, crop=0, dim=24))
    return EncoderEmbedding(model.encoder, "tiny")


vectors = arrays(np.float32, (3, 5), elements=st.floats(-8, 8, width=32))


@given(vectors, vectors)
def test_distances_are_the_textbook_ones(ref, alt):
    found = embedding_distances(ref, alt)
    r, a = ref.astype(float), alt.astype(float)
    norms = np.linalg.norm(r, axis=1) * np.linalg.norm(a, axis=1)
    assert np.allclose(found["l1"], np.abs(r - a).sum(1), rtol=1e-5)
    assert np.allclose(found["l2"], np.sqrt(((r - a) ** 2).sum(1)), rtol=1e-5)
    assert np.allclose(found["squared_l2"], ((r - a) ** 2).sum(1), rtol=1e-5)
    assert np.allclose(found["dot"], -(r * a).sum(1), rtol=1e-5, atol=1e-5)
    with np.errstate(invalid="ignore"):
        cosine = np.where(norms > 0, 1 - (r * a).sum(1) / norms, 0)
    assert np.allclose(found["cosine"], cosine, atol=1e-5)
    assert set(found) == set(DISTANCES)


def test_distances_of_bins_are_those_of_all_bins_taken_as_one_vector():
    x = generator(0, "bins").normal(size=(2, 3, 4, 5)).astype(np.float32)
    flat = embedding_distances(x[0].reshape(3, -1), x[1].reshape(3, -1))
    for name, values in embedding_distances(x[0], x[1]).items():
        assert np.array_equal(values, flat[name])


def test_a_difference_in_the_last_digits_of_large_features_is_kept():
    ref = np.full((1, 100), 1000, np.float32)
    alt = np.nextafter(ref, np.float32(2000))
    step = float(alt[0, 0] - ref[0, 0])
    assert embedding_distances(ref, alt)["l1"][0] == pytest.approx(100 * step, rel=1e-6)


def test_equal_alleles_score_zero_and_swapped_alleles_keep_or_negate(encoder, pairs):
    reference, alternate = pairs
    for representation in (encoder, PositionWeights()):
        scores = score_alleles(representation, reference, alternate, "yeast")
        swapped = score_alleles(representation, alternate, reference, "yeast")
        assert set(scores) == set(available_scores(representation, True))
        same = score_alleles(representation, reference, reference, "yeast")
        for name, values in scores.items():
            assert values.shape == (40,) and values.dtype == np.float32
            assert np.ptp(values) > 0
            turned = values if sign_of(name) == "unsigned" else -values
            assert np.allclose(swapped[name], turned, rtol=1e-4, atol=1e-6), name
            if name in same and not name.endswith(":dot"):
                assert np.abs(same[name]).max() == 0, name


def test_every_layer_pooling_and_the_bins_are_scored(encoder, pairs):
    names = available_scores(encoder, True)
    assert len(names) == 5 * (len(encoder.views) + 1)
    asked = ["out.max:l1", "bins:cosine"]
    scores = score_alleles(encoder, *pairs, "yeast", scores=asked)
    assert list(scores) == asked
    everything = score_alleles(encoder, *pairs, "yeast")
    assert all(np.allclose(scores[name], everything[name], atol=1e-6) for name in asked)


def test_a_position_weight_model_gives_the_exact_log_ratio(pairs):
    reference, alternate = pairs
    model, center = PositionWeights(), LENGTH // 2
    planted = model.log_p[center, alternate[:, center]] - model.log_p[center, reference[:, center]]
    for kind in ("masked", "causal"):
        ratio = log_likelihood_ratio(model, reference, alternate, None, stranded=True, kind=kind)
        assert np.allclose(ratio, planted, atol=2e-5)
    mirrored = LENGTH - 1 - center
    other = model.log_p[mirrored, 3 - alternate[:, center]]
    other = other - model.log_p[mirrored, 3 - reference[:, center]]
    ratio = log_likelihood_ratio(model, reference, alternate, None)
    assert np.allclose(ratio, (planted + other) / 2, atol=2e-5)
    scores = score_alleles(model, reference, alternate, None)
    assert np.array_equal(scores["masked:llr"], -scores["masked:unlikely"])
    assert np.array_equal(np.abs(scores["causal:llr"]), scores["causal:abs_llr"])


@pytest.mark.parametrize("which", ["encoder", "weights"])
def test_unstranded_scores_do_not_depend_on_the_strand(which, encoder, pairs):
    representation = encoder if which == "encoder" else PositionWeights()
    if which == "encoder":  # an untrained one hardly sees one base: change all from the center on
        pairs = (pairs[0], pairs[1].copy())
        pairs[1][:, LENGTH // 2 :] = generator(2, "rest").integers(0, 4, (40, LENGTH // 2))
    forward = score_alleles(representation, *pairs, "yeast")
    turned = [reverse_complement(codes) for codes in pairs]
    backward = score_alleles(representation, *turned, "yeast")
    stranded = score_alleles(representation, *turned, "yeast", stranded=True)
    for name, values in forward.items():
        assert np.allclose(backward[name], values, rtol=2e-3, atol=2e-5), name
    assert any(not np.allclose(stranded[n], v, rtol=2e-3, atol=1e-5) for n, v in forward.items())


def test_what_is_no_substitution_has_no_masked_ratio(pairs):
    reference, alternate = pairs
    model = PositionWeights()
    shifted = alternate.copy()
    shifted[3, 130:] = np.roll(shifted[3, 130:], 1)
    with pytest.raises(CislensError, match="1 of 40 variants, the first at row 3"):
        log_likelihood_ratio(model, reference, shifted, None)
    assert not any(name.startswith("masked") for name in available_scores(model, False))
    names = set(score_alleles(model, reference, shifted, None))
    assert "causal:llr" in names and "masked:llr" not in names
    hidden = alternate.copy()
    hidden[:, LENGTH // 2] = N
    with pytest.raises(CislensError, match="40 of 40"):
        log_likelihood_ratio(model, reference, hidden, None)
    with pytest.raises(CislensError, match="gives no masked likelihood"):
        log_likelihood_ratio(KmerCounts(2), reference, alternate, None)


def test_unknown_scores_and_unpaired_windows_are_refused(pairs):
    reference, alternate = pairs
    with pytest.raises(CislensError, match=r"no variant score 'embed:l3'.*'embed:l"):
        score_alleles(KmerCounts(2), reference, alternate, None, scores=["embed:l3"])
    with pytest.raises(CislensError, match="no variant score 'euclid'"):
        sign_of("embed:euclid")
    for other in (alternate[:-1], alternate[:, 1:]):
        with pytest.raises(CislensError, match="pairs of windows of one length"):
            score_alleles(KmerCounts(2), reference, other, None)
    assert set(SIGN.values()) == {"signed", "unsigned", "directed"}


def test_stored_features_that_are_not_precise_are_refused(pairs):
    class Store(KmerCounts):
        stored = "float32"

        def require(self, *given: object) -> None: ...

        def require_precise(self) -> None:
            if self.stored != "float32":
                raise CislensError(f"features were stored as {self.stored}")

    store = Store(2)
    assert score_alleles(store, *pairs, None)["embed:l1"].max() > 0
    store.stored = "float16"
    with pytest.raises(CislensError, match="stored as float16"):
        score_alleles(store, *pairs, None)
