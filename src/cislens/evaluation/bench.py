"""Every representation on every task, with the baselines that are always in the table."""

import functools
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

import cislens
from cislens.errors import CislensError
from cislens.evaluation.arms.contract import Arm, Ground
from cislens.evaluation.arms.features import require_stored
from cislens.evaluation.arms.lineup import build_arms
from cislens.evaluation.arms.probe import count_bases
from cislens.evaluation.attribution import mutagenesis_maps
from cislens.evaluation.cost import flops_per_bp
from cislens.evaluation.results import Cost, Key, Record, ResultStore
from cislens.evaluation.tasks.task import Task
from cislens.progress import track
from cislens.recipes.schema import BenchSettings
from cislens.representations.cache import cached, saved
from cislens.representations.contract import Representation, Stored

_BESIDE = {"seeds", "cnn", "labels", "finetune", "gapped", "heads", "conservation"}


@dataclass(frozen=True)
class Results:
    """The result stores of a bench: all training examples, and each smaller number of them."""

    path: Path
    whole: ResultStore
    by_labels: dict[int, ResultStore] = field(default_factory=dict)

    @staticmethod
    def open(path: str | os.PathLike[str], labels: Sequence[int]) -> "Results":
        """The stores below a folder; they are made if they are not there."""
        path = Path(path)
        fewer = {count: ResultStore(path / "labels" / str(count)) for count in labels}
        return Results(path, ResultStore(path), fewer)


def run_bench(
    tasks: Sequence[Task],
    representations: Sequence[Representation],
    settings: BenchSettings,
    out: str | os.PathLike[str],
) -> Results:
    """Fit and score every arm of every task for every seed; complete results are kept.

    To the representations come the one-hot, k-mer, GC and length baselines, the one-hot CNNs of
    the settings, and a random twin for each trained representation that can have one. With
    `settings.labels` all of it is done again with so many training examples.

    Raises:
        CislensError: if two tasks or arms share a name, or `out` holds results of other
            settings, tasks or weights.
    """
    _unique("task", [task.card.name for task in tasks])
    require_sources(tasks, representations)
    results = Results.open(out, settings.labels)
    kept = [
        cached(one, results.path / "embeddings")
        if one.kind == "trained" and not isinstance(one, Stored)
        else one
        for one in representations
    ]
    with _one_thread_each() as workers, ThreadPoolExecutor(workers) as pool:
        futures = []
        for task in tasks:
            for labels, store in ((None, results.whole), *results.by_labels.items()):
                ground = Ground(task, settings.train_fraction, settings.seed, labels)
                if labels is not None and labels >= len(ground.train):
                    continue
                # The mutated sequences of an attribution task are embedded once, and not kept.
                mine = representations if task.card.kind == "attribution" else kept
                arms = build_arms(ground, mine, settings)
                _unique(f"arm of task {task.card.name}", [arm.name for arm in arms])
                store.plan(task, [arm.name for arm in arms], settings.seeds)
                # Only the pool keeps the arms, so that their features are freed when they are
                # done.
                futures += [pool.submit(_run_arm, store, ground, arm, settings) for arm in arms]
        try:
            for future in track(as_completed(futures), "bench", total=len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def require_sources(tasks: Sequence[Task], representations: Sequence[Representation]) -> None:
    """Refuse stored features that lack a task, before anything of it is written or computed.

    Raises:
        CislensError: as `require_stored`.
    """
    for given in representations:
        if isinstance(given, Stored):
            for task in tasks:
                require_stored(given, task)


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


def _run_arm(store: ResultStore, ground: Ground, arm: Arm, settings: BenchSettings) -> None:
    # What was asked for beside this arm does not change its result.
    ours = settings.model_dump_json(exclude=_BESIDE)
    settings_hash = hashlib.sha256(f"{ours}{ground.labels}".encode()).hexdigest()
    for seed in range(settings.seeds):
        key = Key(ground.card.name, arm.name, seed)
        if store.done(key):
            _same(store, key, ground, arm, settings_hash)
            continue
        try:
            _run(store, key, ground, arm, settings_hash)
        except CislensError as error:
            raise CislensError(f"{key.arm} on {key.task}, seed {seed}: {error}") from error


def _run(store: ResultStore, key: Key, ground: Ground, arm: Arm, settings_hash: str) -> None:
    first = store.config(Key(key.task, key.arm, 0)) if key.seed else None
    fitted = arm.fit(key.seed, first)
    config_hash = store.freeze(key, fitted.config)
    per_bp = flops_per_bp(fitted.predict, ground.test) if key.seed == 0 else 0.0
    began = time.perf_counter()
    with saved() as before:
        if ground.card.kind == "attribution":
            scores = mutagenesis_maps(fitted.predict, ground.test)
        else:
            scores = fitted.predict(ground.test)
    wall = time.perf_counter() - began + before.seconds
    record = Record(
        key.task, key.arm, key.seed, ground.task.task_hash, arm.kind, arm.twin_of, arm.digest,
        config_hash, ground.training_card.metric.primary, fitted.valid_score, fitted.parameters,
        settings_hash, code_version(),
    )  # fmt: skip
    bases = count_bases(ground.test)
    if ground.card.kind == "attribution":  # the sequence, and three changes of each of its bases
        bases *= 1 + 3 * len(ground.test.sequences[0])
    cost = Cost("predict", wall, fitted.parameters, bases, flops=per_bp * bases)
    store.append(record, ground.test.ids, scores, [*fitted.costs, cost])


def _same(store: ResultStore, key: Key, ground: Ground, arm: Arm, settings_hash: str) -> None:
    record = store.record(key)
    now = {"task": ground.task.task_hash, "weights": arm.digest, "settings": settings_hash}
    then = {
        "task": record.task_hash, "weights": record.digest, "settings": record.settings_hash,
    }  # fmt: skip
    changed = [what for what in now if now[what] != then[what]]
    if changed:
        raise CislensError(
            f"{store.path} holds a result of {key.arm} on {key.task} made with other "
            f"{' and '.join(changed)}; choose another output folder."
        )


@functools.cache
def code_version() -> str:
    """The version of cislens, and a digest of its source as it is installed."""
    digest = hashlib.sha256()
    root = Path(cislens.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return f"{cislens.__version__}+{digest.hexdigest()[:12]}"


def _unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CislensError(f"{what} {twice[0]!r} is given more than once; names must differ.")
