"""Raw sequence from the three reference formats: FASTA, bgzip FASTA, 2bit.

Indexes of FASTA files follow samtools: `.fai`, and `.gzi` for bgzip.
"""

import gzip
import hashlib
import os
import struct
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import numpy as np
import py2bit
import pysam
from pysam.utils import SamtoolsError

from cislens.errors import CislensError
from cislens.files import atomic_path
from cislens.genome.intervals import LONGEST

_GZIP = b"\x1f\x8b"
_TWO_BIT = 0x1A412743
# The empty block that closes every whole bgzip file (SAM specification, section 4.1.2).
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


class SequenceSource(Protocol):
    """Named sequences, read as ASCII bytes with their case."""

    sizes: dict[str, int]

    def read(self, chrom: str, start: int, end: int) -> bytes:
        """Bytes of 0 <= start < end <= size."""
        ...


def open_source(path: Path) -> SequenceSource:
    """The reader for a file, chosen by its first bytes.

    Raises:
        CislensError: if the file is damaged or is none of the formats.
    """
    with path.open("rb") as handle:
        head = handle.read(18)
    if head[:2] == _GZIP:
        if head[12:14] != b"BC":
            raise CislensError(
                f"{path} is compressed with gzip, which has no random access. Compress it with "
                f"bgzip: gunzip -c {path.name} | bgzip > {path.name.removesuffix('.gz')}.bgz"
            )
        return _Fasta(path, compressed=True)
    if head[:1] == b">":
        return _Fasta(path, compressed=False)
    if head[:4] in (struct.pack("<I", _TWO_BIT), struct.pack(">I", _TWO_BIT)):
        return _TwoBit(path)
    raise CislensError(
        f"{path} is no reference genome: a FASTA file (plain or bgzip) or a 2bit file was "
        f"expected, but it starts with {head[:8]!r}."
    )


class _Fasta:
    def __init__(self, path: Path, compressed: bool) -> None:
        if compressed:
            _require_bgzip_end(path)
        index, blocks = _indexes(path, compressed)
        self._path, self._index, self._blocks = path, index, blocks
        self.sizes = _read_index(path, index, compressed)
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        loudness = pysam.set_verbosity(0)
        try:
            self._file = pysam.FastaFile(
                str(self._path),
                filepath_index=str(self._index),
                filepath_index_compressed=str(self._blocks) if self._blocks else None,
            )
        except (OSError, ValueError) as error:
            raise CislensError(
                f"{self._path} cannot be opened with the index {self._index} ({error}); delete the "
                "index to make a new one."
            ) from None
        finally:
            pysam.set_verbosity(loudness)

    def read(self, chrom: str, start: int, end: int) -> bytes:
        # A forked process would move the file position of its parent.
        if self._process != os.getpid():
            self._open()
        try:
            found: bytes = self._file.fetch(chrom, start, end).encode("ascii", "replace")
        except (KeyError, ValueError, OSError) as error:
            raise CislensError(
                f"{self._path} cannot be read at {chrom}:{start}-{end} ({error}); it is damaged, "
                f"or {self._index} belongs to another file; delete the index to make a new one."
            ) from None
        if len(found) != end - start:
            raise CislensError(
                f"{self._path} ends within {chrom}: {end - start} bases were expected from "
                f"{start}, {len(found)} found. The file is truncated, or {self._index} belongs "
                f"to another file; delete the index to make a new one."
            )
        return found


def _require_bgzip_end(path: Path) -> None:
    with path.open("rb") as handle:
        handle.seek(-min(path.stat().st_size, len(_BGZIP_END)), os.SEEK_END)
        if handle.read() != _BGZIP_END:
            raise CislensError(
                f"{path} is truncated: the block that ends a bgzip file is missing. "
                f"Copy or compress it again."
            )


def index_files(path: Path) -> list[Path]:
    """The indexes by which a FASTA file is read, `.fai` and for bgzip `.gzi`; none of a 2bit.

    They lie beside the file or in the user's cache folder, where they are made.
    """
    source = open_source(path)
    if not isinstance(source, _Fasta):
        return []
    return [index for index in (source._index, source._blocks) if index is not None]


def _indexes(path: Path, compressed: bool) -> tuple[Path, Path | None]:
    beside = Path(f"{path}.fai"), Path(f"{path}.gzi") if compressed else None
    if all(index is None or index.exists() for index in beside):
        return beside
    status = path.stat()
    key = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    stem = hashlib.sha256(key.encode()).hexdigest()[:24]
    folder = _cache_folder()
    index, blocks = folder / f"{stem}.fai", folder / f"{stem}.gzi" if compressed else None
    if not (index.exists() and (blocks is None or blocks.exists())):
        _build_index(path, index, blocks)
    return index, blocks


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    for folder in (Path(home), Path(tempfile.gettempdir()) / f"cislens-{os.getuid()}"):
        folder = folder / "cislens" / "indexes"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise CislensError("no folder for indexes is writable; set XDG_CACHE_HOME to one that is.")


def _build_index(path: Path, index: Path, blocks: Path | None) -> None:
    if blocks is None:
        with path.open("rb") as plain:
            _check_records(path, plain)
    else:
        with gzip.open(path, "rb") as compressed:
            _check_records(path, cast(BinaryIO, compressed))
    with ExitStack() as stack:
        command = [str(path), "--fai-idx", str(stack.enter_context(atomic_path(index)))]
        if blocks is not None:
            command += ["--gzi-idx", str(stack.enter_context(atomic_path(blocks)))]
        loudness = pysam.set_verbosity(0)
        try:
            pysam.faidx(*command)
        except SamtoolsError as error:
            raise CislensError(f"{path} cannot be indexed as FASTA: {error}") from error
        finally:
            pysam.set_verbosity(loudness)


