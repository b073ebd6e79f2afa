"""What more processes, tracks and windows cost: efficiencies, overheads and slopes.

    python benchmarks/scaling.py loader | training | engines | builds [--repeats 3]

`loader`: windows a second of one process that streams a store, and of two that share each batch.
`training`: steps a second of one process and of two under torchrun, with the same global batch.
`engines`: seconds that the local engine and Ray add to each unit of work.
`builds`: seconds of store builds with 50, 200 and 800 tracks, and with 16 times as many windows;
the slope is that of log seconds against log size, 1 where the cost is linear.

Sides alternate within each repeat, and medians count. One thread a process, so that two processes
have twice what one has.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from scaling_unit import Sleepy

from cislens.engines import LocalEngine
from cislens.extras import extra
from cislens.genome.reference import open_genome
from cislens.signal.bigwig import write_bigwig
from cislens.signal.build import build_planned
from cislens.signal.loader import ProfileLoader
from cislens.signal.plan import ProfilePlan, SplitSpec, plan_profile_store
from cislens.signal.store import ProfileStore
from cislens.signal.tracks import Track, track_table

LENGTH, BIN_SIZE, STRIDE = 8192, 128, 8192


def main() -> None:
    """Print a table and, as last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[name] = "1"  # of the processes that are started
    with tempfile.TemporaryDirectory() as folder:
        found = PARTS[given.part](Path(folder), given.repeats)
    print(json.dumps({"benchmark": f"scaling {given.part}", **found}))


def planned(folder: Path, windows: int, tracks: int) -> ProfilePlan:
    """A plan over a random genome; tracks are 50 bigWigs, again and again by other names."""
    folder.mkdir(exist_ok=True)
    genome, bases = folder / f"{windows}.fa", windows * STRIDE
    draw = np.random.default_rng(0)
    if not genome.exists():
        letters = np.frombuffer(b"ACGT", np.uint8)[draw.integers(0, 4, bases)]
        genome.write_bytes(b">one\n" + letters.tobytes() + b"\n")
    rows = []
    for number in range(tracks):
        source = folder / f"{windows}.{number % 50}.bw"
        if not source.exists():
            counts(source, bases, number)
        file = folder / f"{windows}.{number}.track.bw"
        if not file.exists():
            os.link(source, file)  # a file of its own to open, the same bytes to read
        rows.append(
            Track(id=f"t{number}", file=str(file), species="x", assay="ATAC", group="accessibility")
        )
    split = SplitSpec(block_bp=4 * LENGTH)
    return plan_profile_store(
        {"x": open_genome(genome, "x")}, track_table(rows), length=LENGTH, bin_size=BIN_SIZE,
        stride=STRIDE, split=split,
    )  # fmt: skip


def counts(path: Path, bases: int, seed: int) -> None:
    """A bigWig of counts in stretches of some 40 bp, as of a sequencing experiment."""
    draw = np.random.default_rng(seed + 1)
    ends = np.unique(draw.integers(1, bases, bases // 40))
    edges = np.concatenate([[0], ends, [bases]])
    values = draw.poisson(2, edges.size - 1).astype(np.float32)
    write_bigwig(path, {"one": bases}, "one", edges[:-1], edges[1:], values)


def loader(folder: Path, repeats: int) -> dict[str, Any]:
    """Windows a second of all processes together; two share the rows of each batch."""
    plan = planned(folder / "data", 800, 200)
    build_planned(folder / "store", plan, engine=LocalEngine(2))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats + 1):
        for count, times in seconds.items():
            times.append(read_by(folder / "store", count))
    store = ProfileStore.open(folder / "store")
    one, two = (statistics.median(seconds[count][1:]) for count in (1, 2))
    size = store.bins * len(store.tracks("x")) * 2 + store.length
    windows = len(store.windows("x").filter(split="train"))
    print(
        f"one process {windows / one:,.0f} windows/s ({windows * size / one / 1e9:.2f} GB/s), two "
        f"{windows / two:,.0f}; efficiency {one / two / 2:.2f}"
    )
    return {"windows_per_second": [windows / one, windows / two], "efficiency": one / two / 2}


def read_by(store: Path, world: int) -> float:
    """Seconds in which `world` processes go through an epoch together."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(world), context.Queue()
    started = [
        context.Process(target=read_share, args=(store, rank, world, ready, results))
        for rank in range(world)
    ]
    for process in started:
        process.start()
    found = [results.get(timeout=300) for _ in started]
    for process in started:
        process.join()
    return max(found)


def read_share(store: Path, rank: int, world: int, ready: Any, results: Any) -> None:
    """One process: its rows of every batch, streamed."""
    loads = ProfileLoader(ProfileStore.open(store), "train", 64, memory_budget=0)
    for _ in loads.epoch(0, share=(rank, world)):
        pass
    ready.wait(60)
    began = time.perf_counter()
    for _ in loads.epoch(1, share=(rank, world)):
        pass
    results.put(time.perf_counter() - began)


def training(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds a step, by the runs' own measurement, of which the first interval is left out."""
    build_planned(folder / "store", planned(folder / "data", 320, 8), engine=LocalEngine(2))
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "store": "store",
                "model": {"preset": "space-plus-tiny"},
                "training": {"steps": 24, "batch_size": 8, "validate_every": 8},
            }
        )
    )
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(repeats):
        for count, times in seconds.items():
            times.append(train_by(recipe, folder / f"run-{count}-{repeat}", count))
    one, two = (statistics.median(seconds[count]) for count in (1, 2))
    print(
        f"one process {1 / one:.2f} steps/s, two {1 / two:.2f}: speed-up {one / two:.2f}, "
        f"efficiency {one / two / 2:.2f}"
    )
    return {"seconds_per_step": [one, two], "efficiency": one / two / 2}


