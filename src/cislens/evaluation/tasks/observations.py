"""What a task knows of its examples, as columns for tools that draw."""

import polars as pl

from cislens.evaluation.tasks.task import Task


def example_columns(task: Task) -> pl.DataFrame:
    """`example_id, chrom, start, end, strand, split, block_id, gc`, and the labels.

    A task of one output has the column `label`; others have one `label_NAME` per output. Labels
    of the test part are there to be looked at: whoever fits or chooses anything by them has no
    test left.
    """
    names = task.card.target.names
    if task.card.kind == "multiclass":
        names = names[:1]  # the number of the class
    labels = [
        pl.col("y")
        .list.get(at, null_on_oob=True)
        .alias("label" if len(names) == 1 else f"label_{name}")
        for at, name in enumerate(names)
    ]
    about = ("example_id", "chrom", "start", "end", "strand", "split", "block_id", "gc")
    return task.examples.select(*about, *labels)
