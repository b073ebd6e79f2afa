"""Run every command and program of README and docs as written, beside a finished demo.

`tests/docs/blocks.py` says which blocks are run and which are not. What each command and, at the
end, each page took is printed in seconds of the clock and of the processor; docs/timings.md has
such numbers.
"""

import importlib
import os
import pkgutil
import resource
import runpy
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import cislens
from cislens.cli import app

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.docs.blocks import ROOT, blocks


class Clock:
    """Seconds since it began: of the clock, and of the processor for this process and children."""

    def __init__(self) -> None:
        self.wall, self.work = time.monotonic(), self._work()

    @staticmethod
    def _work() -> float:
        used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in used)

    def read(self) -> tuple[float, float]:
        return time.monotonic() - self.wall, self._work() - self.work


def commands() -> dict[str, list[str]]:
    """Lines of bash blocks in order, each once, with the pages that have it."""
    found: dict[str, list[str]] = {}
    for block in blocks():
        if block.kind == "bash":
            for line in block.commands():
                page = str(block.page.relative_to(ROOT))
                found.setdefault(line, []).append(page)
    return found


def run_programs(folder: Path) -> int:
    """Run the python blocks that no command runs, one after another in this process."""
    os.chdir(folder)
    programs = [block for block in blocks() if block.kind == "python" and block.name is None]
    for block in programs:
        clock = Clock()
        try:
            exec(compile(block.text, block.where, "exec"), {"__name__": "__docs__"})
        except Exception:
            raise SystemExit(f"{block.where}\n{traceback.format_exc()}") from None
        say(block.where, clock.read())
    return len(programs)


def load() -> None:
    """Import the whole package, and with it its libraries, once for all commands."""
    for module in pkgutil.walk_packages(cislens.__path__, "cislens."):
        if not module.name.startswith("cislens.scale.ray"):
            importlib.import_module(module.name)


def run(command: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of a command.

    Commands of `cislens` and programs of Python run in a fork of this process: what their start
    takes, most of it the import of torch, is paid once.
    """
    words = shlex.split(command)
    if set("|<>&;$*") & set(command) or words[0] not in ("cislens", "python"):
        # `cislens` and `python` are those of the environment that this runs in.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env={**os.environ, "PATH": path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr
    sys.stdout.flush()
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            run_forked(words, folder, output.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return code, output.read().decode()


def run_forked(words: list[str], folder: Path, output: int) -> None:
    """Be the command, and end."""
    code = 1
    try:
        os.chdir(folder)
        os.dup2(output, 1)
        os.dup2(output, 2)
        del sys.modules["__main__"].__file__  # what workers import is the command, not this
        if words[0] == "cislens":
            sys.argv = words
            app.main()
        else:
            sys.argv = words[1:]
            sys.path[0] = str(folder)
            runpy.run_path(words[1], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(folder: Path) -> None:
    whole = Clock()
    (folder / "genome.fa").write_text(">chr1\n" + "ACGTTGCATTGA" * 1000 + "\n")
    for block in blocks():
        if block.kind in ("yaml", "python") and block.name:
            (folder / block.name).write_text(block.text)
    wanted = commands()
    load()
    pages: dict[str, list[tuple[float, float]]] = {}
    for command, where in wanted.items():
        clock = Clock()
        code, output = run(command, folder)
        if code:
            raise SystemExit(f"$ {command}\nexit code {code}\n{output}")
        seconds = clock.read()
        say(f"$ {command}  # {where[0]}:", seconds)
        for page in dict.fromkeys(where):
            pages.setdefault(page, []).append(seconds)
    programs = run_programs(folder)
    sys.stdout.write("\nEach page, what it shares with others in all of them\n")
    for page, each in sorted(pages.items()):
        say(f"{page}, {len(each)} commands:", (sum(s[0] for s in each), sum(s[1] for s in each)))
    say(f"docs checked: {len(wanted)} commands, {programs} programs:", whole.read())


def say(what: str, seconds: tuple[float, float]) -> None:
    sys.stdout.write(f"{what} {seconds[0]:.1f} s, processor {seconds[1]:.1f} s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
