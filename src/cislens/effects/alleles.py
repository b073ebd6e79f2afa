"""What a representation says of two alleles, without having seen an effect.

A score is named `source:measure`. Sources: `embed`, or a view of the representation such as
`L2.mean` (a pooled vector each), `bins` (all positions), `masked` and `causal` (the likelihoods
of a language model). Measures and what swapping the alleles does to them: see `SIGN`.

Dimensions: n variant, L base, D feature, N bin.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError, nearest
from cislens.genome.codes import Codes, N, reverse_complement
from cislens.representations.contract import (
    Binned,
    CausalLikelihood,
    MaskedLikelihood,
    Representation,
    Stored,
    Viewed,
)

logger = logging.getLogger("cislens")

Values = npt.NDArray[np.float32]
Sign = Literal["signed", "unsigned", "directed"]

DISTANCES = ("l1", "l2", "squared_l2", "cosine", "dot")
# Swapping the alleles negates a signed score and leaves an unsigned one. A directed score is
# negated too, and is meant for harm, which only one direction does: how unlikely alt is.
SIGN: dict[str, Sign] = {
    **dict.fromkeys(DISTANCES, "unsigned"),
    "llr": "signed",
    "abs_llr": "unsigned",
    "unlikely": "directed",
}
_OF_RATIO: dict[str, Callable[[Values], Values]] = {
    "llr": lambda ratio: ratio,
    "abs_llr": np.abs,
    "unlikely": np.negative,
}
_CHUNK_BASES = 1 << 20


def sign_of(score: str) -> Sign:
    """Whether a score, or a measure, is signed, unsigned or directed.

    Raises:
        CislensError: if there is no such measure.
    """
    measure = score.rpartition(":")[2]
    if measure not in SIGN:
        raise CislensError(f"there is no variant score {measure!r}. {nearest(measure, SIGN)}")
    return SIGN[measure]


def available_scores(representation: Representation, of_one_base: bool) -> tuple[str, ...]:
    """Names of all scores that a representation can give.

    Args:
        of_one_base: whether all variants change one base, which masked likelihoods need.
    """
    views = representation.views if isinstance(representation, Viewed) else ("embed",)
    sources = [*views, *(["bins"] if isinstance(representation, Binned) else [])]
    names = [f"{source}:{distance}" for source in sources for distance in DISTANCES]
    if isinstance(representation, MaskedLikelihood) and of_one_base:
        names += [f"masked:{measure}" for measure in _OF_RATIO]
    if isinstance(representation, CausalLikelihood):
        names += [f"causal:{measure}" for measure in _OF_RATIO]
    return tuple(names)


def substitutions(
    reference: Sequence[Codes] | Codes, alternate: Sequence[Codes] | Codes
) -> npt.NDArray[np.bool_]:
    """Which variants (n,) are one called base in place of another.

    Raises:
        CislensError: for windows that do not pair.
    """
    ref_nL, alt_nL = window_pairs(reference, alternate)
    changed = ref_nL != alt_nL
    called = ~(changed & ((ref_nL == N) | (alt_nL == N))).any(1)
    single: npt.NDArray[np.bool_] = (changed.sum(1) == 1) & called
    return single


def score_alleles(
    representation: Representation,
    reference: Sequence[Codes],
    alternate: Sequence[Codes],
    species: str | None,
    stranded: bool = False,
    scores: Sequence[str] | None = None,
) -> dict[str, Values]:
    """Scores (n,) float32 of n variants, by name; larger is a larger effect.

    Everything is computed in fp32, and stored features must be fp32: the difference of two
    similar vectors has few digits left in fp16.

    Args:
        reference: windows of one length L, the first changed base at `L // 2`.
        alternate: of the same length.
        stranded: if false, both strands are averaged (the features or the log ratios).
        scores: names; all that the representation has for these variants if None.

    Raises:
        CislensError: for an unknown score, windows that do not pair, or a store in fp16.
    """
    ref_nL, alt_nL = window_pairs(reference, alternate)
    if isinstance(representation, Stored):
        representation.require_precise()
    available = available_scores(representation, bool(substitutions(ref_nL, alt_nL).all()))
    for score in scores or ():
        if score not in available:
            raise CislensError(
                f"{representation.name} has no variant score {score!r} for these variants. "
                f"{nearest(score, available)}"
            )
    return _computed(representation, ref_nL, alt_nL, species, stranded, scores or available)


def _computed(
    representation: Representation,
    ref_nL: Codes,
    alt_nL: Codes,
    species: str | None,
    stranded: bool,
    names: Sequence[str],
) -> dict[str, Values]:
    sources = list(dict.fromkeys(name.rpartition(":")[0] for name in names))
    kept: dict[str, list[Values]] = {name: [] for name in names}
    for rows in _chunks(*ref_nL.shape):
        ref, alt = ref_nL[rows], alt_nL[rows]
        for source, measures in _measures(representation, ref, alt, species, stranded, sources):
            for measure, values in measures.items():
                if f"{source}:{measure}" in kept:
                    kept[f"{source}:{measure}"].append(values)
    return {name: np.concatenate(parts) for name, parts in kept.items()}


def _measures(
    representation: Representation,
    ref: Codes,
    alt: Codes,
    species: str | None,
    stranded: bool,
    sources: Sequence[str],
) -> Iterator[tuple[str, dict[str, Values]]]:
    """Every measure of some sources for one chunk of variants."""
    both = [*ref, *alt]
    n = len(ref)
    pooled = [source for source in sources if source not in ("bins", "masked", "causal")]
    if isinstance(representation, Viewed) and pooled:
        found = representation.embed_views(both, species, stranded, pooled)
        for view, x_D in found.items():
            yield view, embedding_distances(x_D[:n], x_D[n:])
    elif pooled:
        x_D = representation.embed(both, species, stranded)
        yield pooled[0], embedding_distances(x_D[:n], x_D[n:])
    if "bins" in sources:
        assert isinstance(representation, Binned)
        x_ND = representation.embed_bins(both, species, stranded)
        yield "bins", embedding_distances(x_ND[:n], x_ND[n:])
    for kind in ("masked", "causal"):
        if kind in sources:
            ratio = log_likelihood_ratio(representation, ref, alt, species, stranded, kind)
            yield kind, {measure: of(ratio) for measure, of in _OF_RATIO.items()}


def embedding_distances(ref_nD: npt.ArrayLike, alt_nD: npt.ArrayLike) -> dict[str, Values]:
    """Distances (n,) between the embeddings of two alleles, (n, D) or (n, N, D) taken as one.

    l1 = sum |r - a|, squared_l2 = sum (r - a)^2, l2 its root, cosine = 1 - <r, a> / (|r| |a|),
    dot = -<r, a>, negated so that it grows as the alleles part; it is not 0 for equal alleles.
    Unsigned by construction.
    """
    ref, alt = np.asarray(ref_nD, dtype=np.float32), np.asarray(alt_nD, dtype=np.float32)
    ref, alt = ref.reshape(len(ref), -1), alt.reshape(len(alt), -1)
    # The sums in float64: they run over up to a million small terms.
    difference = alt.astype(np.float64) - ref
    squared = np.einsum("nd,nd->n", difference, difference)
    dot = np.einsum("nd,nd->n", ref, alt, dtype=np.float64)
    norms = np.linalg.norm(ref.astype(np.float64), axis=1)
    norms *= np.linalg.norm(alt.astype(np.float64), axis=1)
    same = (difference == 0).all(1) | (norms == 0)
    cosine = np.where(same, 0.0, 1 - dot / np.where(same, 1.0, norms))
    found = {
        "l1": np.abs(difference).sum(1), "l2": np.sqrt(squared), "squared_l2": squared,
        "cosine": np.maximum(cosine, 0.0), "dot": -dot,
    }  # fmt: skip
    return {name: values.astype(np.float32) for name, values in found.items()}


def log_likelihood_ratio(
    representation: object,
    reference: Sequence[Codes] | Codes,
    alternate: Sequence[Codes] | Codes,
    species: str | None,
    stranded: bool = False,
    kind: str = "masked",
) -> Values:
    """log p(alternate) - log p(reference), (n,), the mean of both strands unless stranded.

    Args:
        kind: "masked": of the changed base given all others, for substitutions of one base.
            "causal": of the whole windows, for any variant.

    Raises:
        CislensError: if the representation has no such likelihood, or a masked ratio is asked
            for a variant that is not one base in place of another.
    """
    ref_nL, alt_nL = window_pairs(reference, alternate)
    strands = [(ref_nL, alt_nL)]
    if not stranded:
        strands.append((reverse_complement(ref_nL), reverse_complement(alt_nL)))
    if kind == "masked" and isinstance(representation, MaskedLikelihood):
        bad = np.flatnonzero(~substitutions(ref_nL, alt_nL))
        if len(bad):
            raise CislensError(
                f"a masked likelihood ratio needs one base in place of another; {len(bad)} of "
                f"{len(ref_nL)} variants, the first at row {bad[0]}, are not that; score them "
                "by embedding distances or a causal model."
            )
        ratios = [_masked_ratio(representation, ref, alt, species) for ref, alt in strands]
    elif kind == "causal" and isinstance(representation, CausalLikelihood):
        ratios = [
            representation.log_likelihood([*alt], species)
            - representation.log_likelihood([*ref], species)
            for ref, alt in strands
        ]
    else:
        name = getattr(representation, "name", type(representation).__name__)
        raise CislensError(f"{name} gives no {kind} likelihood of bases.")
    mean: Values = np.mean(ratios, axis=0, dtype=np.float32)
    return mean


def _masked_ratio(
    representation: MaskedLikelihood, ref_nL: Codes, alt_nL: Codes, species: str | None
) -> Values:
    positions = (ref_nL != alt_nL).argmax(1)
    rows = np.arange(len(ref_nL))
    log_p = representation.base_log_probabilities([*ref_nL], positions.tolist(), species)
    ratio: Values = log_p[rows, alt_nL[rows, positions]] - log_p[rows, ref_nL[rows, positions]]
    return ratio


def window_pairs(
    reference: Sequence[Codes] | Codes, alternate: Sequence[Codes] | Codes
) -> tuple[Codes, Codes]:
    """Both as arrays (n, L).

    Raises:
        CislensError: if their numbers or any two lengths differ, or there is none.
    """
    lengths = {len(codes) for codes in (*reference, *alternate)}
    if not len(reference) or len(reference) != len(alternate) or len(lengths) != 1:
        raise CislensError(
            f"{len(reference)} reference and {len(alternate)} alternate windows of "
            f"{min(lengths, default=0)} to {max(lengths, default=0)} bp: variants need pairs of "
            "windows of one length."
        )
    return np.stack([*reference]), np.stack([*alternate])


def _chunks(variants: int, length: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BASES // length)
    for start in range(0, variants, step):
        yield slice(start, start + step)