def _check_records(path: Path, lines: BinaryIO) -> None:
    """What an index would hide (duplicates, empty records) or not explain (ragged lines)."""
    seen: dict[bytes, int] = {}
    name, header, width, last, length = b"", 0, 0, 0, 0
    number = 0
    for number, line in enumerate(lines, 1):
        if line[:1] == b">":
            _require_bases(path, name, header, length)
            words = line[1:].split(maxsplit=1)
            name = words[0] if words else b""
            if not name:
                raise CislensError(f"{path} line {number}: the record has no name after '>'.")
            if not _readable(name):
                raise CislensError(f"{path} line {number}: the name {name!r} is no text.")
            if name in seen:
                raise CislensError(
                    f"{path} line {number}: record {name.decode()!r} was already on line "
                    f"{seen[name]}; rename or remove one of the two."
                )
            seen[name], header, width, last, length = number, number, 0, 0, 0
            continue
        text = line.rstrip()
        bases = len(text)
        if b" " in text or b"\t" in text:
            raise CislensError(
                f"{path} line {number}: white space within the sequence of {name.decode()!r}; "
                f"remove it."
            )
        if length and bases and (last != width or bases > width):
            raise CislensError(
                f"{path} line {number}: the lines of record {name.decode()!r} differ in length "
                f"({width}, then {last if last != width else bases}), which random access does "
                f"not allow; wrap the file again, e.g. with seqkit seq -w 60."
            )
        width, last, length = width or bases, bases, length + bases
    _require_bases(path, name, header, length)


def _readable(name: bytes) -> bool:
    text = name.decode(errors="replace")
    return text.isprintable() and "\ufffd" not in text


def _require_bases(path: Path, name: bytes, header: int, length: int) -> None:
    if name and not length:
        raise CislensError(
            f"{path} line {header}: record {name.decode()!r} is empty; remove it or restore "
            f"its sequence."
        )


def _read_index(path: Path, index: Path, compressed: bool) -> dict[str, int]:
    sizes: dict[str, int] = {}
    end = 0
    lines = index.read_bytes().decode(errors="replace").split("\n")
    for number, line in enumerate(lines[: -1 if not lines[-1] else None], 1):
        try:
            name, *numbers = line.split("\t")
            size, offset, bases, width = (int(value) for value in numbers[:4])
            if not (0 < size <= LONGEST and 0 <= offset <= LONGEST and 0 < bases <= width):
                raise ValueError
            if name in sizes or not _readable(name.encode()):
                raise ValueError
            end = max(end, offset + (size - 1) // bases * width + (size - 1) % bases + 1)
            if end > LONGEST:
                raise ValueError
        except ValueError as error:
            raise CislensError(
                f"{index} line {number}: not a line of a FASTA index: {line!r}. Delete the file "
                f"to make a new one."
            ) from error
        sizes[name] = size
    if not sizes:
        raise CislensError(f"{index} is empty. Delete it to make a new one.")
    if not compressed:
        _require_end(path, index, end)
    return sizes


def _require_end(path: Path, index: Path, end: int) -> None:
    """The bases must end where the file does, but for line breaks."""
    with path.open("rb") as handle:
        handle.seek(end)
        tail = handle.read(64)
    if path.stat().st_size < end or tail.strip():
        raise CislensError(
            f"{path} holds {path.stat().st_size} bytes, but by its index {index} the last base "
            f"is byte {end}. The file is truncated, or the index is of another file; restore "
            f"the file or delete the index."
        )


class _TwoBit:
    def __init__(self, path: Path) -> None:
        _check_two_bit(path)
        self._path = path
        self._open()
        self.sizes: dict[str, int] = {name: int(n) for name, n in self._file.chroms().items()}

    def _open(self) -> None:
        self._process = os.getpid()
        try:
            self._file = py2bit.open(str(self._path), True)
        except RuntimeError as error:
            raise CislensError(f"{self._path} is no readable 2bit file: {error}") from None

    def read(self, chrom: str, start: int, end: int) -> bytes:
        if self._process != os.getpid():
            self._open()
        return cast(bytes, self._file.sequence(chrom, start, end).encode("ascii"))


def _check_two_bit(path: Path) -> None:
    """Refuse what the C library would read past the end of."""
    data = np.memmap(path, np.uint8, mode="r")
    order = "<" if data[:4].tobytes() == struct.pack("<I", _TWO_BIT) else ">"

    def word(offset: int) -> int:
        return cast(int, struct.unpack(f"{order}I", data[offset : offset + 4].tobytes())[0])

    seen: set[bytes] = set()
    try:
        version, count, cursor = word(4), word(8), 16
        if version or not count:
            raise CislensError(
                f"{path} is a 2bit file of version {version} with {count} records, expected "
                "version 0 and some; convert it from FASTA with faToTwoBit."
            )
        for _ in range(count):
            length = int(data[cursor])
            name = data[cursor + 1 : cursor + 1 + length].tobytes()
            record = word(cursor + 1 + length)
            cursor += length + 5
            if not _readable(name):
                raise CislensError(f"{path} has a record whose name is no text: {name!r}.")
            if name in seen:
                raise CislensError(f"{path} has two records named {name.decode()!r}.")
            seen.add(name)
            bases, position = word(record), record + 4
            if not bases:
                raise CislensError(f"{path}: record {name.decode()!r} is empty; remove it.")
            for _blocks in ("N", "mask"):
                position += 4 + 8 * word(position)
            if position + 4 + (bases + 3) // 4 > data.size:
                raise IndexError
    except (IndexError, struct.error) as error:
        raise CislensError(f"{path} is truncated; restore it from its source.") from error
