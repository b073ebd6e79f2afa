"""TFRecord files and the `tf.train.Example` messages in them, read without TensorFlow.

A file is a sequence of records: length (uint64), masked CRC-32C of the length (uint32), the data,
masked CRC-32C of the data (uint32), all little-endian, and the whole may be compressed with zlib
or gzip. An Example is a protocol buffer; read are features that are one string of bytes or a list
of floats, which lie packed in the file as an array does.
"""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cislens.errors import CislensError
from cislens.files import require_file

_LENGTH, _CHECKSUM = 8, 4
_HEAD = _LENGTH + _CHECKSUM
_BLOCK = 1 << 20
_MOST_AT_ONCE = 1 << 24
_MASK = 0xA282EAD8
_GZIP, _ZLIB = 31, 15  # what zlib calls them

_BYTES_LIST, _FLOAT_LIST = 1, 2  # fields of a Feature


@dataclass(frozen=True)
class Feature:
    """The bytes of one feature: a string, or `floats`, a list of little-endian float32."""

    data: memoryview
    floats: bool


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The data of each record, in order, with both checksums verified.

    Whether and how the file is compressed is told from its first bytes. A few records are in
    memory at a time.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: naming the file, the record (from 0) and the byte where it begins, which of
            a compressed file is counted after decompression: for a wrong checksum, a file that
            ends too early, or damaged compression.
    """
    path = require_file(path, "TFRecord file")
    with path.open("rb") as handle:
        stream = _Stream(path, handle)
        number = 0
        while not stream.at_end():
            yield _record(stream, f"{path} record {number} (byte {stream.offset:,})")
            number += 1


def _record(stream: "_Stream", where: str) -> bytes:
    head = stream.take(_HEAD, where)
    if not _matches(head[:_LENGTH], head[_LENGTH:]):
        raise CislensError(
            f"{where}: the checksum of its length is wrong; the file is damaged or no TFRecord "
            "file, fetch it again."
        )
    data = stream.take(int.from_bytes(head[:_LENGTH], "little"), where)
    if not _matches(data, stream.take(_CHECKSUM, where)):
        raise CislensError(
            f"{where}: the checksum of its data is wrong; the file is damaged, fetch it again."
        )
    return data


def masked_checksum(data: bytes) -> int:
    """The CRC-32C of some bytes as TFRecord files store it: rotated, plus a constant."""
    import google_crc32c

    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def _matches(data: bytes, checksum: bytes) -> bool:
    return masked_checksum(data) == int.from_bytes(checksum, "little")


class _Stream:
    """The decompressed bytes of a file; `offset` is how many were taken."""

    def __init__(self, path: Path, handle: BinaryIO) -> None:
        head = handle.read(_HEAD)
        handle.seek(0)
        self.path = path
        self.offset = 0
        self._buffer = bytearray()
        self._chunks = _decompressed(path, handle, _window_bits(head))

    def at_end(self) -> bool:
        return not self._fill(1)

    def take(self, size: int, where: str) -> bytes:
        if not self._fill(size):
            raise CislensError(
                f"{where}: the file ends {size - len(self._buffer):,} bytes too early; it is "
                "truncated, fetch it again."
            )
        with memoryview(self._buffer) as view:
            data = bytes(view[:size])
        del self._buffer[:size]
        self.offset += size
        return data

    def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._buffer += chunk
        return True


def _window_bits(head: bytes) -> int | None:
    """zlib's code for the compression of a file that begins with `head`; None for none."""
    if len(head) == _HEAD and _matches(head[:_LENGTH], head[_LENGTH:]):
        return None
    if head[:2] == b"\x1f\x8b":
        return _GZIP
    if head[:1] == b"\x78" and int.from_bytes(head[:2], "big") % 31 == 0:
        return _ZLIB
    return None


def _decompressed(path: Path, handle: BinaryIO, window_bits: int | None) -> Iterator[bytes]:
    if window_bits is None:
        yield from iter(lambda: handle.read(_BLOCK), b"")
        return
    unpacker = zlib.decompressobj(window_bits)
    waiting = b""
    try:
        while waiting or (waiting := handle.read(_BLOCK)):
            if unpacker.eof:  # gzip files may be joined
                unpacker = zlib.decompressobj(window_bits)
            yield unpacker.decompress(waiting, _MOST_AT_ONCE)
            waiting = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        while tail := unpacker.decompress(b"", _MOST_AT_ONCE):
            yield tail
    except zlib.error as error:
        raise CislensError(
            f"{path} cannot be decompressed near byte {handle.tell():,} ({error}); it is "
            "damaged, fetch it again."
        ) from None
    if not unpacker.eof:
        raise CislensError(
            f"{path} ends before its compressed data do; it is truncated, fetch it again."
        )


def example_features(record: bytes) -> dict[str, Feature]:
    """The features of an Example by name; lists of integers or of several strings are left out.

    Raises:
        ValueError: if the record is no such message.
    """
    found: dict[str, Feature] = {}
    for features in _strings(memoryview(record), 1):
        for entry in _strings(features, 1):
            keys, values = list(_strings(entry, 1)), list(_strings(entry, 2))
            if not keys or not values:
                continue
            for kind in (_BYTES_LIST, _FLOAT_LIST):
                items = [item for one in _strings(values[-1], kind) for item in _strings(one, 1)]
                if len(items) == 1:
                    found[bytes(keys[-1]).decode()] = Feature(items[0], kind == _FLOAT_LIST)
    return found


def _strings(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The length-delimited fields of a message that have the number `wanted`."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            _, place = _varint(message, place)
            continue
        if kind == 2:
            size, place = _varint(message, place)
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + size > len(message):
            raise ValueError("a field is longer than its message")
        if kind == 2 and key >> 3 == wanted:
            yield message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and the place after it."""
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("a number does not end")
