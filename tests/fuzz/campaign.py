"""A million hostile inputs: `python -m tests.fuzz --inputs 1000000 --out FOLDER`.

The inputs are numbered by reader, and each number always gives the same input, so a run that was
stopped goes on where it was. Every process tells in a file of its own what it is about to try:
whoever dies, or takes a minute over one input, is named, and another process takes its place.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

_CHUNK = 500  # inputs that are done and written down at once
_STUCK_S = 120.0
_MEMORY = Path("/dev/shm")
_LISTED = 20  # faults of one kind that are written down


def shares(costs: dict[str, float], inputs: int) -> dict[str, int]:
    """How many of the inputs each reader gets: the fewer, the longer one takes."""
    total = sum(1 / cost for cost in costs.values())
    return {name: int(inputs / cost / total) + 1 for name, cost in costs.items()}


def work(out: Path, worker: int, workers: int, inputs: int) -> None:
    """Do every chunk whose turn it is and that is not done."""
    place = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")
    from tests.fuzz.harness import Arena, overheard
    from tests.fuzz.readers import readers

    try:
        known = {reader.name: reader for reader in readers(place / "shop")}
        plan = [
            (name, begin, min(begin + _CHUNK, share))
            for name, share in shares({n: r.cost for n, r in known.items()}, inputs).items()
            for begin in range(0, share, _CHUNK)
        ]
        # Readers take turns, so that a stop at any time has tried all of them.
        plan.sort(key=lambda chunk: (chunk[1], chunk[0]))
        with overheard() as listen:
            arena = Arena(place / "arena")
            for number, (name, begin, end) in enumerate(plan):
                done = out / f"{name.replace(' ', '-').replace(':', '')}.{begin}.json"
                if number % workers != worker or done.exists():
                    continue
                found = _chunk(out / f"at.{worker}", arena, known[name], (begin, end), listen)
                shutil.rmtree(place / "cache", ignore_errors=True)
                aside = done.with_suffix(".partial")
                aside.write_text(json.dumps({"reader": name, "inputs": end - begin, **found}))
                aside.replace(done)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _chunk(
    at: Path, arena: Any, reader: Any, numbers: tuple[int, int], listen: Any
) -> dict[str, Any]:
    from tests.fuzz.harness import GOOD, attempts

    outcomes: Counter[str] = Counter()
    faults: list[dict[str, Any]] = []
    skipped = _lost(at.parent, reader.name)
    began = time.process_time()
    for number in range(*numbers):
        at.write_text(json.dumps([reader.name, number, time.time()]))
        if number in skipped:
            outcomes["died"] += 1
            continue
        for _, trial in attempts(arena, reader, [number], listen):
            outcomes[trial.outcome] += 1
            if trial.outcome not in GOOD and len(faults) < _LISTED:
                faults.append({"number": number, "outcome": trial.outcome, "why": trial.detail})
    return {"outcomes": outcomes, "faults": faults, "seconds": time.process_time() - began}


def _lost(out: Path, name: str) -> set[int]:
    """Inputs of a reader that a process died of."""
    file = out / "died.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return {number for found, number, _ in map(json.loads, lines) if found == name}


def table(out: Path) -> tuple[str, int]:
    """What came out by reader, and the number of faults."""
    totals: dict[str, Counter[str]] = {}
    faults = []
    for file in sorted(out.glob("*.json")):
        part = json.loads(file.read_text())
        total = totals.setdefault(part["reader"], Counter())
        total.update(part["outcomes"])
        total["inputs"] += part["inputs"]
        faults += [{"reader": part["reader"], **fault} for fault in part["faults"]]
    columns = ["inputs", "accepted", "refused"]
    columns += sorted({name for total in totals.values() for name in total} - set(columns))
    totals["all"] = sum(totals.values(), Counter())
    lines = [f"{'reader':32}" + "".join(f"{column:>12}" for column in columns)]
    lines += [
        f"{name:32}" + "".join(f"{total[column]:>12,}" for column in columns)
        for name, total in totals.items()
    ]
    lines += [json.dumps(fault) for fault in faults]
    bad = sum(totals["all"][name] for name in columns[3:])
    return "\n".join(lines) + "\n", bad


def main(given: Sequence[str] | None = None) -> int:
    """Run, or go on with a run; the exit code is 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(given)
    asked.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")

    def start(worker: int) -> Any:
        arguments = (asked.out, worker, asked.workers, asked.inputs)
        process = context.Process(target=work, args=arguments)
        process.start()
        return process

    running = {worker: start(worker) for worker in range(asked.workers)}
    while running:
        time.sleep(1)
        for worker, process in list(running.items()):
            at = asked.out / f"at.{worker}"
            stuck = at.exists() and time.time() - at.stat().st_mtime > _STUCK_S
            if process.is_alive() and not stuck:
                continue
            process.kill()
            process.join()
            if process.exitcode == 0:
                del running[worker]
                continue
            if not at.exists():
                sys.stderr.write("a process ended before its first input\n")
                return 1
            with (asked.out / "died.jsonl").open("a") as log:
                log.write(at.read_text() + "\n")
            at.unlink()
            running[worker] = start(worker)
    text, bad = table(asked.out)
    (asked.out / "table.txt").write_text(text)
    sys.stdout.write(text)
    return 1 if bad else 0
