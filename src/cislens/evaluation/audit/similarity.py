"""Rows of test whose sequence has a homolog among the rows seen before."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.evaluation.audit.report import Check, leak_check, skipped
from cislens.evaluation.audit.table import KNOWN_BEFORE, AuditTable, Floats
from cislens.genome.adapters import common_ends
from cislens.genome.alignment import align
from cislens.genome.candidates import Pieces, find_hits
from cislens.genome.codes import Codes
from cislens.genome.homology import leaking
from cislens.genome.minimizers import Ints

logger = logging.getLogger("cislens")

_NAME = "homology"
_THRESHOLDS = (0.01, 0.05)
_MEASURE = "rows with a verified alignment, on either strand, to a row seen before"
IDENTITY_BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# Alignments per row that its nearest neighbor is looked for among.
_NEAREST_OF = 8


@dataclass(frozen=True)
class Neighbors:
    """Rows (n,) of valid and test with a homolog in a part before theirs, and the identity of the
    nearest one, NaN where there is none."""

    near: npt.NDArray[np.bool_]
    identity: Floats


def leaking_rows(table: AuditTable, seed: int) -> npt.NDArray[np.bool_]:
    """Rows (n,) of valid with a homolog in train, and of test with one in train or valid."""
    near = np.zeros(len(table), bool)
    for part, before in KNOWN_BEFORE.items():
        rows, known = table.of(part), table.of(*before)
        if len(rows) and len(known) and table.sequences is not None:
            logger.info("homology: %s (%d) against %s (%d)", part, len(rows),
                        " and ".join(before), len(known))  # fmt: skip
            near[rows] = leaking(_some(table, rows), _some(table, known), seed)
    return near


def neighbors(table: AuditTable, seed: int) -> Neighbors:
    """Search valid against train, and test against train and valid."""
    near = leaking_rows(table, seed)
    identity = np.full(len(table), np.nan)
    for part, before in KNOWN_BEFORE.items():
        rows = np.intersect1d(table.of(part), np.flatnonzero(near))
        if len(rows):
            known = _some(table, table.of(*before))
            identity[rows] = nearest_identity(_some(table, rows), known)
    return Neighbors(near, identity)


def _some(table: AuditTable, rows: Ints) -> list[Codes]:
    """The sequences of some rows, without the adapters that all of the table share."""
    if table.sequences is None:
        return []
    left, right = common_ends(table.sequences)
    found = [table.sequences[row] for row in rows.tolist()]
    return [codes[left : len(codes) - right] for codes in found]


def nearest_identity(queries: list[Codes], known: list[Codes]) -> Floats:
    """Largest identity (q,) among the alignments of each query to its likeliest known sequences.

    A query without an alignment (one shorter than a seed, equal to a known one) has 1.
    """
    best = np.zeros(len(queries))
    if not queries:
        return best
    side = np.arange(len(queries) + len(known)) >= len(queries)
    pieces = Pieces([*queries, *known], side)
    hits = find_hits(pieces).pairs  # the best extended seeds first
    query = pieces.parent[hits.a]  # queries come first, so they are the smaller number
    order = np.argsort(query, kind="stable")
    begin = np.searchsorted(query[order], query[order])
    likely = np.sort(order[np.arange(len(order)) - begin < _NEAREST_OF])
    alignments = align(pieces.laid, pieces.starts, pieces.lengths, hits.take(likely))
    # Of the alignments the one with most matches, less what it leaves unmatched, is the nearest.
    strength = np.zeros(len(queries))
    for place in np.argsort(alignments.score, kind="stable").tolist():
        row = int(query[likely[place]])
        if alignments.score[place] >= strength[row]:
            strength[row], best[row] = alignments.score[place], alignments.identity[place]
    best[strength == 0] = 1.0
    return best


def homology_check(table: AuditTable, seed: int) -> Check:
    """The fraction of judged rows with a neighbor, and how alike the nearest is."""
    if table.sequences is None or not table.judged:
        why = "there is no split"
        if table.sequences is None:
            why = "the table has no sequences (give --genome to look them up)"
        return skipped(_NAME, "leakage", _MEASURE, why)
    found = neighbors(table, seed)
    rows = table.of(table.judged[0])
    counts = np.histogram(found.identity[rows][found.near[rows]], IDENTITY_BINS)[0]
    bins = zip(IDENTITY_BINS[:-1], IDENTITY_BINS[1:], counts.tolist(), strict=True)
    detail = {f"identity {low:g} to {high:g}": count for low, high, count in bins}
    return leak_check(table, _NAME, _MEASURE, found.near, _THRESHOLDS, detail)
