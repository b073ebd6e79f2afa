"""Which alternate alleles the chromosomes of people carry together.

Dimensions: V variant, H haplotype, W byte of eight haplotypes.
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pysam

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.genome.chromosomes import match_names
from cislens.genome.codes import Codes, encode
from cislens.genome.intervals import is_whole
from cislens.genome.reference import Genome
from cislens.genome.variants import require_reference

logger = logging.getLogger("cislens")

Bytes = npt.NDArray[np.uint8]

_FIRST_SAMPLE = 9
_BASES = frozenset("ACGT")
_PAIR = 4  # bytes of a genotype such as 0|1 and the tab after it
_LARGEST_WRONG = 0.01  # share of variants whose ref may be another than the genome's


@dataclass(frozen=True)
class Haplotypes:
    """Variants, and who carries them.

    Attributes:
        variants: `chrom, pos` (1-based), `ref, alt`; sorted by the genome's chromosomes and `pos`.
        carried_VW: bits, the first haplotype in the highest bit of the first byte.
        count: number of haplotypes.
    """

    variants: pl.DataFrame
    carried_VW: Bytes
    count: int

    def alleles(
        self, chrom: str, start: int, end: int, haplotype: int
    ) -> list[tuple[int, int, Codes]]:
        """What one haplotype has other than the reference within [start, end) of a chromosome.

        Args:
            chrom: by its name.
            haplotype: 0 .. count - 1.

        Returns:
            For each allele the 0-based position of its first base, the number of reference bases
            that it takes the place of (at least 1), and its codes; sorted, none overlapping
            another. Of overlapping ones the first is kept.
        """
        first, last = self._rows.get(chrom, (0, 0))
        first += int(np.searchsorted(self._begins[first:last], start))
        last = first + int(np.searchsorted(self._begins[first:last], end))
        byte, bit = divmod(haplotype, 8)
        here = first + np.flatnonzero(self.carried_VW[first:last, byte] & (128 >> bit))
        found: list[tuple[int, int, Codes]] = []
        reached = start
        for row in here.tolist():
            begin, taken = int(self._begins[row]), int(self._taken[row])
            if begin >= reached and begin + taken <= end:
                found.append((begin, taken, encode(self._alts[row])))
                reached = begin + taken
        return found

    @cached_property
    def _rows(self) -> dict[str, tuple[int, int]]:
        """First and last row of each chromosome."""
        runs = self.variants.with_row_index("row").group_by("chrom").agg(
            first=pl.col("row").min(), last=pl.col("row").max()
        )  # fmt: skip
        return {chrom: (first, last + 1) for chrom, first, last in runs.iter_rows()}

    @cached_property
    def _begins(self) -> npt.NDArray[np.int64]:
        begin: npt.NDArray[np.int64] = self.variants["pos"].to_numpy() - 1
        return begin

    @cached_property
    def _taken(self) -> npt.NDArray[np.int64]:
        return self.variants["ref"].str.len_bytes().to_numpy().astype(np.int64)

    @cached_property
    def _alts(self) -> list[str]:
        return self.variants["alt"].to_list()


def read_haplotypes(path: str | Path, genome: Genome) -> Haplotypes:
    """Read the GT of every person from VCF, plain or compressed, or BCF; a haplotype per allele.

    The alleles of a genotype are taken in the order in which they stand, also where it is not
    phased (which the log counts); one that was not called is the reference's. Alleles without a
    sequence of A, C, G, T are left out and counted in the log, as are variants whose `ref` the
    genome does not have.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: for a file that is no VCF, has no genotypes or people of different ploidy,
            has no chromosome of the genome, or whose `ref` is often not what the genome has.
    """
    path = require_file(path, "haplotype file")
    loudness = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(path)) as file:
            variants, carried_VW, count = _read(path, file)
            contigs = [str(name) for name in file.header.contigs]
    except NotImplementedError:
        # What htslib says of a file by gzip, in which nothing can be looked up.
        raise CislensError(
            f"{path} is compressed by gzip, not bgzip; unpack it (gzip -d), or compress it again "
            "with bgzip."
        ) from None
    except (ValueError, OSError) as error:
        if isinstance(error, CislensError):
            raise
        raise CislensError(f"{path} is no readable VCF or BCF: {error}.") from None
    finally:
        pysam.set_verbosity(loudness)
    found = variants["chrom"].unique(maintain_order=True).to_list()
    # The names of all chromosomes tell better how the file numbers them than those of a few.
    names = match_names([*found, *contigs], genome.chrom_sizes, str(path))
    table = names.rename(variants.with_row_index("row"))
    if table.is_empty():
        raise CislensError(
            f"the variants of {path} lie on {', '.join(found[:5])}, which {genome.path} does not "
            f"have (it has {', '.join(list(genome.chrom_sizes)[:5])}); give a VCF of this genome."
        )
    order = {chrom: number for number, chrom in enumerate(genome.chrom_sizes)}
    rank = pl.col("chrom").replace_strict(order, return_dtype=pl.Int64)
    table = require_reference(table, genome, _LARGEST_WRONG).sort(rank, "pos", "row")
    kept = table["row"].to_numpy()
    return Haplotypes(table.select("chrom", "pos", "ref", "alt"), carried_VW[kept], count)


def _read(path: Path, file: pysam.VariantFile) -> tuple[pl.DataFrame, Bytes, int]:
    people = len(file.header.samples)
    if not people:
        raise CislensError(
            f"{path} has no people (columns after FORMAT), so it says of no variant who carries "
            "it; give a VCF with genotypes."
        )
    rows: list[tuple[str, int, str, str]] = []
    packed = bytearray()
    count = dropped = unphased = 0
    for number, record in enumerate(file, 1):
        fields = str(record).rstrip("\n").split("\t", _FIRST_SAMPLE)
        if len(fields) <= _FIRST_SAMPLE or fields[8].split(":", 1)[0] != "GT":
            raise CislensError(f"{path} record {number}: no GT in the FORMAT column.")
        allele_H, loose = _alleles(fields[_FIRST_SAMPLE], fields[8] == "GT", people)
        unphased += loose
        count = count or len(allele_H)
        if len(allele_H) != count:
            raise CislensError(
                f"{path} record {number}: {len(allele_H)} alleles of {people} people, {count} in "
                "the records before; leave out chromosomes of another ploidy."
            )
        ref = fields[3].upper()
        for allele, alt in enumerate(fields[4].upper().split(","), 1):
            if not (set(alt) <= _BASES and set(ref) <= _BASES):
                dropped += 1
                continue
            rows.append((fields[0], int(fields[1]), ref, alt))
            packed += np.packbits(allele_H == allele).tobytes()
    if not rows:
        raise CislensError(f"{path} holds no variant with sequences as alleles.")
    if dropped or unphased:
        logger.warning(
            "%s: %d alleles without a sequence left out; %d genotypes of two alleles are not "
            "phased and taken as they stand", path, dropped, unphased,
        )  # fmt: skip
    schema = {"chrom": pl.String, "pos": pl.Int64, "ref": pl.String, "alt": pl.String}
    carried = np.frombuffer(packed, np.uint8).reshape(len(rows), -1)
    return pl.DataFrame(rows, schema=schema, orient="row"), carried, count


def _alleles(text: str, bare: bool, people: int) -> tuple[npt.NDArray[np.int64], int]:
    """The allele of each haplotype (H,), 0 where not called; and how many are not phased."""
    if bare and len(text) == _PAIR * people - 1:
        # Two digits each, as nearly all records have.
        pairs = np.frombuffer(text.encode() + b"\t", np.uint8).reshape(people, _PAIR)
        if (pairs[:, 1] == ord("|")).all() and (pairs[:, 3] == ord("\t")).all():
            digits = pairs[:, ::2].astype(np.int64).ravel() - ord("0")
            return np.where(digits < 0, 0, digits), 0
    alleles: list[int] = []
    unphased = 0
    genotypes = [field.split(":", 1)[0] for field in text.split("\t")]
    ploidy = max(genotype.count("|") + genotype.count("/") for genotype in genotypes) + 1
    for genotype in genotypes:
        called = genotype.replace("|", "/").split("/")
        # Some programs write a single dot for all alleles that were not called.
        called = called * ploidy if genotype == "." else called
        unphased += "/" in genotype and len(set(called)) > 1
        alleles += [int(allele) if is_whole(allele) else 0 for allele in called]
    return np.array(alleles, np.int64), unphased
