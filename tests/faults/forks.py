"""A process that has imported the command line, and forks for each command it is given.

Reads lines of JSON, each a folder, a log and the arguments of a command; answers with the number
of the process that runs it there, in a group of its own, and when that ended with its exit code,
negative for a signal. What is killed is the command and not Python's start, which is paid once.
"""

import importlib
import json
import os
import sys
import traceback

from cislens.cli import app

IMPORTED = ("effects.tracks", "signal.build", "training.fit")


def main() -> None:
    """Answer until the input ends."""
    for name in IMPORTED:
        importlib.import_module(f"cislens.{name}")
    for line in sys.stdin:
        folder, log, *arguments = json.loads(line)
        pid = os.fork()
        if not pid:
            run(folder, log, arguments)
        os.setpgid(pid, pid)
        answer(pid)
        answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def answer(value: int) -> None:
    """Say it now."""
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


def run(folder: str, log: str, arguments: list[str]) -> None:
    """Run a command in this fork, and end."""
    code = 1
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        for descriptor in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        del sys.modules["__main__"].__file__  # what workers import is the command, not this
        sys.argv = ["cislens", *arguments]
        app.main()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
