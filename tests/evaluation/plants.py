"""Small synthetic tasks whose truth is known."""

import numpy as np
import polars as pl

from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.task import Task, make_task
from cislens.genome.codes import Codes, encode

MOTIF = encode("TGACTCAGCA")
SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}


def binary_card(name: str, **changes: object) -> TaskCard:
    values: dict[str, object] = {
        "name": name,
        "kind": "binary",
        "target": Target(names=["bound"]),
        "metric": Metric(primary="auroc"),
        "split": "predefined",
        "block": "example",
    }
    return TaskCard.model_validate({**values, **changes})


def random_codes(rng: np.random.Generator, n: int, length: int, gc: float = 0.5) -> Codes:
    odds = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
    return rng.choice(4, size=(n, length), p=odds).astype(np.uint8)


def labelled(card: TaskCard, codes: Codes, y: np.ndarray) -> Task:
    """A task of independent examples: each is its own cluster, five share a block."""
    ids = [f"e{i:05d}" for i in range(len(codes))]
    ends = np.cumsum([int(share * len(codes)) for share in SHARES.values()])
    split = np.array(list(SHARES))[np.searchsorted(ends[:-1], np.arange(len(codes)), "right")]
    rows = pl.DataFrame(
        {
            "example_id": ids,
            "y": np.atleast_2d(y.T).T.astype(np.float32).tolist(),
            "split": split,
            "cluster_id": ids,
            "block_id": [f"b{i // 5:04d}" for i in range(len(codes))],
        }
    )
    return make_task(card, rows, list(codes))


def motif_task(n: int, length: int = 100, seed: int = 0) -> Task:
    """Positives hold the motif at a random place and strand; negatives hold it shuffled."""
    rng = np.random.default_rng(seed)
    codes, y = random_codes(rng, n, length), rng.integers(0, 2, n)
    for row, label in zip(codes, y, strict=True):
        site = MOTIF if label else rng.permutation(MOTIF)
        at = rng.integers(0, length - len(MOTIF))
        row[at : at + len(MOTIF)] = site if rng.random() < 0.5 else 3 - site[::-1]
    return labelled(binary_card("motif"), codes, y)


def gc_task(n: int, shift: float, length: int = 200, seed: int = 0) -> Task:
    """Positives differ from negatives by `shift` in GC content and in nothing else."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    codes = np.concatenate([random_codes(rng, 1, length, 0.45 + shift * label) for label in y])
    return labelled(binary_card("gc"), codes, y)
