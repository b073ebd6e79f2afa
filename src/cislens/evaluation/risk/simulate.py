"""People whose genotypes and disease are made up, so that what should be found is known."""

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.risk.scores import filled
from cislens.genome.genotypes import KEYS, Genotypes
from cislens.randomness import generator

Floats = npt.NDArray[np.float64]


def simulate_genotypes(
    variants: pl.DataFrame, people: int, seed: int, frequency_V: npt.ArrayLike | None = None
) -> Genotypes:
    """Genotypes in Hardy-Weinberg proportions, variants independent of each other.

    Args:
        variants: `chrom, pos, ref, alt`, real places or not.
        frequency_V: of the alternate alleles; drawn between 0.05 and 0.95, as of common
            variants, unless given.
    """
    rng = generator(seed, "genotypes")
    if frequency_V is None:
        frequency = 0.05 + 0.9 * rng.random(variants.height)
    else:
        frequency = np.asarray(frequency_V, np.float64)
    if len(frequency) != variants.height or ((frequency < 0) | (frequency > 1)).any():
        raise CislensError("simulated genotypes need a frequency from 0 to 1 for every variant.")
    dosage = rng.binomial(2, frequency, (people, variants.height)).astype(np.float32)
    samples = tuple(f"p{number:05d}" for number in range(people))
    return Genotypes(variants.select(KEYS), samples, dosage)


def simulate_status(
    dosage_NV: npt.NDArray[np.float32],
    effect_V: npt.ArrayLike,
    heritability: float,
    prevalence: float,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Who is a case (1), (N,): the people of largest liability.

    Liability is the sum of dosage times effect, scaled to a variance of `heritability`, and normal
    noise of the rest (Falconer 1965, Ann Hum Genet 29:51).
    """
    genetic = filled(dosage_NV) @ np.asarray(effect_V, np.float64)
    spread = genetic.std()
    genetic = (genetic - genetic.mean()) / (spread if spread > 0 else 1.0)
    noise = generator(seed, "liability").standard_normal(len(genetic))
    liability = np.sqrt(heritability) * genetic + np.sqrt(1 - heritability) * noise
    cases = round(prevalence * len(liability))
    status = np.zeros(len(liability), np.int64)
    status[np.argsort(-liability, kind="stable")[:cases]] = 1
    return status
