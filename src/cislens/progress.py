"""One way to show progress: a bar on a terminal, a plain line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Generator, Iterable, Sized
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cislens.logs import note, tell
from cislens.usage import time_left

T = TypeVar("T")
_LINE_EVERY_SECONDS = 15.0


def track(
    items: Iterable[T], description: str, total: int | None = None
) -> Generator[T, None, None]:
    """Yield `items` while showing how many are done and how long the rest may take.

    `total` is needed where `items` has no length. On a terminal a bar is drawn on stderr; else
    the logger `cislens` gets a line at most every 15 seconds and one at the end. The structured
    log gets an event as often either way.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from _bar(_lines(items, description, total, shown=False), description, total)
    else:
        yield from _lines(items, description, total, shown=True)


def _bar(items: Iterable[T], description: str, total: int | None) -> Generator[T, None, None]:
    from rich.console import Console

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=description)


def _lines(
    items: Iterable[T], description: str, total: int | None, shown: bool
) -> Generator[T, None, None]:
    began = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last > _LINE_EVERY_SECONDS:
            last = now
            _say(description, done, total, now - began, shown)
    _say(description, done, total, time.monotonic() - began, shown, over=True)


def _say(
    description: str, done: int, total: int | None, seconds: float, shown: bool, over: bool = False
) -> None:
    text = f"{description}: {done}" + ("" if total is None else f"/{total}")
    fields = {"doing": description, "done": done, "total": total, "seconds": round(seconds, 3)}
    if over:
        text += " done"
    elif total is not None:
        left = seconds / done * (total - done)
        text += f", about {time_left(left)} left"
        fields["seconds_left"] = round(left, 1)
    if shown:
        note(logging.INFO, text, "progress", **fields)
    else:
        tell("progress", **fields)
