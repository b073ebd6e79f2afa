"""Rows that are there twice: the same sequence, its reverse complement, the same interval; and
whether their labels agree."""

from collections.abc import Hashable, Iterable

import numpy as np
import numpy.typing as npt

from cislens.evaluation.audit.report import Check, judge, leak_check, skipped
from cislens.evaluation.audit.table import KNOWN_BEFORE, PARTS, AuditTable
from cislens.genome.codes import reverse_complement
from cislens.genome.minimizers import Ints

_THRESHOLDS = (0.0, 0.01)
_EXACT = "rows whose very sequence occurs among the rows seen before"
_REVERSE = "rows whose reverse complement, but not they themselves, occurs among those seen before"
_PLACE = "rows whose very interval (chrom, start, end) occurs among the rows seen before"
_WITHIN = "rows that repeat another row of their own split"
_CONFLICT = "rows whose sequence (or interval) is there again with another label"
# Two values of one sequence contradict each other beyond so many standard deviations of all.
_APART = 1.0


def numbered(keys: Iterable[Hashable]) -> Ints:
    """The number of each key, equal for equal keys, in order of first use."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)


def exact_keys(table: AuditTable) -> Ints | None:
    """Equal numbers (n,) for equal sequences (with both alleles, for variants)."""
    if table.sequences is None:
        return None
    if table.alternates is None:
        return numbered(codes.tobytes() for codes in table.sequences)
    pairs = zip(table.sequences, table.alternates, strict=True)
    return numbered((codes.tobytes(), other.tobytes()) for codes, other in pairs)


def canonical_keys(table: AuditTable) -> Ints | None:
    """Equal numbers (n,) for sequences that are equal up to strand."""
    if table.sequences is None:
        return None
    alternates = table.alternates or [np.empty(0, np.uint8)] * len(table)
    pairs = zip(table.sequences, alternates, strict=True)
    return numbered(
        min(
            (codes.tobytes(), other.tobytes()),
            (reverse_complement(codes).tobytes(), reverse_complement(other).tobytes()),
        )
        for codes, other in pairs
    )


def place_keys(table: AuditTable) -> Ints | None:
    """Equal numbers (n,) for equal intervals and, for variants, equal alleles."""
    places = table.places
    if places is None:
        return None
    chrom = np.unique(places.chrom, return_inverse=True)[1]
    columns = [chrom, places.start, places.end]
    if table.variants is not None:
        columns.append(numbered(table.variants.select("ref", "alt").iter_rows()))
    return np.unique(np.stack(columns, 1), axis=0, return_inverse=True)[1].ravel()


def identity_keys(table: AuditTable) -> Ints | None:
    """What makes two rows one example: the sequence, up to strand unless the table is stranded;
    without sequences the interval, with its strand where the table is stranded."""
    keys = exact_keys(table) if table.stranded else canonical_keys(table)
    if keys is None:
        keys = place_keys(table)
        if keys is not None and table.stranded and table.strand is not None:
            keys = numbered(zip(keys.tolist(), table.strand.tolist(), strict=True))
    return keys


def seen_before(table: AuditTable, keys: Ints) -> npt.NDArray[np.bool_]:
    """Rows (n,) of valid and test whose key occurs in a part that comes before theirs."""
    hit = np.zeros(len(table), bool)
    for part, known in KNOWN_BEFORE.items():
        rows = table.of(part)
        hit[rows] = np.isin(keys[rows], keys[table.of(*known)])
    return hit


def duplicate_checks(table: AuditTable) -> list[Check]:
    """Copies over splits and within them."""
    exact, canonical, places = exact_keys(table), canonical_keys(table), place_keys(table)
    found = []
    for name, measure, keys in (
        ("exact duplicates", _EXACT, exact),
        ("reverse-complement duplicates", _REVERSE, canonical),
        ("identical intervals", _PLACE, places),
    ):
        if keys is None or not table.judged:
            why = "there is no split" if keys is not None else _missing(places is keys)
            found.append(skipped(name, "leakage", measure, why))
            continue
        hit = seen_before(table, keys)
        if keys is canonical and exact is not None:
            hit &= ~seen_before(table, exact)
        detail = _unique_by_class(table, keys) if keys is places else {}
        found.append(leak_check(table, name, measure, hit, _THRESHOLDS, detail))
    return [*found, _within(table)]


def _missing(place: bool) -> str:
    return f"the table has no {'intervals' if place else 'sequences'}"


def _unique_by_class(table: AuditTable, keys: Ints) -> dict[str, int]:
    train = table.of("train")
    return {
        f"unique train intervals of {name}": len(
            np.unique(keys[train[table.y_NT[train, 0] == number]])
        )
        for number, name in enumerate(table.classes)
    }


def _within(table: AuditTable) -> Check:
    name = "duplicates within a split"
    keys = identity_keys(table)
    if keys is None:
        return skipped(name, "labels", _WITHIN, "the table has no sequences and no intervals")
    fractions = {}
    for part in PARTS if table.judged else ("",):
        rows = table.of(part)
        if len(rows):
            fractions[part or "all"] = 1 - len(np.unique(keys[rows])) / len(rows)
    worst = max(fractions.values())
    return Check(
        name, "labels", _WITHIN, worst, warn=0.01, verdict=judge(worst, 0.01, None),
        why="repeated rows count twice in every metric" if worst else "",
        detail={f"fraction of {part}": value for part, value in fractions.items()},
    )  # fmt: skip


def conflict_check(table: AuditTable) -> Check:
    """Rows of one sequence with labels that contradict each other."""
    name = "conflicting labels"
    keys = identity_keys(table)
    if keys is None:
        return skipped(name, "labels", _CONFLICT, "the table has no sequences and no intervals")
    hit = conflicting(table, keys)
    value = float(hit.mean())
    rule = "differ" if table.classes else f"differ by more than {_APART:g} standard deviation"
    return Check(
        name, "labels", f"{_CONFLICT} (labels {rule})", value, warn=_THRESHOLDS[0],
        fail=_THRESHOLDS[1], verdict=judge(value, *_THRESHOLDS),
        detail={"rows": int(hit.sum()), "first rows": np.flatnonzero(hit)[:5].tolist()},
    )  # fmt: skip


def conflicting(table: AuditTable, keys: Ints) -> npt.NDArray[np.bool_]:
    """Rows (n,) of groups of equal keys whose labels contradict each other."""
    group = np.unique(keys, return_inverse=True)[1]
    hit = np.zeros(group.max(initial=-1) + 1, bool)
    for y in table.y_NT.T:
        known = np.isfinite(y)
        least, most = np.full(len(hit), np.inf), np.full(len(hit), -np.inf)
        np.minimum.at(least, group[known], y[known])
        np.maximum.at(most, group[known], y[known])
        allowed = 0.0 if table.classes else _APART * float(y[known].std()) if known.any() else 0.0
        hit |= most - least > allowed
    return hit[group]
