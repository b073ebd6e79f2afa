"""How long `cislens VERB --help` takes, for every verb, beside Python and typer alone.

    python benchmarks/help.py [--repeats 9]

Prints the median of the wall time of each, in one round after another, so that a busy moment meets
all alike. The bound is typer's own import; a verb's module may add little to it.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import typer

from cislens.cli.app import app

CISLENS = Path(sys.executable).with_name("cislens")


def verbs(command: object, *names: str) -> list[tuple[str, ...]]:
    """Every path of names that ends in a verb."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return [names]
    return [path for name, each in inner.items() for path in verbs(each, *names, name)]


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    commands = {
        "python alone": [sys.executable, "-c", "pass"],
        "import typer": [sys.executable, "-c", "import typer"],
        "cislens": [str(CISLENS), "--help"],
    }
    for path in verbs(typer.main.get_command(app)):
        commands[" ".join(path)] = [str(CISLENS), *path, "--help"]
    rounds = [{name: seconds(each) for name, each in commands.items()} for _ in range(repeats)]
    medians = {name: statistics.median(each[name] for each in rounds) for name in commands}
    for name, median in medians.items():
        print(f"{median:6.3f} s  {name}")
    slowest = max(medians, key=lambda name: medians[name])
    print(
        f"slowest: {slowest}, {medians[slowest]:.3f} s ({len(medians) - 2} helps, {repeats} rounds)"
    )


if __name__ == "__main__":
    main()
