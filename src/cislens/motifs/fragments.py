"""Fragment files: where a transposase or nuclease cut the genome."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.genome.chromosomes import match_names
from cislens.genome.reference import Genome

_BLOCK = 1 << 26  # bytes parsed at a time; the text of a large file would not fit in memory
_SPAN = 1 << 40  # more than a chromosome has bases
# From the start and from the end of a fragment to the base that counts as cut. The transposase
# copies 9 bp at either end, whose middle is 4 bp inwards of the first and of the last base.
_ENDS = (0, -1)
_MIDDLES = (4, -5)

Ints = npt.NDArray[np.int64]


def read_cuts(path: str | Path, genome: Genome, *, shifted: bool = True) -> pl.DataFrame:
    """Cut sites of a fragment file, plain or gzip: `chrom, start, end` and whatever follows.

    A fragment [start, end) was cut at both ends. Where its ends have been moved to the middle of
    the transposase, its cut sites are its first base `start` and its last base `end - 1`. With
    `shifted=False` they are `start + 4` and `end - 5`: the middle bases of the 9 bp at either end
    that the transposase copies. A fragment counts once, whatever its columns of barcodes and of
    duplicates say. Fragments on contigs that the genome does not have are left out, which the log
    says, and so are sites that come to lie beyond a chromosome's end.

    Returns:
        `chrom` (Enum of the genome's names) and `position` (Int64), sorted.

    Raises:
        CislensError: for a line that is no fragment or lies beyond its chromosome's end, with its
            number, a damaged file, or one without any fragment on the genome.
    """
    path = require_file(path, "fragment file")
    blocks = list(_fragments(path))
    if not blocks:
        raise CislensError(f"{path} holds no fragment.")
    found = pl.concat([block["chrom"].unique() for block in blocks]).cast(pl.String).unique().sort()
    names = match_names(found, genome.chrom_sizes, str(path))
    sites = []
    while blocks:
        table = names.rename(blocks.pop().with_columns(pl.col("chrom").cast(pl.String)))
        require_inside(table, genome, path, "line")
        sites.append(_sites(table, genome, _ENDS if shifted else _MIDDLES))
    return _sorted(np.concatenate(sites), genome)


def _sites(table: pl.DataFrame, genome: Genome, shifts: tuple[int, int]) -> Ints:
    """Cut sites as one number each, the rank of the chromosome times `_SPAN` and the position."""
    sizes = np.array(list(genome.chrom_sizes.values()))
    kind = pl.Enum(list(genome.chrom_sizes))
    rank = table["chrom"].cast(kind).to_physical().to_numpy().astype(np.int64)
    found = []
    for column, shift in zip(("start", "end"), shifts, strict=True):
        position = table[column].to_numpy() + shift
        inside = (position >= 0) & (position < sizes[rank])
        found.append(rank[inside] * _SPAN + position[inside])
    return np.concatenate(found)


def _sorted(sites: Ints, genome: Genome) -> pl.DataFrame:
    rank, position = np.divmod(np.sort(sites), _SPAN)
    names = list(genome.chrom_sizes)
    return pl.DataFrame(
        {"chrom": pl.Series(names, dtype=pl.Enum(names)).gather(rank), "position": position}
    )


def require_inside(table: pl.DataFrame, genome: Genome, source: str | Path, what: str) -> None:
    """Check that no row (with its number `row`) lies beyond its chromosome's end.

    Raises:
        CislensError: naming the file, the row and the length of the chromosome.
    """
    size = pl.col("chrom").replace_strict(dict(genome.chrom_sizes), return_dtype=pl.Int64)
    beyond = table.with_columns(size=size).filter(pl.col("end") > pl.col("size"))
    if beyond.height:
        first = beyond.sort("row").row(0, named=True)
        raise CislensError(
            f"{source}, {what} {first['row']} ({first['chrom']}:{first['start']}-{first['end']}) "
            f"reaches beyond the end of {first['chrom']}, which has {first['size']:,} bp in "
            f"{genome.path} ({beyond.height:,} of them do); is it of another assembly?"
        )


def _fragments(path: Path) -> Iterator[pl.DataFrame]:
    """Blocks of `row` (the line's number), `chrom`, `start`, `end`."""
    number = 1
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        lines = gzip.GzipFile(fileobj=raw) if packed else raw
        try:
            while text := lines.read(_BLOCK) + lines.readline():
                while text.startswith(b"#"):
                    text = text[text.find(b"\n") + 1 or len(text) :]
                    number += 1
                if text.strip():
                    yield _parsed(path, text, number)
                number += text.count(b"\n")
        except (EOFError, OSError, zlib.error) as error:
            raise CislensError(f"{path} is truncated or damaged gzip: {error}.") from error


def _parsed(path: Path, text: bytes, number: int) -> pl.DataFrame:
    try:
        table = pl.read_csv(
            io.BytesIO(text), separator="\t", has_header=False, quote_char=None,
            columns=[0, 1, 2], infer_schema=False, truncate_ragged_lines=True,
        )  # fmt: skip
    except pl.exceptions.PolarsError:
        raise CislensError(
            f"{path} line {number}: expected `chrom, start, end` and what follows, separated by "
            "tabs."
        ) from None
    table.columns = ["chrom", "start", "end"]
    table = table.with_columns(pl.col("start", "end").cast(pl.Int64, strict=False))
    table = table.with_row_index("row", offset=number)
    start, end = table["start"], table["end"]
    bad = table["chrom"].is_null() | start.is_null() | end.is_null() | (start < 0) | (start >= end)
    if bad.any():
        at = int(bad.arg_max() or 0)
        raise CislensError(
            f"{path} line {number + at}: {text.splitlines()[at].decode()!r} is no "
            "fragment; expected `chrom, start, end` separated by tabs, 0 <= start < end."
        )
    return table.with_columns(pl.col("chrom").cast(pl.Categorical))
