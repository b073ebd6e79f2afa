"""How fast a linear head is selected: against scikit-learn on the same features, folds, penalties.

    python benchmarks/heads.py [--small] [--examples 50000] [--features 1024] [--peer-folds 5]

Both sides choose one of 25 penalties by the same metric on the same 5 folds of whole blocks and
fit the chosen one on all examples; all cores that BLAS takes serve both. Ridge: RidgeCV with those
folds, and beside it RidgeCV's own shortcut, which leaves one example out and knows no blocks.
Logistic: LogisticRegressionCV with its default solver, tolerance and 100 steps. `--peer-folds 1`
times one of its folds alone and multiplies by five, since all five may take most of an hour; the
line then says so. Scores are those on 10,000 further examples, and ours must not be lower by more
than 0.001.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from profile_peers import memory_copy_speed
from scipy import special
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import make_scorer
from sklearn.preprocessing import StandardScaler

from cislens.evaluation.heads.design import Design
from cislens.evaluation.heads.linear import ALPHAS, fit_linear_cv, fold_of_blocks
from cislens.evaluation.metrics import metric_value

FOLDS, BLOCK, FURTHER = 5, 50, 10_000
LOSS_ALLOWED = 1e-3
T = TypeVar("T")


@dataclass
class Data:
    """Embeddings (n, D) with labels, those of `further` examples never fitted."""

    x: np.ndarray
    y: np.ndarray
    label: np.ndarray
    x_further: np.ndarray
    y_further: np.ndarray
    label_further: np.ndarray

    @property
    def blocks(self) -> np.ndarray:
        return np.arange(len(self.x)) // BLOCK

    def splits(self, strata: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
        fold = fold_of_blocks(self.blocks, FOLDS, strata)
        return [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(FOLDS)]


def main() -> None:
    """Print a table and, as last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="6,000 x 256")
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3, help="of ours; scikit-learn runs once")
    parser.add_argument("--peer-folds", type=int, default=FOLDS, help="folds of the logistic peer")
    options = parser.parse_args()
    if options.small:
        options.examples, options.features = 6_000, 256
    data = embeddings(options.examples, options.features)
    results = [measure_ridge(data, options.repeats)]
    results.append(measure_logistic(data, options.repeats, options.peer_folds))
    shape = {"examples": options.examples, "features": options.features}
    print(json.dumps({"benchmark": "heads", **shape, "folds": FOLDS, "results": results}))


def embeddings(examples: int, features: int) -> Data:
    """Correlated features with a falling spectrum, as encoders give, and labels of a linear part.

    The variance of principal axis i falls as 1 / i; the correlation of the signal with the value is
    0.55 at best.
    """
    rng = np.random.default_rng(0)
    total = examples + FURTHER
    axes = rng.standard_normal((total, features), dtype=np.float32)
    mix, _ = np.linalg.qr(rng.standard_normal((features, features)))
    scale = 1 / np.sqrt(np.arange(1, features + 1))
    x = (axes * scale.astype(np.float32)) @ mix.astype(np.float32)
    signal = axes @ (rng.standard_normal(features) * scale).astype(np.float32)
    signal = signal / signal.std()
    y = signal + 1.5 * rng.standard_normal(total)
    label = (rng.random(total) < special.expit(1.5 * signal)).astype(np.float64)
    known, further = slice(0, examples), slice(examples, None)
    return Data(x[known], y[known], label[known], x[further], y[further], label[further])


def measure_ridge(data: Data, repeats: int) -> dict[str, object]:
    """Ours, RidgeCV over the folds, RidgeCV's leave-one-out."""
    head, ours, passes = timed_head("regression", data, data.y, "pearson", repeats)
    correlation = make_scorer(lambda y, s: float(np.corrcoef(y, s)[0, 1]))
    standard = StandardScaler().fit(data.x)

    def peer(**how: object) -> RidgeCV:
        return RidgeCV(alphas=np.sort(ALPHAS), **how).fit(standard.transform(data.x), data.y)

    folded, theirs = timed(lambda: peer(cv=data.splits(None), scoring=correlation))
    _, shortcut = timed(peer)
    score = metric_value("pearson", data.y_further, head.scores(data.x_further))
    peers_score = metric_value(
        "pearson", data.y_further, folded.predict(standard.transform(data.x_further))
    )
    gram = len(data.x) * data.x.shape[1] ** 2 / product_speed()
    result = verdict("ridge", ours, theirs, score, peers_score) | {
        "leave_one_out_seconds": round(shortcut, 2),
        "alpha": head.alpha,
        "alpha_of_peer": float(folded.alpha_),
        "gram_bound_seconds": round(gram, 2),
        "passes": passes,
    }
    print(
        f"  RidgeCV's leave-one-out shortcut {shortcut:.1f} s; bound: one Gram matrix in float64 "
        f"{gram:.2f} s; penalties {head.alpha:.3g} and {folded.alpha_:.3g}"
    )
    return result


