"""The audited table: labels, split, sequences and places of every row, whatever the file was.

Shapes: n rows, T outputs.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.placing import BLOCK_BP
from cislens.genome.codes import Codes
from cislens.genome.minimizers import Ints
from cislens.genome.reference import Genome
from cislens.randomness import generator

logger = logging.getLogger("cislens")

Floats = npt.NDArray[np.float64]
Strings = npt.NDArray[np.str_]
PARTS = ("train", "valid", "test")
# What is known before a row of each part is predicted.
KNOWN_BEFORE: Mapping[str, tuple[str, ...]] = {"valid": ("train",), "test": ("train", "valid")}
_BASES_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Places:
    """Where the rows lie: 0-based half-open intervals."""

    chrom: Strings
    start: Ints
    end: Ints


@dataclass(frozen=True)
class AuditTable:
    """Rows as the checks see them.

    Attributes:
        name: what is audited, for people.
        frame: the rows as they were read, for `fix`.
        split: "train", "valid" or "test" (n,), all "" where the table has no split.
        y_NT: labels; for classes their number (n, 1). NaN is a label that was not measured.
        classes: names of the classes, in the order of their numbers; empty for values.
        alternates: the sequences with the other allele, for variants.
        soft: fraction of lower-case bases (n,), where the input has any.
        block: rows of one block are not independent.
        whole_blocks: whether a block (a gene, an element) belongs in one part; `fix` keeps it so.
        stranded: a sequence and its reverse complement are different examples.
        design: how the split was made: chromosome, homology, regions, fold, predefined, random or
            unknown.
        split_column: where the split stands in `frame`.
        notes: how the input was read.
    """

    name: str
    frame: pl.DataFrame
    split: Strings
    y_NT: Floats
    classes: tuple[str, ...] = ()
    sequences: tuple[Codes, ...] | None = None
    alternates: tuple[Codes, ...] | None = None
    soft: Floats | None = None
    chrom: Strings | None = None
    places: Places | None = None
    strand: Strings | None = None
    block: Strings | None = None
    variants: pl.DataFrame | None = None
    whole_blocks: bool = False
    stranded: bool = False
    design: str = "unknown"
    split_column: str = "split"
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def judged(self) -> tuple[str, ...]:
        """The parts that are predicted, the main one first; empty without a split."""
        return tuple(part for part in ("test", "valid") if (self.split == part).any())

    @cached_property
    def kind(self) -> str:
        return "classes" if self.classes else "values"

    def of(self, *parts: str) -> Ints:
        """Numbers of the rows of some parts."""
        return np.flatnonzero(np.isin(self.split, parts))

    def take(self, rows: Ints) -> "AuditTable":
        """The table of some rows, in that order."""

        def some(values: tuple[Codes, ...] | None) -> tuple[Codes, ...] | None:
            return None if values is None else tuple(values[row] for row in rows.tolist())

        places = self.places
        return replace(
            self, frame=self.frame[rows], split=self.split[rows], y_NT=self.y_NT[rows],
            sequences=some(self.sequences), alternates=some(self.alternates),
            soft=None if self.soft is None else self.soft[rows],
            chrom=None if self.chrom is None else self.chrom[rows],
            places=places and Places(places.chrom[rows], places.start[rows], places.end[rows]),
            strand=None if self.strand is None else self.strand[rows],
            block=None if self.block is None else self.block[rows],
            variants=None if self.variants is None else self.variants[rows],
        )  # fmt: skip

    @cached_property
    def lengths(self) -> Ints | None:
        """Bases of every row (n,)."""
        if self.sequences is not None:
            return np.array([len(codes) for codes in self.sequences], np.int64)
        return None if self.places is None else self.places.end - self.places.start

    @cached_property
    def base_counts(self) -> Ints | None:
        """How often A, C, G, T and N occur in every row (n, 5)."""
        if self.sequences is None or self.lengths is None:
            return None
        counts = np.zeros((len(self), 5), np.int64)
        ends = self.lengths.cumsum()
        first = 0
        while first < len(self):
            done = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, done + _BASES_AT_ONCE)), first + 1)
            row = np.repeat(np.arange(last - first), self.lengths[first:last])
            codes = np.concatenate(self.sequences[first:last])
            counts[first:last] = np.bincount(row * 5 + codes, minlength=5 * (last - first)).reshape(
                -1, 5
            )
            first = last
        return counts

    @cached_property
    def blocks(self) -> tuple[Ints, str]:
        """The block number of every row (n,) and what a block is, in words."""
        if self.block is not None:
            return np.unique(self.block, return_inverse=True)[1], "blocks of the table"
        if self.places is not None:
            middle = (self.places.start + self.places.end) // 2 // BLOCK_BP
            chrom = np.unique(self.places.chrom, return_inverse=True)[1]
            number = np.unique(chrom * (middle.max() + 1) + middle, return_inverse=True)[1]
            return number, f"{BLOCK_BP // 1000} kb of genome"
        return np.arange(len(self)), "rows"

    def fitting(self, seed: int) -> tuple[Ints, Ints, Ints]:
        """Rows to fit a predictor on, to choose its penalty on, and to score it on.

        Without a valid part a fifth of train, and without any split 60, 20 and 20 % of the rows,
        by the seed; rows of one sequence are not kept together.
        """
        rng = generator(seed, "audit", "fitting")
        if not self.judged:
            rows = rng.permutation(len(self))
            return tuple(np.split(rows, [int(0.6 * len(rows)), int(0.8 * len(rows))]))  # type: ignore[return-value]
        scored = self.of(self.judged[0])
        if self.judged[0] == "test" and (self.split == "valid").any():
            return self.of("train"), self.of("valid"), scored
        train = rng.permutation(self.of("train"))
        cut = max(len(train) // 5, 1)
        return train[cut:], train[:cut], scored


def with_genome(table: AuditTable, genome: Genome) -> AuditTable:
    """The table with the sequences of its intervals, minus-strand ones reverse-complemented, and
    the fraction of soft-masked bases.

    Raises:
        CislensError: for a chromosome that the genome does not have.
    """
    from cislens.genome.codes import reverse_complement

    if table.places is None:
        raise CislensError(f"{table.name} has no intervals to look up in {genome.path}.")
    places = table.places
    strand = table.strand if table.strand is not None else np.full(len(table), "+")
    where = list(
        zip(places.chrom.tolist(), places.start.tolist(), places.end.tolist(), strict=True)
    )
    soft = np.array([float(genome.soft_mask(*interval).mean()) for interval in where])
    for chrom in dict.fromkeys(places.chrom.tolist()):
        genome.chromosome(chrom)
    found = table.sequences or tuple(
        reverse_complement(genome.fetch(*interval)) if sign == "-" else genome.fetch(*interval)
        for interval, sign in zip(where, strand.tolist(), strict=True)
    )
    return replace(table, sequences=found, soft=soft)
