"""The model card: README.md of a model folder, as the Hugging Face hub reads it.

A block of YAML between two lines `---`, then Markdown. Scores are kept in the block, under the
hub's `model-index`, and the section of the page that shows them is made from there; an interval is
in the `args` of its metric, as `low`, `high` and `level`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cislens.errors import CislensError
from cislens.files import require_file

NAME = "README.md"
LEVEL = 0.95
_BLOCK = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
BEGIN, END = "<!-- scores -->", "<!-- /scores -->"
_SECTION = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)
# What Markdown or HTML would take for something else than text; `&` goes first.
_MARKS = str.maketrans({mark: f"&#{ord(mark)};" for mark in "&<>|`*[]\\~#$"})
_EDGE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # within a word it is only itself


@dataclass(frozen=True)
class Score:
    """A metric of the model, with its 95 % interval if it has one.

    Attributes:
        of: what was judged on, such as a species and a group of tracks, or a task.
        versus: name of the strongest baseline that it was held against.
        difference: from that baseline: point, low, high.
        said: the verdict in words.
    """

    of: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    versus: str | None = None
    difference: tuple[float, float | None, float | None] | None = None
    said: str | None = None


@dataclass(frozen=True)
class Judgement:
    """Scores on the same data.

    Attributes:
        task: kind of prediction, in the hub's sense.
        kind: of the data; digest: of their content; split: part of them.
        notes: what a reader of the scores must know.
    """

    task: str
    kind: str
    digest: str
    split: str
    scores: Sequence[Score]
    notes: Sequence[str] = ()


@dataclass
class Card:
    """A model card.

    Attributes:
        meta: the block of YAML.
        body: Markdown.
    """

    meta: dict[str, Any] = field(default_factory=dict)
    body: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Card":
        """The card of a model folder.

        Raises:
            MissingFileError: if it has none.
            CislensError: if its block is no YAML mapping.
        """
        path = require_file(folder / NAME, "model card")
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError, RecursionError, TypeError) as error:
            why = " ".join(str(error).split())
            raise CislensError(
                f"model card {path} begins with a block that is no YAML mapping ({why}); correct "
                "or remove it."
            ) from None

    @classmethod
    def parse(cls, text: str) -> "Card":
        """The card of its text; a text without a block is all body."""
        found = _BLOCK.match(text)
        if found is None:
            return cls({}, text)
        meta = yaml.safe_load(found[1])
        if not isinstance(meta, dict):
            raise TypeError(f"it holds {type(meta).__name__}")
        return cls(meta, text[found.end() :])

    def text(self) -> str:
        """As it is written."""
        block = yaml.safe_dump(self.meta, sort_keys=False, allow_unicode=True, width=100)
        return f"---\n{block}---\n{self.body}"

    def judged(self, judgements: Iterable[Judgement]) -> "Card":
        """The card with further scores; those on the same part of the same data are replaced."""
        results = {_known_by(each): each for each in self._results()}
        for judgement in judgements:
            made = _as_result(judgement)
            results[_known_by(made)] = made
        listed = list(results.values())
        title = re.search(r"^# (.+)$", self.body, re.MULTILINE)
        index = [{"name": title[1] if title else "cislens model", "results": listed}]
        section = f"{BEGIN}\n{_shown(listed)}\n{END}"
        if _SECTION.search(self.body):
            body = _SECTION.sub(lambda _: section, self.body)
        else:
            body = f"{self.body.rstrip()}\n\n## Scores\n{section}\n"
        return Card({"library_name": "cislens", **self.meta, "model-index": index}, body)

    def licensed(self, name: str) -> "Card":
        """The card with another license of the weights.

        Raises:
            CislensError: if it is no name that the hub takes.
        """
        name = name.lower()
        if not is_license(name):
            raise CislensError(
                f"--license {name!r} is no name of a license as the hub takes it; expected one "
                "such as mit, apache-2.0, cc-by-4.0 or other."
            )
        return Card({**self.meta, "license": name}, self.body)

    def scores(self) -> int:
        """How many scores it has with an interval."""
        metrics = [m for result in self._results() for m in result.get("metrics") or []]
        return sum("low" in (metric.get("args") or {}) for metric in metrics)

    def _results(self) -> list[dict[str, Any]]:
        """Results of the block that were written here; what others wrote is not kept."""
        every = [each for each in self.meta.get("model-index") or [] if isinstance(each, dict)]
        listed = [result for each in every for result in each.get("results") or []]
        return [
            result
            for result in listed
            if isinstance(result, dict) and str(_data(result).get("type")).startswith("cislens")
        ]


def plain(text: object) -> str:
    """A name from somebody's data as text of Markdown, on one line, whatever it holds."""
    shown = "".join(char if char.isprintable() else " " for char in str(text))
    return _EDGE.sub("&#95;", shown.translate(_MARKS))


