"""How strong the one-hot CNNs are on real data, against a linear model of k-mer counts.

    CISLENS_DATA=<folder> python benchmarks/onehot_base.py
    CISLENS_DATA=<folder> python benchmarks/onehot_base.py --tasks lentimpra --seeds 5 --steps 600
    CISLENS_DATA=<folder> python benchmarks/onehot_base.py --tasks tf0 --sizes 1000 4000 16000
    CISLENS_DATA=<folder> python benchmarks/onehot_base.py --device cuda --steps 3000
    CISLENS_DATA=<folder> python benchmarks/onehot_base.py --width 0.25 --steps 1000

Every network has one regime for all tasks; validation data choose the weights of a network and the
penalty of a linear model, test data are scored once. `--sizes` gives performance against the
number of training examples, drawn anew for each seed.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from cislens.evaluation.heads.fitting import Regime
from cislens.evaluation.heads.linear import fit_linear
from cislens.evaluation.heads.onehot_cnn import ResidualShape, Shape, find_shape, fit_cnn
from cislens.evaluation.metrics import metric_value
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.task import Fold
from cislens.example import core_data
from cislens.genome.codes import encode
from cislens.representations.baselines import KmerCounts

KMER = "kmer-1to5 linear"
CNNS = ("onehot-cnn-tiny", "onehot-cnn-small", "onehot-cnn-base")
REGIMES = {
    "onehot-cnn-tiny": Regime(300, 64, 1e-2),
    "onehot-cnn-small": Regime(300, 64, 3e-3),
    "onehot-cnn-base": Regime(300, 64, 3e-3, weight_decay=1e-2, checks=6, patience=3),
}
VALID_AT_MOST = 1000


@dataclass(frozen=True)
class Source:
    """Files of one task, and which columns hold what."""

    files: tuple[str, ...]
    labels: tuple[str, ...]
    metric: str
    sequence: str = "sequence"
    stranded: bool = False

    @property
    def kind(self) -> str:
        if self.metric != "pearson":
            return "binary"
        return "regression" if len(self.labels) == 1 else "multi_regression"


def _gue(folder: str) -> Source:
    start = f"gue/GUE/{folder}"
    files = (f"{start}/train.csv.gz", f"{start}/dev.csv.gz", f"{start}/test.csv.gz")
    return Source(files, ("label",), "mcc")


def _mpra(stem: str, valid: str) -> tuple[str, ...]:
    start = f"mpra_variants/{stem}"
    return f"{start}_train.tsv.gz", f"{start}_{valid}.tsv.gz", f"{start}_test.tsv.gz"


SOURCES = {
    "lentimpra": Source(_mpra("lentimpra_k562_sample", "valid"), ("mean_value",), "pearson", "seq"),
    "deepstarr": Source(
        _mpra("deepstarr_sample", "val"), ("Dev_log2_enrichment", "Hk_log2_enrichment"),
        "pearson", "Sequence",
    ),
    "pum2": Source(
        tuple(f"rbp_clip_PUM2/PUM2_{part}.csv.gz" for part in ("train", "valid", "test")),
        ("binding_site",), "mcc", "seq", stranded=True,
    ),
    **{f"tf{i}": _gue(f"tf/{i}") for i in range(5)},
    **{f"mouse{i}": _gue(f"mouse/{i}") for i in (0, 2, 3, 4)},
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One arm fitted with one seed."""

    task: str
    size: int
    arm: str
    seed: int
    valid: float
    test: float
    steps: int
    seconds: float


def main() -> None:
    """Print a table and, as last line, one JSON object."""
    options = _options()
    torch.set_num_threads(options.threads)
    folder = core_data()
    if folder is None:
        raise SystemExit("set CISLENS_DATA to the folder with the development data")
    results: list[Result] = []
    for name in options.tasks:
        card, folds = load(folder, name)
        for size in options.sizes or [len(folds[0])]:
            for arm in options.arms:
                found = list(_fits(card, folds, arm, min(size, len(folds[0])), options))
                results += found
                print(_line(found), flush=True)
    print(json.dumps({"benchmark": "onehot_base", "results": [vars(r) for r in results]}))


