"""Maps of a bench's embeddings: test examples of a task in the plane, colored by label.

The axes are found on training examples, test examples are placed on them, and nothing is chosen
by how the map looks. N example, D feature.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.arms.features import LAST
from cislens.evaluation.results import Key, ResultStore
from cislens.evaluation.tasks.card import TaskCard
from cislens.evaluation.tasks.task import Fold, Task
from cislens.extras import extra
from cislens.randomness import generator
from cislens.report.inputs import EmbeddingMap, Values
from cislens.representations.baselines import KmerCounts
from cislens.representations.cache import DEFAULT, kept_features

_MOST_FITTED, _MOST_SHOWN, _FEWEST = 1000, 400, 10
_SEED = 20
_NO_MAP = {"variant", "attribution"}


def embedding_maps(results: Path, *, umap: bool = False) -> list[EmbeddingMap]:
    """Of each task, maps of what each trained arm made of it, of its untrained twin and of k-mers.

    Only features that the bench has kept are read; an arm without them has no map.

    Args:
        results: the folder `results` of a bench.
        umap: UMAP beside PCA (extra `scverse`; about a minute).

    Raises:
        CislensError: for a bench that is not complete, or `umap` without the package.
    """
    store = ResultStore(results)
    records = store.records()
    found = []
    for task in store.tasks():
        if task.card.kind in _NO_MAP or task.card.parts:
            continue
        mine = records.filter(task=task.card.name, seed=0)
        trained = mine.filter(kind="trained")["arm"].to_list()
        arms = mine.filter(
            pl.col("arm").is_in(trained) | pl.col("twin_of").is_in(trained)
        ).sort(~pl.col("arm").is_in(trained), maintain_order=True)  # fmt: skip
        for arm, kind, fitted_ND, shown, features_ND in _features(results, store, task, arms):
            found += _maps(store, task, (arm, kind), fitted_ND, shown, features_ND, umap=umap)
    return found


_Found = tuple[str, str, Values, Fold, Values]


def _features(
    results: Path, store: ResultStore, task: Task, arms: pl.DataFrame
) -> Iterator[_Found]:
    """Arm, kind, features of training examples, and test examples with theirs."""
    card, parts = task.card, (_drawn(task, "train"), _drawn(task, "test"))
    some = False
    for row in arms.iter_rows(named=True):
        chosen = str(store.config(Key(card.name, row["arm"], 0)).get("view"))
        view = DEFAULT if chosen == LAST else chosen
        kept = [
            kept_features(results / "embeddings", part.sequences, name=row["arm"],
                          species=card.species, stranded=card.stranded, view=view)
            for part in parts
        ]  # fmt: skip
        if min(len(rows) for rows, _ in kept) >= _FEWEST:
            some = True
            yield row["arm"], row["kind"], kept[0][1], parts[1].take(kept[1][0]), kept[1][1]
    if some:
        words = KmerCounts(5)
        fitted, shown = (words.embed(part.sequences, None, card.stranded) for part in parts)
        yield words.name, words.kind, fitted, parts[1], shown


def _drawn(task: Task, split: str) -> Fold:
    """Some examples of a split, the same for all arms."""
    fold = task.fold(split)
    most = _MOST_FITTED if split == "train" else _MOST_SHOWN
    draw = generator(_SEED, "embedding maps", task.card.name, split)
    return fold.take(np.sort(draw.permutation(len(fold))[:most]))


def _maps(
    store: ResultStore, task: Task, arm: tuple[str, str], fitted_ND: Values, shown: Fold,
    features_ND: Values, *, umap: bool,
) -> list[EmbeddingMap]:  # fmt: skip
    truth = store.test_labels(task).select("example_id", label=pl.col("y").list.first())
    examples = pl.DataFrame({"example_id": shown.ids}).join(
        truth, on="example_id", how="left", maintain_order="left"
    )
    middle_D, spread_D = fitted_ND.mean(axis=0), fitted_ND.std(axis=0)
    varies_D = spread_D > 1e-6 * max(1e-12, float(spread_D.max()))
    fitted_ND, features_ND = (
        ((part[:, varies_D] - middle_D[varies_D]) / spread_D[varies_D]).astype(np.float64)
        for part in (fitted_ND, features_ND)
    )
    plane_D2, share_2 = principal_plane(fitted_ND)
    shares = " and ".join(f"{100 * share:.0f} %" for share in share_2)
    places: list[tuple[str, str, Values]] = [
        ("PCA", f"PCA, {shares} of the variance", features_ND @ plane_D2)
    ]
    if umap:
        places.append(("UMAP", "UMAP", _umap(fitted_ND, features_ND)))
    classes, target = _labels(task.card)
    return [
        EmbeddingMap(
            task.card.name, *arm, method, said, classes, target,
            examples.with_columns(x=pl.Series(place_N2[:, 0]), y=pl.Series(place_N2[:, 1])),
        )
        for method, said, place_N2 in places
    ]  # fmt: skip


def principal_plane(values_ND: Values) -> tuple[Values, Values]:
    """The two directions of most variance, (D, 2), and their shares of it.

    The largest weight of a direction is positive, so that its sign is the same everywhere.
    """
    covariance_DD = np.cov(values_ND, rowvar=False, ddof=0).reshape(values_ND.shape[1], -1)
    variance_D, vector_DD = np.linalg.eigh(covariance_DD)
    best = [-1, -2] if len(variance_D) > 1 else [-1, -1]
    plane_D2 = vector_DD[:, best]
    largest_2 = np.abs(plane_D2).argmax(axis=0)
    plane_D2 = plane_D2 * np.sign(plane_D2[largest_2, [0, 1]])
    return plane_D2, variance_D[best] / max(1e-12, float(variance_D.sum()))


def _umap(fitted_ND: Values, shown_ND: Values) -> Values:
    package = extra("umap", "scverse")
    neighbors = min(15, len(fitted_ND) - 1)
    fit = package.UMAP(n_components=2, n_neighbors=neighbors, random_state=_SEED, n_jobs=1)
    found: Values = np.asarray(fit.fit(fitted_ND).transform(shown_ND), np.float64)
    if not np.isfinite(found).all():
        raise CislensError("UMAP gave a place that is not finite; leave --umap out.")
    return found


def _labels(card: TaskCard) -> tuple[list[str], str]:
    """Names of the classes, empty for values, and what the label is."""
    names = card.target.names
    name = names[0] if names else "label"
    if card.kind == "binary":
        return [f"not {name}", name], name
    return list(card.target.classes), name