def is_license(name: str) -> bool:
    """Whether a license is written as the hub writes it, such as apache-2.0."""
    return _LICENSE.fullmatch(name) is not None


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; the cells are escaped."""
    lines = [header, ["---"] * len(header), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _data(result: dict[str, Any]) -> dict[str, Any]:
    found = result.get("dataset")
    return found if isinstance(found, dict) else {}


def _known_by(result: dict[str, Any]) -> tuple[str, ...]:
    task, data = result.get("task"), _data(result)
    kind = task.get("type") if isinstance(task, dict) else None
    return (str(kind), str(data.get("type")), str(data.get("revision")), str(data.get("split")))


def _as_result(judgement: Judgement) -> dict[str, Any]:
    return {
        "task": {"type": judgement.task},
        "dataset": {
            "name": f"{judgement.kind} {judgement.digest[:12]}",
            "type": f"cislens-{judgement.kind.replace(' ', '-')}",
            "split": judgement.split,
            "revision": judgement.digest,
            "args": {"notes": list(judgement.notes)},
        },
        "metrics": [_as_metric(score) for score in judgement.scores],
    }


def _as_metric(score: Score) -> dict[str, Any]:
    given: dict[str, Any] = {"of": score.of}
    if score.low is not None and score.high is not None:
        given |= {"low": score.low, "high": score.high, "level": LEVEL}
    if score.versus is not None and score.difference is not None:
        given |= {"versus": score.versus, "difference": list(score.difference)}
    if score.said is not None:
        given["verdict"] = score.said
    name = f"{score.metric} of {score.of}"
    return {"type": score.metric, "name": name, "value": score.value, "args": given}


def _shown(results: Sequence[dict[str, Any]]) -> str:
    """All results, as Markdown."""
    parts = []
    for result in results:
        data, rows = _data(result), []
        for metric in result.get("metrics") or []:
            given = metric.get("args") or {}
            between = _between(given.get("low"), given.get("high"))
            row = (given.get("of"), metric.get("type"), _number(metric.get("value")), between)
            rows.append((*row, _against(given)))
        header = ("of", "metric", "value", "95 % interval", "against the best baseline")
        parts.append(f"**{plain(data.get('name'))}, {plain(data.get('split'))} part**\n")
        parts.append(table(header, rows) + "\n")
        notes = (data.get("args") or {}).get("notes") or []
        parts += [f"- {plain(note)}" for note in notes] + [""] * bool(notes)
    return "\n".join(parts).rstrip()


def _against(given: dict[str, Any]) -> str:
    """The difference from the baseline that a metric was held against, and the verdict."""
    if not given.get("difference"):
        return str(given.get("verdict", ""))
    point, low, high = given["difference"]
    moved = f"{_number(point, '+')} ({_between(low, high, '+')}) from {given.get('versus')}"
    return f"{moved}: {given['verdict']}" if "verdict" in given else moved


def _between(low: Any, high: Any, sign: str = "") -> str:
    if low is None or high is None:
        return "none"
    return f"{_number(low, sign)} to {_number(high, sign)}"


def _number(value: Any, sign: str = "") -> str:
    return format(value, f"{sign}.4f") if isinstance(value, int | float) else str(value)
