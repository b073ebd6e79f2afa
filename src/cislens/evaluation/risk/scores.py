"""Genotypes and variant effects as risk scores of people.

Dimensions: N person, V variant, L locus, K principal component.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.linalg import eigh

from cislens.errors import CislensError
from cislens.genome.chromosomes import match_names
from cislens.genome.genotypes import KEYS, Genotypes

Floats = npt.NDArray[np.float64]


def joined(
    genotypes: Genotypes, effects: pl.DataFrame, source: str
) -> tuple[Genotypes, pl.DataFrame]:
    """The variants that both have, in the order of the genotypes; joined by place and alleles.

    Args:
        effects: `chrom, pos, ref, alt` and more; chromosomes may be called `1` or `chr1`.
        source: of the effects, for messages.

    Raises:
        CislensError: if none is common, or the effects have a variant twice.
    """
    known = genotypes.variants["chrom"].unique(maintain_order=True)
    found = effects["chrom"].unique(maintain_order=True)
    effects = match_names(found, known, source).rename(effects)
    twice = effects.filter(effects.select(KEYS).is_duplicated())
    if len(twice):
        chrom, pos, ref, alt = twice.select(KEYS).row(0)
        raise CislensError(f"{source} has {chrom}:{pos} {ref}>{alt} more than once.")
    numbered = genotypes.variants.with_row_index("column")
    common = numbered.join(effects, on=KEYS, how="inner", maintain_order="left")
    if common.is_empty():
        places = numbered.join(effects, on=["chrom", "pos"], how="inner").height
        hint = (
            f"{places} have the same place but other alleles"
            if places
            else "not even a place is common; are they of one assembly?"
        )
        raise CislensError(
            f"none of the {effects.height} variants of {source} is among the "
            f"{genotypes.variants.height} with genotypes: {hint}."
        )
    return genotypes.of_variants(common["column"].to_numpy().astype(np.int64)), common.drop(
        "column"
    )


def loci(variants: pl.DataFrame, width: int) -> pl.Series:
    """The locus of each variant: its column `locus`, else its stretch of `width` bp."""
    if "locus" in variants.columns:
        return variants["locus"].cast(pl.String)
    return variants.select(locus=pl.format("{}:{}", "chrom", (pl.col("pos") - 1) // width * width))[
        "locus"
    ]


def risk_scores(
    dosage_NV: npt.ArrayLike, effect_V: npt.ArrayLike, locus_V: Sequence[str] | pl.Series
) -> tuple[Floats, list[str]]:
    """Dosage times effect, summed over the variants of each locus: (N, L), and names of loci.

    A genotype that was not called counts as the variant's mean dosage. Loci come in the order of
    their first variants.

    Raises:
        CislensError: if the shapes do not fit, or an effect is not finite.
    """
    dosage, effect = np.asarray(dosage_NV, np.float32), np.asarray(effect_V, np.float64)
    names = list(dict.fromkeys(locus_V))
    if dosage.ndim != 2 or dosage.shape[1] != len(effect) or len(locus_V) != len(effect):
        raise CislensError(
            f"dosages of shape {dosage.shape}, {len(effect)} effects and {len(locus_V)} loci do "
            "not fit."
        )
    if not np.isfinite(effect).all():
        raise CislensError(
            f"the effect of variant {int((~np.isfinite(effect)).argmax())} is not finite."
        )
    number = {name: place for place, name in enumerate(names)}
    locus = np.array([number[name] for name in locus_V])
    score = np.empty((len(dosage), len(names)))
    for place in range(len(names)):
        mine = np.flatnonzero(locus == place)
        score[:, place] = filled(dosage[:, mine]) @ effect[mine]
    return score, names


def filled(dosage_NV: npt.NDArray[np.float32]) -> Floats:
    """Dosages with each variant's mean where it was not called; 0 for one that never was."""
    called = np.isfinite(dosage_NV)
    total = np.where(called, dosage_NV, 0.0).sum(0, dtype=np.float64)
    mean = total / np.maximum(called.sum(0), 1)
    return np.where(called, dosage_NV, mean).astype(np.float64)


def principal_components(dosage_NV: npt.NDArray[np.float32], count: int) -> Floats:
    """The first components of standardized genotypes, (N, K), each of unit variance.

    Variants are centered by their mean and scaled by sqrt(2 p (1 - p)) (Patterson et al. 2006,
    PLoS Genet 2:e190); those that do not vary are left out.

    Raises:
        CislensError: if there are fewer people or varying variants than components.
    """
    people = len(dosage_NV)
    related = np.zeros((people, people))
    varying = 0
    for first in range(0, dosage_NV.shape[1], 4096):
        part = filled(dosage_NV[:, first : first + 4096])
        frequency = part.mean(0) / 2
        spread = np.sqrt(2 * frequency * (1 - frequency).clip(0))
        keep = (spread > 0) & (part.std(0) > 0)
        standard = (part[:, keep] - 2 * frequency[keep]) / spread[keep]
        related += standard @ standard.T
        varying += int(keep.sum())
    if count > min(people - 1, varying):
        raise CislensError(
            f"{count} components need more than the {people} people and {varying} varying variants "
            "that are there."
        )
    _values, vectors = eigh(related, subset_by_index=[people - count, people - 1])
    components: Floats = vectors[:, ::-1] * np.sqrt(people)
    return components
