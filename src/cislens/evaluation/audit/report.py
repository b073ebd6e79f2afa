"""What an audit found: one check a row, one verdict, the same on the page and in JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from cislens.evaluation.audit.table import AuditTable

Verdict = Literal["pass", "warn", "fail", "skipped"]
Group = Literal["leakage", "labels", "shortcut", "confounder", "alleles"]
EXIT_CODES: Mapping[str, int] = {"pass": 0, "skipped": 0, "warn": 1, "fail": 2}
SCHEMA = 1


@dataclass(frozen=True)
class Check:
    """One question to a split and its answer.

    Attributes:
        name: e.g. "exact duplicates".
        group: leakage (rows of test seen in training), labels (labels that contradict each
            other), shortcut (a label told by something else than sequence), confounder (what a
            simple sequence model reaches; reported, never judged), alleles.
        measure: what `value` is, in words.
        value, low, high: the measure and its 95 % interval, None where there is none.
        reference: what a predictor without knowledge reaches; None for fractions.
        warn, fail: a fraction above them, or an interval that lies above reference plus them,
            gives that verdict; None where the check gives no such verdict.
        why: why it was skipped, or what the reader should know.
        classes: the measure in each class.
        detail: further numbers, by name.
    """

    name: str
    group: Group
    measure: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    warn: float | None = None
    fail: float | None = None
    verdict: Verdict = "pass"
    why: str = ""
    classes: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditReport:
    """All checks of one table.

    Attributes:
        name: of the audited table or task.
        kind: "classes" or "values".
        classes: the classes in the order of their numbers, empty for values.
        design: how the split was made, as far as known.
        counts: rows of each split, or of each split and class.
        notes: how the input was read.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    design: str
    counts: Mapping[str, Mapping[str, int]]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    seed: int

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all checks."""
        return _worst(self.checks)

    @property
    def leakage(self) -> Verdict:
        """The worst verdict of the checks on leakage alone."""
        return _worst([check for check in self.checks if check.group == "leakage"])

    @property
    def exit_code(self) -> int:
        """0, 1, 2 for pass, warn, fail."""
        return EXIT_CODES[self.verdict]

    def check(self, name: str) -> Check:
        """The check of that name."""
        return next(check for check in self.checks if check.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {
            "schema_version": SCHEMA,
            "verdict": self.verdict,
            "leakage": self.leakage,
            **{key: value for key, value in asdict(self).items() if key != "checks"},
            "checks": [asdict(check) for check in self.checks],
        }

    @property
    def summary(self) -> dict[str, str | float]:
        """A short flat record for a task's card: the verdicts, and the value of every check."""
        found: dict[str, str | float] = {
            "schema": SCHEMA, "verdict": self.verdict, "leakage": self.leakage,
        }  # fmt: skip
        for verdict in ("fail", "warn"):
            found[verdict] = ", ".join(c.name for c in self.checks if c.verdict == verdict)
        for check in self.checks:
            if check.value is not None:
                found[check.name] = round(check.value, 6)
        return found


def _worst(checks: list[Check] | tuple[Check, ...]) -> Verdict:
    for verdict in ("fail", "warn", "pass"):
        if any(check.verdict == verdict for check in checks):
            return verdict
    return "skipped"


def skipped(name: str, group: Group, measure: str, why: str) -> Check:
    """A check that this input does not allow."""
    return Check(name, group, measure, verdict="skipped", why=why)


def judge(value: float, warn: float | None, fail: float | None) -> Verdict:
    """The verdict of a value that should not exceed its thresholds."""
    if fail is not None and value > fail:
        return "fail"
    return "warn" if warn is not None and value > warn else "pass"


def leak_check(
    table: AuditTable,
    name: str,
    measure: str,
    hit: npt.NDArray[np.bool_],
    thresholds: tuple[float, float],
    detail: Mapping[str, Any] | None = None,
) -> Check:
    """A check on the fraction of judged rows with a counterpart among the rows seen before.

    The value is that of the test rows (of valid where there is no test); the verdict is that of
    the worse of test and valid.

    Args:
        hit: (n,) whether a row has one; only rows of test and valid count.
    """
    fractions = {part: float(hit[table.of(part)].mean()) for part in table.judged}
    main = table.judged[0]
    mine = table.of(main)
    low, high = wilson(int(hit[mine].sum()), len(mine))
    return Check(
        name, "leakage", measure, fractions[main], low, high,
        warn=thresholds[0], fail=thresholds[1],
        verdict=judge(max(fractions.values()), *thresholds),
        classes=by_class(table, hit, mine),
        detail={**{f"fraction of {part}": value for part, value in fractions.items()},
                "rows": int(hit[mine].sum()), **(detail or {})},
    )  # fmt: skip


def by_class(
    table: AuditTable, values: npt.NDArray[Any], rows: npt.NDArray[np.int64]
) -> dict[str, float]:
    """The mean of values (n,) over some rows of each class; nothing where labels are numbers."""
    found = {}
    for number, name in enumerate(table.classes):
        mine = rows[table.y_NT[rows, 0] == number]
        if len(mine):
            found[name] = float(values[mine].mean())
    return found


def wilson(hits: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a fraction (Wilson, J Am Stat Assoc 22, 1927); n need not be whole."""
    z = float(norm.ppf(0.5 + level / 2))
    p = hits / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    low, high = max(center - reach, 0.0), min(center + reach, 1.0)
    return (low if hits else 0.0), (high if hits < n else 1.0)
