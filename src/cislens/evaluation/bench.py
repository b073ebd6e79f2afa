"""Every representation on every task, with the baselines that are always in the table."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cislens.errors import CislensError
from cislens.evaluation.arms import Arm, Ground, ProbeArm, ScratchArm, TwinArm
from cislens.evaluation.heads.onehot_cnn import Regime, find_shape
from cislens.evaluation.results import Cost, Key, Record, ResultStore
from cislens.evaluation.tasks.task import Task
from cislens.progress import track
from cislens.recipes.schema import BenchSettings
from cislens.representations.baselines import GCContent, KmerCounts, Length, OneHot
from cislens.representations.contract import Representation, Twinned


def run_bench(
    tasks: Sequence[Task],
    representations: Sequence[Representation],
    settings: BenchSettings,
    out: str | os.PathLike[str],
) -> ResultStore:
    """Fit and score every arm of every task for every seed; complete results are kept.

    To the representations come the one-hot, k-mer, GC and length baselines, the one-hot CNNs of
    the settings, and a random twin for each trained representation that can have one.

    Raises:
        CislensError: if two tasks or arms share a name, or `out` holds results of other
            settings, tasks or weights.
    """
    _unique("task", [task.card.name for task in tasks])
    store = ResultStore(out)
    with _one_thread_each() as workers, ThreadPoolExecutor(workers) as pool:
        futures = []
        for task in tasks:
            arms = build_arms(task, representations, settings)
            _unique(f"arm of task {task.card.name}", [arm.name for arm in arms])
            store.plan(task, [arm.name for arm in arms], settings.seeds)
            # Only the pool keeps the arms, so that their features are freed when they are done.
            futures += [pool.submit(_run_arm, store, task, arm, settings) for arm in arms]
        try:
            for future in track(as_completed(futures), "bench", total=len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return store


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """How many arms may run side by side, while each computes on one thread.

    Threads of one small operation wait for each other far more than those of separate arms: where
    other programs compete for the cores, 50 times as long.
    """
    workers = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield workers
    finally:
        torch.set_num_threads(workers)


def build_arms(
    task: Task, representations: Sequence[Representation], settings: BenchSettings
) -> list[Arm]:
    """The arms of a task; baselines that cannot differ between its examples are left out."""
    ground = Ground(
        task, task.fold("train"), task.fold("valid"), settings.train_fraction, settings.seed
    )
    baselines: list[Representation] = [KmerCounts(settings.kmer), GCContent()]
    one_length = task.examples["length"].n_unique() == 1
    baselines.append(OneHot() if one_length else Length())
    given = {representation.name for representation in representations}
    baselines = [baseline for baseline in baselines if baseline.name not in given]
    arms: list[Arm] = []
    for representation in [*representations, *baselines]:
        arms.append(ProbeArm(representation, ground))
        if representation.kind == "trained" and isinstance(representation, Twinned):
            arms.append(TwinArm(representation, ground))
    regimes = [
        Regime(settings.cnn_steps, settings.cnn_batch, rate) for rate in settings.learning_rates
    ]
    arms += [ScratchArm(find_shape(name), ground, regimes) for name in settings.cnn]
    return arms


def _run_arm(store: ResultStore, task: Task, arm: Arm, settings: BenchSettings) -> None:
    settings_hash = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()
    for seed in range(settings.seeds):
        key = Key(task.card.name, arm.name, seed)
        if store.done(key):
            _same(store, key, task, arm, settings_hash)
        else:
            _run(store, key, task, arm, settings_hash)


def _run(store: ResultStore, key: Key, task: Task, arm: Arm, settings_hash: str) -> None:
    first = store.config(Key(key.task, key.arm, 0)) if key.seed else None
    fitted = arm.fit(key.seed, first)
    config_hash = store.freeze(key, fitted.config)
    test = task.fold("test")
    began = time.perf_counter()
    scores = fitted.predict(test.sequences)
    wall = time.perf_counter() - began
    bases = int(np.sum([len(codes) for codes in test.sequences]))
    record = Record(
        key.task, key.arm, key.seed, task.task_hash, arm.kind, arm.twin_of, arm.digest,
        config_hash, task.card.metric.primary, fitted.valid_score, fitted.parameters,
        settings_hash,
    )  # fmt: skip
    cost = Cost("predict", wall, fitted.parameters, bases)
    store.append(record, test.ids, scores, [*fitted.costs, cost])


def _same(store: ResultStore, key: Key, task: Task, arm: Arm, settings_hash: str) -> None:
    record = store.record(key)
    now = {"task": task.task_hash, "weights": arm.digest, "settings": settings_hash}
    then = {
        "task": record.task_hash, "weights": record.digest, "settings": record.settings_hash,
    }  # fmt: skip
    changed = [what for what in now if now[what] != then[what]]
    if changed:
        raise CislensError(
            f"{store.path} holds a result of {key.arm} on {key.task} made with other "
            f"{' and '.join(changed)}; choose another output folder."
        )


def _unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CislensError(f"{what} {twice[0]!r} is given more than once; names must differ.")
