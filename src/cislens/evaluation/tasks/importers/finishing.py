"""The last steps that all importers share: lengths, the card, the task."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.card import File, TaskCard
from cislens.evaluation.tasks.importers.labels import METRICS, Labels
from cislens.evaluation.tasks.importers.reading import check_digests
from cislens.evaluation.tasks.parting import draw, part, predefined, strata_of
from cislens.evaluation.tasks.placing import Placed
from cislens.evaluation.tasks.task import Task, make_task, sequence_hash
from cislens.genome.adapters import common_ends, without_common_ends
from cislens.recipes.task_basics import Parting, SequenceSection, TaskSection

Report = dict[str, str | int | float]


def with_labels(placed: Placed, y: npt.NDArray[np.float64]) -> Placed:
    """Examples with their labels (n, T); those without any label are dropped and counted."""
    rows = placed.rows.with_columns(y=pl.Series(y.tolist(), dtype=pl.List(pl.Float32)))
    placed = Placed(rows, placed.sequences, placed.report, placed.alternates)
    known = np.isfinite(y).sum(axis=1) > 0
    return placed if known.all() else placed.keep(known, "examples without a label")


def fitted(placed: Placed, section: SequenceSection) -> Placed:
    """Examples of the section's window, where it asks for one."""
    window = section.window
    if window is None:
        return placed
    lengths = np.array([len(codes) for codes in placed.sequences])
    if section.longer == "crop":
        placed = placed.keep(lengths >= window, f"examples shorter than {window} bp")
        cut = [codes[(len(codes) - window) // 2 :][:window] for codes in placed.sequences]
        report = {**placed.report, "examples cut to their middle": int((lengths > window).sum())}
        return Placed(_without_ends(placed.rows), cut, report)
    return placed.keep(lengths == window, f"examples of another length than {window} bp")


def parted(placed: Placed, how: Parting | None, section: TaskSection, seed: int) -> Placed:
    """Examples drawn up to the limit and parted; with no `how` they have a `split` already.

    Ends that all sequences share, as the adapters of a reporter library, are left out when alike
    sequences are looked for.
    """
    whole = draw(placed, section.limit, seed)
    left, right = common_ends(whole.sequences)
    report = dict(whole.report)
    if left or right:
        report["bases that all sequences begin with"] = left
        report["bases that all sequences end with"] = right
    inner = without_common_ends(whole.sequences)
    trimmed = Placed(whole.rows.with_row_index("drawn"), inner, report)
    if how is None:
        done = predefined(trimmed, seed)
    else:
        y = np.array([values[0] for values in whole.rows["y"]])
        done = part(trimmed, how, strata_of(y), seed)
    rows = done.rows["drawn"].to_list()
    alternates = whole.alternates
    return Placed(
        done.rows.drop("drawn"),
        [whole.sequences[row] for row in rows],
        done.report,
        None if alternates is None else [alternates[row] for row in rows],
    )


def finish(
    name: str,
    section: TaskSection,
    labels: Labels,
    placed: Placed,
    files: Sequence[File],
    **card: Any,
) -> Task:
    """The task of labelled, parted examples."""
    check_digests(section.sha256, files)
    lengths = {len(codes) for codes in placed.sequences}
    fields: dict[str, Any] = {
        "name": name, "revision": section.revision, "kind": labels.kind,
        "species": section.species, "assembly": section.assembly,
        "window": lengths.pop() if len(lengths) == 1 else None,
        "target": labels.target, "split": "predefined", "block": "cluster of alike sequences",
        "negatives": "measured", "strand": "stranded" if section.stranded else "unstranded",
        "exposure": section.exposure, "source": section.source, "licence": section.licence,
        "files": list(files), "report": {**placed.report, **_conflicts(placed)}, **card,
    }  # fmt: skip
    fields.setdefault("metric", METRICS.get(labels.kind))
    rows = placed.rows
    if rows["example_id"].n_unique() < rows.height:
        twice = rows["example_id"].filter(rows["example_id"].is_duplicated())[0]
        raise CislensError(f"task {name}: the id {twice!r} occurs more than once.")
    return make_task(TaskCard(**fields), rows, placed.sequences, placed.alternates)


def split_name(how: Parting | None) -> str:
    """The card's word for a way to part examples."""
    return "predefined" if how is None or how.by == "column" else how.by


def numbered(prefix: str, count: int) -> pl.Series:
    """Ids in the order of the rows: `train0000000`, ..."""
    return pl.Series([f"{prefix}{row:07d}" for row in range(count)], dtype=pl.String)


def _without_ends(rows: pl.DataFrame) -> pl.DataFrame:
    """A cut sequence lies no longer where its row says."""
    return rows.drop([name for name in ("start", "end") if name in rows.columns])


def _conflicts(placed: Placed) -> Report:
    """Sequences, up to strand, that occur twice, and those of them with different labels."""
    if placed.alternates is not None:
        return {}
    hashes = pl.Series([sequence_hash(codes) for codes in placed.sequences])
    seen = (
        placed.rows.select("y", hash=hashes)
        .group_by("hash")
        .agg(
            pl.len(),
            kinds=pl.col("y").list.eval(pl.element().cast(pl.String)).list.join(",").n_unique(),
        )
    )
    twice = seen.filter(pl.col("len") > 1)
    if twice.is_empty():
        return {}
    return {
        "sequences that occur more than once": twice.height,
        "of these with different labels": twice.filter(pl.col("kinds") > 1).height,
    }
