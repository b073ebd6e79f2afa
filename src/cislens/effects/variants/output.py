"""Tables of scored variants: what all variants together say is added part by part.

A part is a parquet file of some variants in the order of their source. When all are scored, the
parts get percentiles, p-values and rates, and are joined without holding more than one in memory.

Dimensions: m variant, K calibrated column (the tracks of the headline score, then scalars; with
a background then the sets of tracks: assay groups, and all of them).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.effects.variants.calibration import (
    Counts,
    Null,
    Values,
    p_values,
    percentiles,
    q_values,
    top_columns,
)
from cislens.effects.variants.measures import LLR
from cislens.effects.variants.result import VariantScores
from cislens.effects.variants.scores import VariantScorer
from cislens.files import atomic_path, read_parquet, write_atomic
from cislens.genome.variant_diagnosis import counted
from cislens.signal.tracks import TrackTable, tracks_text

AT_LEAST = "background_at_least"
ANY = "any"
TOPS = 3
_ROUNDING = 1e-6  # of 1 + signal; float32 rounds at 6e-8, and sums add up
_COMMON = {
    "chrom": "chromosome, under the genome's name",
    "pos": "first base, 1-based, left-aligned",
    "ref": "reference allele, as in the genome",
    "alt": "alternate allele",
    "id": "name that the input gives",
    "given": "chrom:pos:ref:alt as the input has it",
    "source_row": "record (VCF, BCF), row (parquet) or line (text) of the input",
    "allele": "0-based place among the alternate alleles of its record",
    "gene": "gene whose transcription start is nearest and in the window",
    "tss_distance": "bp from that start, negative upstream of the gene",
    "profile_l2": "root of the summed squared differences of all bins, a value per track",
    "llr": "log p(alt) - log p(ref) of the hidden base; null for all but substitutions",
}
_REACHED = "substitutions of the background stand out at least as much"
_CALIBRATED = {
    "percentile": "percent of the {size} background substitutions, to which insertions and "
    "deletions are compared too, that stand out less",
    "p": f"(1 + number) / (1 + {{size}}), number: how many {_REACHED}",
    "q": "false discovery rate by Benjamini and Hochberg over all variants of the run, of p",
}
_OF_TOP = {
    "track": "id of the track",
    "score": "score of the track",
    "percentile": "percentile, by itself, of the track",
    "q": "q, by itself, of the track",
}


@dataclass(frozen=True)
class Columns:
    """What a run scores and what of it is calibrated.

    Attributes:
        tracks: of the model, or None.
        headline: the score of tracks that is calibrated; None without tracks.
        scalars: names of all scores of one number.
    """

    tracks: TrackTable | None
    headline: str | None
    scalars: tuple[str, ...]

    @classmethod
    def of(cls, scorer: VariantScorer) -> "Columns":
        """The log fold is the headline, of the bins around the variant where they are measured."""
        names = ("log_fold_center", "log_fold")
        headline = next((name for name in names if name in scorer.names_by_track), None)
        return cls(scorer.tracks, headline, scorer.scalars)

    @property
    def track_ids(self) -> list[str]:
        """Ids of the tracks in the order of the values; none without tracks."""
        return [] if self.tracks is None else self.tracks.frame["id"].to_list()

    @property
    def names(self) -> list[str]:
        """Scores that are calibrated against a background."""
        return [*([] if self.headline is None else [self.headline]), *self.scalars]

    @property
    def sets(self) -> dict[str, list[int]]:
        """Tracks whose best is calibrated, by the name of its columns: each group, then any."""
        if self.tracks is None:
            return {}
        groups = [name or "other" for name in self.tracks.frame["group"]]
        found = {
            f"group_{name}": [index for index, other in enumerate(groups) if other == name]
            for name in sorted(set(groups))
        }
        return found | {ANY: list(range(len(groups)))}

    def null(self, table: pl.DataFrame) -> Null:
        """The null of a table of background variants."""
        return Null.of(self.calibrated(table), list(self.sets.values()))

    def calibrated(self, table: pl.DataFrame) -> Values:
        """(m, K) the headline by track, then the scalars, of `VariantScores.table()`."""
        parts = [] if self.headline is None else [matrix_of(table[self.headline])]
        parts += [matrix_of(table[name])[:, None] for name in self.scalars]
        return np.concatenate(parts, axis=1)


def rounding_warning(null: Null, columns: Columns) -> str:
    """Says which logarithms of ratios differ by no more than single precision rounds; or ""."""
    wide = len(columns.track_ids)
    small = null.spread < _ROUNDING
    low, what = int(small[:wide].sum()), []
    if low:
        what.append(f"{columns.headline} of {low} of {counted(wide, 'track')}")
    if LLR in columns.scalars and small[wide + columns.scalars.index(LLR)]:
        what.append(LLR)
    if not what:
        return ""
    return (
        f"Background variants change {' and '.join(what)} by less than {_ROUNDING:g} (root mean "
        "square), which is rounding: percentiles, p and q of it mean nothing. Is the model trained?"
    )


def part_table(scores: VariantScores, columns: Columns, null: Null | None) -> pl.DataFrame:
    """A part as it is kept until all variants are scored."""
    table = scores.table()
    if null is None:
        return table
    counts = null.at_least(columns.calibrated(table))
    kind = pl.Array(pl.Int32, counts.shape[1])
    return table.with_columns(pl.Series(AT_LEAST, counts, dtype=kind))


def counts_of(table: pl.DataFrame) -> Counts:
    """(m, K) counts of a part."""
    counts: Counts = table[AT_LEAST].to_numpy().astype(np.int32, copy=False)
    return counts


def finished(
    part: pl.DataFrame,
    columns: Columns,
    null: Null | None,
    q_table: npt.NDArray[np.float64] | None,
) -> pl.DataFrame:
    """A part with percentiles, p-values, rates, the top tracks, and how unusual the best is."""
    scores_mK, tracks = columns.calibrated(part), len(columns.track_ids)
    if null is None or q_table is None:
        return part.with_columns(_tops(columns, scores_mK, {}, None, None))
    counts = counts_of(part)
    measures = {
        "percentile": percentiles(counts, null.size),
        "p": p_values(counts, null.size),
        "q": q_values(counts, q_table),
    }
    added: list[pl.Series] = []
    for name, values in measures.items():
        if tracks:
            kind = pl.Array(pl.Float32, tracks)
            added.append(pl.Series(name, np.ascontiguousarray(values[:, :tracks]), dtype=kind))
        for index, scalar in enumerate(columns.scalars, tracks):
            added.append(pl.Series(f"{scalar}_{name}", values[:, index]).fill_nan(None))
    added += _tops(columns, scores_mK, measures, counts, null.scale)
    for index, name in enumerate(columns.sets, scores_mK.shape[1]):
        for what in measures if name == ANY else ("percentile",):
            added.append(pl.Series(_best_column(name, what), measures[what][:, index]))
    return part.drop(AT_LEAST).with_columns(added)


def _tops(
    columns: Columns,
    scores_mK: Values,
    measures: Mapping[str, Values],
    counts: Counts | None,
    scale: Values | None,
) -> list[pl.Series]:
    """Columns of the tracks that stand out."""
    ids = np.array(columns.track_ids, dtype=object)
    if not len(ids):
        return []
    part = slice(0, len(ids))
    tops = top_columns(
        scores_mK[:, part],
        None if counts is None else counts[:, part],
        None if scale is None else scale[part],
        TOPS,
    )
    rows = np.arange(len(scores_mK))
    added: list[pl.Series] = []
    for place, column in enumerate(tops.T, 1):
        added.append(pl.Series(f"top_{place}_track", ids[column].tolist(), dtype=pl.String))
        for name, values in {"score": scores_mK, **measures}.items():
            if name != "p":
                added.append(pl.Series(f"top_{place}_{name}", values[rows, column]))
    return added


def _best_column(name: str, what: str) -> str:
    """`group_percentile_GROUP`, `any_percentile`, `any_p`, `any_q`."""
    return f"any_{what}" if name == ANY else f"group_{what}_{name.removeprefix('group_')}"


def join_parts(paths: Sequence[Path], out: Path) -> None:
    """One parquet file of the rows of several, in their order, in bounded memory."""
    with atomic_path(out) as aside:
        pl.scan_parquet(list(paths)).sink_parquet(aside, maintain_order=True)


def write_tracks(tracks: TrackTable, out: Path) -> None:
    """`tracks.tsv`: what each place of the lists is, one row a track."""
    write_atomic(out, tracks_text(tracks.frame.with_row_index("index")))


def read_parts(paths: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """The parts, one at a time."""
    for path in paths:
        yield read_parquet(path, "scores of a part")


def describe(names: Sequence[str], columns: Columns, size: int) -> dict[str, str]:
    """What each column of `variants.parquet` means, for people."""
    return {name: _meaning(name, columns, size) for name in names}


def _meaning(name: str, columns: Columns, size: int) -> str:
    if name in _COMMON:
        return _COMMON[name]
    calibrated = _of_calibration(name, columns, size)
    if calibrated:
        return calibrated
    place = "over all predicted bins"
    for ending, meaning in (
        ("_center", "over the bins around the variant"),
        ("_tss", "over the bins around the gene's transcription start"),
    ):
        if name.endswith(ending):
            name, place = name.removesuffix(ending), meaning
    if name == "log_fold":
        return f"log((1 + alt) / (1 + ref)) of the signal {place}, a value per track"
    if name == "difference":
        return f"alt - ref of the signal {place}, a value per track"
    if name.startswith("embedding_"):
        return f"{name.removeprefix('embedding_')} distance of the embeddings of both alleles"
    if name.startswith("top_"):
        _, number, what = name.split("_")
        return f"{_OF_TOP[what]} that stands out as number {number}"
    return "as the input gives it"


def _of_calibration(name: str, columns: Columns, size: int) -> str:
    """What a column says of the background; empty for one that says nothing of it."""
    if name.startswith("group_percentile_"):
        what, by = "percentile", f"in its best track of {name.removeprefix('group_percentile_')}"
    elif name.startswith(f"{ANY}_"):
        what, by = name.removeprefix(f"{ANY}_"), "in its best track of all"
    elif name in _CALIBRATED:
        what, by = name, f"by |{columns.headline}|, a value per track"
    else:
        scalar, _, what = name.rpartition("_")
        by = f"by |{scalar}|"
        if scalar not in columns.scalars:
            return ""
    return f"{_CALIBRATED[what].format(size=size)} {by}" if what in _CALIBRATED else ""


def matrix_of(values: pl.Series) -> Values:
    """Numbers (m,) of a column, or (m, T) of one of lists of one length; NaN for null."""
    found: Values = values.to_numpy().astype(np.float32, copy=False)
    return found
