"""Run every command of README and docs as written, beside a finished demo.

The commands are the lines of ```bash blocks that begin with `cislens` or make what those read
(`cp`, `printf`, `python`). What needs other data than the demo's stands in ```sh blocks, which are
not run. A ```yaml or ```python block that begins with a comment like `# name.yaml` is a file that
the commands use.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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


def main(folder: Path) -> None:
    (folder / "genome.fa").write_text(">chr1\n" + "ACGTTGCATTGA" * 1000 + "\n")
    for name, text in files().items():
        (folder / name).write_text(text)
    wanted = commands()
    if len(wanted) < 8:
        raise SystemExit(f"only {len(wanted)} commands were found in the docs")
    # `cislens` and `python` are those of the environment that this runs in.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in wanted:
        start = time.monotonic()
        run = subprocess.run(
            ["bash", "-c", command],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            raise SystemExit(f"$ {command}\nexit code {run.returncode}\n{run.stdout}{run.stderr}")
        sys.stdout.write(f"$ {command}  # {time.monotonic() - start:.0f} s\n")
        sys.stdout.flush()
    sys.stdout.write(f"docs checked: {len(wanted)} commands\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
