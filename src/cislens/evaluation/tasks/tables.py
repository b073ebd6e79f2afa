"""Tasks from tables of labelled sequences, one file for each split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.placing import Placed, without_leaks
from cislens.evaluation.tasks.task import SPLITS, Task, make_task
from cislens.files import require_file
from cislens.genome.codes import Codes, encode
from cislens.randomness import generator


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; `block` groups examples that are not independent."""

    sequence: str
    label: str
    block: str
    chrom: str | None = None
    strand: str | None = None


def labelled_tables(
    files: Mapping[str, str | Path],
    columns: Columns,
    label_map: Mapping[str, int],
    *,
    name: str,
    species: str,
    stranded: bool,
    limit: int | None = None,
    source: str = "",
    licence: str = "unknown",
    trained_on: Sequence[Codes] = (),
    seed: int = 0,
) -> Task:
    """A binary task from CSV files (plain or gzip) of train, valid and test.

    Valid examples with a homolog in train and test examples with one in train, valid or what the
    judged models were trained on are dropped and counted, and so are examples whose block
    occurs in an earlier split.

    Args:
        files: a path for each of train, valid and test.
        label_map: the class, 0 or 1, of every text in the label column.
        trained_on: sequences that the judged models saw in pre-training.
        limit: at most so many examples over all splits, drawn by the seed in equal shares.

    Raises:
        CislensError: for a missing column, a label outside the map (with file and row), or
            splits that are not those three.
    """
    if set(files) != set(SPLITS):
        raise CislensError(f"files are needed for {', '.join(SPLITS)}; got {', '.join(files)}.")
    table = pl.concat([_read(Path(files[s]), s, columns, label_map) for s in SPLITS])
    if limit is not None and limit < len(table):
        chosen = np.sort(generator(seed, "examples").permutation(len(table))[:limit])
        table = table[chosen]
    sequences = [encode(text) for text in table["sequence"]]
    blocks = np.unique(table["split"].to_numpy() + "/" + table["block_id"].to_numpy())
    rows = table.drop("sequence").with_columns(cluster_id="block_id")
    order = rows["split"].replace_strict({split: i for i, split in enumerate(SPLITS)})
    first = (
        order
        == rows.with_columns(order=order).select(pl.col("order").min().over("block_id")).to_series()
    )
    placed = Placed(rows, sequences, {"blocks": len(blocks)})
    placed = placed.keep(first.to_numpy(), "examples whose block is in an earlier split")
    placed = without_leaks(placed, trained_on)
    lengths = {len(codes) for codes in placed.sequences}
    card = TaskCard(
        name=name, kind="binary", species=species,
        window=lengths.pop() if len(lengths) == 1 else None,
        target=Target(names=[columns.label], label_map=dict(label_map)),
        metric=Metric(primary="auroc", secondary=["auprc", "mcc"]), split="predefined",
        block=columns.block, negatives="measured", strand="stranded" if stranded else "unstranded",
        source=source, licence=licence, report=placed.report,
    )  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def _read(path: Path, split: str, columns: Columns, label_map: Mapping[str, int]) -> pl.DataFrame:
    path = require_file(path, f"{split} table")
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise CislensError(f"{path} is no readable CSV table: {error}") from None
    wanted = [columns.sequence, columns.label, columns.block, columns.chrom, columns.strand]
    for column in filter(None, wanted):
        if column not in frame.columns:
            raise CislensError(f"{path} has no column {column!r}. {nearest(column, frame.columns)}")
    for column in (columns.sequence, columns.block):
        empty = frame.with_row_index("row").filter(pl.col(column).is_null())
        if len(empty):
            raise CislensError(f"{path} line {empty['row'][0] + 2}: {column} is empty; fill it.")
    known = pl.col(columns.label).is_in(list(label_map)).fill_null(value=False)
    strange = frame.with_row_index("row").filter(~known)
    if len(strange):
        row = strange.row(0, named=True)
        raise CislensError(
            f"{path} line {row['row'] + 2}: label {row[columns.label]!r} is not in the label map "
            f"({', '.join(label_map)})."
        )
    label = pl.col(columns.label).replace_strict(dict(label_map), return_dtype=pl.Float32)
    null = pl.lit(None, dtype=pl.String)
    return frame.select(
        example_id=pl.format(f"{split}{{}}", pl.int_range(pl.len()).cast(pl.String).str.zfill(7)),
        sequence=columns.sequence,
        y=label.reshape((-1, 1)).arr.to_list(),
        block_id=columns.block,
        chrom=pl.col(columns.chrom) if columns.chrom else null,
        strand=pl.col(columns.strand) if columns.strand else null,
        split=pl.lit(split),
    )
