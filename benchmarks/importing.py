"""Time of `import cislens` and `cislens --help` beside a bare interpreter; target below 0.3 s."""

import json
import statistics
import subprocess
import sys
import time

REPEATS = 7


def seconds(*arguments: str) -> float:
    """Median wall time of the interpreter with these arguments."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


bare = seconds("-c", "pass")
whole = seconds("-c", "import cislens")
cli = seconds("-m", "cislens.cli.app", "--help")
print(f"bare interpreter {bare:.3f} s, import cislens {whole:.3f} s, cislens --help {cli:.3f} s")
print(json.dumps({"bare": bare, "import": whole, "help": cli, "import_alone": whole - bare}))