def measure_logistic(data: Data, repeats: int, peer_folds: int) -> dict[str, object]:
    """Ours and LogisticRegressionCV, in full or one fold of it."""
    head, ours, passes = timed_head("binary", data, data.label, "auroc", repeats)
    standard = StandardScaler().fit(data.x)
    splits = data.splits(data.label)[:peer_folds]
    whole = peer_folds == FOLDS

    def fit() -> LogisticRegressionCV:
        peer = LogisticRegressionCV(
            Cs=1 / np.sort(ALPHAS)[::-1], cv=splits, scoring="roc_auc", refit=whole,
            use_legacy_attributes=False, l1_ratios=(0.0,),
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return peer.fit(standard.transform(data.x), data.label)

    peer, theirs = timed(fit)
    if not whole:
        print(f"  logistic peer: {peer_folds} of {FOLDS} folds took {theirs:.1f} s, no last fit")
        theirs *= FOLDS / peer_folds
    score = metric_value("auroc", data.label_further, head.scores(data.x_further))
    logits = peer.decision_function(standard.transform(data.x_further))
    peers_score = metric_value("auroc", data.label_further, logits)
    bound = passes * data.x.nbytes / (2 * memory_copy_speed())
    result = verdict("logistic", ours, theirs, score, peers_score) | {
        "peer_folds": peer_folds,
        "alpha": head.alpha,
        "alpha_of_peer": float(1 / np.atleast_1d(peer.C_)[0]),
        "passes": passes,
        "memory_bound_seconds": round(bound, 2),
    }
    print(
        f"  {passes} passes over the features, all folds in each; bound: reading them "
        f"{bound:.2f} s; penalties {head.alpha:.3g} and {result['alpha_of_peer']:.3g}"
    )
    return result


def timed_head(kind: str, data: Data, y: np.ndarray, metric: str, repeats: int):
    """Our head, the median of its seconds, and how often it went over all features."""
    count = [0]

    def counting(name: str) -> Callable[..., object]:
        plain = getattr(Design, name)

        def product(self: Design, *given: object) -> object:
            count[0] += len(given) == 1
            return plain(self, *given)

        return product

    plain = {name: getattr(Design, name) for name in ("times", "transposed_times")}
    for name in plain:
        setattr(Design, name, counting(name))
    runs = [
        timed(lambda: fit_linear_cv(kind, data.x, y, data.blocks, metric, FOLDS))
        for _ in range(repeats)
    ]
    for name, method in plain.items():
        setattr(Design, name, method)
    return runs[0][0], float(np.median([seconds for _, seconds in runs])), count[0] // repeats


def verdict(
    name: str, ours: float, theirs: float, score: float, peers_score: float
) -> dict[str, object]:
    """The line of one head; a score that is too low ends the run."""
    print(
        f"{name}: ours {ours:.2f} s, scikit-learn {theirs:.1f} s, {theirs / ours:.1f}x (target 5); "
        f"score {score:.4f} against {peers_score:.4f}"
    )
    assert score >= peers_score - LOSS_ALLOWED, "the quicker head is the worse one"
    return {
        "head": name,
        "seconds": round(ours, 3),
        "peer_seconds": round(theirs, 2),
        "times_peer": round(theirs / ours, 1),
        "score": round(score, 5),
        "peer_score": round(peers_score, 5),
    }


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives and the seconds it takes."""
    start = time.perf_counter()
    given = work()
    return given, time.perf_counter() - start


def product_speed() -> float:
    """Multiplications and additions a second of a symmetric product in float64."""
    x = np.ones((8192, 1024))
    x.T @ x
    _, seconds = timed(lambda: x.T @ x)
    return float(len(x) * x.shape[1] ** 2 / seconds)


if __name__ == "__main__":
    main()
