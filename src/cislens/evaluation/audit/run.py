"""The audit: every check of a table or a task, in order of cost."""

import logging
from collections.abc import Callable

import numpy as np

from cislens.evaluation.audit.alleles import allele_check
from cislens.evaluation.audit.assemble import table_of_task
from cislens.evaluation.audit.composition import composition_checks
from cislens.evaluation.audit.coordinates import coordinate_checks
from cislens.evaluation.audit.duplicates import conflict_check, duplicate_checks
from cislens.evaluation.audit.report import AuditReport, Check
from cislens.evaluation.audit.shortcuts import shortcut_checks
from cislens.evaluation.audit.similarity import homology_check
from cislens.evaluation.audit.table import PARTS, AuditTable, with_genome
from cislens.evaluation.tasks.task import Task
from cislens.genome.reference import Genome
from cislens.progress import track

logger = logging.getLogger("cislens")


def audit(
    table: AuditTable, genome: Genome | None = None, seed: int = 0, composition: bool = True
) -> AuditReport:
    """Ask a table what its split leaks and which shortcuts its labels allow.

    Args:
        genome: where given, intervals without sequences are looked up in it, soft-masked bases
            are counted, and reference alleles are checked.
        composition: whether to fit the confounders, which take most of the time and judge nothing.

    Raises:
        CislensError: if an interval lies on a chromosome that the genome does not have.
    """
    table = prepared(table, genome)
    steps: list[tuple[str, Callable[[], list[Check]]]] = [
        ("duplicates", lambda: [*duplicate_checks(table), conflict_check(table)]),
        ("coordinates", lambda: coordinate_checks(table, seed)),
        ("alleles", lambda: [allele_check(table, genome)]),
        ("shortcuts", lambda: shortcut_checks(table, seed)),
        ("homology", lambda: [homology_check(table, seed)]),
    ]
    if composition:
        steps.append(("composition", lambda: composition_checks(table, seed)))
    checks: list[Check] = []
    for name, step in track(steps, f"audit of {table.name}"):
        logger.info("audit: %s", name)
        checks += step()
    return AuditReport(
        table.name, table.kind, table.classes, table.design, counts(table), tuple(checks),
        table.notes, seed,
    )  # fmt: skip


def prepared(table: AuditTable, genome: Genome | None) -> AuditTable:
    """The table with what a genome knows of its intervals: sequences, soft-masked bases."""
    complete = table.sequences is not None and table.soft is not None
    if genome is None or complete or table.places is None or table.variants is not None:
        return table
    return with_genome(table, genome)


def audit_task(task: Task, genome: Genome | None = None, seed: int = 0) -> AuditReport:
    """The audit of a task, without the confounders, which a bench has among its arms.

    It reads the test labels too: it judges the task and chooses no model.
    """
    return audit(table_of_task(task), genome, seed, composition=False)


def counts(table: AuditTable) -> dict[str, dict[str, int]]:
    """Rows of every part, and of every class in it."""
    found: dict[str, dict[str, int]] = {}
    for part in PARTS if table.judged else ("",):
        rows = table.of(part)
        if not len(rows):
            continue
        found[part or "all"] = {"rows": len(rows)}
        if len(table.classes) > 1:
            number = np.bincount(table.y_NT[rows, 0].astype(int), minlength=len(table.classes))
            found[part or "all"] |= dict(zip(table.classes, number.tolist(), strict=True))
    return found
