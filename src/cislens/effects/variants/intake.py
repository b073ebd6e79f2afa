"""The input of a run: examined by the doctor, counted, and given out in parts.

The whole file is read twice in the order of its records: once to learn what is wrong with it and
what its variants are like, and once to score them. Memory does not depend on its length, but for
the doctor's 8 bytes a variant.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.effects.variants.background import Census
from cislens.errors import CislensError
from cislens.files import atomic_path, write_atomic
from cislens.genome.annotation import read_genes
from cislens.genome.chromosomes import match_names
from cislens.genome.reference import Genome
from cislens.genome.variant_diagnosis import DoctorReport, counted
from cislens.genome.variant_doctor import Doctor, Examined
from cislens.genome.variant_stream import stream_variants
from cislens.progress import track

LEFT_OUT = "left_out.tsv"
DOCTOR = "doctor.json"
_ROWS_AT_ONCE = 50_000
# A variant this near to a gene is near it, or half of what the model sees if that is more.
NEAR = 10_000


@dataclass(frozen=True)
class Intake:
    """What is read and what of it is scored.

    Attributes:
        path: file of variants.
        genome: what they are variants of.
        columns: names of a table's columns, as for `stream_variants`.
        genes: as `annotation.read_genes` gives them, under the genome's names; or None.
        only: intervals that a variant must overlap; all variants are scored if None.
    """

    path: Path
    genome: Genome
    columns: Mapping[str, str]
    genes: pl.DataFrame | None = None
    only: pl.DataFrame | None = None

    def doctor(self) -> Doctor:
        """One who has seen nothing yet."""
        return Doctor(self.genome, self.path, self.columns)

    def examined(self, doctor: Doctor) -> Iterator[Examined]:
        """Each chunk of the file as the doctor sorts it out, those elsewhere than `only` gone."""
        for chunk in stream_variants(self.path, self.columns, _ROWS_AT_ONCE):
            found = doctor.examine(chunk)
            kept = found.kept.sort("source_row", "allele")
            if self.only is not None:
                kept = kept.filter(pl.Series(_overlaps(kept, self.only), dtype=pl.Boolean))
            yield Examined(kept, found.left_out.sort("source_row", "allele"))

    def parts(self, size: int) -> Iterator[pl.DataFrame]:
        """The variants to score, `size` at a time and in the order of the file."""
        held: list[pl.DataFrame] = []
        rows = 0
        for found in self.examined(self.doctor()):
            held.append(found.kept)
            rows += found.kept.height
            if rows >= size:
                whole = pl.concat(held)
                full = rows - rows % size
                for start in range(0, full, size):
                    yield whole[start : start + size]
                held, rows = [whole[full:]], rows - full
        if rows:
            yield pl.concat(held)


@dataclass(frozen=True)
class Inspection:
    """What the first reading found.

    Attributes:
        report: of the doctor, on the whole file.
        census: of the variants to score.
        variants: how many these are.
        first: the first of them.
    """

    report: DoctorReport
    census: Census
    variants: int
    first: pl.DataFrame

    @property
    def elsewhere(self) -> int:
        """Variants without fault that lie outside of `Intake.only`."""
        return self.report.kept - self.variants


def inspect(intake: Intake, out: Path | None, keep_going: bool) -> Inspection:
    """Read the whole file once; `left_out.tsv` and `doctor.json` tell what is wrong with it.

    Both are written before anything is refused; nothing is if `out` is None.

    Raises:
        CislensError: as `Doctor.require`, unless `keep_going`; if nothing is left to score.
    """
    census = Census(intake.genome, intake.genes)
    doctor, variants, first = intake.doctor(), 0, pl.DataFrame()
    listing = atomic_path(out / LEFT_OUT) if out is not None else nullcontext(None)
    with listing as aside:
        handle = aside.open("wb") if aside is not None else None
        with handle or nullcontext():
            for found in track(intake.examined(doctor), "examine variants"):
                if handle is not None:
                    header = handle.tell() == 0
                    listed = found.left_out.with_columns(pl.col("detail").replace("", None))
                    listed.write_csv(handle, separator="\t", include_header=header)
                census.add(found.kept)
                variants += found.kept.height
                first = found.kept[:1] if first.is_empty() else first
    report = doctor.report()
    if not report.alleles:
        raise CislensError(f"{intake.path} holds no variant; give a file of some.")
    if out is not None:
        write_atomic(out / DOCTOR, json.dumps(report.to_dict(), indent=2) + "\n")
    if not keep_going:
        try:
            report.require()
        except CislensError as error:
            raise CislensError(f"{error}{_hint(report, out)}") from None
    if not variants:
        if intake.only is not None and report.kept:
            raise CislensError(
                f"none of {counted(report.kept, 'variant')} of {intake.path} is near the genes "
                "asked for; leave out --gene to score them all."
            )
        raise CislensError(
            f"{intake.path}: none of {counted(report.alleles, 'allele')} can be scored. "
            f"{report.guess}{_hint(report, out)}".rstrip()
        )
    return Inspection(report, census, variants, first)


def left_out_reasons(out: Path) -> Iterator[tuple[tuple[int, int], str]]:
    """Record and allele of what the doctor left out, with its reason, in order."""
    with (out / LEFT_OUT).open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            yield (int(row["source_row"]), int(row["allele"])), row["reason"]


def genes_of(path: Path, genome: Genome) -> pl.DataFrame:
    """Genes of an annotation file under the genome's chromosome names.

    Raises:
        CislensError: as `read_genes` and `match_names`.
    """
    genes = read_genes(path)
    return match_names(genes["chrom"].unique(maintain_order=True), genome.chrom_sizes, str(path)
    ).rename(genes)  # fmt: skip


def named_genes(genes: pl.DataFrame, names: Sequence[str], path: Path) -> pl.DataFrame:
    """The genes of some names.

    Raises:
        CislensError: with the nearest names, if there is none of a name.
    """
    known = genes["name"].unique().to_list()
    for name in names:
        if name not in known:
            # Gene names are short: those that differ by case or a letter or two.
            upper = {text.upper(): text for text in known}
            close = get_close_matches(name.upper(), upper, n=3, cutoff=0.6)
            hint = f"Did you mean {' or '.join(upper[text] for text in close)}?" if close else (
                f"It has {len(known)} genes on the genome's chromosomes, such as {known[0]}."
            )  # fmt: skip
            raise CislensError(f"{path} has no gene {name!r}. {hint}")
    return genes.filter(pl.col("name").is_in(list(names)))


def surroundings(genes: pl.DataFrame, reach: int) -> pl.DataFrame:
    """`chrom, start, end` of genes with `reach` bp at either side."""
    return genes.select("chrom", start=pl.col("start") - reach, end=pl.col("end") + reach)


def _overlaps(variants: pl.DataFrame, only: pl.DataFrame) -> npt.NDArray[np.bool_]:
    chroms = variants["chrom"].to_numpy()
    first = variants["pos"].to_numpy() - 1
    last = first + variants["ref"].str.len_bytes().to_numpy()
    found = np.zeros(len(first), bool)
    for chrom, start, end in only.select("chrom", "start", "end").iter_rows():
        found |= (chroms == chrom) & (first < end) & (last > start)
    return found


def _hint(report: DoctorReport, out: Path | None) -> str:
    """Where to look, and what `--keep-going` would do."""
    words = ""
    if report.left_out and out is not None:
        words = f" {out / LEFT_OUT} lists what is left out."
    if not report.kept:
        return words
    if report.share_wrong:
        return f"{words} Use --keep-going to leave the wrong ones out and score the others."
    return f"{words} Use --keep-going if it is the header that is wrong."
