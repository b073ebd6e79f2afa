"""Tables of variants: read, checked against the reference, normalized, cut out as windows.

A variant table is a polars frame with `chrom` (String), `pos` (Int64, 1-based), `ref` and `alt`
(upper-case A, C, G, T, N), and whatever else its file gives. `-` stands for no bases, as some
tables write it, until `anchored` turns it into the base before, as VCF does.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.genome.chromosomes import match_names
from cislens.genome.codes import Codes, decode, encode
from cislens.genome.left_align import left_align
from cislens.genome.reference import Genome
from cislens.genome.variant_files import KEYS, read_variant_file

logger = logging.getLogger("cislens")

_LISTED = 5


def read_variants(
    path: str | Path,
    genome: Genome | None = None,
    columns: Mapping[str, str] | None = None,
    info: Sequence[str] = (),
) -> pl.DataFrame:
    """Read VCF, BCF, TSV, CSV or parquet, text plain or compressed.

    Of a VCF or BCF `id` and `filter` are kept; a site of several alternate alleles becomes one row
    per allele, and alleles without a sequence (`<DEL>`, `*`, breakends, `.`) are left out and
    counted in the log. Of other tables every column is kept; the usual names (`chr`, `position`,
    `reference`, ...) are understood in any case, and `NA` is null. `source_row` is the line, or the
    record of a VCF, BCF or parquet file.

    Args:
        genome: if given, chromosomes take its names (`1` and `chr1`), and `-` is anchored.
        columns: names of the file's columns for `chrom`, `pos`, `ref`, `alt` or `id`.
        info: keys of the INFO field to read as text columns; of a list with one value per
            alternate allele, each row gets its own.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: with file and row, for a missing column, a position that is no whole number
            from 1 on, an allele that is no sequence, equal alleles, or no variant at all.
    """
    frame = read_variant_file(path, columns or {}, info)
    if genome is not None:
        names = match_names(
            frame["chrom"].unique(maintain_order=True), genome.chrom_sizes, str(path)
        )
        frame = anchored(names.rename(frame), genome)
    return frame


def anchored(variants: pl.DataFrame, genome: Genome) -> pl.DataFrame:
    """Write `-` as VCF does: both alleles with the base before the event.

    A deletion (alt `-`) removes the bases from `pos` on; an insertion (ref `-`) comes after the
    base at `pos`. Before the first base of a chromosome the base after the event is taken.
    """
    bare = ((pl.col("ref") == "-") | (pl.col("alt") == "-")).alias("bare")
    rows = variants.select(bare)["bare"].arg_true().to_list()
    columns = {key: variants[key].to_list() for key in KEYS}
    for row in rows:
        chrom, pos, ref, alt = (columns[key][row] for key in KEYS)
        ref, alt = ref.replace("-", ""), alt.replace("-", "")
        start = pos if not ref else pos - 1  # first base after the anchor, 0-based
        if start > 0:
            base, start = decode(genome.fetch(chrom, start - 1, start)), start - 1
            ref, alt = base + ref, base + alt
        else:
            base = decode(genome.fetch(chrom, len(ref), len(ref) + 1))
            ref, alt = ref + base, alt + base
        columns["pos"][row], columns["ref"][row], columns["alt"][row] = start + 1, ref, alt
    return variants.with_columns(
        pl.Series(key, columns[key], variants.schema[key]) for key in KEYS[1:]
    )


def check_reference(variants: pl.DataFrame, genome: Genome) -> pl.DataFrame:
    """Add `ref_match`: "match", "flip" (not ref but alt is what the genome has) or "mismatch".

    Raises:
        CislensError: for an unknown chromosome or an allele `-`.
    """
    matches = _equals(variants, genome, "ref")
    flips = ~matches & _equals(variants, genome, "alt")
    state = np.where(matches, "match", np.where(flips, "flip", "mismatch"))
    return variants.with_columns(ref_match=pl.Series(state.tolist(), dtype=pl.String))


def require_reference(variants: pl.DataFrame, genome: Genome, limit: float = 0.001) -> pl.DataFrame:
    """The variants whose `ref` is what the genome has; the log counts the others.

    Raises:
        CislensError: if more than `limit` of the rows do not match; says how many are flipped,
            lists some, and says if positions one lower or one higher would match.
    """
    checked = check_reference(variants, genome)
    wrong = checked.filter(pl.col("ref_match") != "match")
    flips = checked.filter(pl.col("ref_match") == "flip")
    if len(wrong) <= limit * len(checked):
        if len(wrong):
            logger.warning(
                "%d of %d variants left out: their ref is not what %s has (%d flipped: %s)",
                len(wrong), len(checked), genome.name, len(flips), _listed(wrong),
            )  # fmt: skip
        return checked.filter(pl.col("ref_match") == "match")
    share = len(wrong) / len(checked)
    listed = f" ({_listed(flips)})" if len(flips) else ""
    raise CislensError(
        f"the ref allele of {len(wrong)} of {len(checked)} variants ({share:.1%}, allowed "
        f"{limit:.1%}) is not what {genome.path} has, e.g. {_listed(wrong)}; in {len(flips)} alt "
        f"is{listed}. {_hint(variants, genome, checked)}"
    )


def normalize(variants: pl.DataFrame, genome: Genome) -> pl.DataFrame:
    """Trim shared bases and shift insertions and deletions as far left as they go.

    The result is what `bcftools norm` gives for single alleles: parsimonious and left-aligned,
    neither allele empty (Tan, Abecasis and Kang 2015, Bioinformatics 31:2202).

    Raises:
        CislensError: if a longer allele's `ref` is not what the genome has.
    """
    variants = anchored(variants, genome)
    longer = (pl.col("ref").str.len_bytes() > 1) | (pl.col("alt").str.len_bytes() > 1)
    numbered = variants.select(*KEYS, row=pl.int_range(pl.len()), longer=longer)
    moving = numbered.filter("longer")
    _require_match(moving, genome)
    columns = {key: variants[key].to_list() for key in KEYS[1:]}
    for (chrom,), part in moving.group_by("chrom", maintain_order=True):
        aligned = left_align(
            genome.chromosome(str(chrom)),
            (part["pos"] - 1).to_list(), part["ref"].to_list(), part["alt"].to_list(),
        )  # fmt: skip
        for row, start, ref, alt in zip(part["row"].to_list(), *aligned, strict=True):
            columns["pos"][row], columns["ref"][row], columns["alt"][row] = start + 1, ref, alt
    return variants.with_columns(
        pl.Series(key, columns[key], variants.schema[key]) for key in KEYS[1:]
    )


def windows(variants: pl.DataFrame, genome: Genome, width: int) -> tuple[Codes, Codes]:
    """Reference and alternate windows, two (n, width) arrays of codes.

    The first base of the alleles lies at index `width // 2`. After the alternate allele follow
    the bases after `ref`, as many as fit: an insertion pushes bases out at the right end, a
    deletion draws bases in. What lies beyond a chromosome's ends is N.

    Raises:
        CislensError: if width is not positive, or a `ref` is not what the genome has.
    """
    if width <= 0:
        raise CislensError(f"the width of a window must be positive, not {width}.")
    _require_match(variants, genome)
    anchor = width // 2
    chroms = variants["chrom"]
    first = variants["pos"].to_numpy() - 1
    reference = genome.windows(chroms, first - anchor, width)
    alternate = reference.copy()
    for rows, alleles, (n_ref, n_alt) in _by_length(variants):
        fits = min(n_alt, width - anchor)
        alternate[rows, anchor : anchor + fits] = alleles[:, :fits]
        if n_ref != n_alt:
            rest = width - anchor - fits
            alternate[rows, anchor + fits :] = genome.windows(
                chroms[rows], first[rows] + n_ref, rest
            )
    return reference, alternate


def on_elements(variants: pl.DataFrame, elements: pl.DataFrame) -> pl.DataFrame:
    """Variants in the coordinates of the assayed elements that they were made in.

    With the elements' own FASTA file opened as a genome, every function here then works without
    the assembly, and what lies outside an element reads as N.

    Args:
        variants: with a column `element`.
        elements: `element, start` (0-based on the assembly) of each, one row an element.

    Returns:
        The table with `chrom` the element and `pos` counted from its first base; the assembly's
        values are kept as `assembly_chrom` and `assembly_pos`.

    Raises:
        CislensError: for a variant of an element that is not in `elements`.
    """
    foreign = variants.filter(~pl.col("element").is_in(elements["element"].to_list()))
    if len(foreign):
        name = foreign["element"][0]
        raise CislensError(f"unknown element {name!r}. {nearest(name, elements['element'])}")
    start = pl.col("element").replace_strict(
        elements["element"], elements["start"], return_dtype=pl.Int64
    )
    return variants.with_columns(
        chrom=pl.col("element"), pos=pl.col("pos") - start,
        assembly_chrom=pl.col("chrom"), assembly_pos=pl.col("pos"),
    )  # fmt: skip


def _by_length(
    variants: pl.DataFrame,
) -> list[tuple[npt.NDArray[np.int64], Codes, tuple[int, int]]]:
    """Rows, alternate alleles (n, length) and lengths of both alleles, by pair of lengths."""
    groups: list[tuple[npt.NDArray[np.int64], Codes, tuple[int, int]]] = []
    sized = variants.select(
        "alt", row=pl.int_range(pl.len(), dtype=pl.Int64),
        n_ref=pl.col("ref").str.len_bytes(), n_alt=pl.col("alt").str.len_bytes(),
    )  # fmt: skip
    for (n_ref, n_alt), part in sized.group_by("n_ref", "n_alt", maintain_order=True):
        lengths = (int(str(n_ref)), int(str(n_alt)))
        alleles = encode("".join(part["alt"])).reshape(-1, lengths[1])
        groups.append((part["row"].to_numpy(), alleles, lengths))
    return groups


def _equals(
    variants: pl.DataFrame, genome: Genome, allele: str, shift: int = 0
) -> npt.NDArray[np.bool_]:
    """Whether an allele is what the genome has at each variant's position."""
    if variants[allele].str.contains("-", literal=True).any():
        raise CislensError("some alleles are '-'; call `anchored` with the genome first.")
    equal = np.zeros(len(variants), bool)
    chroms, first = variants["chrom"], variants["pos"].to_numpy() - 1 + shift
    swapped = variants.select("chrom", "pos", ref=pl.col(allele), alt=pl.col(allele))
    for rows, alleles, (length, _) in _by_length(swapped):
        equal[rows] = (genome.windows(chroms[rows], first[rows], length) == alleles).all(1)
    return equal


