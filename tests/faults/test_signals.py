"""A command that is interrupted, ended or killed leaves no process, and goes on when run again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.faults import forks
from tests.faults.verbs import VERBS, Undisturbed, promised

TWO = ("--engine", "local", "--workers", "2")
SECONDS = 60.0


@dataclass
class Server:
    """Runs commands in forks of one process."""

    process: subprocess.Popen[str]

    def start(self, *command: object) -> int:
        """The number of the process that runs a command: a folder, a log, and its arguments."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(part) for part in command]) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    command = [sys.executable, "-m", forks.__name__]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


def living(group: int) -> list[str]:
    """Command lines of the processes of a group that are not about to vanish."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(its) == group and state != "Z":
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found


def wait_until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number", "code"),
    [
        ("train", signal.SIGKILL, -9),
        ("train", signal.SIGINT, 130),
        ("train", signal.SIGTERM, -15),
        ("predict", signal.SIGINT, 130),
        ("predict", signal.SIGTERM, -15),
        ("predict", signal.SIGKILL, -9),
    ],
)
def test_a_command_that_is_ended_leaves_no_process_and_goes_on(
    project: Path, undisturbed: Undisturbed, server: Server, tmp_path: Path,
    name: str, number: signal.Signals, code: int,
) -> None:  # fmt: skip
    """As a terminal does (Ctrl-C, the whole group) or a scheduler (the first process alone)."""
    verb, out, log = VERBS[name], tmp_path / "out", tmp_path / "log"
    command = (project, log, *verb.command, *(TWO if name != "train" else ()), "--out", out)
    pid = server.start(*command)
    if name == "train":
        wait_until((out / "checkpoints" / "last.ckpt").exists, "no checkpoint")
    else:
        wait_until(lambda: len(living(pid)) == 4, "no workers")  # and the one that tracks them
    (os.killpg if number == signal.SIGINT else os.kill)(pid, number)
    assert server.answer() == code
    wait_until(lambda: not living(pid), "processes were left")
    if number == signal.SIGINT:
        said = log.read_text()
        assert "interrupted: run the same command again" in said
        assert "Traceback" not in said
    assert server.start(*command) > 0
    assert server.answer() == 0, log.read_text()
    assert promised(verb, out) == undisturbed[name][0]
