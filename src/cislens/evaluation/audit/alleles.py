"""Whether the reference alleles of a variant table are those of the genome."""

import polars as pl

from cislens.evaluation.audit.report import Check, judge, skipped
from cislens.evaluation.audit.table import AuditTable
from cislens.genome.reference import Genome
from cislens.genome.variants import check_reference

_NAME = "reference alleles"
_MEASURE = "variants whose ref is not what the genome has"


def allele_check(table: AuditTable, genome: Genome | None) -> Check:
    """Mismatches, flips, and whether positions are one off or the assembly is another."""
    if table.variants is None or genome is None:
        why = "the table has no variants" if table.variants is None else "give --genome to check"
        return skipped(_NAME, "alleles", _MEASURE, why)
    states = check_reference(table.variants, genome)["ref_match"]
    found, n = states.to_list(), len(states)
    wrong, flips = (n - found.count("match")) / n, found.count("flip") / n
    why = ""
    if wrong > 0:
        why = f"in {flips:.2%} alt is what {genome.name} has: ref and alt are swapped"
        for shift in (-1, 1):
            moved = table.variants.with_columns(pos=pl.col("pos") + shift)
            if check_reference(moved, genome)["ref_match"].to_list().count("match") > 0.95 * n:
                why = f"positions {shift:+d} would match: they do not count from 1"
        if wrong - flips > 0.5 and "match:" not in why:
            why = f"most do not match: {genome.name} is another assembly"
    return Check(
        _NAME, "alleles", _MEASURE, wrong, warn=0.0, fail=0.001, verdict=judge(wrong, 0.0, 0.001),
        why=why, detail={"flipped": flips, "genome": genome.name, "variants": n},
    )  # fmt: skip
