"""How fast a profile store is built: against a pyBigWig + pyfaidx loop over the same windows.

    python benchmarks/build.py

The loop opens each file once, makes the same arrays in memory and writes nothing; the build
includes all checks, digests of the inputs, the split, writing and syncing. Both arrays are
compared before any time counts.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from profile_peers import DataSet, Peer, data_sets, median_seconds

from cislens.signal.build import build_planned, build_profile_store
from cislens.signal.plan import plan_profile_store
from cislens.signal.store import ProfileStore

WORKERS = 2
REPEATS = 5
PEER_REPEATS = 3


def main() -> None:
    """Print a table and, as last line, one JSON object."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(data, Path(folder)) for data in data_sets()]
    print(json.dumps({"benchmark": "build", "workers": WORKERS, "results": results}))


def measure(data: DataSet, folder: Path) -> dict[str, object]:
    """Seconds of both sides, and of the parts of ours."""
    settings = {**data.shape, "split": data.split}
    path = folder / data.name

    def build() -> None:
        shutil.rmtree(path, ignore_errors=True)
        build_profile_store(path, data.genomes, data.tracks, **settings, workers=WORKERS)

    build()
    store = ProfileStore.open(path)
    largest = require_equal(store, *peer_arrays(data, store, folder))
    ours = median_seconds(build, REPEATS)
    planning = median_seconds(
        lambda: plan_profile_store(data.genomes, data.tracks, **settings), REPEATS
    )
    plan = plan_profile_store(data.genomes, data.tracks, **settings)

    def one_worker() -> None:
        shutil.rmtree(path, ignore_errors=True)
        build_planned(path, plan, workers=1)

    alone = median_seconds(one_worker, REPEATS)
    theirs = median_seconds(lambda: peer_arrays(data, store, folder), PEER_REPEATS)
    windows = sum(store.windows(name).height for name in store.species)
    print(
        f"{data.name}: {windows} windows, {plan.track_bases / 1e6:,.0f} M values; "
        f"pyBigWig + pyfaidx {theirs:.2f} s, build {ours:.2f} s (of it planning {planning:.2f} s; "
        f"arrays with one worker {alone:.2f} s = {plan.track_bases / alone / 1e6:,.0f} M values/s)"
        f": {theirs / ours:.1f}x (target 3); largest difference {largest:.1e}"
    )
    return {
        "data": data.name,
        "windows": windows,
        "peer_seconds": round(theirs, 3),
        "build_seconds": round(ours, 3),
        "planning_seconds": round(planning, 3),
        "times_peer": round(theirs / ours, 2),
    }


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
