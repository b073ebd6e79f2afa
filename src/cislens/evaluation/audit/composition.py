"""What k-mer counts and fixed positions reach: the bar that a model has to clear, no leak."""

import numpy as np

from cislens.evaluation.audit.predictors import (
    NOTHING_TO_FIT,
    can_fit,
    linear,
    look_up,
    ridge_correlation,
)
from cislens.evaluation.audit.report import Check, skipped
from cislens.evaluation.audit.scoring import score, scored_check
from cislens.evaluation.audit.table import AuditTable
from cislens.genome.minimizers import Ints
from cislens.progress import track
from cislens.randomness import generator
from cislens.representations.baselines import KmerCounts, OneHot

_LONGEST_KMER = 6
_LONGEST_ONE_HOT = 600
# Rows to fit on, and on more than so many features, whose rotation takes the cube of either.
_MOST_ROWS, _MANY_FEATURES, _MOST_ROWS_OF_MANY = 5_000, 1_000, 1_500
_REPORTED = "reported, not judged: hold a model's score against it"


def composition_checks(table: AuditTable, seed: int) -> list[Check]:
    """A linear model on k-mer counts (k chosen before scoring) and one on one-hot positions."""
    names = ("k-mer composition", "one-hot linear")
    measure = "accuracy or correlation on the judged rows"
    if table.sequences is None or table.lengths is None:
        why = "the table has no sequences (give --genome to look them up)"
        return [skipped(name, "confounder", measure, why) for name in names]
    rng = generator(seed, "audit", "composition")
    parts = [rng.permutation(rows)[:_MOST_ROWS] for rows in table.fitting(seed)]
    if not can_fit(table, parts):
        return [skipped(name, "confounder", measure, NOTHING_TO_FIT) for name in names]
    small = table.take(np.concatenate(parts))
    cuts = np.cumsum([len(part) for part in parts])
    fitted, chosen, scored = np.split(np.arange(len(small)), cuts[:2])
    rows = (fitted, chosen, scored)
    found = [_kmers(small, rows, seed)]
    lengths = np.unique(table.lengths)
    if len(lengths) > 1 or lengths[0] > _LONGEST_ONE_HOT:
        why = f"needs rows of one length of at most {_LONGEST_ONE_HOT} bp"
        return [*found, skipped(names[1], "confounder", measure, why)]
    assert small.sequences is not None
    x = OneHot().embed(small.sequences, None, stranded=True)
    predicted, _ = linear(small, _fewer(rows, x.shape[1]), x, seed)
    best = score(small, scored, predicted, seed)
    return [*found, scored_check(names[1], "confounder", best, why=_REPORTED, judged=False)]


def _kmers(table: AuditTable, rows: tuple[Ints, Ints, Ints], seed: int) -> Check:
    """The longest k is chosen by ridge before anything is scored; the final model is logistic."""
    assert table.sequences is not None
    chosen: dict[int, float] = {}
    detail: dict[str, float | str] = {"rows fitted, at most": len(rows[0])}
    counts = KmerCounts(_LONGEST_KMER).embed(table.sequences, None, stranded=table.stranded)
    one = table.sequences[:1]
    width = {
        k: KmerCounts(k).embed(one, None, stranded=table.stranded).shape[1]
        for k in range(1, _LONGEST_KMER + 1)
    }
    for k in track(width, "audit: k-mers"):
        chosen[k] = ridge_correlation(table, _fewer(rows, width[k]), counts[:, : width[k]])
        detail[f"correlation before scoring, k 1 to {k}"] = chosen[k]
    best = max(chosen, key=lambda k: chosen[k])
    first = _first_word(table)
    if first is not None:
        values = look_up(table, rows[0], rows[2], first)
        detail["table of the first 6 bases"] = score(table, rows[2], values, seed).value
    predicted, _ = linear(table, _fewer(rows, width[best]), counts[:, : width[best]], seed)
    final = score(table, rows[2], predicted, seed)
    why = f"k 1 to {best}; {_REPORTED}"
    return scored_check(
        "k-mer composition", "confounder", final, why=why, detail=detail, judged=False
    )


def _fewer(rows: tuple[Ints, Ints, Ints], features: int) -> tuple[Ints, Ints, Ints]:
    most = _MOST_ROWS_OF_MANY if features > _MANY_FEATURES else _MOST_ROWS
    return rows[0][:most], rows[1], rows[2]


def _first_word(table: AuditTable) -> Ints | None:
    """The first six bases of every row as a number, which tells adapters and cut sites."""
    assert table.sequences is not None
    if min(map(len, table.sequences)) < _LONGEST_KMER:
        return None
    first = np.stack([codes[:_LONGEST_KMER] for codes in table.sequences]).astype(np.int64)
    words: Ints = first @ (5 ** np.arange(_LONGEST_KMER))
    return words
