"""How long the crossed block bootstrap takes: 2,000 draws x 10 models x 10,000 examples.

    python benchmarks/bootstrap.py [draws] [models] [examples]

Every example is its own block, which is the slowest case; then 200 blocks. One seed per model;
time grows with the number of seeds. Other work on the machine slows the clock, not the cpu time.
Prints a table and, as last line, one JSON object.
"""

import json
import os
import sys
import time

import numpy as np

from cislens.evaluation.nulls import permutation_null
from cislens.evaluation.statistics import Predictions, resample

METRICS = ("auroc", "auprc", "pearson", "spearman", "mcc")


def main(draws: int = 2000, models: int = 10, examples: int = 10_000) -> None:
    """Time each metric and print it."""
    results = []
    for metric in METRICS:
        for blocks in (examples, 200):
            data = predictions(metric, models, examples, blocks)
            began, busy = time.perf_counter(), time.process_time()
            resampled = resample(data, metric, draws)
            seconds, busy = time.perf_counter() - began, time.process_time() - busy
            assert resampled.both_MB.shape == (models, draws)
            row = {"metric": metric, "blocks": blocks, "seconds": seconds, "cpu_seconds": busy}
            results.append({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()})
            print(f"{metric:10} {blocks:6,} blocks {seconds:7.2f} s, cpu {busy:7.2f} s", flush=True)
        began = time.perf_counter()
        permutation_null(data, metric, 1000)
        seconds = time.perf_counter() - began
        print(f"{metric:10} null, 1,000 permutations {seconds:7.2f} s", flush=True)
    load = os.getloadavg()[0]
    print(json.dumps({
        "benchmark": "bootstrap", "draws": draws, "models": models, "examples": examples,
        "cores": len(os.sched_getaffinity(0)), "load": load, "results": results,
    }))  # fmt: skip


def predictions(metric: str, models: int, examples: int, blocks: int) -> Predictions:
    """Models of rising skill on normal labels, or on classes."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=examples)
    skill = np.linspace(0.3, 1.0, models)[:, None]
    scores = skill * y + rng.normal(size=(models, examples))
    if metric not in ("pearson", "spearman"):
        y = (y > 0).astype(float)
    block = np.arange(examples) * blocks // examples
    names = tuple(f"model{m}" for m in range(models))
    return Predictions(names, scores[:, None, :, None].astype(np.float32), y[:, None], block)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
