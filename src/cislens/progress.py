"""One way to show progress: a bar on a terminal, a plain line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sized
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_LINE_EVERY_SECONDS = 15.0

logger = logging.getLogger("cislens")


def track(
    items: Iterable[T], description: str, total: int | None = None
) -> Generator[T, None, None]:
    """Yield `items` while showing how many are done.

    `total` is needed where `items` has no length. On a terminal a bar is drawn on stderr; else
    the logger `cislens` gets a line at most every 15 seconds and one at the end.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from _bar(items, description, total)
    else:
        yield from _lines(items, description, total)


def _bar(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    from rich.console import Console

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=description)


def _lines(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    last = time.monotonic()
    done = 0
    whole = "" if total is None else f"/{total}"
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > _LINE_EVERY_SECONDS:
            last = time.monotonic()
            logger.info("%s: %d%s", description, done, whole)
    logger.info("%s: %d%s done", description, done, whole)
