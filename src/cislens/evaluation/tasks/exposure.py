"""What judged models saw in pre-training is not tested."""

import functools
import logging

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.task import Task
from cislens.evaluation.training_stores import TrainingStore, trained_sequences
from cislens.genome.codes import encode
from cislens.genome.homology import leaking

logger = logging.getLogger("cislens")
DROPPED = "test examples with a homolog in windows of pre-training"


def without_seen(task: Task, store: TrainingStore | None, inherited: bool = True) -> Task:
    """The task without the test examples that resemble what models were trained on.

    Searched, on either strand, are all windows of the store's train and valid parts, of the
    task's species where the store has it, else of every species.

    Args:
        inherited: whether a task that is parted by regions has its parts from this store.

    Raises:
        CislensError: if what is left makes no test.
    """
    if store is None or (inherited and task.card.split == "regions"):
        return task
    test = (task.examples["split"] == "test").to_numpy()
    texts = tuple(task.examples["sequence"].filter(test))
    species = (task.card.species,) if task.card.species in store.species else store.species
    leaks = _leaks(texts, store, tuple(species))
    kept = np.ones(len(test), dtype=bool)
    kept[test] = ~leaks
    dropped = int(leaks.sum())
    if dropped:
        logger.info("%s: %d of %d dropped: %s", task.card.name, dropped, test.sum(), DROPPED)
    earlier = int(task.card.report.get(DROPPED, 0))  # of another store
    all_dropped, of = earlier + dropped, earlier + int(test.sum())
    card = task.card.model_copy(
        update={
            "report": {**task.card.report, DROPPED: all_dropped},
            "exposure": f"{all_dropped} of {of} {DROPPED} were dropped",
        }
    )
    try:
        return Task(card, task.examples.filter(pl.Series(kept)))
    except CislensError as error:
        raise CislensError(
            f"{error} {dropped} of {int(test.sum())} {DROPPED} ({store.path}) were dropped."
        ) from None


@functools.lru_cache(maxsize=4)  # tasks of signed and unsigned effects have the same sequences
def _leaks(
    texts: tuple[str, ...], store: TrainingStore, species: tuple[str, ...]
) -> npt.NDArray[np.bool_]:
    """Which sequences resemble what models were trained on."""
    windows = [window for name in species for window in trained_sequences(store, name)]
    return leaking([encode(text) for text in texts], windows)