def _require_match(variants: pl.DataFrame, genome: Genome) -> None:
    wrong = variants.filter(~_equals(variants, genome, "ref"))
    if len(wrong):
        raise CislensError(
            f"the ref allele of {len(wrong)} of {len(variants)} variants is not what {genome.path} "
            f"has, e.g. {_listed(wrong)}; keep what `require_reference` gives."
        )


def _hint(variants: pl.DataFrame, genome: Genome, checked: pl.DataFrame) -> str:
    matching = int((checked["ref_match"] == "match").sum())
    flipped = int((checked["ref_match"] == "flip").sum())
    if flipped > (len(checked) - matching) / 2:
        return "Ref and alt are swapped there: exchange them, and the sign of signed effects."
    for shift, meaning in ((1, "0-based; add 1"), (-1, "one too high; subtract 1")):
        moved = float(_equals(variants, genome, "ref", shift).mean())
        if moved > max(0.9, matching / len(checked)):
            return f"With pos {shift:+d} {moved:.1%} match: the positions are {meaning}."
    return "They may be of another assembly or of the other strand; lift or correct them."


def _listed(variants: pl.DataFrame) -> str:
    some = [f"{c}:{p} {r}>{a}" for c, p, r, a in variants.select(KEYS).head(_LISTED).iter_rows()]
    return ", ".join(some) + (", ..." if len(variants) > _LISTED else "")
