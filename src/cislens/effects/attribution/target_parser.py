"""Targets as the user states them in words.

    mean(QUERY)                 mean rate of the tracks of a query over the central bins
    bin(QUERY, OFFSET)          mean rate of these tracks in the bin OFFSET bp from the middle
    difference(QUERY, QUERY)    log ratio of the means of two sets of tracks
    probe(FILE.npz)             a direction in the embedding: `weights` (D,), `intercept` if there
    log(mean(...)), log(bin(...))

QUERY is one of `signal.query` on the track table; an empty one is all tracks. `[START:END]` after
mean, difference or probe keeps the bins that overlap this stretch, in bp from the window's middle.
Rates are the model's own: scaled and clipped as in training.
"""

import re

from cislens.effects.attribution.targets import (
    Bin,
    Difference,
    Log,
    Mean,
    Probe,
    Stretch,
    Target,
    read_probe,
)
from cislens.errors import CislensError, nearest
from cislens.signal.query import matching_tracks
from cislens.signal.tracks import TrackTable

_ARGUMENTS = {"mean": 1, "bin": 2, "difference": 2, "probe": 1, "log": 1}
_FORMS = "mean(QUERY), bin(QUERY, OFFSET), difference(QUERY, QUERY), probe(FILE.npz) or log(...)"


def parse_target(text: str, tracks: TrackTable | None) -> Target:
    """The target that a text states; see the top of the module.

    Args:
        tracks: of one species in the order of the model's rates; None for a model without tracks.

    Raises:
        CislensError: for a text that is not of this form, a query that is wrong or matches no
            track, or a file of a probe that is missing or wrong.
    """
    return _Parser(text, tracks).target()


class _Parser:
    def __init__(self, text: str, tracks: TrackTable | None) -> None:
        self.text, self.tracks = text, tracks

    def target(self) -> Target:
        try:
            found = self._parse(self.text)
        except RecursionError:
            raise self._error("it is nested too deep") from None
        found.text = self.text.strip()
        return found

    def _parse(self, text: str) -> Target:
        name, arguments, stretch = self._call(text)
        if len(arguments) != _ARGUMENTS[name]:
            raise self._error(f"{name}(...) takes {_ARGUMENTS[name]}, found {len(arguments)}")
        if stretch is not None and name in ("bin", "log"):
            raise self._error(f"{name}(...) takes no [START:END]; put it after mean(...)")
        if name == "mean":
            return Mean(self._select(arguments[0]), stretch)
        if name == "difference":
            above, below = map(self._select, arguments)
            return Difference(above, below, stretch)
        if name == "bin":
            return Bin(self._select(arguments[0]), self._offset(arguments[1]))
        if name == "probe":
            return Probe(*read_probe(arguments[0].strip("\"'")), stretch)
        inner = self._parse(arguments[0])
        if not isinstance(inner, Mean | Bin):
            raise self._error("log(...) is of mean(...) or bin(...), which are never below 0")
        return Log(inner)

    def _call(self, text: str) -> tuple[str, list[str], Stretch | None]:
        """Name, arguments and stretch of `name(argument, ...)[start:end]`."""
        head = re.match(r"\s*(\w+)\s*\(", text)
        if head is None:
            raise self._error(f"expected {_FORMS}")
        name = head[1]
        if name not in _ARGUMENTS:
            raise self._error(
                f"there is no {name}(...). {nearest(name, _ARGUMENTS)} Expected {_FORMS}"
            )
        arguments, end = self._arguments(text, head.end())
        rest = text[end:].strip()
        if not rest:
            return name, arguments, None
        found = re.fullmatch(r"\[\s*([+-]?[0-9]{1,15})\s*:\s*([+-]?[0-9]{1,15})\s*\]", rest)
        if found is None:
            raise self._error(
                f"after {name}(...) stands {rest!r}; expected nothing or [START:END] in bp"
            )
        stretch = int(found[1]), int(found[2])
        if stretch[0] >= stretch[1]:
            raise self._error(f"the stretch [{stretch[0]}:{stretch[1]}] is empty")
        return name, arguments, stretch

    def _arguments(self, text: str, start: int) -> tuple[list[str], int]:
        """Split at commas outside of quotes and inner parentheses; the place after the last."""
        depth, quote, begun, escaped = 1, "", start, False
        arguments: list[str] = []
        for place in range(start, len(text)):
            sign = text[place]
            if quote:
                quote = "" if sign == quote and not escaped else quote
                escaped = sign == "\\" and not escaped
            elif sign in "\"'":
                quote = sign
            elif sign == "(":
                depth += 1
            elif sign == ")":
                depth -= 1
            if depth == 0 or (sign == "," and depth == 1 and not quote):
                arguments.append(text[begun:place].strip())
                begun = place + 1
            if depth == 0:
                return arguments, place + 1
        raise self._error("a quote is not closed" if quote else "a parenthesis is not closed")

    def _select(self, query: str) -> list[int]:
        if self.tracks is None:
            raise self._error("the model has no tracks; expected probe(FILE.npz)")
        found: list[int] = matching_tracks(self.tracks, query or None).tolist()
        return found

    def _offset(self, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            why = f"OFFSET is {text!r}, expected whole bp from the window's middle"
            raise self._error(why) from None

    def _error(self, why: str) -> CislensError:
        return CislensError(f"target {self.text!r}: {why}.")
