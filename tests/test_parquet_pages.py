"""What a parquet file says of the sizes of its pages is checked before polars believes it."""

from pathlib import Path

import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.files import read_parquet
from cislens.parquet_pages import check_pages

_MEMORY = 1 << 34
_TABLE = pl.DataFrame(
    {
        "chrom": ["chr1", "chr2", None] * 100,
        "start": range(300),
        "score": [0.5, None, float("nan")] * 100,
        "parts": [[1, 2], [], None] * 100,
    }
)


@pytest.mark.parametrize("compression", ["zstd", "snappy", "uncompressed"])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_what_polars_writes_is_fine(tmp_path: Path, compression: str, rows: int) -> None:
    path = tmp_path / "x.parquet"
    table = _TABLE.head(rows)
    table.write_parquet(path, compression=compression, row_group_size=128, data_page_size=64)  # type: ignore[arg-type]
    check_pages(path, _MEMORY)
    assert read_parquet(path, "table").equals(table, null_equal=True)


def test_a_page_of_less_than_no_values_is_refused(tmp_path: Path) -> None:
    """Polars would ask for 2**61 bytes and end the process."""
    path = tmp_path / "x.parquet"
    _TABLE.select("start").write_parquet(path, compression="uncompressed", statistics=False)
    data = path.read_bytes()
    # A page's header: kind 0, two sizes, then field 5 with the count 300, zigzag 600.
    at = data.index(b"\x15\xd8\x04") + 1
    assert at < 20
    path.write_bytes(data[:at] + b"\xd7\x04" + data[at + 2 :])
    with pytest.raises(CislensError, match="would have -300 of 300 values"):
        read_parquet(path, "table")


def test_headers_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    footer = b"\x49" + b"\x19" * 5000  # lists of one list
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(CislensError, match="nested too deeply"):
        read_parquet(path, "table")


@pytest.mark.parametrize(
    ("cut", "message"),
    [(slice(0, 0), "no readable parquet"), (slice(-8, None), "does not end"),
     (slice(0, -1), "does not end as a parquet file"), (slice(40, None), "no readable parquet")],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path: Path, cut: slice, message: str) -> None:
    path = tmp_path / "x.parquet"
    _TABLE.write_parquet(path)
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(CislensError, match=message):
        read_parquet(path, "table")


def test_a_column_larger_than_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    _TABLE.write_parquet(path)
    with pytest.raises(ValueError, match="a column would have"):
        check_pages(path, 100)
