"""Genotypes of people: how many alternate alleles each of them carries.

Dimensions: N person, V variant.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pysam

from cislens.errors import CislensError, nearest
from cislens.files import require_file

logger = logging.getLogger("cislens")

Dosages = npt.NDArray[np.float32]

KEYS = ("chrom", "pos", "ref", "alt")
_FIRST_SAMPLE = 9
_BASES = frozenset("ACGTN")


@dataclass(frozen=True)
class Genotypes:
    """Dosages of people, by variant.

    Attributes:
        variants: `chrom, pos` (1-based), `ref, alt`, each once; V rows.
        samples: names of the N people.
        dosage_NV: copies of the alternate allele, 0 to the ploidy; NaN where it was not called.
    """

    variants: pl.DataFrame
    samples: tuple[str, ...]
    dosage_NV: Dosages

    def __post_init__(self) -> None:
        if self.dosage_NV.shape != (len(self.samples), self.variants.height):
            raise CislensError(
                f"dosages of shape {self.dosage_NV.shape} do not fit {len(self.samples)} people "
                f"and {self.variants.height} variants."
            )

    def of_samples(self, samples: Sequence[str]) -> "Genotypes":
        """The people named, in that order.

        Raises:
            CislensError: naming the first who is not there.
        """
        row = {name: number for number, name in enumerate(self.samples)}
        absent = [name for name in samples if name not in row]
        if absent:
            raise CislensError(
                f"{len(absent)} of {len(samples)} people have no genotypes, e.g. {absent[0]!r}. "
                f"{nearest(absent[0], self.samples)}"
            )
        rows = [row[name] for name in samples]
        return Genotypes(self.variants, tuple(samples), self.dosage_NV[rows])

    def of_variants(self, columns: npt.NDArray[np.int64]) -> "Genotypes":
        """The variants with these numbers, in that order."""
        return Genotypes(self.variants[columns], self.samples, self.dosage_NV[:, columns])


def read_genotypes(path: str | Path) -> Genotypes:
    """Read the GT of every person from VCF, plain or compressed, or BCF.

    A site of several alternate alleles gives one variant per allele, which counts the copies of
    that allele alone; alleles without a sequence (`<DEL>`, `*`, `.`) are left out and counted in
    the log, as are repeated variants but for the first. A genotype with any `.` is not called.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: for a file that is no VCF, that names nobody, or a record without GT, with
            its number.
    """
    path = require_file(path, "genotype file")
    loudness = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(path)) as file:
            return _read(path, file)
    except (ValueError, OSError, NotImplementedError) as error:
        raise CislensError(f"{path} is no readable VCF or BCF: {error}.") from None
    finally:
        pysam.set_verbosity(loudness)


def _read(path: Path, file: pysam.VariantFile) -> Genotypes:
    samples = tuple(file.header.samples)
    if not samples:
        raise CislensError(f"{path} has no people (columns after FORMAT).")
    kept: dict[tuple[str, int, str, str], Dosages] = {}
    dropped = repeated = 0
    counts: dict[tuple[str, int], float] = {}
    for number, record in enumerate(file, 1):
        fields = str(record).rstrip("\n").split("\t")
        if len(fields) <= _FIRST_SAMPLE or fields[8].split(":", 1)[0] != "GT":
            raise CislensError(f"{path} record {number}: no GT in the FORMAT column.")
        called = [field.split(":", 1)[0] for field in fields[_FIRST_SAMPLE:]]
        ref = fields[3].upper()
        for allele, alt in enumerate(fields[4].upper().split(","), 1):
            if not (set(alt) <= _BASES and set(ref) <= _BASES):
                dropped += 1
                continue
            key = (fields[0], int(fields[1]), ref, alt)
            if key in kept:
                repeated += 1
                continue
            for text in set(called):
                if (text, allele) not in counts:
                    counts[text, allele] = _copies(text, allele)
            kept[key] = np.array([counts[text, allele] for text in called], np.float32)
    if not kept:
        raise CislensError(f"{path} holds no variant with sequences as alleles.")
    if dropped or repeated:
        logger.warning(
            "%s: %d alleles without a sequence and %d repeated variants left out",
            path, dropped, repeated,
        )  # fmt: skip
    schema = {"chrom": pl.String, "pos": pl.Int64, "ref": pl.String, "alt": pl.String}
    variants = pl.DataFrame(list(kept), schema=schema, orient="row")
    return Genotypes(variants, samples, np.stack(list(kept.values()), axis=1))


def _copies(genotype: str, allele: int) -> float:
    alleles = genotype.replace("|", "/").split("/")
    if "." in alleles:
        return float("nan")
    return float(alleles.count(str(allele)))
