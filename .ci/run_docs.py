"""Run every `cislens` command of README and docs as written, beside a finished demo."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Lines of bash blocks that begin with cislens, in order, each once."""
    found: dict[str, None] = {}
    for path in DOCS:
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(), flags=re.DOTALL):
            lines = [line.split(" #")[0].strip() for line in block.splitlines()]
            found.update(dict.fromkeys(line for line in lines if line.startswith("cislens ")))
    return list(found)


def main(folder: Path) -> None:
    (folder / "genome.fa").write_text(">chr1\n" + "ACGTTGCATTGA" * 1000 + "\n")
    wanted = commands()
    if len(wanted) < 8:
        raise SystemExit(f"only {len(wanted)} commands were found in the docs")
    for command in wanted:
        sys.stdout.write(f"$ {command}\n")
        sys.stdout.flush()
        run = subprocess.run(
            [str(Path(sys.executable).with_name("cislens")), *shlex.split(command)[1:]],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            raise SystemExit(f"{command}\nexit code {run.returncode}\n{run.stdout}{run.stderr}")
    sys.stdout.write(f"docs checked: {len(wanted)} commands\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
