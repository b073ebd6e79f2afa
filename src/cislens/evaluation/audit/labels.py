"""Labels as numbers: classes by their sorted names, or values."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.audit.sources import Piece
from cislens.evaluation.audit.table import Floats

_MOST_CLASSES = 20  # more distinct whole numbers than this are values


def read_labels(
    pieces: Sequence[Piece], column: str | None, wanted: str
) -> tuple[Floats, tuple[str, ...]]:
    """Class numbers or values (n, 1), and the names of the classes in sorted order.

    Args:
        column: of the label; without one, and without a class per file, all rows are one class.
        wanted: "classes", "values" or "auto".

    Raises:
        CislensError: for an empty label, or a column of too many texts to be classes.
    """
    if pieces[0].label is not None:
        text = pl.concat([
            pl.Series([piece.label], dtype=pl.String).new_from_index(0, piece.table.frame.height)
            for piece in pieces
        ])  # fmt: skip
    elif column is not None:
        texts = []
        for piece in pieces:
            cells = piece.table.column(column).str.strip_chars()
            empty = (cells.is_null() | (cells == "")).fill_null(value=True).arg_true()
            if len(empty):
                raise piece.table.error(int(empty[0]), f"{column} is empty; every row needs one.")
            texts.append(cells)
        text = pl.concat(texts)
    else:
        return np.zeros((sum(piece.table.frame.height for piece in pieces), 1)), ("all rows",)
    numbers = text.cast(pl.Float64, strict=False)
    numeric = numbers.is_not_null().all() and numbers.is_finite().all()
    whole = numeric and bool((numbers == numbers.round(0)).all())
    values = numeric and (not whole or numbers.n_unique() > _MOST_CLASSES)
    if wanted == "values" or (values and wanted == "auto"):
        if not numeric:
            raise CislensError(
                f"the labels are no numbers, e.g. {text[0]!r}; audit them as classes."
            )
        return numbers.to_numpy()[:, None], ()
    if text.n_unique() > max(_MOST_CLASSES, 0.1 * len(text)):
        raise CislensError(
            f"the label column {column!r} has {text.n_unique()} different texts in {len(text)} "
            "rows; name the column of the label with --label."
        )
    if whole:
        text = numbers.cast(pl.Int64).cast(pl.String)
    order = sorted(text.unique().to_list(), key=lambda name: (float(name), name) if whole else name)
    number = text.replace_strict({name: i for i, name in enumerate(order)}, return_dtype=pl.Float64)
    return number.to_numpy()[:, None], tuple(order)


def names_by_number(label_map: dict[str, int], name: str) -> list[str]:
    """What classes 0 and 1 of a binary target are called."""
    named = [" or ".join(k for k, v in label_map.items() if v == number) for number in (0, 1)]
    return [named[0] or f"no {name}", named[1] or name]
