"""What cislens says when the user's input is wrong."""

from collections.abc import Iterable
from difflib import get_close_matches


class CislensError(ValueError):
    """A mistake in the user's input.

    The message names the file, the row, what was found, what was expected and what to do.
    The command line prints it without a traceback and exits with code 2.
    """


class MissingFileError(CislensError, FileNotFoundError):
    """A file or folder that the user named does not exist."""


class CollapseError(CislensError):
    """Training was stopped because the model gives all sequences nearly the same.

    The command line exits with code 3.
    """


class CislensWarning(UserWarning):
    """Something the user should know that does not stop the work."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A closing sentence for an error about an unknown name: the nearest known one, or all."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(known)}."
