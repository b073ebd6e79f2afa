"""The positives of a task against shuffles of themselves; scored apart, for it is too easy."""

from collections.abc import Callable

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.card import TaskCard
from cislens.evaluation.tasks.rbp import build_rbp
from cislens.evaluation.tasks.task import Task, make_task
from cislens.evaluation.tasks.tfbs import build_tfbs
from cislens.evaluation.training_stores import TrainingStore
from cislens.genome.codes import Codes, encode
from cislens.genome.klets import klet_shuffle
from cislens.randomness import generator
from cislens.recipes.task_sections import RbpTask, ShuffledTask

SEGMENTS, REARRANGED = 20, 12


def build_shuffled(
    name: str, section: ShuffledTask, store: TrainingStore | None, seed: int
) -> Task:
    """The task of `of`, its negatives replaced by shuffles of the positives."""
    if isinstance(section.of, RbpTask):
        task = build_rbp(name, section.of, store, seed)
    else:
        task = build_tfbs(name, section.of, store, seed)
    return shuffled_twin(task, section.k, seed, name)


def shuffled_twin(task: Task, k: int = 2, seed: int = 0, name: str | None = None) -> Task:
    """A binary task's positives against shuffles with the same k-let counts.

    A shuffle is of the split, cluster and block of the positive that it was made from.

    Args:
        k: 1 to 3; the counts of all k-lets are kept exactly.
        name: of the new task; by default the old one's with `.shuffled<k>`.

    Raises:
        CislensError: if the task is not binary.
    """

    def shuffle(example: str, codes: Codes) -> Codes:
        return klet_shuffle(codes, k, generator(seed, "shuffle", k, example))

    name = name or f"{task.card.name}.shuffled{k}"
    return _twin(task, shuffle, name, {"k-lets kept by the shuffle": k})


def segment_twin(task: Task, *, name: str, seed: int = 0) -> Task:
    """A binary task's positives against copies of themselves, partly rearranged.

    Of 20 segments of each copy twelve, chosen at random, trade their bases at random places; eight
    stay as they are. So a copy has its positive's composition and much of its order.

    Raises:
        CislensError: if the task is not binary, or its sequences are shorter than 20 bp.
    """

    def shuffle(example: str, codes: Codes) -> Codes:
        if len(codes) < SEGMENTS:
            raise CislensError(
                f"task {task.card.name}: {example!r} has {len(codes)} bp, too few for {SEGMENTS} "
                "segments."
            )
        rng = generator(seed, "segments", example)
        segments = np.array_split(np.arange(len(codes)), SEGMENTS)
        chosen = rng.permutation(SEGMENTS)[:REARRANGED]
        places = np.concatenate([segments[number] for number in chosen])
        copy = codes.copy()
        copy[places] = codes[rng.permutation(places)]
        return copy

    return _twin(task, shuffle, name, {f"of {SEGMENTS} segments rearranged": REARRANGED})


def _twin(
    task: Task, shuffle: Callable[[str, Codes], Codes], name: str, report: dict[str, int]
) -> Task:
    if task.card.kind != "binary":
        raise CislensError(
            f"task {task.card.name} is {task.card.kind}; only a binary task's positives can be "
            "set against shuffles."
        )
    positives = task.examples.filter(pl.col("y").list.first() == 1)
    sequences = [encode(text) for text in positives["sequence"]]
    shuffles = [
        shuffle(example, codes)
        for example, codes in zip(positives["example_id"], sequences, strict=True)
    ]
    changed = np.array([
        not np.array_equal(a, b) for a, b in zip(sequences, shuffles, strict=True)
    ])  # fmt: skip
    nowhere = pl.lit(None)
    negatives = positives.with_columns(
        example_id=pl.col("example_id") + "/shuffled",
        y=pl.lit([0.0], dtype=pl.List(pl.Float32)),
        chrom=nowhere.cast(pl.String), start=nowhere.cast(pl.Int64), end=nowhere.cast(pl.Int64),
        sites=nowhere.cast(positives.schema["sites"]),
    ).filter(pl.Series(changed))  # fmt: skip
    rows = pl.concat([positives, negatives])
    kept = [codes for codes, differs in zip(shuffles, changed, strict=True) if differs]
    card = task.card.model_dump() | {
        "name": name, "negatives": "shuffled",
        "report": {
            **task.card.report, **report,
            "positives whose shuffles are themselves": int((~changed).sum()),
        },
    }  # fmt: skip
    return make_task(TaskCard(**card), rows, [*sequences, *kept])
