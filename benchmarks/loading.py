"""How fast batches come: against reading each window by pyfaidx + pyBigWig, and memory copy.

    python benchmarks/loading.py

Both sides deliver the same: shifted, strand-augmented codes and transformed bins, collated. The
wide stores have the size of large training sets (896 bins x 512 tracks) and synthetic counts;
`streaming` reads them from memory-mapped files in the page cache, `resident` from memory.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from profile_peers import DataSet, Peer, data_sets, median_seconds, memory_copy_speed, sample

from cislens.signal import store as stores
from cislens.signal.build import build_profile_store
from cislens.signal.layout import Shape, Values, array_layouts, schema_version
from cislens.signal.loader import ProfileLoader
from cislens.signal.shards import create_array, write_shard
from cislens.signal.tracks import Track, track_table

BATCH = 64
WIDE_BATCH = 16
REPEATS = 7
PEER_WINDOWS = 400


def main() -> None:
    """Print a table and, as last line, one JSON object."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for data in data_sets():
            results += measure(data, Path(folder))
        results += measure_wide(Path(folder))
    print(json.dumps({"benchmark": "loading", "results": results}))


def measure(data: DataSet, folder: Path) -> list[dict[str, object]]:
    """A real store in both regimes against the peers."""
    store = build_profile_store(
        folder / data.name, data.genomes, data.tracks, **data.shape, split=data.split, workers=2
    )
    peer = peer_epoch(data, store, folder)
    results = []
    for regime, budget in (("streaming", 0), ("resident", 1 << 40)):
        reopened = stores.ProfileStore.open(store.path)
        loader = ProfileLoader(reopened, "train", BATCH, memory_budget=budget)
        results.append(rate(loader, data.name, regime, peer))
    return results


def rate(
    loader: ProfileLoader, name: str, regime: str, peer: Callable[[], int] | None = None
) -> dict[str, object]:
    """Windows and bytes a second of whole epochs.

    The peers and memory copy are measured beside every epoch, so that a ratio compares the same
    moment of the machine; its median over the repeats counts.
    """
    size = [0, 0]

    def epoch() -> None:
        size[:] = [0, 0]
        for batch in loader:
            size[0] += len(batch.codes_BL)
            size[1] += batch.codes_BL.nbytes + sum(t.nbytes for t in batch.targets.values())

    epoch()
    windows, delivered, of_copy, of_peer = [], [], [], []
    for _ in range(REPEATS):
        before = memory_copy_speed(repeats=3)
        seconds = median_seconds(epoch, 3)
        copy = (before + memory_copy_speed(repeats=3)) / 2
        windows.append(size[0] / seconds)
        delivered.append(size[1] / seconds)
        of_copy.append(delivered[-1] / copy)
        if peer is not None:
            count = peer()
            of_peer.append(windows[-1] * median_seconds(peer, 1) / count)
    result: dict[str, object] = {
        "data": name,
        "regime": regime,
        "windows_a_second": round(float(np.median(windows))),
        "bytes_a_second": round(float(np.median(delivered))),
        "of_memory_copy": round(float(np.median(of_copy)), 3),
    }
    print(
        f"{name} {regime}: {result['windows_a_second']:,} windows/s, "
        f"{np.median(delivered) / 1e9:.2f} GB/s = {result['of_memory_copy']} of memory copy "
        "(target 0.15)"
    )
    if of_peer:
        result["times_peer"] = round(float(np.median(of_peer)), 1)
        print(f"  times pyfaidx + pyBigWig: {result['times_peer']}x (target 20)")
    return result


def peer_epoch(data: DataSet, store: stores.ProfileStore, folder: Path) -> Callable[[], int]:
    """Work of the peers: random training windows, species in proportion, in batches."""
    peer = Peer(data, folder)
    rng = np.random.default_rng(0)
    train = {name: store.windows(name).filter(split="train") for name in store.species}
    total = sum(part.height for part in train.values())
    chosen = [
        (name, *window)
        for name, part in train.items()
        for window in sample(part, PEER_WINDOWS * part.height // total)
    ]

    def batches() -> int:
        for first in range(0, len(chosen), BATCH):
            found = [peer.augmented(*window, rng) for window in chosen[first : first + BATCH]]
            np.stack([codes for codes, _ in found])
            for shape in {bins.shape for _, bins in found}:
                np.stack([bins for _, bins in found if bins.shape == shape])
        return len(chosen)

    return batches


def measure_wide(folder: Path) -> list[dict[str, object]]:
    """A store of 192 windows of 131,072 bp, 896 bins x 512 tracks, in both regimes."""
    path = folder / "wide"
    write_wide(path, windows=192, tracks=512)
    results = []
    for regime, budget in (("streaming", 0), ("resident", 1 << 40)):
        store = stores.ProfileStore.open(path)
        loader = ProfileLoader(store, "train", WIDE_BATCH, memory_budget=budget)
        results.append(rate(loader, "wide", regime))
    return results


def write_wide(path: Path, windows: int, tracks: int, values: Values = "float16") -> None:
    """A store with the layout of a real one and random counts."""
    shape = Shape(131_072, 128, 64, 8)
    species = stores.species_folder(path, "synthetic")
    rng = np.random.default_rng(0)
    for name, layout in array_layouts(shape, windows, tracks, 64, values).items():
        create_array(species / name, layout)
        for shard in range(layout.shards):
            first, last = layout.span(shard)
            rows = rng.poisson(1, (last - first, *layout.row_shape)) % 5
            write_shard(species / name, layout, shard, rows.astype(layout.dtype))
    starts = pl.int_range(0, windows * shape.length, shape.length, eager=True)
    frame = pl.DataFrame({"chrom": "chr1", "start": starts, "end": starts + shape.length})
    frame = frame.with_columns(block=pl.lit(0), split=pl.lit("train"))
    frame.write_parquet(species / "windows.parquet")
    rows = [Track(f"t{i}", f"t{i}.bw", "synthetic", strand_pair=f"t{i ^ 1}") for i in range(tracks)]
    track_table(rows).frame.write_parquet(species / "tracks.parquet")
    manifest = {
        "format": stores.FORMAT,
        "schema_version": schema_version(values),
        "params": {
            "length": 131_072,
            "bin_size": 128,
            "crop": 64,
            "margin": 8,
            "shard_rows": 64,
            "values": values,
        },
        "species": {"synthetic": {"windows": windows, "tracks": tracks, "chrom_sizes": {}}},
        "files": {},
    }
    (path / stores.MANIFEST).write_text(stores.manifest_text(manifest))


if __name__ == "__main__":
    main()
