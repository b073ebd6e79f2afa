"""Seqlets: short stretches of bases that matter together, and the motifs they look like.

Called and named by tangermeme (extra `interpret`).

Dimensions: n region, L base, 4 channel A, C, G, T, W column of a motif.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.effects.attribution.files import Maps, contributions
from cislens.errors import CislensError
from cislens.extras import extra
from cislens.files import write_atomic
from cislens.motifs.sites import Motif

logger = logging.getLogger("cislens")

P_VALUE = 0.01
_FEW_MOTIFS = 25  # fewer give no background; memelite's own limit
_BASES_AT_ONCE = 1 << 25
_SCHEMA = {
    "row": pl.Int64, "start": pl.Int64, "end": pl.Int64, "attribution": pl.Float64,
    "p_value": pl.Float64,
}  # fmt: skip


def find_seqlets(
    hypothetical_n4L: Maps, one_hot_n4L: npt.NDArray[Any], p_value: float = P_VALUE
) -> pl.DataFrame:
    """Seqlets of both signs by tangermeme's recursive caller (`recursive_seqlets`).

    A stretch of 4 to 25 bp is one if its summed contribution, and that of every stretch of 4 bp
    or more inside it, is as high as `p_value` of stretches of independent positions are. The
    p-values rank seqlets; they are no error rates, because neighboring positions are alike and
    the null is made from the same maps. Negative seqlets are found on the negated maps; one that
    overlaps a positive seqlet is dropped. N at the ends of a seqlet is cut off. Maps are taken some
    33 million bases at a time, each with a null of its own.

    Returns:
        `row` of the maps, `start, end` in the window (0-based half-open), `attribution` (the
        sum, signed) and `p_value`, by row and start.

    Raises:
        CislensError: without tangermeme, or if a value is not finite.
    """
    extra("tangermeme", "interpret")
    if not 0 < p_value <= 1:
        raise CislensError(f"the p-value of seqlets must be above 0 and at most 1, not {p_value}.")
    found = [pl.DataFrame(schema=_SCHEMA)]
    for first, maps_nL in _parts(hypothetical_n4L, one_hot_n4L):
        positive = _called(maps_nL, p_value)
        negative = _called(-maps_nL, p_value).with_columns(attribution=-pl.col("attribution"))
        both = pl.concat([positive, _clear_of(negative, positive)])
        found.append(_called_bases(both.with_columns(row=pl.col("row") + first), one_hot_n4L))
    return pl.concat(found).sort("row", "start", "end")


def _parts(hypothetical_n4L: Maps, one_hot_n4L: npt.NDArray[Any]) -> Iterator[tuple[int, Maps]]:
    step = max(1, _BASES_AT_ONCE // hypothetical_n4L.shape[2])
    for first in range(0, len(hypothetical_n4L), step):
        rows = slice(first, first + step)
        maps_nL = contributions(hypothetical_n4L[rows], one_hot_n4L[rows])
        if not np.isfinite(maps_nL).all():
            raise CislensError("an attribution is not finite; seqlets cannot be called on it.")
        yield first, maps_nL


def _called(maps_nL: Maps, p_value: float) -> pl.DataFrame:
    from tangermeme.seqlet import recursive_seqlets

    table = recursive_seqlets(maps_nL, threshold=p_value)
    columns = dict(zip(_SCHEMA, table.columns, strict=True))
    return pl.DataFrame(
        {name: table[theirs].to_numpy() for name, theirs in columns.items()}, schema=_SCHEMA
    )


def _called_bases(seqlets: pl.DataFrame, one_hot_n4L: npt.NDArray[Any]) -> pl.DataFrame:
    """Seqlets without N at their ends, which adds nothing and may lie beyond the chromosome."""
    start, end = seqlets["start"].to_numpy().copy(), seqlets["end"].to_numpy().copy()
    for at, row in enumerate(seqlets["row"].to_list()):
        called = np.flatnonzero(one_hot_n4L[row, :, start[at] : end[at]].any(0))
        if called.size:
            start[at], end[at] = start[at] + called[0], start[at] + called[-1] + 1
    return seqlets.with_columns(start=pl.Series(start), end=pl.Series(end))


def _clear_of(seqlets: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """The seqlets that share no base with one of the others."""
    numbered = seqlets.with_row_index("number")
    shared = numbered.join(others.select("row", "start", "end"), on="row", suffix="_other").filter(
        (pl.col("start") < pl.col("end_other")) & (pl.col("end") > pl.col("start_other"))
    )
    return numbered.join(shared.select("number").unique(), on="number", how="anti").drop("number")


def name_seqlets(
    seqlets: pl.DataFrame, one_hot_n4L: npt.NDArray[Any], motifs: Sequence[Motif]
) -> pl.DataFrame:
    """Add to each seqlet the motif it looks like most, `motif`, and Tomtom's p-value `motif_p`.

    By tangermeme's `annotate_seqlets`: the bases of the seqlet, not their contributions, against
    the motif's probabilities on both strands. A short seqlet looks a little like many motifs.

    Raises:
        CislensError: without tangermeme, or without motifs.
    """
    annotate = extra("tangermeme.annotate", "interpret")
    import torch

    if not motifs:
        raise CislensError("there is no motif to name seqlets by.")
    if seqlets.is_empty():
        return seqlets.with_columns(motif=pl.lit("", pl.String), motif_p=pl.lit(1.0, pl.Float64))
    # Only the rows that have a seqlet, renumbered.
    rows = seqlets["row"].unique().sort().to_numpy()
    x = torch.from_numpy(np.asarray(one_hot_n4L[rows], np.float32))
    spans = seqlets.select("row", "start", "end").with_columns(
        row=pl.Series(np.searchsorted(rows, seqlets["row"].to_numpy()))
    )
    matrices = {
        motif.name: torch.from_numpy(np.ascontiguousarray(motif.probabilities_W4.T, np.float32))
        for motif in motifs
    }
    if len(motifs) < _FEW_MOTIFS:
        logger.warning("%d motifs are few: Tomtom's p-values depend on which.", len(motifs))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="tomtom was given", category=UserWarning)
        best, p_values = annotate.annotate_seqlets(x, _pandas(spans), matrices, n_jobs=1)
    names = list(matrices)
    return seqlets.with_columns(
        motif=pl.Series([names[index] for index in best[:, 0].tolist()]),
        motif_p=pl.Series(p_values[:, 0].double().numpy()),
    )


def _pandas(frame: pl.DataFrame) -> Any:
    pandas = extra("pandas", "interpret")
    return pandas.DataFrame({name: frame[name].to_numpy() for name in frame.columns})


def write_seqlets(
    path: str | os.PathLike[str], seqlets: pl.DataFrame, windows: pl.DataFrame
) -> None:
    """Seqlets as BED6+3 at their place in the genome, sorted.

    `chrom, start, end, name, score, strand` and `attribution, p_value, region`. The name is the
    motif's, or `positive` and `negative`; the score -100 log10 p, at most 1000; the strand a dot.
    With motifs a tenth column holds `motif_p`. Regions that overlap give a seqlet each.

    Args:
        windows: `chrom, start, end, name` of the rows; see `files.read_windows`.
    """
    place = windows.select(
        "chrom", offset="start", region="name", row=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    sign = pl.when(pl.col("attribution") > 0).then(pl.lit("positive")).otherwise(pl.lit("negative"))
    named = "motif" in seqlets.columns
    # A p-value may be 0 to double precision.
    score = (-100 * pl.col("p_value").clip(lower_bound=1e-300).log10()).round().clip(0, 1000)
    table = (
        seqlets.join(place, on="row", how="left")
        .select(
            "chrom",
            start=pl.col("start") + pl.col("offset"),
            end=pl.col("end") + pl.col("offset"),
            name=pl.col("motif").str.replace_all(r"\s+", "_") if named else sign,
            score=score.cast(pl.Int64),
            strand=pl.lit("."),
            attribution=pl.col("attribution").round_sig_figs(6),
            p_value=pl.col("p_value").round_sig_figs(4),
            region="region",
            **({"motif_p": pl.col("motif_p").round_sig_figs(4)} if named else {}),
        )
        .sort("chrom", "start", "end", "region")
    )
    write_atomic(path, table.write_csv(separator="\t", include_header=False))
