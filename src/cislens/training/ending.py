"""What a run does when it is told to end: by Ctrl-C, or by a scheduler."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities.exceptions import SIGTERMException


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End as any Python program, where Lightning would exit: it closes what is open and says so.

    Raises:
        KeyboardInterrupt: for Ctrl-C, which Lightning ignores from then on, as if with exit code 1.
            SIGTERM ends the process as that signal does, where Lightning exits as if all were done.
    """
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as ended:
        if isinstance(ended, SIGTERMException):
            signal.raise_signal(signal.SIGTERM)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN is not interrupt:
            signal.signal(signal.SIGINT, interrupt)
        raise KeyboardInterrupt from None
