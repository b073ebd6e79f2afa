"""Folders of Basenji's training data: which files there are, where windows lie, what records hold.

The layout is that of calico/basenji's data scripts: `statistics.json`, `targets.txt`,
`sequences.bed` and `tfrecords/<split>-*.tfr`. All but the record files may be absent. An Example
has `sequence`, uint8, one-hot (L, 4) with zeros for N or codes (L,), and `target`, (bins, T)
float16 or float32, as bytes or as a list of floats, already transformed.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.genome.codes import Codes, N
from cislens.genome.intervals import is_whole, read_rows
from cislens.signal.layout import Shape
from cislens.signal.plan import nearest_lengths
from cislens.signal.tfrecord import Feature, example_features, read_records
from cislens.signal.tracks import TrackTable
from cislens.signal.transforms import LOWEST, NEGATIVE, to_float16

SPLITS = ("train", "valid", "test")
UNPLACED = "unplaced"
_SPLIT_IN_NAME = re.compile(rf"(?:^|[-_.])({'|'.join(SPLITS)})(?=[-_.])")
_ENDINGS = (".tfr", ".tfrecord", ".tfrecords")
_COUNTS = tuple(f"{name}_seqs" for name in SPLITS)
_SIZES = ("seq_length", "pool_width", "target_length", "num_targets", *_COUNTS)
# One-hot rows of four bytes, read as one little-endian number.
_ONE_HOT_WORDS = {0: N, 1: 0, 1 << 8: 1, 1 << 16: 2, 1 << 24: 3}


@dataclass(frozen=True)
class RecordFile:
    """A file of records, all of one part of the split."""

    path: Path
    split: str


@dataclass(frozen=True)
class BasenjiFolder:
    """The data of one species.

    Attributes:
        files: train, valid, test, each in the order of the numbers in their names.
        statistics: what `statistics.json` says, empty without it.
        windows: chrom, start, end, split of each record, in the order of the files' records; None
            without `sequences.bed`.
    """

    path: Path
    files: tuple[RecordFile, ...]
    statistics: dict[str, Any]
    windows: pl.DataFrame | None

    def expected(self) -> dict[str, int] | None:
        """Number of records of each part, where the folder says it."""
        if self.windows is not None:
            return {name: self.windows.filter(split=name).height for name in SPLITS}
        counts = {name: self.statistics.get(f"{name}_seqs") for name in SPLITS}
        known = {name: int(count) for name, count in counts.items() if count is not None}
        return known or None


def open_basenji(path: str | Path) -> BasenjiFolder:
    """Find the record files of a folder and read its small files.

    Record files are those in `tfrecords`, else those in the folder itself, with `train`, `valid`
    or `test` in their names.

    Raises:
        CislensError: if there is none, a name does not tell its part, or a small file is damaged.
    """
    path = require_file(path, "folder of TFRecord files")
    folder = path / "tfrecords" if (path / "tfrecords").is_dir() else path
    found = [file for file in folder.glob("*") if file.name.endswith(_ENDINGS)]
    if not found:
        raise CislensError(
            f"{folder} has no record file; expected names like train-0-0.tfr or "
            "train-00000.tfrecord."
        )
    files = sorted((_record_file(file) for file in found), key=_place)
    statistics = _read_statistics(path / "statistics.json")
    bed = path / "sequences.bed"
    windows = _read_windows(bed) if bed.is_file() else None
    return BasenjiFolder(path, tuple(files), statistics, windows)


def _record_file(file: Path) -> RecordFile:
    splits = set(_SPLIT_IN_NAME.findall(file.name))
    if len(splits) != 1:
        raise CislensError(
            f"{file}: its name does not tell whether its records are for train, valid or test; "
            "rename it, e.g. train-0.tfr."
        )
    return RecordFile(file, splits.pop())


def _place(file: RecordFile) -> tuple[int, list[tuple[int, str]]]:
    """Numbers in names count as numbers: train-0-2 comes before train-0-10."""
    pieces = re.split(r"(\d+)", file.path.name)
    return SPLITS.index(file.split), [
        (int(piece), "") if is_whole(piece) else (-1, piece) for piece in pieces
    ]


def _read_statistics(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise CislensError(f"{path} is not JSON; fetch it again.") from None
    if not isinstance(found, dict):
        raise CislensError(f"{path} must hold names and values; fetch it again.")
    for name in _SIZES:
        value = found.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < (name not in _COUNTS):
            raise CislensError(f"{path}: {name} is {value!r}, expected a whole number.")
    return found


def _read_windows(path: Path) -> pl.DataFrame:
    rows = read_rows(path, "table of windows")
    for row, fields in enumerate(rows.fields):
        if len(fields) < 4 or not (is_whole(fields[1]) and is_whole(fields[2])):
            raise rows.error(row, "expected chromosome, start, end and part, separated by tabs.")
        if fields[3] not in SPLITS:
            raise rows.error(row, f"part {fields[3]!r}, expected one of {', '.join(SPLITS)}.")
    columns = list(zip(*(fields[:4] for fields in rows.fields), strict=True)) or [()] * 4
    table = pl.DataFrame(
        dict(zip(("chrom", "start", "end", "split"), columns, strict=True)),
        schema=dict.fromkeys(("chrom", "start", "end", "split"), pl.String),
    ).with_columns(pl.col("start", "end").cast(pl.Int64))
    return pl.concat([table.filter(split=name) for name in SPLITS])


@dataclass(frozen=True)
class RecordShape:
    """Sizes of every record: `length` bp, `crop` bins a side without target, `dtype` on disk."""

    length: int
    bin_size: int
    crop: int
    dtype: str

    @property
    def bins(self) -> int:
        return Shape(self.length, self.bin_size, self.crop, 0).bins


def record_shape(
    folder: BasenjiFolder, tracks: TrackTable, *, bin_size: int = 128, crop: int | None = None
) -> RecordShape:
    """Sizes of the records, from the first one of all files and `statistics.json`.

    Args:
        bin_size: bp, unless the statistics have it (`pool_width`).
        crop: bins a side; needed only where the record and the statistics leave it open.

    Raises:
        CislensError: if there is no record, it does not fit the track table, or its sizes leave a
            choice.
    """
    firsts = ((each.path, next(read_records(each.path), None)) for each in folder.files)
    file, record = next(((at, first) for at, first in firsts if first is not None), (None, None))
    if file is None or record is None:
        raise CislensError(f"no record file of {folder.path} holds a record; fetch them again.")
    bin_size = int(folder.statistics.get("pool_width", bin_size))
    stated = folder.statistics.get("num_targets")
    if stated is not None and stated != len(tracks):
        raise CislensError(
            f"{folder.path / 'statistics.json'} says {stated} targets, the track table has "
            f"{len(tracks)} of this species; does it belong to these data?"
        )
    sequence, target = _features(record, f"{file} record 0")
    length = int(folder.statistics.get("seq_length") or _length(sequence))
    if length % bin_size:
        raise CislensError(
            f"{file}: its sequences of {length} bp are no multiple of bins of {bin_size} bp; "
            f"expected {nearest_lengths(length, bin_size)}. Is the bin size right?"
        )
    size = target.data.nbytes
    layouts = _layouts(size, len(tracks), length // bin_size, target.floats)
    wanted = folder.statistics.get("target_length")
    fitting = [
        RecordShape(length, bin_size, c, dtype)
        for dtype, bins, c in layouts
        if wanted in {None, bins} and crop in {None, c}
    ]
    if len(fitting) != 1:
        raise CislensError(f"{file}: {_misfit(size, len(tracks), length, layouts)}")
    return fitting[0]


def _length(sequence: memoryview) -> int:
    """One-hot if no byte is larger than 1: codes of a whole window hold a G or a T."""
    one_hot = np.frombuffer(sequence, np.uint8).max(initial=0) <= 1
    return sequence.nbytes // (4 if one_hot else 1)


def _layouts(size: int, tracks: int, most_bins: int, floats: bool) -> list[tuple[str, int, int]]:
    """dtype, bins and crop that a target of `size` bytes may have."""
    found = []
    for dtype in ("<f4",) if floats else ("<f2", "<f4"):
        bins, rest = divmod(size, tracks * np.dtype(dtype).itemsize)
        if not rest and 1 <= bins <= most_bins and (most_bins - bins) % 2 == 0:
            found.append((dtype, bins, (most_bins - bins) // 2))
    return found


def _misfit(size: int, tracks: int, length: int, layouts: list[tuple[str, int, int]]) -> str:
    what = f"a target of {size:,} bytes for {tracks} tracks over {length:,} bp"
    if not layouts:
        return f"{what} is no array of float16 or float32; does the track table belong to it?"
    said = " or ".join(
        f"{bins} bins of float{8 * np.dtype(dtype).itemsize} (crop {crop})"
        for dtype, bins, crop in layouts
    )
    return f"{what} is {said}; give the crop that is right, or the data's statistics.json."


def decode_record(
    record: bytes, shape: RecordShape, tracks: TrackTable, where: str
) -> tuple[Codes, npt.NDArray[np.float16]]:
    """Codes (length,) and targets (bins, T) of a record.

    Raises:
        CislensError: naming `where` and what is wrong; of a value that is not finite or negative
            its bin and track.
    """
    sequence, target = _features(record, where)
    codes = _decode_sequence(sequence, shape.length, where)
    size = shape.bins * len(tracks) * np.dtype(shape.dtype).itemsize
    if target.data.nbytes != size:
        raise CislensError(
            f"{where}: its target has {target.data.nbytes:,} bytes, expected {size:,} for "
            f"{shape.bins} bins of {len(tracks)} tracks, as in the first record."
        )
    values = np.frombuffer(target.data, shape.dtype).reshape(shape.bins, len(tracks))
    finite = np.isfinite(values)
    if not finite.all():
        at, t = np.argwhere(~finite)[0].tolist()
        raise CislensError(
            f"{where}: bin {at} of track {tracks.frame['id'][t]!r} is {values[at, t]}; targets "
            "must be finite, make the data again."
        )
    below = values < 0
    if below.any():
        wrong = np.argwhere(values < LOWEST)
        if wrong.size:
            at, t = wrong[0].tolist()
            raise CislensError(
                f"{where}: bin {at} of track {tracks.frame['id'][t]!r} is {values[at, t]:.4g}; "
                f"{NEGATIVE}"
            )
        values = np.where(below, np.zeros((), values.dtype), values)
    return codes, values if values.dtype == np.float16 else to_float16(values)


def _features(record: bytes, where: str) -> tuple[memoryview, Feature]:
    try:
        found = example_features(record)
    except ValueError as error:
        raise CislensError(f"{where} is no tf.train.Example: {error}.") from None
    for name in ("sequence", "target"):
        if name not in found:
            raise CislensError(
                f"{where} has no feature {name!r} of bytes or floats; those it has are "
                f"{', '.join(sorted(found)) or 'none'}."
            )
    if found["sequence"].floats:
        raise CislensError(f"{where}: its sequence is floats, expected bytes; make the data again.")
    return found["sequence"].data, found["target"]


def _decode_sequence(raw: memoryview, length: int, where: str) -> Codes:
    if raw.nbytes not in {length, 4 * length}:
        raise CislensError(
            f"{where}: its sequence has {raw.nbytes:,} bytes, expected {4 * length:,} (one-hot) "
            f"or {length:,} (codes)."
        )
    if raw.nbytes == length:
        codes = np.frombuffer(raw, np.uint8).copy()
        if codes.max(initial=0) > N:
            raise CislensError(f"{where}: its sequence has codes beyond {N}.")
        return codes
    words = np.frombuffer(raw, "<u4")
    codes = np.full(length, 255, np.uint8)
    for word, code in _ONE_HOT_WORDS.items():
        codes[words == word] = code
    wrong = np.flatnonzero(codes == 255)
    if wrong.size:
        raise CislensError(
            f"{where}: base {wrong[0]} of its sequence is {list(raw[4 * wrong[0] :][:4])}, "
            "expected a single 1, or zeros for N."
        )
    return codes
