"""What embedding many sequences will cost, from embedding a few."""

import resource
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cislens.genome.codes import Codes
from cislens.representations.planning import chunk_rows
from cislens.representations.store import EmbeddingStore

_SAMPLE_BASES = 1 << 16
_SAMPLE_MAX = 64

# (sequences, ids, folder) -> a store of them.
Embed = Callable[[Sequence[Codes], Sequence[str], Path], EmbeddingStore]


def estimate(embed: Embed, sequences: Sequence[Codes], ids: Sequence[str]) -> dict[str, Any]:
    """Time, disk and memory for all sequences, after really embedding a sample of them.

    The sample is spread evenly and embedded twice; the second time counts, when caches are warm
    and kernels chosen. Memory is the highest so far of this process or of a worker, and what a
    chunk of features adds.
    """
    bases = sum(map(len, sequences))
    mean = max(1, bases // len(sequences))
    count = min(len(sequences), _SAMPLE_MAX, max(1, _SAMPLE_BASES // mean))
    rows = np.linspace(0, len(sequences) - 1, count).astype(int)
    sample, names = [sequences[row] for row in rows], [ids[row] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        embed(sample, names, Path(folder) / "first")
        store = embed(sample, names, Path(folder) / "second")
        ledger = store.ledger
    size = np.dtype(store.manifest["dtype"]["stored"]).itemsize
    views: dict[str, int] = store.manifest["views"]
    bins = [about["bins"] * about["dim"] for about in store.manifest["tokens"].values()]
    row_bytes = size * (sum(views.values()) + sum(bins))
    return {
        "sequences": len(sequences),
        "bp": bases,
        "views": views,
        "sample": {"sequences": count, "bp_per_s": round(ledger["bp_per_s"])},
        "seconds": round(bases / ledger["bp_per_s"], 1),
        "disk_bytes": row_bytes * len(sequences),
        "memory_bytes": _peak() + row_bytes * chunk_rows(sequences),
    }


def _peak() -> int:
    """Most memory that this process or one of its children has held."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024
