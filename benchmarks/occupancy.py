"""Throughput of the motif scan against memelite's, and whether it is linear and bounded.

    python benchmarks/occupancy.py [regions] [repeats]

Motifs: JASPAR 2026 CORE vertebrates from pyjaspar. Regions: random sequences of 512 bp, the same
for both. One thread each, compiled before the clock starts; the two take turns, so that other work
on the machine slows both alike, and cpu time is given beside. memelite counts hits at p < 1e-4;
that is what occupancy without a threshold stands beside, and `hits` is the same task. Then the
time of 16 times the regions, and the peak memory of a process that scans blocks of regions to disk.
Prints a table and, as last line, one JSON object.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402

from cislens.genome.codes import one_hot  # noqa: E402
from cislens.motifs.library import read_library  # noqa: E402
from cislens.motifs.scan import hits, occupancy  # noqa: E402
from cislens.motifs.sites import Motif  # noqa: E402

WIDTH = 512
BLOCK = 1000  # regions at once


def main(regions: int = 2000, repeats: int = 5) -> None:
    """Measure and print."""
    from memelite import fimo

    motifs = read_library("JASPAR2026:CORE:vertebrates").motifs
    codes = sequences(regions)
    x = one_hot(codes).astype(np.int8)
    theirs = {motif.id: motif.probabilities_W4.T.copy() for motif in motifs}
    runs: dict[str, Callable[[], object]] = {
        "occupancy": lambda: occupancy(codes, motifs),
        "hits": lambda: hits(codes, motifs, 1e-4),
        "memelite": lambda: fimo(theirs, x, threshold=1e-4),
        "memelite, counts only": lambda: fimo(theirs, x, threshold=1e-4, return_counts=True),
    }
    speed = throughput(runs, codes.size / 1e6, repeats)
    peer = speed["memelite, counts only"]["mbp_per_second"]
    ratio = {
        name: round(float(speed[name]["mbp_per_second"] / peer), 2)
        for name in ("occupancy", "hits")
    }  # fmt: skip
    linear = linearity(motifs)
    memory = blocks_in_memory()
    disk = 1_000_000 * len(motifs) * 2
    print(f"ratio to memelite, counts only: {ratio}")
    print(f"16 x the regions take {linear:.1f} x the time")
    print(f"peak memory by regions scanned (MiB): {memory}")
    print(f"1 M regions x {len(motifs)} motifs on disk, float16: {disk / 2**30:.2f} GiB")
    print(json.dumps({
        "benchmark": "occupancy", "motifs": len(motifs), "regions": regions, "width": WIDTH,
        "speed": speed, "ratio": ratio, "time_of_16_times": round(linear, 2),
        "peak_mib": memory, "disk_bytes_1m": disk, "load": os.getloadavg()[0],
    }))  # fmt: skip


def sequences(regions: int) -> np.ndarray:
    """Random regions as codes."""
    return np.random.default_rng(0).integers(0, 4, (regions, WIDTH)).astype(np.uint8)


def throughput(
    runs: dict[str, Callable[[], object]], mbp: float, repeats: int
) -> dict[str, dict[str, float]]:
    """Median Mbp per second of wall and of cpu time, in turns."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            began, busy = time.perf_counter(), time.process_time()
            run()
            taken[name].append((time.perf_counter() - began, time.process_time() - busy))
    speed = {}
    for name, times in taken.items():
        wall, cpu = np.median(np.array(times), axis=0)
        speed[name] = {"mbp_per_second": round(mbp / cpu, 3), "by_wall": round(mbp / wall, 3)}
        print(f"{name:22} {mbp / cpu:7.3f} Mbp/s of cpu, {mbp / wall:7.3f} of wall", flush=True)
    return speed


def linearity(motifs: tuple[Motif, ...], few: int = 250, repeats: int = 5) -> float:
    """How much longer 16 times as many regions take, by the quickest of some repeats."""
    best = []
    for regions in (few, 16 * few):
        codes = sequences(regions)
        times = []
        for _ in range(repeats):
            began = time.process_time()
            for first in range(0, regions, few):
                occupancy(codes[first : first + few], motifs)
            times.append(time.process_time() - began)
        best.append(min(times))
    return best[1] / best[0]


def blocks_in_memory() -> dict[int, int]:
    """Peak MiB of processes that scan ever more regions, block by block, to a file."""
    command = [sys.executable, __file__, "--memory"]
    return {
        regions: int(subprocess.run([*command, str(regions)], capture_output=True, text=True,
                                    check=True).stdout)
        for regions in (1000, 4000, 16_000)
    }  # fmt: skip


def memory(regions: int) -> None:
    """Scan to a file of float16 and print the peak memory of this process, in MiB."""
    motifs = read_library("JASPAR2026:CORE:vertebrates").motifs
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "occupancy").open("wb") as file:
        for _ in range(0, regions, BLOCK):
            codes = rng.integers(0, 4, (BLOCK, WIDTH)).astype(np.uint8)
            file.write(occupancy(codes, motifs).astype(np.float16).tobytes())
        file.flush()
        assert os.fstat(file.fileno()).st_size == regions * len(motifs) * 2
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        memory(int(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:]))
