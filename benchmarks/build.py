"""How fast a profile store is built: against a pyBigWig + pyfaidx loop over the same windows.

    python benchmarks/build.py

The loop opens each file once, makes the same arrays in memory and writes nothing; the build
writes and syncs them. What the build does before (checks, digests of the inputs, windows, the
homology-aware split), the loop has no counterpart for: it is timed by itself and the ratio is
given without and with it. Both sides' arrays are compared first.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from profile_peers import DataSet, Peer, data_sets, median_seconds

from cislens.engines import LocalEngine
from cislens.signal.build import build_planned, build_profile_store
from cislens.signal.plan import plan_profile_store
from cislens.signal.store import ProfileStore

WORKERS = 2
REPEATS = 3


def main() -> None:
    """Print a table and, as last line, one JSON object."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(data, Path(folder)) for data in data_sets()]
    print(json.dumps({"benchmark": "build", "workers": WORKERS, "results": results}))


def measure(data: DataSet, folder: Path) -> dict[str, object]:
    """Seconds of both sides, and of the parts of ours, one beside the other."""
    settings = {**data.shape, "split": data.split}
    path = folder / data.name
    build_profile_store(path, data.genomes, data.tracks, **settings, workers=WORKERS)
    store = ProfileStore.open(path)
    largest = require_equal(store, *peer_arrays(data, store, folder))
    plan = plan_profile_store(data.genomes, data.tracks, **settings)

    def arrays(workers: int) -> None:
        shutil.rmtree(path, ignore_errors=True)
        build_planned(path, plan, LocalEngine(workers))

    work: dict[str, Callable[[], object]] = {
        "peer": lambda: peer_arrays(data, store, folder),
        "arrays": lambda: arrays(WORKERS),
        "arrays_one_worker": lambda: arrays(1),
        "planning": lambda: plan_profile_store(data.genomes, data.tracks, **settings),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS):
        for name, run in work.items():
            seconds[name].append(median_seconds(run, 1))
    median = {name: float(np.median(times)) for name, times in seconds.items()}
    whole = median["arrays"] + median["planning"]
    result = {
        "data": data.name,
        "windows": sum(store.windows(name).height for name in store.species),
        "values": plan.track_bases,
        **{f"{name}_seconds": round(value, 3) for name, value in median.items()},
        "times_peer": round(median["peer"] / median["arrays"], 2),
        "times_peer_with_planning": round(median["peer"] / whole, 2),
    }
    print(
        f"{data.name}: {result['windows']} windows, {plan.track_bases / 1e6:,.0f} M values; "
        f"pyBigWig + pyfaidx {median['peer']:.2f} s, arrays {median['arrays']:.2f} s with "
        f"{WORKERS} workers ({median['arrays_one_worker']:.2f} s with 1): "
        f"{result['times_peer']}x (target 3)\n  checks, digests and split "
        f"{median['planning']:.2f} s, with them {result['times_peer_with_planning']}x; "
        f"largest difference of targets {largest:.1e}"
    )
    return result


def peer_arrays(
    data: DataSet, store: ProfileStore, folder: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Sequence and target arrays of every species, window by window."""
    peer = Peer(data, folder)
    margin = data.shape["margin"]
    sequences, targets = {}, {}
    for species in store.species:
        windows = store.windows(species).select("chrom", "start", "end").rows()
        sequences[species] = np.stack(
            [peer.sequence(species, c, s - margin, e + margin) for c, s, e in windows]
        )
        bins = [peer.targets(species, *window) for window in windows]
        targets[species] = np.stack(bins).astype(np.float16)
    return sequences, targets


def require_equal(
    store: ProfileStore, sequences: dict[str, np.ndarray], targets: dict[str, np.ndarray]
) -> float:
    """Largest relative difference of targets; sequences must be the same."""
    largest = 0.0
    for species in store.species:
        rows = np.arange(store.windows(species).height)
        assert np.array_equal(store.sequence(species, rows), sequences[species])
        ours = store.targets(species, rows).astype(np.float64)
        theirs = targets[species].astype(np.float64)
        largest = max(largest, float(np.max(np.abs(ours - theirs) / (1 + np.abs(theirs)))))
    assert largest < 2e-3, f"targets differ by {largest}"
    return largest


if __name__ == "__main__":
    main()
