"""A version of the table without copies, contradictions and homologs across its parts."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.audit.duplicates import conflicting, identity_keys
from cislens.evaluation.audit.overlaps import Axis, chained
from cislens.evaluation.audit.similarity import leaking_rows
from cislens.evaluation.audit.table import PARTS, AuditTable
from cislens.evaluation.tasks.placing import FRACTIONS
from cislens.evaluation.tasks.task import Task
from cislens.files import atomic_path, read_parquet, write_atomic
from cislens.genome.homology import components, homology_pairs
from cislens.genome.minimizers import Ints
from cislens.genome.splits import balanced_folds
from cislens.progress import track

logger = logging.getLogger("cislens")

_LARGE = 0.1
_ROUNDS = 10
_STRATA = 10
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Fixed:
    """What remains, and what does not.

    Attributes:
        table: the kept rows with their new split, in the order of the input.
        rows: their numbers in the input (k,).
        cluster: the homology component of every kept row (k,).
        dropped: `row` (number in the input, from 0), `source` (file and line, or id), `reason`.
        notes: what a reader must know: components that are too large to be balanced.
    """

    table: AuditTable
    rows: Ints
    cluster: Ints
    dropped: pl.DataFrame
    notes: tuple[str, ...]


def fix(table: AuditTable, seed: int = 0) -> Fixed:
    """Drop contradictions and copies, then deal whole homology components to the parts.

    Rows are joined that are homologous, that overlap, or, where blocks stay whole, that have one
    block. A component with more than a tenth of the rows is not cut: it goes to train and a note
    says so. Parts keep the shares that they had (70, 15, 15 % without a split), classes or tenths
    of the values balanced.
    Rows of valid and test that still have a homolog in a part before theirs are dropped.

    Raises:
        CislensError: if a part would be empty.
    """
    keys = identity_keys(table)
    assert keys is not None  # a table has sequences or intervals
    clash = conflicting(table, keys)
    reason = np.where(clash, "its sequence is there with another label", "").astype(object)
    _kinds, first = np.unique(keys, return_index=True)
    copy = np.ones(len(table), bool)
    copy[first] = False
    reason[copy & ~clash] = "copy of an earlier row"
    rows = np.flatnonzero(reason == "")
    if not len(rows):
        raise CislensError(f"{table.name}: every row contradicts another; nothing is left to fix.")
    kept = table.take(rows)
    cluster = _clusters(kept, seed)
    shares = _shares(table)
    split = balanced_folds(cluster, shares, seed, strata=_strata(kept))
    kept = replace(kept, split=split.astype(np.str_), design="homology")
    for _round in track(range(_ROUNDS), "fix: looking for what alignments of the parts still find"):
        near = leaking_rows(kept, seed)
        if not near.any():
            break
        reason[rows[near]] = "homolog of a row in an earlier part"
        rows, cluster, kept = rows[~near], cluster[~near], kept.take(np.flatnonzero(~near))
    for part in shares:
        if part not in kept.split:
            raise CislensError(
                f"{table.name}: no row is left for {part}; {_largest(cluster)}. Use more rows, or "
                "cut the sequences shorter."
            )
    return Fixed(kept, rows, cluster, _dropped(table, reason), _notes(cluster))


def _clusters(table: AuditTable, seed: int) -> Ints:
    pairs: list[Ints] = []
    if table.sequences is not None:
        logger.info("fix: homology among %d rows", len(table))
        pairs.append(homology_pairs(table.sequences, seed).pairs)
    if table.places is not None:
        pairs.append(chained(Axis.of(table.places)))
    if table.block is not None and table.whole_blocks:
        block = np.unique(table.block, return_inverse=True)[1]
        order = np.argsort(block, kind="stable")
        same = block[order][1:] == block[order][:-1]
        pairs.append(np.stack([order[:-1][same], order[1:][same]], 1))
    return components(len(table), *pairs)


def _shares(table: AuditTable) -> dict[str, float]:
    if not table.judged:
        return dict(FRACTIONS)
    counts = {part: int((table.split == part).sum()) for part in PARTS}
    return {part: count / len(table) for part, count in counts.items() if count}


def _strata(table: AuditTable) -> npt.NDArray[np.int64]:
    y = table.y_NT[:, 0]
    if table.classes:
        return y.astype(np.int64)
    known = np.isfinite(y)
    edges = np.quantile(y[known], np.arange(1, _STRATA) / _STRATA) if known.any() else [0.0]
    return np.where(known, np.digitize(y, edges), -1)


def _notes(cluster: Ints) -> tuple[str, ...]:
    size = np.bincount(cluster)
    return tuple(
        f"a component of {count} rows ({count / len(cluster):.1%}) is joined by homology, overlap "
        "or block; it was not cut and is in train"
        for count in np.sort(size[(size > _LARGE * len(cluster)) & (size > 1)])[::-1].tolist()
    )


def _largest(cluster: Ints) -> str:
    count = int(np.bincount(cluster).max())
    return f"the largest component joins {count} of {len(cluster)} rows"


def _dropped(table: AuditTable, reason: npt.NDArray[np.object_]) -> pl.DataFrame:
    rows = np.flatnonzero(reason != "")
    frame = table.frame[rows]
    if "example_id" in frame.columns and "_file" not in frame.columns:
        source = frame["example_id"]
    else:
        source = frame.select(pl.format("{} line {}", "_file", "_row")).to_series()
    return pl.DataFrame(
        {"row": rows, "source": source, "reason": reason[rows].tolist()},
        schema={"row": pl.Int64, "source": pl.String, "reason": pl.String},
    )


def write_table(fixed: Fixed, out: Path) -> Path:
    """Write the kept rows to `out` (.csv, .tsv or .parquet), all columns as they were and a new
    split, and beside it what was dropped and why (`<out>.dropped.tsv`).

    Raises:
        CislensError: for another extension.
    """
    table = fixed.table
    kind = out.suffix.lower()
    if kind not in (*_SEPARATORS, ".parquet"):
        raise CislensError(f"--fix {out}: end the name in .csv, .tsv or .parquet.")
    frame = _typed(fixed) if kind == ".parquet" else None
    if frame is None:
        frame = table.frame.drop("_file", "_row")
    frame = frame.with_columns(pl.Series(table.split_column, table.split.tolist()))
    with atomic_path(out) as aside:
        if kind == ".parquet":
            frame.write_parquet(aside)
        else:
            frame.write_csv(aside, separator=_SEPARATORS[kind])
    return _write_dropped(fixed, out.with_name(f"{out.name}.dropped.tsv"))


def _typed(fixed: Fixed) -> pl.DataFrame | None:
    """The kept rows with the types that their parquet files have."""
    files = fixed.table.frame["_file"].unique(maintain_order=True).to_list()
    if not all(Path(file).suffix == ".parquet" for file in files):
        return None
    return pl.concat([read_parquet(file, "table to fix") for file in files])[fixed.rows]


def _write_dropped(fixed: Fixed, path: Path) -> Path:
    write_atomic(path, fixed.dropped.write_csv(separator="\t"))
    return path


def fixed_task(task: Task, fixed: Fixed) -> Task:
    """The task of the kept examples under their new split, as a revision of its own."""
    split = pl.Series(fixed.table.split.tolist(), dtype=pl.String)
    cluster = pl.Series([f"c{number}" for number in fixed.cluster.tolist()], dtype=pl.String)
    examples = task.examples[fixed.rows].with_columns(split=split, cluster_id=cluster)
    counted = fixed.dropped.group_by("reason").len().sort("reason").iter_rows()
    report = {**task.card.report, **{f"dropped: {reason}": count for reason, count in counted}}
    card = task.card.model_copy(update={
        "split": "homology", "revision": f"{task.card.revision}+resplit", "report": report,
        "audit": {},
    })  # fmt: skip
    return Task(card, examples)


def write_task(task: Task, fixed: Fixed, out: Path) -> Path:
    """Save the fixed task as a folder; `dropped.tsv` in it says what was dropped and why."""
    fixed_task(task, fixed).save(out)
    return _write_dropped(fixed, out / "dropped.tsv")