def train_by(recipe: Path, run: Path, processes: int) -> float:
    """Median seconds of a step of one run."""
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    launch = torchrun if processes > 1 else []
    command = [sys.executable, "-m", *launch, "cislens.cli.app", "train", str(recipe)]
    subprocess.run([*command, "--out", str(run)], check=True, capture_output=True)
    table = pl.read_parquet(run / "performance.parquet").filter(metric="seconds_per_step")
    return float(table["value"][1:].median())


def engines(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds beyond the work itself: to begin (one unit a worker), and per unit after that."""
    from cislens.scale.engines import engine_of

    def wall(engine: str, units: int) -> float:
        shutil.rmtree(folder / "units", ignore_errors=True)
        (folder / "units").mkdir()
        began = time.perf_counter()
        engine_of(engine, 2).run(Sleepy(folder / "units", 0.05), range(units), engine)
        return time.perf_counter() - began

    few, many = 2, 202
    found: dict[str, Any] = {}
    ray = extra("ray", "scale")
    ray.init(include_dashboard=False, log_to_driver=False)  # a cluster is there already
    engine_of("ray", 2).run(Sleepy(folder, 0.0), range(2), "ray")
    measured: dict[str, list[tuple[float, float]]] = {"local": [], "ray": []}
    for _ in range(repeats):
        for engine, times in measured.items():
            times.append((wall(engine, few), wall(engine, many)))
    for engine, times in measured.items():
        begin = statistics.median(short - 0.05 for short, _ in times)
        each = statistics.median((long - short) / (many - few) * 2 - 0.05 for short, long in times)
        found[engine] = {"begin_seconds": begin, "unit_seconds": each}
        print(f"{engine}: {begin:.2f} s to begin, {1e3 * each:.1f} ms a unit on each of 2 workers")
    return found


def builds(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds of builds without their planning, by tracks and by windows."""
    by_tracks = [(100, tracks) for tracks in (50, 200, 800)]
    by_windows = [(windows, 50) for windows in (100, 400, 1600)]
    plans = {size: planned(folder / "data", *size) for size in {*by_tracks, *by_windows}}
    seconds: dict[tuple[int, int], list[float]] = {size: [] for size in plans}
    for _ in range(repeats):
        for size, plan in plans.items():
            shutil.rmtree(folder / "store", ignore_errors=True)
            began = time.perf_counter()
            build_planned(folder / "store", plan, engine=LocalEngine(2))
            seconds[size].append(time.perf_counter() - began)
    median = {size: statistics.median(times) for size, times in seconds.items()}
    found: dict[str, Any] = {}
    for name, sizes, axis in (("tracks", by_tracks, 1), ("windows", by_windows, 0)):
        x, y = ([np.log(v) for v in vs] for vs in (
            [size[axis] for size in sizes], [median[size] for size in sizes]
        ))  # fmt: skip
        slope = float(np.polyfit(x, y, 1)[0])
        for size in sizes:
            values = size[0] * size[1] * LENGTH
            print(
                f"{size[0]} windows x {size[1]} tracks: {median[size]:.2f} s, "
                f"{values / median[size] / 1e6:,.0f} M values/s"
            )
        print(f"slope against {name}: {slope:.2f}")
        found[name] = {
            "seconds": {str(size[axis]): median[size] for size in sizes}, "slope": slope,
        }  # fmt: skip
    return found


PARTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "loader": loader,
    "training": training,
    "engines": engines,
    "builds": builds,
}

if __name__ == "__main__":
    main()