def load(folder: Path, name: str) -> tuple[TaskCard, tuple[Fold, Fold, Fold]]:
    """The card of a task and its training, validation and test examples."""
    source = SOURCES[name]
    card = TaskCard(
        name=name, kind=source.kind, target=Target(names=list(source.labels)),
        metric=Metric(primary=source.metric), split="predefined", block="example",
        strand="stranded" if source.stranded else "unstranded",
    )  # fmt: skip
    train, valid, test = (_fold(folder / file, source) for file in source.files)
    rows = np.random.default_rng(0).permutation(len(valid))[:VALID_AT_MOST]
    return card, (train, valid.take(rows), test)


def _fold(path: Path, source: Source) -> Fold:
    separator = "\t" if ".tsv" in path.name else ","
    frame = pl.read_csv(path, separator=separator, infer_schema=False)
    frame = frame.filter(pl.col(source.sequence).str.len_chars() > 50)  # repeated header lines
    labels = frame.select(pl.col(source.labels).replace({"TRUE": "1", "FALSE": "0"}))
    return Fold(
        tuple(str(row) for row in range(len(frame))),
        tuple(encode(text) for text in frame[source.sequence]),
        np.arange(len(frame)).astype(np.str_),
        labels.cast(pl.Float32).to_numpy(),
    )


def _fits(
    card: TaskCard,
    folds: tuple[Fold, Fold, Fold],
    arm: str,
    size: int,
    options: argparse.Namespace,
) -> Iterator[Result]:
    train, valid, test = folds
    # A linear model is the same for every seed unless its training examples are redrawn.
    seeds = 1 if arm == KMER and size == len(train) else options.seeds
    for seed in range(seeds):
        rows = np.random.default_rng(seed).permutation(len(train))[:size]
        part, name, began = train.take(rows), arm, time.perf_counter()
        if arm == KMER:
            steps, (valid_metric, scores) = 0, _kmers(card, part, valid, test)
        else:
            shape, regime = _shape(arm, options), _regime(arm, options)
            fitted = fit_cnn(shape, part, valid, card=card, regime=regime, seed=seed)
            name, steps, valid_metric = shape.name, fitted.steps, fitted.valid_metric
            scores = fitted.scores(test.sequences)
        value = metric_value(card.metric.primary, test.labels, scores)
        seconds = time.perf_counter() - began
        yield Result(card.name, size, name, seed, valid_metric, value, steps, seconds)


def _shape(arm: str, options: argparse.Namespace) -> Shape:
    shape = find_shape(arm)
    narrow = isinstance(shape, ResidualShape) and options.width != 1
    return shape.narrowed(options.width) if narrow else shape


def _regime(arm: str, options: argparse.Namespace) -> Regime:
    given = REGIMES[arm]
    return replace(
        given,
        steps=options.steps or given.steps,
        learning_rate=options.rate or given.learning_rate,
        device=options.device,
    )


def _kmers(card: TaskCard, train: Fold, valid: Fold, test: Fold) -> tuple[float, np.ndarray]:
    counts = KmerCounts(5)
    x, x_valid, x_test = (
        counts.embed(fold.sequences, None, card.stranded) for fold in (train, valid, test)
    )
    kind = "logistic" if card.kind == "binary" else "ridge"
    head = fit_linear(kind, x, train.labels, x_valid, valid.labels, card.metric.primary)
    return head.valid_metric, head.scores(x_test)


def _line(found: list[Result]) -> str:
    first, test = found[0], [one.test for one in found]
    spread = f"+- {np.std(test, ddof=1):.3f}" if len(test) > 1 else "        "
    valid, seconds = np.mean([one.valid for one in found]), np.mean([one.seconds for one in found])
    steps = np.mean([one.steps for one in found])
    return (
        f"{first.task:10} n {first.size:6} {first.arm:21} valid {valid:.3f}  test "
        f"{np.mean(test):.3f} {spread} ({len(test)} seeds, {steps:.0f} steps, {seconds:.0f} s each)"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--arms", nargs="+", choices=[KMER, *CNNS], default=[KMER, *CNNS])
    parser.add_argument("--sizes", nargs="+", type=int, help="training examples; default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of each network, at most")
    parser.add_argument("--rate", type=float, help="peak learning rate of each network")
    parser.add_argument("--width", type=float, default=1, help="factor on the base's channels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


if __name__ == "__main__":
    main()
