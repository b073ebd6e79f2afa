"""What is wrong with a file of variants, allele by allele, before anything is scored.

Dimensions: V variant (one alternate allele of one record).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.genome.chromosomes import NoCommonChromosomeError, match_names
from cislens.genome.reference import Genome
from cislens.genome.variant_checks import WRONG, details, judge_reference, judge_text
from cislens.genome.variant_diagnosis import DoctorReport, Evidence, report_of
from cislens.genome.variant_files import KEYS, ROW
from cislens.genome.variant_stream import (
    VariantHeader,
    stream_variants,
    variant_chromosomes,
    variant_header,
)
from cislens.genome.variants import anchored, normalize
from cislens.progress import track

_EXAMPLES = 5
_SHOWN = 24  # characters of an allele
# What is not needed to judge a variant.
_FILLED = {"id": pl.lit(None, pl.String), "allele": pl.lit(0, pl.Int32)}


@dataclass(frozen=True)
class Examined:
    """A chunk of variants, sorted out.

    Attributes:
        kept: `chrom` (the genome's name), `pos` (1-based), `ref, alt` (upper case, trimmed and
            left-aligned), `id, source_row, allele, given` (as the file has it,
            `chrom:pos:ref:alt`), in the order of the chunk.
        left_out: `source_row, allele, chrom, pos, ref, alt, id` as the file has them, with
            `reason` (one of `variant_checks.REASONS`) and `detail`.
    """

    kept: pl.DataFrame
    left_out: pl.DataFrame


class Doctor:
    """Examines the variants of a file against a genome, chunk by chunk, from first to last.

    Repeats are found over all that was examined before, by a hash of 8 bytes a variant. A doctor
    that is given the same chunks in the same order says the same.

    Args:
        genome: what the variants are checked against.
        source: the file, or a name for what holds the variants.
        columns: names of a table's columns, as for `stream_variants`.
    """

    def __init__(
        self, genome: Genome, source: str | Path, columns: Mapping[str, str] | None = None
    ) -> None:
        self.genome = genome
        self._source = Path(source)
        self._columns = columns or {}
        there = self._source.is_file()
        self._header = variant_header(self._source) if there else VariantHeader()
        self._waiting = there  # the file's names have not been looked up
        self._found: list[str] = []  # names in the file
        self._names: dict[str, str] = {}  # those that the genome has, too
        self._seen = _Seen()
        self._evidence = Evidence()

    def examine(self, chunk: pl.DataFrame) -> Examined:
        """Sort out the next chunk of `stream_variants`, or a table of `chrom, pos, ref, alt`.

        A table without `source_row` gets the numbers of its rows, from 1.

        Raises:
            CislensError: if two names belong to one chromosome of the genome.
        """
        absent = [name for name in ("id", ROW, "allele") if name not in chunk.columns]
        filled = _FILLED | {ROW: pl.int_range(1, pl.len() + 1, dtype=pl.Int64)}
        chunk = chunk.with_columns(**{name: filled[name] for name in absent})
        self._learn_names(chunk["chrom"].drop_nulls().unique(maintain_order=True).to_list())
        table = judge_text(chunk, self._names, self.genome)
        reason_V = table["reason"].to_numpy().astype(object)
        sound = table.filter(pl.col("reason").is_null())
        states = judge_reference(sound, self.genome, self._evidence.bases)
        reason_V[sound["row"].to_numpy()] = states
        kept = self._normalized(
            sound.filter(pl.Series([state is None for state in states], dtype=pl.Boolean))
        )
        fresh_V = self._seen.add(kept.select(KEYS).hash_rows(seed=20).to_numpy())
        reason_V[kept["row"].to_numpy()[~fresh_V]] = "duplicate"
        left_out = table.with_columns(reason=pl.Series(reason_V.tolist(), dtype=pl.String)).filter(
            pl.col("reason").is_not_null()
        )
        kept = kept.filter(pl.Series(fresh_V, dtype=pl.Boolean))
        self._count(table, left_out, kept.height)
        return Examined(
            kept.select(*KEYS, "id", ROW, "allele", given=_as_given(kept)),
            left_out.select(
                ROW, "allele", pl.col("given").struct.unnest(), "id", "reason",
                detail=pl.Series(details(left_out, self.genome), dtype=pl.String),
            ),
        )  # fmt: skip

    def report(self) -> DoctorReport:
        """What was found so far."""
        return report_of(
            self._evidence, self.genome, self._source.name, self._header, self._names, self._found
        )

    def require(self, limit: float = 0.001) -> None:
        """Refuse a file of which too much is wrong.

        Raises:
            CislensError: if more than a share `limit` of the alleles that could be looked up are
                not the genome's, or lie beyond its chromosomes, or nothing is left; says what is
                probably wrong.
        """
        self.report().require(limit)

    def _learn_names(self, names: list[str]) -> None:
        new = [name for name in names if name not in self._found]
        if self._waiting and any(name not in self.genome.chrom_sizes for name in new):
            # The whole file's names tell whether Roman numbers are meant.
            self._waiting = False
            new += [
                name
                for name in variant_chromosomes(self._source, self._columns)
                if name not in {*self._found, *new}
            ]
        if new:
            self._found += new
            self._evidence.foreign = ""
            try:
                self._names = match_names(
                    self._found, self.genome.chrom_sizes, str(self._source)
                ).mapping
            except NoCommonChromosomeError as error:
                self._evidence.foreign = str(
                    error
                )  # every allele is left out, and `require` says so

    def _normalized(self, variants: pl.DataFrame) -> pl.DataFrame:
        bare = (pl.col("ref") == "-") | (pl.col("alt") == "-")
        if variants.select(bare.any()).item():
            variants = anchored(variants, self.genome)
        return normalize(variants, self.genome)

    def _count(self, table: pl.DataFrame, left_out: pl.DataFrame, kept: int) -> None:
        evidence = self._evidence
        evidence.kept += kept
        evidence.reasons.update(dict(left_out["reason"].value_counts().iter_rows()))
        unknown = left_out.filter(pl.col("reason") == "unknown_chromosome")
        names = unknown.select(pl.col("given").struct.field("chrom"))["chrom"].value_counts()
        evidence.unknown.update(dict(names.iter_rows()))
        last = (
            table.filter(pl.col("chrom").is_not_null()).group_by("chrom").agg(pl.col("pos").max())
        )
        for chrom, position in last.drop_nulls().iter_rows():
            evidence.last[chrom] = max(position, evidence.last.get(chrom, 0))
        for row in (
            left_out.filter(pl.col("reason").is_in(WRONG)).head(_EXAMPLES).iter_rows(named=True)
        ):
            if len(evidence.examples) < _EXAMPLES:
                evidence.examples.append(":".join(_short(value) for value in row["given"].values()))


def examine_file(
    path: str | Path,
    genome: Genome,
    columns: Mapping[str, str] | None = None,
    chunk: int = 50_000,
) -> DoctorReport:
    """Examine a whole file; nothing of it is kept.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: if it is damaged, or two names of chromosomes belong to one of the genome.
    """  # fmt: skip
    doctor = Doctor(genome, path, columns)
    for part in track(stream_variants(path, columns, chunk), "examining variants"):
        doctor.examine(part)
    return doctor.report()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _as_given(kept: pl.DataFrame) -> pl.Expr:
    given = pl.col("given").struct
    return pl.concat_str(
        given.field("chrom"), given.field("pos"), given.field("ref"), given.field("alt"),
        separator=":",
    )  # fmt: skip


class _Seen:
    """Hashes in sorted runs, each at least twice as long as the next: 8 bytes a hash."""

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.uint64]] = []

    def add(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Whether each has not come before, neither here nor in an earlier call."""
        new, first = np.unique(hashes, return_index=True)
        fresh = np.ones(new.size, bool)
        for run in self._runs:
            at = np.searchsorted(run, new)
            fresh &= run[np.minimum(at, run.size - 1)] != new
        if fresh.any():
            self._runs.append(new[fresh])
        while len(self._runs) > 1 and self._runs[-2].size < 2 * self._runs[-1].size:
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]))
        found = np.zeros(hashes.size, bool)
        found[first[fresh]] = True
        return found
