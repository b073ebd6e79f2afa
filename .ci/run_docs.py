"""Run every command of README and docs as written, beside a finished demo.

The commands are the lines of ```bash blocks that begin with `cislens` or make what those read
(`cp`, `printf`, `python`). What needs other data than the demo's stands in ```sh blocks, which are
not run. A ```yaml or ```python block that begins with a comment like `# name.yaml` is a file that
the commands use.
"""

import importlib
import os
import pkgutil
import re
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

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("cislens ", "cp ", "printf ", "python ")


def blocks(kind: str) -> list[str]:
    """The text of all blocks of a kind, in order."""
    pattern = rf"```{kind}\n(.*?)```"
    return [text for path in DOCS for text in re.findall(pattern, path.read_text(), re.DOTALL)]


def commands() -> list[str]:
    """Lines of bash blocks that are run, in order, each once; joined at backslashes."""
    found: dict[str, None] = {}
    for block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            command = " ".join(line.split(" #")[0].split())
            if command.startswith(RUN):
                found[command] = None
    return list(found)


def files() -> dict[str, str]:
    """Text of each recipe and program that begins with its name."""
    found = {}
    for kind, ending in (("yaml", "yaml"), ("python", "py")):
        for block in blocks(kind):
            if match := re.match(rf"# (\S+\.{ending})\n", block):
                found[match[1]] = block
    return found


def load() -> None:
    """Import the whole package, and with it its libraries, once for all commands."""
    for module in pkgutil.walk_packages(cislens.__path__, "cislens."):
        if not module.name.startswith("cislens.scale.ray"):
            importlib.import_module(module.name)


def run(command: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of a command.

    Commands of `cislens` and programs of Python run in a fork of this process; what their start
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
    (folder / "genome.fa").write_text(">chr1\n" + "ACGTTGCATTGA" * 1000 + "\n")
    for name, text in files().items():
        (folder / name).write_text(text)
    wanted = commands()
    if len(wanted) < 8:
        raise SystemExit(f"only {len(wanted)} commands were found in the docs")
    load()
    for command in wanted:
        start = time.monotonic()
        code, output = run(command, folder)
        if code:
            raise SystemExit(f"$ {command}\nexit code {code}\n{output}")
        sys.stdout.write(f"$ {command}  # {time.monotonic() - start:.0f} s\n")
        sys.stdout.flush()
    sys.stdout.write(f"docs checked: {len(wanted)} commands\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
