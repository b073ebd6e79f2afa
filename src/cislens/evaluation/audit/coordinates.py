"""What the places of the rows give away: overlap between parts, and labels told by it."""

import numpy as np

from cislens.evaluation.audit.overlaps import NEAR_BP, Axis, Largest, alone, largest_overlap
from cislens.evaluation.audit.predictors import targets
from cislens.evaluation.audit.report import Check, by_class, judge, leak_check, skipped
from cislens.evaluation.audit.scoring import score, scored_check
from cislens.evaluation.audit.table import KNOWN_BEFORE, AuditTable

_OVERLAP = (0.01, 0.05)
_OVERLAP_MEASURE = "rows that share a base with a row seen before"
_LOOK_UP = "coordinate look-up"
_LOOK_UP_WHY = (
    "uses coordinates only: the most that memory can give, no proof that a sequence model does it"
)
_CHROMOSOMES = "chromosome sharing"
_CHROMOSOME_MEASURE = "chromosomes of the judged part that the train part has too"
# Splits that part a chromosome on purpose.
_SHARING = ("homology", "regions", "fold")
_NO_PLACES = "the table has no intervals"


def coordinate_checks(table: AuditTable, seed: int) -> list[Check]:
    """Interval overlap, the coordinate look-up rule, and shared chromosomes."""
    if table.places is None or not table.judged:
        why = _NO_PLACES if table.places is None else "there is no split"
        return [
            skipped("interval overlap", "leakage", _OVERLAP_MEASURE, why),
            skipped(_LOOK_UP, "leakage", "accuracy or correlation on the judged rows", why),
            chromosome_check(table),
        ]
    axis = Axis.of(table.places)
    return [_overlap_check(table, axis), _look_up_check(table, axis, seed), chromosome_check(table)]


def _overlap_check(table: AuditTable, axis: Axis) -> Check:
    n = len(table)
    any_base, half, near = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool)
    for part, before in KNOWN_BEFORE.items():
        rows, known = table.of(part), axis.take(table.of(*before))
        if not len(rows):
            continue
        mine = axis.take(rows)
        largest = largest_overlap(mine, known)
        any_base[rows] = largest.overlap > 0
        shorter = np.minimum(mine.end - mine.start, _size(known, largest))
        half[rows] = (largest.overlap > 0) & (2 * largest.overlap >= shorter)
        near[rows] = mine.near(known, NEAR_BP)
    main = table.of(table.judged[0])
    classes = by_class(table, any_base, main)
    spread = max(classes.values()) - min(classes.values()) if classes else 0.0
    detail = {
        "at least half of the shorter interval": float(half[main].mean()),
        f"within {NEAR_BP} bp": float(near[main].mean()),
        "largest difference between classes": spread,
    }
    return leak_check(table, "interval overlap", _OVERLAP_MEASURE, any_base, _OVERLAP, detail)


def _size(known: Axis, largest: Largest) -> np.ndarray:
    partner = np.maximum(largest.known, 0)
    return (known.end - known.start)[partner] if len(known.start) else np.ones(len(partner))


def _look_up_check(table: AuditTable, axis: Axis, seed: int) -> Check:
    """The target of the train interval with the largest overlap; with none, the class most common
    (or the mean value) among train rows that overlap no other train row."""
    train, rows = table.of("train"), table.of(table.judged[0])
    if np.ptp(np.nan_to_num(table.y_NT)) == 0:
        return skipped(_LOOK_UP, "leakage", "accuracy", "the table has no labels that vary")
    known = axis.take(train)
    largest = largest_overlap(axis.take(rows), known)
    y = targets(table, train)
    lonely = alone(known)
    fallback = np.nanmean(y[lonely] if lonely.any() else y, axis=0)
    predicted = np.tile(fallback, (len(rows), 1))
    found = largest.known >= 0
    predicted[found] = np.where(np.isnan(y), fallback, y)[largest.known[found]]
    best = score(table, rows, predicted, seed)
    detail: dict[str, float | str] = {
        "judged rows with a train interval": float(found.mean()),
        "train rows that overlap no other": int(lonely.sum()),
    }
    right = np.zeros(len(table))
    if table.classes:
        right[rows] = predicted.argmax(1) == table.y_NT[rows, 0]
    return scored_check(_LOOK_UP, "leakage", best, why=_LOOK_UP_WHY, detail=detail,
                        classes=by_class(table, right, rows))  # fmt: skip


def chromosome_check(table: AuditTable) -> Check:
    """Whether train and the judged part share chromosomes, where the split should not."""
    if table.chrom is None or not table.judged:
        why = "the table has no chromosomes" if table.chrom is None else "there is no split"
        return skipped(_CHROMOSOMES, "leakage", _CHROMOSOME_MEASURE, why)
    known = set(table.chrom[table.of("train")].tolist())
    judged = set(table.chrom[table.of(table.judged[0])].tolist())
    shared = sorted(known & judged)
    value = len(shared) / len(judged)
    expected = table.design in _SHARING
    limit: dict[str, float | None] = (
        {"warn": None, "fail": None} if expected else {"warn": 0.0, "fail": None}
    )
    if table.design == "chromosome":
        limit["fail"] = 0.0
    why = f"expected of a split by {table.design}" if expected else ""
    if shared and not expected:
        why = "neighbors on a chromosome share more than sequence; say how the split was made"
    return Check(
        _CHROMOSOMES, "leakage", _CHROMOSOME_MEASURE, value, warn=limit["warn"],
        fail=limit["fail"], verdict=judge(value, limit["warn"], limit["fail"]), why=why,
        detail={"shared": len(shared), "of": len(judged), "names": ", ".join(shared[:30])},
    )  # fmt: skip
