"""Run every `cislens` command of README and docs as written, beside a finished demo.

The commands are those of ```bash blocks. What needs other data than the demo's stands in ```sh
blocks, which are not run. A ```yaml block that begins with a comment like `# name.yaml` is a recipe
that the commands use.
"""

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(kind: str) -> list[str]:
    """The text of all blocks of a kind, in order."""
    pattern = rf"```{kind}\n(.*?)```"
    return [text for path in DOCS for text in re.findall(pattern, path.read_text(), re.DOTALL)]


def commands() -> list[str]:
    """Lines of bash blocks that begin with cislens, in order, each once; joined at backslashes."""
    found: dict[str, None] = {}
    for block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            command = " ".join(line.split(" #")[0].split())
            if command.startswith("cislens "):
                found[command] = None
    return list(found)


def recipes() -> dict[str, str]:
    """Text of each recipe that begins with its name."""
    named = (re.match(r"# (\S+\.yaml)\n", block) for block in blocks("yaml"))
    return {match[1]: match.string for match in named if match}


def main(folder: Path) -> None:
    (folder / "genome.fa").write_text(">chr1\n" + "ACGTTGCATTGA" * 1000 + "\n")
    for name, text in recipes().items():
        (folder / name).write_text(text)
    wanted = commands()
    if len(wanted) < 8:
        raise SystemExit(f"only {len(wanted)} commands were found in the docs")
    for command in wanted:
        start = time.monotonic()
        run = subprocess.run(
            [str(Path(sys.executable).with_name("cislens")), *shlex.split(command)[1:]],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            raise SystemExit(f"$ {command}\nexit code {run.returncode}\n{run.stdout}{run.stderr}")
        sys.stdout.write(f"$ {command}  # {time.monotonic() - start:.0f} s\n")
        sys.stdout.flush()
    sys.stdout.write(f"docs checked: {len(wanted)} commands\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
