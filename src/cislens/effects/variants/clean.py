"""What a table of variants must be before it is scored."""

import polars as pl

from cislens.errors import CislensError
from cislens.genome.chromosomes import match_names
from cislens.genome.reference import Genome
from cislens.genome.variants import check_reference

_KEYS = ("chrom", "pos", "ref", "alt")
_ALLELE = "^[ACGTN]+$"


def named_as_genome(variants: pl.DataFrame, genome: Genome) -> pl.DataFrame:
    """The variants under the genome's names of chromosomes; what was renamed is logged.

    Raises:
        CislensError: as `match_names`, and for a chromosome that the genome does not have.
    """
    if not isinstance(variants, pl.DataFrame) or variants.schema.get("chrom") != pl.String:
        return variants  # which `clean_variants` refuses
    found = variants["chrom"].drop_nulls().unique(maintain_order=True).to_list()
    if all(name in genome.chrom_sizes for name in found):
        return variants
    mapping = match_names(found, genome.chrom_sizes, "the table of variants").mapping
    lost = [name for name in found if name not in mapping]
    if lost:
        raise CislensError(
            f"{genome.path} has no chromosome {lost[0]!r}, which the variants lie on; leave them "
            "out, or give the genome that they are of."
        )
    return variants.with_columns(pl.col("chrom").replace(mapping))


def clean_variants(variants: pl.DataFrame, genome: Genome) -> pl.DataFrame:
    """The variants with alleles in upper case.

    Raises:
        CislensError: for anything but a table of `chrom, pos, ref, alt` without nulls, alleles of
            one base or more of A, C, G, T, N, and `ref` as the genome has it.
    """
    if not isinstance(variants, pl.DataFrame):
        raise CislensError(
            f"variants are a {type(variants).__name__}, expected a polars table; let "
            "`genome.variants.read_variants` read a file, or pl.from_pandas turn a table."
        )
    missing = [key for key in _KEYS if key not in variants.columns]
    if missing:
        raise CislensError(
            f"the table of variants has no column {missing[0]!r}; it needs {', '.join(_KEYS)}."
        )
    if not variants.height:
        return variants
    for key in _KEYS:
        fits = (
            variants[key].dtype.is_integer() if key == "pos" else variants[key].dtype == pl.String
        )
        if not fits or variants[key].null_count():
            raise CislensError(
                f"the column {key!r} of the variants is {variants[key].dtype} with "
                f"{variants[key].null_count()} nulls; expected "
                f"{'whole numbers' if key == 'pos' else 'text'} and no null."
            )
    variants = variants.with_columns(pl.col("ref", "alt").str.to_uppercase())
    wrong = variants.filter(~pl.all_horizontal(pl.col("ref", "alt").str.contains(_ALLELE)))
    what = "has an allele that is not one or more of A, C, G, T, N"
    if not wrong.height:
        wrong = check_reference(variants, genome).filter(pl.col("ref_match") != "match")
        what = f"has a ref that is not what {genome.path} has"
    if wrong.height:
        chrom, pos, ref, alt = wrong.select(_KEYS).row(0)
        raise CislensError(
            f"{wrong.height} of {variants.height} variants: each {what}, the first "
            f"{chrom}:{pos} {ref}>{alt}; let `variant_doctor.Doctor` or `require_reference` clean "
            "the table first."
        )
    return variants
