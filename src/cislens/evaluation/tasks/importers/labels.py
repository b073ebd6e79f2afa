"""Text in label columns becomes numbers, and says which kind of task they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.card import Metric, Target, TaskKind
from cislens.evaluation.tasks.importers.reading import Table
from cislens.recipes.task_basics import Labelling

METRICS: dict[str, Metric] = {
    "binary": Metric(primary="auroc", secondary=["auprc", "mcc"]),
    "multiclass": Metric(primary="macro_auroc", secondary=["accuracy", "mcc"]),
    "multilabel": Metric(primary="auroc", secondary=["auprc"]),
    "regression": Metric(primary="pearson", secondary=["spearman"]),
    "multi_regression": Metric(primary="pearson", secondary=["spearman"]),
    "splicing": Metric(primary="spearman", secondary=["pearson"]),
}


@dataclass(frozen=True)
class Labels:
    """Labels y (n, T), NaN where missing, with the kind of task and its target."""

    y: npt.NDArray[np.float64]
    kind: TaskKind
    target: Target


def read_labels(
    tables: Sequence[Table], columns: Sequence[str], section: Labelling, unit: str = ""
) -> Labels:
    """The labels of one or more columns, over all tables in order.

    Raises:
        CislensError: with file and line, for a label that is missing, of no known class, or that
            the transform does not take; and where the kind of the target is not clear.
    """
    if section.classes:
        y = np.concatenate([_classes(table, columns, section.classes) for table in tables])
    else:
        y = np.concatenate([_numbers(table, columns) for table in tables])
    return finish_labels(y, columns, section, tables, unit)


def finish_labels(
    y: npt.NDArray[np.float64],
    names: Sequence[str],
    section: Labelling,
    tables: Sequence[Table],
    unit: str = "",
) -> Labels:
    """Labels (n, T) checked, transformed and named."""
    _check_missing(y, names, section, tables)
    kind = section.target or _kind(y, section.classes, tables[0])
    if section.transform == "log1p":
        negative = (y < 0).any(axis=1)
        if negative.any():
            raise _at(tables, int(negative.argmax()), "a label is negative, which log1p refuses.")
        y = np.log1p(y)
    target: dict[str, Any] = {
        "names": list(names), "transform": section.transform, "unit": unit,
        "masked": section.missing == "mask", "label_map": section.classes,
    }  # fmt: skip
    if kind in ("binary", "multilabel"):
        strange = ~(np.isin(y, (0, 1)) | np.isnan(y)).all(axis=1)
        if strange.any():
            at = int(strange.argmax())
            raise _at(tables, at, f"label {y[at].tolist()} is not 0 or 1; give `classes`.")
    if kind == "multiclass":
        target["classes"] = _class_names(y, section.classes, tables[0])
    return Labels(y, kind, Target(**target))


def _classes(
    table: Table, columns: Sequence[str], classes: Mapping[str, int]
) -> npt.NDArray[np.float64]:
    found = []
    for name in columns:
        text = table.column(name).str.strip_chars()
        number = text.replace_strict(dict(classes), default=None, return_dtype=pl.Float64)
        bad = (number.is_null() & text.is_not_null() & (text != "")).arg_true()
        if len(bad):
            row = int(bad[0])
            raise table.error(
                row, f"label {text[row]!r} is not among the classes ({', '.join(classes)})."
            )
        found.append(number.to_numpy())
    return np.stack(found, axis=1).astype(np.float64)


def _numbers(table: Table, columns: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.stack(
        [table.numbers(name).fill_null(float("nan")).to_numpy() for name in columns], axis=1
    )


def _check_missing(
    y: npt.NDArray[np.float64], names: Sequence[str], section: Labelling, tables: Sequence[Table]
) -> None:
    if np.isinf(y).any():
        raise _at(tables, int(np.isinf(y).any(axis=1).argmax()), "a label is infinite.")
    missing = np.isnan(y)
    if section.missing == "refuse" and missing.any():
        row = int(missing.any(axis=1).argmax())
        raise _at(
            tables, row,
            f"{names[int(missing[row].argmax())]} has no label ({int(missing.any(axis=1).sum())} "
            "such rows); fill it, or write `missing: drop` (several outputs: `mask`).",
        )  # fmt: skip
    if section.missing == "mask" and y.shape[1] == 1:
        raise CislensError("`missing: mask` is for several outputs; with one, write `drop`.")


def _kind(y: npt.NDArray[np.float64], classes: Mapping[str, int], table: Table) -> TaskKind:
    known = y[~np.isnan(y)]
    two = bool(np.isin(known, (0, 1)).all())
    if y.shape[1] > 1:
        return "multilabel" if two else "multi_regression"
    if classes:
        return "binary" if set(classes.values()) <= {0, 1} else "multiclass"
    if two:
        return "binary"
    if (known == np.round(known)).all():
        raise CislensError(
            f"the labels of {table.path} are whole numbers ({', '.join(_some(known))}); say with "
            "`target` whether they are a multiclass or a regression target."
        )
    return "regression"


def _some(values: npt.NDArray[np.float64]) -> list[str]:
    return [f"{value:g}" for value in np.unique(values)[:4]]


def _class_names(y: npt.NDArray[np.float64], classes: Mapping[str, int], table: Table) -> list[str]:
    numbers = sorted(set(classes.values())) if classes else np.unique(y[~np.isnan(y)]).tolist()
    if numbers != list(range(len(numbers))):
        raise CislensError(
            f"the classes of {table.path} are {', '.join(map(str, numbers))}; number them from 0 "
            "without gaps."
        )
    if not classes:
        return [str(int(number)) for number in numbers]
    return [" or ".join(k for k, v in classes.items() if v == number) for number in numbers]


def _at(tables: Sequence[Table], row: int, what: str) -> CislensError:
    """An error at a row of the tables taken together."""
    for table in tables:
        if row < table.frame.height:
            return table.error(row, what)
        row -= table.frame.height
    raise AssertionError("the row is not in the tables")
