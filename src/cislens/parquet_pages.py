"""Sizes that a parquet file gives of its pages, checked before polars believes them.

Polars asks for as much memory as a page's header says and ends the process when there is none,
which no caller can catch. Headers are in Thrift's compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md), their fields
in https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

import mmap
from pathlib import Path
from typing import Any

_MAGIC = b"PAR1"
_TAIL = 8  # bytes: the footer's length and the magic
_DEEPEST = 16
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = (
    0, 1, 2, 3, 7, 8, 9, 10, 11, 12,
)  # fmt: skip
# Fields of a file's footer, a row group, a column chunk and its metadata, and a page's header.
_ROW_GROUPS, _COLUMNS, _META = 4, 1, 3
_VALUES, _UNPACKED, _PACKED, _DATA_AT, _DICTIONARY_AT = 5, 6, 7, 9, 11
_PAGE_UNPACKED, _PAGE_PACKED, _DATA_PAGES, _DICTIONARY, _COUNT = 2, 3, (5, 8), (7,), 1


class _Compact:
    """Reads structs of Thrift's compact protocol as dicts of field numbers."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self.data, self.at = data, at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            found[field] = kind == _TRUE if kind <= _FALSE else self._value(kind, depth)
        return found

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        found = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
        raise ValueError("it has a number of more than 64 bits")

    def _integer(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("its headers are nested too deeply")
        if kind in (_TRUE, _FALSE, _BYTE):  # in a list
            return self._byte()
        if kind < _DOUBLE:
            return self._integer()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind in (_DOUBLE, _BINARY):
            size = 8 if kind == _DOUBLE else self._varint()
            self.at += size
            return self.data[self.at - size : self.at]
        raise ValueError(f"it has a field of kind {kind}")


def check_pages(path: Path, memory: int) -> None:
    """Check that no page of a parquet file is said to be larger than it may be.

    Args:
        memory: bytes that a column may need when it is unpacked.

    Raises:
        ValueError: saying what is not so.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = len(data) - _TAIL
        start = end - int.from_bytes(data[end : end + 4], "little")
        if start < 0 or data[end + 4 :] != _MAGIC:
            raise ValueError("it does not end as a parquet file")
        try:
            groups = _Compact(data, start).struct().get(_ROW_GROUPS, [])
            for column in (column for group in groups for column in group[_COLUMNS]):
                _check_column(data, column[_META], start, memory)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"its headers are damaged ({error!r})") from None


def _check_column(data: mmap.mmap, meta: dict[int, Any], end: int, memory: int) -> None:
    values, unpacked, packed = meta[_VALUES], meta[_UNPACKED], meta[_PACKED]
    at = meta[_DATA_AT]
    if 0 < meta.get(_DICTIONARY_AT, 0) < at:
        at = meta[_DICTIONARY_AT]
    stop = at + packed
    if min(values, unpacked, packed, at) < 0 or stop > end or unpacked > memory:
        raise ValueError(f"a column would have {unpacked:,} bytes, {packed:,} of them packed")
    seen = 0
    while at < stop and seen < values:
        header = _Compact(data, at)
        page = header.struct()
        held, size = page[_PAGE_PACKED], page[_PAGE_UNPACKED]
        count, known = (
            sum(page[kind][_COUNT] for kind in kinds if kind in page)
            for kinds in (_DATA_PAGES, _DICTIONARY)
        )
        at = header.at + held
        if held < 0 or at > stop or not 0 <= size <= unpacked:
            raise ValueError(f"a page would have {size:,} bytes, {held:,} of them packed")
        seen += count
        if not 0 <= count <= seen <= values or not 0 <= known <= max(values, unpacked):
            raise ValueError(f"a page would have {count or known:,} of {values:,} values")
