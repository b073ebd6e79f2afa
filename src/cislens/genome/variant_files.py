"""Files of variants as tables: VCF, BCF, TSV, CSV and parquet."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pysam

from cislens.errors import CislensError, nearest
from cislens.files import read_parquet, require_file
from cislens.genome.intervals import LONGEST

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
ROW = "source_row"
_KINDS = ("vcf", "bcf", "parquet", "tsv", "txt", "csv")
# The empty block that ends every BGZF file (SAM specification, section 4.1.2).
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_VCF_COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")


def read_variant_file(
    path: str | Path, columns: Mapping[str, str], info: Sequence[str]
) -> pl.DataFrame:
    """The variants of a file in its own chromosome names; see `variants.read_variants`."""
    path = require_file(path, "variant file")
    kind = file_kind(path)
    require_complete(path)
    if kind in ("vcf", "bcf"):
        table = _bcf_table(path) if kind == "bcf" else _text(path, "\t", comment="##")
        return _checked(path, _vcf_alleles(path, table, info), "record")
    if kind == "parquet":
        frame = _numbered(read_parquet(path, "variant table"), 1)
    else:
        # The header is line 1.
        frame = _numbered(_text(path, "," if kind == "csv" else "\t"), 2)
    return _checked(path, _named(path, frame, columns), "row" if kind == "parquet" else "line")


def file_kind(path: Path) -> str:
    """ "vcf", "bcf", "parquet", "tsv", "txt" or "csv", by the name's end, `.gz` or `.bgz` aside.

    Raises:
        CislensError: for any other name.
    """
    kind = path.name.lower().removesuffix(".gz").removesuffix(".bgz").rpartition(".")[2]
    if kind not in _KINDS:
        raise CislensError(
            f"{path}: variants are read from .vcf, .bcf, .tsv, .txt, .csv (text plain or .gz) and "
            ".parquet; convert the file, e.g. with `bcftools view -O z`."
        )
    return kind


def require_complete(path: Path) -> None:
    """Refuse a bgzip file without its last block: whole lines may be missing without a trace.

    Raises:
        CislensError: if the file is empty, or BGZF that was cut off.
    """
    with path.open("rb") as file:
        start = file.read(16)
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(size - len(_BGZF_END), 0))
        end = file.read()
    if not size:
        raise CislensError(f"{path} is empty; copy or download it again.")
    if start[:4] == b"\x1f\x8b\x08\x04" and start[12:14] == b"BC" and end != _BGZF_END:
        raise CislensError(
            f"{path} is truncated: the block that ends a bgzip file is missing; copy or download "
            "it again."
        )


@contextmanager
def opened_bcf(path: Path) -> Iterator[pysam.VariantFile]:
    """A VCF or BCF without its samples by pysam, whose warnings become errors.

    Raises:
        CislensError: if it is not readable to its end.
    """
    require_complete(path)
    loudness = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(path), drop_samples=True) as file:
            yield file
    except (ValueError, OSError, NotImplementedError) as error:
        if isinstance(error, CislensError):
            raise
        raise CislensError(
            f"{path} is no readable BCF or is truncated ({error}); copy or download it again."
        ) from None
    finally:
        pysam.set_verbosity(loudness)


def indexed_chromosomes(path: Path) -> list[str]:
    """Chromosomes by the index (.tbi or .csi) beside a VCF or BCF; none if there is no index.

    An index that is older than its file is not believed.
    """
    indices = [path.with_name(f"{path.name}.{end}") for end in ("tbi", "csi")]
    if not any(i.exists() and i.stat().st_mtime >= path.stat().st_mtime for i in indices):
        return []
    with opened_bcf(path) as file:
        return [str(name) for name in file.index or ()]


def _numbered(table: pl.DataFrame, first: int) -> pl.DataFrame:
    return table.drop(ROW, strict=False).with_row_index(ROW, first)


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
    renamed = find_columns(path, table.columns, columns)
    roles = set(renamed.values())
    table = table.drop([role for role in roles if role in table.columns and role not in renamed])
    return table.rename(renamed)


def find_columns(path: Path, present: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Names of the columns that hold `chrom, pos, ref, alt` and, if there is one, `id`.

    Args:
        path: the file, for errors.
        present: the names it has.
        columns: names that the user gave, by role.

    Returns:
        name -> role.

    Raises:
        CislensError: for an unknown role or name, or a role without a column.
    """
    for role, name in columns.items():
        if role not in _ALIASES:
            raise CislensError(f"columns: unknown role {role!r}. {nearest(role, _ALIASES)}")
        if name not in present:
            raise CislensError(f"{path} has no column {name!r}. {nearest(name, present)}")
    found = dict(columns)
    lower = {name.lower(): name for name in reversed(present)}
    for role, aliases in _ALIASES.items():
        usual = next((lower[alias] for alias in aliases if alias in lower), None)
        if role not in found and usual is not None:
            found[role] = usual
        if role not in found and role in KEYS:
            raise CislensError(
                f"{path} has no column for {role} (looked for {', '.join(aliases)}; it has "
                f"{', '.join(present)}); name it."
            )
    return {name: role for role, name in found.items()}


