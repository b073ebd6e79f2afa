"""Effects of variants as numbers: what a model says of the alternate allele minus the reference.

Dimensions: n variant, L base, T output of the model.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.effects.alleles import available_scores, score_alleles, substitutions, window_pairs
from cislens.errors import CislensError
from cislens.genome.codes import Codes, reverse_complement
from cislens.genome.reference import Genome
from cislens.genome.variants import normalize, require_reference, windows
from cislens.representations.contract import Representation

Floats = npt.NDArray[np.float64]
Predict = Callable[[Sequence[Codes]], npt.ArrayLike]  # sequences -> (n,) or (n, T)


def allele_effects(
    predict: Predict,
    reference: Sequence[Codes] | Codes,
    alternate: Sequence[Codes] | Codes,
    stranded: bool = False,
) -> Floats:
    """What is predicted for the alternate windows minus for the reference ones, (n, T).

    Unless stranded, the mean over both strands. Equal windows have an effect of exactly 0,
    whatever rounding makes of the two predictions.

    Args:
        predict: e.g. the logits of a head on embeddings, or the tracks of a model.

    Raises:
        CislensError: for windows that do not pair, or a prediction that is not finite.
    """
    ref_nL, alt_nL = window_pairs(reference, alternate)
    total = _predicted(predict, alt_nL) - _predicted(predict, ref_nL)
    if not stranded:
        other = reverse_complement(alt_nL), reverse_complement(ref_nL)
        total = (total + _predicted(predict, other[0]) - _predicted(predict, other[1])) / 2
    total[(ref_nL == alt_nL).all(axis=1)] = 0.0
    return total


def scalar_effects(effect_nT: npt.ArrayLike, how: Literal["sum", "l2", "max"]) -> Floats:
    """One number for each variant, (n,): the signed sum over the outputs, or how large it is by
    its length (l2) or its largest component (max)."""
    effect = np.asarray(effect_nT, np.float64).reshape(len(np.asarray(effect_nT)), -1)
    if how == "sum":
        return np.asarray(effect.sum(axis=1))
    if how == "max":
        return np.asarray(np.abs(effect).max(axis=1))
    return np.asarray(np.linalg.norm(effect, axis=1))


def variant_effects(
    representation: Representation,
    variants: pl.DataFrame,
    genome: Genome,
    width: int,
    species: str | None = None,
    score: str | None = None,
) -> pl.DataFrame:
    """The variants with a column `effect`, what a representation says of them unseen.

    Insertions and deletions are scored left-aligned; the variants keep the alleles they came with.

    Args:
        variants: `chrom, pos, ref, alt` under the genome's names of chromosomes.
        score: one of `effects.alleles.available_scores`; by default the Euclidean distance
            between the embeddings of both alleles.

    Raises:
        CislensError: for an unknown score, or when reference alleles are not the genome's.
    """
    kept = require_reference(variants, genome)
    reference, alternate = windows(normalize(kept, genome), genome, width)
    if score is None:
        of_one_base = bool(substitutions(reference, alternate).all())
        known = available_scores(representation, of_one_base)
        score = next(name for name in known if name.endswith(":l2"))
    found = score_alleles(
        representation, list(reference), list(alternate), species, scores=[score]
    )[score].astype(np.float64)
    found[(reference == alternate).all(axis=1)] = 0.0
    return kept.drop("ref_match").with_columns(effect=pl.Series(found))


def _predicted(predict: Predict, codes_nL: Codes) -> Floats:
    values = np.asarray(predict(list(codes_nL)), np.float64)
    if len(values) != len(codes_nL):
        raise CislensError(f"{len(values)} predictions for {len(codes_nL)} windows.")
    if not np.isfinite(values).all():
        raise CislensError("a prediction is not finite, so variants have no effects.")
    return values.reshape(len(values), -1)
