"""Tables of scored variants: what all variants together say is added part by part.

A part is a parquet file of some variants in the order of their source. When all are scored, the
parts get percentiles, p-values and rates, and are joined without holding more than one in memory.

Dimensions: m variant, K calibrated column (the tracks of the headline score, then scalars).
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
    best_of_groups,
    p_values,
    percentiles,
    q_values,
    top_columns,
)
from cislens.effects.variants.result import VariantScores
from cislens.effects.variants.scores import VariantScorer
from cislens.files import atomic_path
from cislens.signal.tracks import TrackTable

AT_LEAST = "background_at_least"
TOPS = 3
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
_SNV_NULL = "of background substitutions, for insertions and deletions too"


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

    def calibrated(self, table: pl.DataFrame) -> Values:
        """(m, K) the headline by track, then the scalars, of `VariantScores.table()`."""
        parts = [] if self.headline is None else [matrix_of(table[self.headline])]
        parts += [matrix_of(table[name])[:, None] for name in self.scalars]
        return np.concatenate(parts, axis=1)


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
    """A part with percentiles, p-values, rates, the top tracks and the best of each group."""
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
    if columns.tracks is not None:
        groups = [name or "other" for name in columns.tracks.frame["group"]]
        best = best_of_groups(measures["percentile"][:, :tracks], groups)
        added += [pl.Series(f"best_percentile_{name}", values) for name, values in best.items()]
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


def join_parts(paths: Sequence[Path], out: Path) -> None:
    """One parquet file of the rows of several, in their order, in bounded memory."""
    with atomic_path(out) as aside:
        pl.scan_parquet(list(paths)).sink_parquet(aside, maintain_order=True)


def write_tracks(tracks: TrackTable, out: Path) -> None:
    """`tracks.tsv`: what each place of the lists is, one row a track."""
    with atomic_path(out) as aside:
        tracks.frame.with_row_index("index").write_csv(aside, separator="\t")


def read_parts(paths: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """The parts, one at a time."""
    for path in paths:
        yield pl.read_parquet(path)


def describe(names: Sequence[str], columns: Columns, size: int) -> dict[str, str]:
    """What each column of `variants.parquet` means, for people."""
    return {name: _meaning(name, columns, size) for name in names}


def _meaning(name: str, columns: Columns, size: int) -> str:
    if name in _COMMON:
        return _COMMON[name]
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
    if name.startswith("best_percentile_"):
        return f"largest percentile of the {name.removeprefix('best_percentile_')} tracks"
    if name.startswith("top_"):
        _, number, what = name.split("_")
        return f"{what} of the track that stands out as number {number}"
    return _of_calibration(name, columns, size)


def _of_calibration(name: str, columns: Columns, size: int) -> str:
    scalar, _, what = name.rpartition("_")
    score = scalar or f"{columns.headline}, a value per track"
    meanings = {
        "percentile": f"percent of {size} scores {_SNV_NULL} that are smaller than |score|",
        "p": f"(1 + number at least |score|) / (1 + {size}) {_SNV_NULL}",
        "q": "false discovery rate by Benjamini and Hochberg over all variants of the run",
    }
    return f"{meanings[what]}; of {score}" if what in meanings else "as the input gives it"


def matrix_of(values: pl.Series) -> Values:
    """Numbers (m,) of a column, or (m, T) of one of lists of one length; NaN for null."""
    found: Values = values.to_numpy().astype(np.float32, copy=False)
    return found
