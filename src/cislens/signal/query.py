r"""Choosing tracks of a table by what its columns say.

    assay == "ATAC" and biosample ~ "K562"
    group in ("DNase", "ATAC") and not (biosample ~ "(?i)liver" or weight < 1)

A comparison is a column of the table, an operator and a value: `==` and `!=` of a text or a
number, `~` and `!~` of a regular expression that is searched for, `<`, `<=`, `>` and `>=` of a
number, `in` and `not in` of several values in parentheses. Texts stand in double or single quotes;
a backslash before a quote makes it part of the text and is otherwise itself, as regular
expressions need. Comparisons are joined by `and`, `or`, `not` and parentheses; `not` binds
strongest, `or` weakest.

Dimensions: T track of the table.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.signal.tracks import TrackTable

Mask = npt.NDArray[np.bool_]
Value = str | float

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf\b)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<sign>==|!=|<=|>=|!~|~|<|>|\(|\)|,))""",
    re.VERBOSE,
)
_EQUAL, _SEARCH, _ORDER = ("==", "!="), ("~", "!~"), ("<", "<=", ">", ">=")
_COMPARE: dict[str, Callable[[pl.Series, float], pl.Series]] = {
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}
_SHOWN = 5
# What is often written in place of what is meant.
_SLIPS = {"'": "this quote is not closed", '"': "this quote is not closed", "=": "write == here"}


def matching_tracks(table: TrackTable, query: str | None) -> npt.NDArray[np.int64]:
    """Positions in the table of the tracks that a query asks for, in table order.

    Args:
        query: see the module; all tracks if None.

    Raises:
        CislensError: for a query that cannot be read (with its place), a column that the table
            does not have, or one that no track matches (with the nearest values).
    """
    return np.arange(len(table)) if query is None else matching_rows(table.frame, query)


def matching_rows(frame: pl.DataFrame, query: str) -> npt.NDArray[np.int64]:
    """The same, of the rows of several tables of tracks one below the other."""
    parser = _Parser(query, frame)
    found = np.flatnonzero(parser.query())
    if not found.size:
        raise CislensError(f"no track of {frame.height} matches {query!r}. {parser.hints()}")
    return found


def select_tracks(table: TrackTable, query: str | None) -> TrackTable:
    """The tracks that a query asks for, in table order.

    A track whose strand pair is not asked for is given without it.

    Raises:
        CislensError: as `matching_tracks`.
    """
    return chosen_tracks(table, matching_tracks(table, query))


def chosen_tracks(table: TrackTable, indices_T: npt.NDArray[np.int64]) -> TrackTable:
    """The tracks at some positions; strand pairs of which one is left out are none."""
    frame = table.frame[indices_T]
    kept = pl.col("strand_pair").is_in(frame["id"].to_list())
    pair = pl.when(kept).then(pl.col("strand_pair")).otherwise(pl.lit(""))
    return TrackTable(frame.with_columns(strand_pair=pair))


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


