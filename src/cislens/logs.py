"""The log as a program reads it: one JSON object a line, beside what people see.

Every line has `time` (UTC), `elapsed_s`, `memory_bytes` (the most held so far), `level`,
`message`, and `event` with its own fields where the line is about a countable fact; `rank` where
several processes train together.
"""

import json
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cislens import __version__
from cislens.usage import memory_high_water, processor_seconds, workers_high_water

logger = logging.getLogger("cislens")
# For programs alone: nothing of it reaches the terminal.
_silent = logging.getLogger("cislens.events")
_silent.propagate = False
_silent.setLevel(logging.DEBUG)
_silent.addHandler(logging.NullHandler())

LOG = "log.jsonl"
_BEGAN = time.monotonic()


def note(level: int, message: str, event: str, **fields: Any) -> None:
    """Log a message for people that carries an event with its fields for programs."""
    logger.log(level, "%s", message, extra={"event": event, "fields": fields})


def tell(event: str, **fields: Any) -> None:
    """Log an event that only programs read."""
    _silent.debug("%s", event, extra={"event": event, "fields": fields})


@contextmanager
def logged(path: str | os.PathLike[str]) -> Iterator[None]:
    """Append every line of the log to a file while the block runs.

    A line is written at once and whole: what a run that is killed leaves can be read, and a run
    that goes on adds to it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _JsonLines(path)
    before = logger.level
    logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    for each in (logger, _silent):
        each.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        for each in (logger, _silent):
            each.removeHandler(handler)
        handler.close()


@contextmanager
def told(verb: str, **fields: Any) -> Iterator[None]:
    """Tell programs how a job began and ended, and what it used: `began` and `ended`."""
    tell("began", verb=verb, cislens=__version__, **fields)
    began, error = time.monotonic(), None
    try:
        yield
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        tell(
            "ended", verb=verb, error=error, seconds=round(time.monotonic() - began, 3),
            processor_seconds=round(processor_seconds(), 3),
            workers_memory_bytes=workers_high_water(),
        )  # fmt: skip


class _JsonLines(logging.Handler):
    def __init__(self, path: Path) -> None:
        super().__init__(logging.DEBUG)
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            os.write(self.file, (line_of(record) + "\n").encode())
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1
        super().close()


def line_of(record: logging.LogRecord) -> str:
    """One line: strict JSON, whatever the fields are."""
    found = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "elapsed_s": round(time.monotonic() - _BEGAN, 3),
        "memory_bytes": memory_high_water(),
        "level": record.levelname.lower(),
        "message": record.getMessage(),
    }
    if (rank := os.environ.get("RANK")) is not None:  # of the processes that train together
        found["rank"] = rank
    if (event := getattr(record, "event", None)) is not None:
        found |= {"event": event, **getattr(record, "fields", {})}
    if record.exc_info and record.exc_info[1] is not None:
        found["error"] = repr(record.exc_info[1])
    return json.dumps(_plain(found), allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    """The value with None where a number is not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
