import hashlib

import numpy as np
import pytest
import zarr

from cislens.errors import CislensError
from cislens.signal.checks import read_checks, write_checks
from cislens.signal.shards import ArrayLayout, RowArray, create_array, write_shard


def crc32c(data):
    """Bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def written(folder, layout, seed=0):
    rows = np.random.default_rng(seed).integers(0, 99, (layout.rows, *layout.row_shape))
    rows = rows.astype(layout.dtype)
    create_array(folder, layout)
    digests = [
        write_shard(folder, layout, shard, rows[slice(*layout.span(shard))])
        for shard in range(layout.shards)
    ]
    return rows, digests


@pytest.mark.parametrize(
    ("rows", "row_shape", "dtype", "shard_rows"),
    [(10, (7,), "uint8", 4), (8, (3, 5), "float16", 4), (3, (2, 1), "float16", 16)],
)
def test_zarr_reads_what_was_written(tmp_path, rows, row_shape, dtype, shard_rows):
    layout = ArrayLayout(rows, row_shape, dtype, shard_rows)
    expected, _ = written(tmp_path / "a", layout)
    array = zarr.open_array(tmp_path / "a", mode="r")
    assert array.shape == (rows, *row_shape)
    assert array.chunks == (1, *row_shape)
    assert array.shards == (shard_rows, *row_shape)
    np.testing.assert_array_equal(array[:], expected)
    for file in (tmp_path / "a").rglob("0"):
        assert file.is_dir() or file.stat().st_size > 0


def test_rows_come_in_the_order_asked_for_from_files_and_from_memory(tmp_path):
    layout = ArrayLayout(11, (3, 5), "float16", 4)
    expected, _ = written(tmp_path, layout)
    array = RowArray(tmp_path, layout)
    rows = [10, 0, 5, 5, 3]
    np.testing.assert_array_equal(array.gather(rows), expected[rows])
    array.load()
    np.testing.assert_array_equal(array.gather(rows), expected[rows])
    assert array.gather([]).shape == (0, 3, 5)


def test_what_was_gathered_can_be_written_to_without_changing_the_store(tmp_path):
    layout = ArrayLayout(4, (3,), "uint8", 4)
    expected, _ = written(tmp_path, layout)
    for load in (False, True):
        array = RowArray(tmp_path, layout)
        if load:
            array.load()
        array.gather([1])[:] = 200
        np.testing.assert_array_equal(array.gather([1]), expected[[1]])


def test_sizes_and_digests_are_those_of_the_files(tmp_path):
    layout = ArrayLayout(10, (7,), "uint8", 4)
    rows, known = written(tmp_path, layout)
    # 4 rows of 7 bytes, 4 index entries of 16 bytes, 4 bytes of checksum; the last has 2 rows.
    assert [layout.shard_bytes(i) for i in range(3)] == [96, 96, 82]
    for shard, digests in enumerate(known):
        data = layout.shard_file(tmp_path, shard).read_bytes()
        assert len(data) == layout.shard_bytes(shard)
        assert hashlib.sha256(data).hexdigest() == digests["sha256"]
        first, last = layout.span(shard)
        assert digests["crc32c"] == [crc32c(row.tobytes()) for row in rows[first:last]]
    assert layout.total_bytes == 96 + 96 + 82


@pytest.mark.parametrize("change", ["cut", "remove"])
def test_a_truncated_or_missing_shard_is_named(tmp_path, change):
    layout = ArrayLayout(10, (7,), "uint8", 4)
    written(tmp_path, layout)
    file = layout.shard_file(tmp_path, 1)
    if change == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    with pytest.raises(CislensError, match=r"c/1/0 has \d+ bytes, expected 96"):
        RowArray(tmp_path, layout)


def test_a_flipped_bit_is_noticed_wherever_its_row_is_read_and_nowhere_else(tmp_path):
    layout = ArrayLayout(10, (7,), "uint8", 4)
    expected, known = written(tmp_path / "a", layout)
    files = {f"a/c/{shard}/0": digests for shard, digests in enumerate(known)}
    assert {file: of["sha256"] for file, of in write_checks(tmp_path, files).items()} == {
        file: of["sha256"] for file, of in files.items()
    }
    checks = read_checks(tmp_path / "a", 10, lambda row: f"row {row}")
    assert RowArray(tmp_path / "a", layout, checks).damaged() == ""
    file = layout.shard_file(tmp_path / "a", 1)
    data = bytearray(file.read_bytes())
    data[2 * 7 + 3] ^= 1  # of row 6
    file.write_bytes(data)
    array = RowArray(tmp_path / "a", layout, checks)
    np.testing.assert_array_equal(array.gather([5, 7, 0]), expected[[5, 7, 0]])
    rows, begins = np.array([0, 6]), np.array([1, 5])  # the flipped byte is not among those cut
    message = r"/a is damaged: the checksum of row 6 is not the one that was written"
    for read in (lambda: array.gather([0, 6]), lambda: array.cut(rows, begins, 2), array.load):
        with pytest.raises(CislensError, match=message):
            read()
    assert array.damaged() == "row 6"