@dataclass
class _Parser:
    """Recursive descent; every rule gives the mask of the tracks that it holds for."""

    text: str
    frame: pl.DataFrame
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = self._tokens()
        self.place = 0

    def query(self) -> Mask:
        if not self.text.isascii() and self.text != self.text.encode(errors="replace").decode():
            raise CislensError(f"track query {self.text!r} is not UTF-8 text.")
        try:
            mask = self._either()
        except RecursionError:
            raise self._error(self._next, "the query is nested too deep") from None
        if self._next.kind != "end":
            raise self._error(self._next, "expected 'and', 'or' or the end here")
        return mask

    def hints(self) -> str:
        """What the compared columns hold that is near to what was asked for."""
        lines = []
        for column, value in dict.fromkeys(self.asked):
            known = sorted({str(each) for each in self.frame[column] if str(each)})
            close = get_close_matches(value, known, n=_SHOWN, cutoff=0.4)
            what = "the nearest" if close else "among them"
            shown = ", ".join(map(repr, close or known[:_SHOWN])) or "none"
            lines.append(f"{column} has {len(known)} values, {what} {shown}.")
        return " ".join(lines)

    def _tokens(self) -> list[_Token]:
        tokens, at, text = [], 0, self.text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                what = _SLIPS.get(text[at], "this is not understood")
                raise self._error(_Token("", text[at], at), what)
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match[kind], match.start(kind)))
            at = match.end()
        return [*tokens, _Token("end", "", len(text))]

    @property
    def _next(self) -> _Token:
        return self.tokens[self.place]

    def _take(self, *texts: str) -> bool:
        """Step over one of these words or signs, if it is next."""
        here = self._next
        if here.kind in ("word", "sign") and here.text in texts:
            self.place += 1
            return True
        return False

    def _either(self) -> Mask:
        mask = self._both()
        while self._take("or"):
            mask = mask | self._both()
        return mask

    def _both(self) -> Mask:
        mask = self._negated()
        while self._take("and"):
            mask = mask & self._negated()
        return mask

    def _negated(self) -> Mask:
        if self._take("not"):
            return ~self._negated()
        if self._take("("):
            mask = self._either()
            if not self._take(")"):
                raise self._error(self._next, "expected ')' here")
            return mask
        return self._comparison()

    def _comparison(self) -> Mask:
        token = self._next
        if token.kind != "word" or token.text in ("and", "or", "in"):
            raise self._error(token, "expected a column here")
        if token.text not in self.frame.columns:
            hint = nearest(token.text, self.frame.columns)
            raise self._error(token, f"the track table has no column {token.text!r}. {hint}")
        self.place += 1
        column = self.frame[token.text]
        if self._take("in"):
            return self._one_of(column)
        if self._take("not"):
            if not self._take("in"):
                raise self._error(self._next, "expected 'in' here")
            return ~self._one_of(column)
        sign = self._next
        if not self._take(*_EQUAL, *_SEARCH, *_ORDER):
            wanted = "==, !=, ~, !~, <, <=, >, >=, in or not in"
            raise self._error(sign, f"expected one of {wanted} here")
        return self._compared(column, sign)

    def _compared(self, column: pl.Series, sign: _Token) -> Mask:
        if sign.text in _EQUAL:
            mask = (column == self._value(column)).to_numpy()
            return ~mask if sign.text == "!=" else mask
        if (column.dtype == pl.String) != (sign.text in _SEARCH):
            kind, use = ("text", "==, ~ or in") if column.dtype == pl.String else (
                "a number", "==, < or >")  # fmt: skip
            raise self._error(sign, f"column {column.name!r} is {kind}; compare it by {use}")
        token, value = self._next, self._value(column)
        if sign.text in _ORDER:
            return _COMPARE[sign.text](column, float(value)).to_numpy()
        try:  # by polars, whose time is linear in the text whatever the expression
            mask = column.str.contains(str(value)).to_numpy()
        except pl.exceptions.PolarsError as error:
            why = " ".join(str(error).split())
            raise self._error(token, f"not a regular expression ({why})") from None
        return ~mask if sign.text == "!~" else mask

    def _one_of(self, column: pl.Series) -> Mask:
        if not self._take("("):
            raise self._error(self._next, "expected '(' and values here")
        values = [self._value(column)]
        while self._take(","):
            values.append(self._value(column))
        if not self._take(")"):
            raise self._error(self._next, "expected ',' or ')' here")
        return column.is_in(values).to_numpy()

    def _value(self, column: pl.Series) -> Value:
        token = self._next
        wanted = "text" if column.dtype == pl.String else "number"
        if token.kind != wanted:
            like = 'a text in quotes, such as "ATAC",' if wanted == "text" else "a number"
            raise self._error(token, f"expected {like} here: column {column.name!r} holds {wanted}")
        self.place += 1
        text = re.sub(r"\\(['\"])", r"\1", token.text[1:-1]) if wanted == "text" else token.text
        self.asked.append((column.name, text))
        return text if wanted == "text" else float(text)

    def _error(self, token: _Token, what: str) -> CislensError:
        closing = "" if what.endswith((".", "?")) else "."
        return CislensError(
            f"track query, character {token.at + 1}: {what}{closing}\n"
            f"  {self.text}\n  {' ' * token.at}^"
        )