def _bcf_table(path: Path) -> pl.DataFrame:
    with opened_bcf(path) as file:
        rows = [str(record).rstrip("\n").split("\t", 8)[:8] for record in file]
    return pl.DataFrame(rows, schema=dict.fromkeys(_VCF_COLUMNS, pl.String), orient="row")


def _vcf_alleles(path: Path, table: pl.DataFrame, info: Sequence[str]) -> pl.DataFrame:
    if tuple(name.upper() for name in table.columns[:8]) != _VCF_COLUMNS:
        raise CislensError(f"{path} has no VCF header line (#CHROM POS ID REF ALT ...).")
    table = table.select(pl.nth(at).alias(name) for at, name in enumerate(_VCF_COLUMNS))
    taken = sorted({*KEYS, "id", "filter", ROW} & set(info))
    if taken:
        raise CislensError(f"INFO key {taken[0]!r} has the name of a column of variant tables.")
    values = {
        key: pl.col("INFO").str.extract(rf"(?:^|;){re.escape(key)}=([^;]*)").str.split(",")
        for key in info
    }
    alts = pl.col("ALT").str.split(",")
    frame = _numbered(table, 1).select(
        ROW, pl.col("#CHROM").alias("chrom"), pl.col("POS").alias("pos"),
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
                f"{path} {unit} {first[ROW]}: {column} is {first[column]!r}, expected "
                f"{expected}; correct or remove it."
            )

    frame = frame.with_columns(pl.col("chrom", "ref", "alt").cast(pl.String))
    pos = whole_numbers(frame["pos"])
    refuse(pl.col("chrom").is_null(), "chrom", "the name of a chromosome")
    refuse(pl.lit(pos.is_null() | (pos < 1) | (pos > LONGEST)), "pos", "a whole number from 1 on")
    for allele in ("ref", "alt"):
        upper = pl.col(allele).str.to_uppercase()
        refuse(~upper.str.contains(_BASES), allele, "bases A, C, G, T, N, or - for none")
        frame = frame.with_columns(upper.alias(allele))
    refuse(pl.col("ref") == pl.col("alt"), "alt", "another sequence than ref")
    frame = frame.with_columns(pos=pos)
    others = [name for name in frame.columns if name not in (*KEYS, "id", ROW)]
    typed = [_number(frame[name]) for name in others]
    return frame.with_columns(typed).select(*KEYS, pl.exclude(*KEYS, ROW), ROW)


def whole_numbers(values: pl.Series) -> pl.Series:
    """Text or numbers as Int64; null for what is no whole number."""
    if not (values.dtype.is_numeric() or values.dtype == pl.String):
        return pl.Series(values.name, [None] * len(values), pl.Int64)
    whole = values.cast(pl.Int64, strict=False)
    if values.dtype.is_float():
        # A cast cuts 1.5 down to 1.
        whole = pl.select(pl.when(whole.cast(values.dtype) == values).then(whole)).to_series()
    return whole


def _number(values: pl.Series) -> pl.Series:
    """Text as whole numbers or else as numbers, where all of it is."""
    if values.dtype == pl.String and values.null_count() < len(values):
        for kind in (pl.Int64, pl.Float64):
            cast = values.cast(kind, strict=False)
            if cast.null_count() == values.null_count():
                return cast
    return values
