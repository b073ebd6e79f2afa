"""The manifest as tables: facts on top, licences, and all the rest by group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cislens.report.downloads import rows_csv

# Shown elsewhere on the page, so not repeated in the listing.
_PLACED = ("summary", "splits", "dropped", "interval", "licences")


@dataclass(frozen=True)
class Table:
    """Column names and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def csv(self) -> str:
        """The same as CSV, to be taken along."""
        return rows_csv(self.columns, self.rows)


@dataclass(frozen=True)
class Group:
    """One entry of the manifest: rows of name and value, or a block of text."""

    title: str
    rows: Sequence[tuple[str, str]] = ()
    text: str = ""


def facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few facts set under the headline."""
    return [(str(name), _value(value)) for name, value in manifest.get("summary", {}).items()]


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Mappings as rows; the columns are all their keys in order of appearance."""
    columns = list(dict.fromkeys(str(key) for row in rows for key in row))
    return Table(title, columns, [[_value(row.get(key, "")) for key in columns] for row in rows])


def groups(manifest: Mapping[str, Any]) -> list[Group]:
    """Every entry that the page does not place elsewhere; plain values are gathered first."""
    found = []
    loose = []
    for name, value in manifest.items():
        if name in _PLACED:
            continue
        if isinstance(value, Mapping):
            found.append(Group(name, rows=_flat(value)))
        elif isinstance(value, str) and "\n" in value:
            found.append(Group(name, text=value))
        else:
            loose.append((name, _value(value)))
    return ([Group("run", rows=loose)] if loose else []) + found


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            rows += _flat(inner, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _value(inner)))
    return rows


def _value(value: Any) -> str:
    if value is None:
        return "\u2013"
    if isinstance(value, list | tuple):
        return ", ".join(_value(inner) for inner in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
