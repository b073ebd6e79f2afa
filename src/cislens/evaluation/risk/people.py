"""The table of people: who is a case, and covariates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.genome.intervals import read_rows

_SAMPLE = ("sample", "iid", "sample_id", "id")
_ROW = " row "  # names of columns have no spaces around them
_STATUS = ("status", "case", "label", "phenotype")
_MISSING = ("", "NA", "nan", "NaN", ".")


@dataclass(frozen=True)
class People:
    """People with a known status and all covariates.

    Attributes:
        samples: their names, each once.
        status_N: 1 for a case, 0 for a control.
        covariates_NK: one column a covariate; K may be 0.
        incomplete: how many were left out for want of a status or a covariate.
    """

    samples: tuple[str, ...]
    status_N: npt.NDArray[np.int64]
    covariates_NK: npt.NDArray[np.float64]
    incomplete: int


def read_people(path: Path, covariates: Sequence[str] = ()) -> People:
    """Read a TSV with a header: `sample`, `status` (0 or 1) and the columns of covariates.

    A covariate of numbers is taken as it is; one of two texts, as sex, becomes 0 and 1 in their
    alphabetical order.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: with file and line, for a missing column, a sample that occurs twice, a
            status other than 0 and 1, or a covariate that is neither numbers nor two texts.
    """
    rows = read_rows(path, "table of people")
    if len(rows.fields) < 2:
        raise CislensError(f"{path} holds no people.")
    header = [name.strip() for name in rows.fields[0]]
    for row, fields in enumerate(rows.fields):
        if len(fields) != len(header):
            raise rows.error(row, f"{len(fields)} columns, the header has {len(header)}.")
    for number, name in enumerate(header):
        if name in header[:number]:
            raise rows.error(0, f"column {name!r} is there twice.")
    table = pl.DataFrame(
        rows.fields[1:], schema=dict.fromkeys(header, pl.String), orient="row"
    ).with_row_index(_ROW, 1)
    sample, status = _column(path, header, _SAMPLE), _column(path, header, _STATUS)
    for name in covariates:
        if name not in header:
            raise CislensError(f"{path} has no covariate {name!r}. {nearest(name, header)}")
    wanted = [status, *covariates]
    whole = table.filter(pl.all_horizontal(~pl.col(name).is_in(_MISSING) for name in wanted))
    for row, value in whole.select(_ROW, status).iter_rows():
        if value not in ("0", "1"):
            raise rows.error(row, f"{status} is {value!r}, expected 0 (control) or 1 (case).")
    twice = whole.filter(whole[sample].is_duplicated())
    if len(twice):
        raise rows.error(twice[_ROW][1], f"{twice[sample][1]!r} is there twice.")
    columns = [_numbers(path, whole[name]) for name in covariates]
    return People(
        tuple(whole[sample]), whole[status].cast(pl.Int64).to_numpy(),
        np.stack(columns, axis=1) if columns else np.zeros((whole.height, 0)),
        table.height - whole.height,
    )  # fmt: skip


def _column(path: Path, header: list[str], names: tuple[str, ...]) -> str:
    lower = {name.lower(): name for name in reversed(header)}
    found = next((lower[name] for name in names if name in lower), None)
    if found is None:
        raise CislensError(
            f"{path} has no column {names[0]!r} (nor {', '.join(names[1:])}); it has "
            f"{', '.join(header)}."
        )
    return found


def _numbers(path: Path, values: pl.Series) -> npt.NDArray[np.float64]:
    numbers = values.cast(pl.Float64, strict=False)
    if not numbers.null_count():
        return numbers.to_numpy()
    texts = sorted(values.unique().to_list())
    if len(texts) != 2:
        raise CislensError(
            f"{path}: covariate {values.name!r} is neither numbers nor two texts, e.g. "
            f"{texts[0]!r}, {texts[-1]!r}; write it as columns of 0 and 1."
        )
    second: npt.NDArray[np.float64] = (values == texts[1]).cast(pl.Float64).to_numpy()
    return second
