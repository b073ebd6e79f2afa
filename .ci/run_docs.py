"""Run every command and program of README and docs as written, beside a finished demo.

`tests/docs/blocks.py` says which blocks are run and which are not.
"""

import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.docs.blocks import blocks


def commands() -> list[str]:
    """Lines of bash blocks in order, each once."""
    lines = (line for block in blocks() if block.kind == "bash" for line in block.commands())
    return list(dict.fromkeys(lines))


def run_programs(folder: Path) -> int:
    """Run the python blocks that no command runs, one after another in this process."""
    os.chdir(folder)
    programs = [block for block in blocks() if block.kind == "python" and block.name is None]
    for block in programs:
        try:
            exec(compile(block.text, block.where, "exec"), {"__name__": "__docs__"})
        except Exception:
            raise SystemExit(f"{block.where}\n{traceback.format_exc()}") from None
    return len(programs)


def main(folder: Path) -> None:
    (folder / "genome.fa").write_text(">chr1\n" + "ACGTTGCATTGA" * 1000 + "\n")
    for block in blocks():
        if block.kind in ("yaml", "python") and block.name:
            (folder / block.name).write_text(block.text)
    wanted = commands()
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
    programs = run_programs(folder)
    sys.stdout.write(f"docs checked: {len(wanted)} commands, {programs} programs\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
