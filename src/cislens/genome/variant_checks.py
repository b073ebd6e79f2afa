"""Judging variants one by one: what their text says, and what the genome says of it.

Dimensions: V variant (one alternate allele of one record).
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.genome.codes import Codes, N, decode, encode, reverse_complement
from cislens.genome.reference import Genome

# In the order in which they are looked for; the last four need the genome's bases.
REASONS = (
    "missing", "star", "breakend", "symbolic", "not_bases", "same_alleles", "unknown_chromosome",
    "beyond_end", "flipped", "other_strand", "ref_mismatch", "duplicate",
)  # fmt: skip
WRONG = ("flipped", "other_strand", "ref_mismatch")
_SHOWN = 24  # bases of the genome quoted at most


def judge_text(chunk: pl.DataFrame, names: Mapping[str, str], genome: Genome) -> pl.DataFrame:
    """A chunk of `stream_variants` as `row, chrom, pos, ref, alt, reason`, with what it was.

    `chrom` is the genome's name, alleles are in upper case, and `reason` is null where nothing is
    wrong but for what only the genome's bases can tell.

    Args:
        chunk: variants in the file's names.
        names: the file's names that the genome has, and what they are there.
        genome: gives the lengths of chromosomes.
    """
    ref, alt, pos = pl.col("ref"), pl.col("alt"), pl.col("pos")
    absent = [pl.col("chrom").is_null(), pos.is_null()]
    absent += [allele.is_null() | allele.is_in(["", "."]) for allele in (ref, alt)]
    length = ref.str.len_bytes().cast(pl.Int64)  # "-" comes after a base that must be there
    beyond = (pos < 1) | (pos - 1 + length > pl.col("size"))
    reason = pl.coalesce(
        pl.when(found.fill_null(value=False)).then(pl.lit(name))
        for found, name in (
            (pl.any_horizontal(absent), "missing"),
            (alt == "*", "star"),
            (alt.str.contains(r"[\[\]]|^\.[A-Z]|[A-Z]\.$"), "breakend"),
            (alt.str.contains("<", literal=True), "symbolic"),
            (~ref.str.contains("^([ACGTN]+|-)$") | ~alt.str.contains("^([ACGT]+|-)$"), "not_bases"),
            (ref == alt, "same_alleles"),
            (pl.col("known").is_null(), "unknown_chromosome"),
            (beyond, "beyond_end"),
        )
    )
    known = pl.col("chrom").replace_strict(names, default=None, return_dtype=pl.String)
    return (
        chunk.with_columns(
            pl.col("ref", "alt").str.to_uppercase(), known=known,
            given=pl.struct("chrom", "pos", "ref", "alt"),
        )
        .with_columns(
            size=pl.col("known").replace_strict(
                genome.chrom_sizes, default=None, return_dtype=pl.Int64
            )
        )
        .select(
            "pos", "ref", "alt", "id", "source_row", "allele", "size", "given",
            chrom="known", reason=reason, row=pl.int_range(pl.len(), dtype=pl.Int64),
        )
    )  # fmt: skip


def judge_reference(
    variants: pl.DataFrame, genome: Genome, tally: Counter[str]
) -> npt.NDArray[np.object_]:
    """For each of V variants None, or why its `ref` is not what the genome has.

    "flipped": `alt` is. "other_strand": the reverse complement of `ref` is. Else "ref_mismatch".

    Args:
        variants: `chrom, pos, ref, alt` within the chromosomes, bases or `-`.
        genome: what is compared.
        tally: single bases are counted there by what fits: `n`, `match`, `alt` and `complement`
            (of the others, one does not exclude the other), `later` and `earlier` (`ref` is one
            base further or before).
    """
    found_V = np.full(variants.height, None, object)
    rows_of = variants.select("chrom", row=pl.int_range(pl.len())).group_by("chrom")
    single_V = variants.select(
        (pl.col("ref").str.contains("^[ACGTN]$") & pl.col("alt").str.contains("^[ACGT]$")).alias(
            "s"
        )
    )["s"].to_numpy()
    for (chrom,), part in sorted(rows_of, key=lambda group: str(group[0])):
        rows = np.sort(part["row"].to_numpy())
        chromosome = genome.chromosome(str(chrom))
        single, longer = rows[single_V[rows]], rows[~single_V[rows]]
        found_V[single] = _judge_bases(variants[single], chromosome, tally)
        some = variants[longer].select("pos", "ref", "alt").iter_rows()
        found_V[longer] = [_judge_bases_of(chromosome, *values) for values in some]
    return found_V


def details(left_out: pl.DataFrame, genome: Genome) -> list[str]:
    """A few words on each row of `judge_text` that was left out."""
    words = []
    columns = left_out.select("chrom", "pos", "ref", "alt", "size", "reason").iter_rows()
    for chrom, pos, ref, alt, size, reason in columns:
        if reason in WRONG:
            length = min(max(len(ref), len(alt) if reason == "flipped" else 0), _SHOWN)
            words.append(f"the genome has {decode(genome.fetch(chrom, pos - 1, pos - 1 + length))}")
        elif reason == "beyond_end":
            words.append(f"{chrom} has the positions 1 to {size}")
        elif reason == "duplicate":
            words.append(f"{chrom}:{pos}:{ref}:{alt} came before")
        else:
            words.append("")
    return words


def _judge_bases(
    variants: pl.DataFrame, chromosome: Codes, tally: Counter[str]
) -> npt.NDArray[np.object_]:
    ref_V, alt_V = (encode("".join(variants[name])) for name in ("ref", "alt"))
    at_V = variants["pos"].to_numpy() - 1
    here_V = chromosome[at_V]
    match_V = here_V == ref_V
    alt_fits_V = ~match_V & (here_V == alt_V)
    complement_V = ~match_V & (ref_V != N) & (here_V == 3 - np.minimum(ref_V, 3))
    tally["n"] += len(ref_V)
    for name, fits_V in (("match", match_V), ("alt", alt_fits_V), ("complement", complement_V)):
        tally[name] += int(fits_V.sum())
    for name, step in (("later", 1), ("earlier", -1)):
        near_V = chromosome[np.clip(at_V + step, 0, chromosome.size - 1)]
        tally[name] += int((near_V == ref_V).sum())
    names = np.array([None, "flipped", "other_strand", "ref_mismatch"], object)
    return names[np.where(match_V, 0, np.where(alt_fits_V, 1, np.where(complement_V, 2, 3)))]


def _judge_bases_of(chromosome: Codes, pos: int, ref: str, alt: str) -> str | None:
    def has(allele: str) -> bool:
        return decode(chromosome[pos - 1 : pos - 1 + len(allele)]) == allele

    if ref == "-" or has(ref):
        return None
    if alt != "-" and has(alt):
        return "flipped"
    return "other_strand" if has(decode(reverse_complement(encode(ref)))) else "ref_mismatch"
