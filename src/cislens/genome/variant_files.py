"""Files of variants as tables: VCF, TSV, CSV and parquet."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from cislens.errors import CislensError, nearest
from cislens.files import read_parquet, require_file

logger = logging.getLogger("cislens")

KEYS = ("chrom", "pos", "ref", "alt")
_ALIASES = {
    "chrom": ("chrom", "#chrom", "chr", "chromosome", "#chr"),
    "pos": ("pos", "position", "pos1"),
    "ref": ("ref", "reference", "reference_allele"),
    "alt": ("alt", "alternate", "alternative", "alternate_allele"),
    "id": ("id", "variant_id", "rsid", "snp"),
}
_BASES = "^([ACGTN]+|-)$"
_ROW = "source_row"


def read_variant_file(
    path: str | Path, columns: Mapping[str, str], info: Sequence[str]
) -> pl.DataFrame:
    """The variants of a file in its own chromosome names; see `variants.read_variants`."""
    path = require_file(path, "variant file")
    kind = path.name.lower().removesuffix(".gz").removesuffix(".bgz").rpartition(".")[2]
    if kind == "vcf":
        return _checked(path, _read_vcf(path, info), "record")
    if kind == "parquet":
        frame = _numbered(read_parquet(path, "variant table"), 1)
    elif kind in ("tsv", "txt", "csv"):
        # The header is line 1.
        frame = _numbered(_text(path, "," if kind == "csv" else "\t"), 2)
    else:
        raise CislensError(
            f"{path}: variants are read from .vcf, .tsv, .txt, .csv (plain or .gz) and .parquet; "
            "convert the file, e.g. with `bcftools view -O z`."
        )
    return _checked(path, _named(path, frame, columns), "row" if kind == "parquet" else "line")


def _numbered(table: pl.DataFrame, first: int) -> pl.DataFrame:
    return table.drop(_ROW, strict=False).with_row_index(_ROW, first)


def _text(path: Path, separator: str, comment: str | None = None) -> pl.DataFrame:
    try:
        return pl.read_csv(
            path, separator=separator, comment_prefix=comment, infer_schema=False,
            quote_char=None if comment else '"', null_values=["NA", "NaN", ""],
        )  # fmt: skip
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CislensError(f"{path} is no readable table of variants: {error}.") from None


def _named(path: Path, table: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """The table with its key columns under their own names."""
    for role, name in columns.items():
        if role not in _ALIASES:
            raise CislensError(f"columns: unknown role {role!r}. {nearest(role, _ALIASES)}")
        if name not in table.columns:
            raise CislensError(f"{path} has no column {name!r}. {nearest(name, table.columns)}")
    found = dict(columns)
    lower = {name.lower(): name for name in reversed(table.columns)}
    for role, aliases in _ALIASES.items():
        usual = next((lower[alias] for alias in aliases if alias in lower), None)
        if role not in found and usual is not None:
            found[role] = usual
        if role not in found and role in KEYS:
            raise CislensError(
                f"{path} has no column for {role} (looked for {', '.join(aliases)}; it has "
                f"{', '.join(table.columns)}); name it."
            )
    renamed = {name: role for role, name in found.items()}
    table = table.drop([role for role in found if role in table.columns and role not in renamed])
    return table.rename(renamed)


def _read_vcf(path: Path, info: Sequence[str]) -> pl.DataFrame:
    table = _text(path, "\t", comment="##")
    if [name.upper() for name in table.columns[:8]] != [
        "#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO",
    ]:  # fmt: skip
        raise CislensError(f"{path} has no VCF header line (#CHROM POS ID REF ALT ...).")
    taken = sorted({*KEYS, "id", "filter", _ROW} & set(info))
    if taken:
        raise CislensError(f"INFO key {taken[0]!r} has the name of a column of variant tables.")
    values = {
        key: pl.col("INFO").str.extract(rf"(?:^|;){re.escape(key)}=([^;]*)").str.split(",")
        for key in info
    }
    alts = pl.col("ALT").str.split(",")
    frame = _numbered(table, 1).select(
        _ROW, pl.col("#CHROM").alias("chrom"), pl.col("POS").alias("pos"),
        pl.col("REF").alias("ref"), alts.alias("alt"),
        pl.int_ranges(alts.list.len()).alias("allele"), alts.list.len().alias("alleles"),
        pl.col("ID").replace(".", None).alias("id"),
        pl.col("FILTER").replace(".", None).alias("filter"),
        **values,
    )  # fmt: skip
    frame = frame.explode("alt", "allele")
    own = {
        key: pl.when(pl.col(key).list.len() == pl.col("alleles"))
        .then(pl.col(key).list.get(pl.col("allele"), null_on_oob=True))
        .otherwise(pl.col(key).list.join(","))
        for key in info
    }
    frame = frame.with_columns(**own)
    symbolic = pl.col("alt").is_null() | pl.col("alt").str.contains(r"[<>*\[\].]")
    lost = frame.filter(symbolic)
    if len(lost):
        logger.warning(
            "%s: %d alleles without a sequence left out, e.g. %s", path, len(lost), lost["alt"][0]
        )
    return frame.filter(~symbolic).drop("allele", "alleles")


def _checked(path: Path, frame: pl.DataFrame, unit: str) -> pl.DataFrame:
    """Typed columns; the first bad row is an error."""
    if not len(frame):
        raise CislensError(f"{path} holds no variant.")

    def refuse(bad: pl.Expr, column: str, expected: str) -> None:
        wrong = frame.filter(bad.fill_null(value=True))
        if len(wrong):
            first = wrong.row(0, named=True)
            raise CislensError(
                f"{path} {unit} {first[_ROW]}: {column} is {first[column]!r}, expected "
                f"{expected}; correct or remove it."
            )

    frame = frame.with_columns(pl.col("chrom", "ref", "alt").cast(pl.String))
    pos = pl.col("pos").cast(pl.Int64, strict=False)
    refuse(pl.col("chrom").is_null(), "chrom", "the name of a chromosome")
    refuse(pos.is_null() | (pos < 1), "pos", "a whole number from 1 on")
    for allele in ("ref", "alt"):
        upper = pl.col(allele).str.to_uppercase()
        refuse(~upper.str.contains(_BASES), allele, "bases A, C, G, T, N, or - for none")
        frame = frame.with_columns(upper.alias(allele))
    refuse(pl.col("ref") == pl.col("alt"), "alt", "another sequence than ref")
    frame = frame.with_columns(pos=pos)
    others = [name for name in frame.columns if name not in (*KEYS, "id", _ROW)]
    typed = [_number(frame[name]) for name in others]
    return frame.with_columns(typed).select(*KEYS, pl.exclude(*KEYS, _ROW), _ROW)


def _number(values: pl.Series) -> pl.Series:
    """Text as whole numbers or else as numbers, where all of it is."""
    if values.dtype == pl.String and values.null_count() < len(values):
        for kind in (pl.Int64, pl.Float64):
            cast = values.cast(kind, strict=False)
            if cast.null_count() == values.null_count():
                return cast
    return values
