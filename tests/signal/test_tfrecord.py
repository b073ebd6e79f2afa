import gzip
import zlib

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.signal.tfrecord import example_features, masked_checksum, read_records

CAGE = "basenji_tfrecords/cage10-train-00000-of-00100.tfrecord"


def test_the_checksum_is_crc32c_masked(wire):
    # The check value of CRC-32C (Castagnoli) is that of "123456789".
    assert wire.crc32c(b"123456789") == 0xE3069283
    turned = 0x2507C60D  # 0xE3069283 rotated right by 15 bits
    assert masked_checksum(b"123456789") == (turned + 0xA282EAD8) % 2**32


@pytest.mark.parametrize("pack", [bytes, zlib.compress, gzip.compress])
def test_records_come_back_whatever_the_compression(tmp_path, wire, pack):
    records = [b"", b"a" * 5, np.random.default_rng(0).bytes(3000)]
    path = tmp_path / "train-0.tfr"
    path.write_bytes(pack(b"".join(map(wire.framed, records))))
    assert list(read_records(path)) == records


def test_gzip_files_may_be_joined(tmp_path, wire):
    path = tmp_path / "a.tfr"
    path.write_bytes(gzip.compress(wire.framed(b"one")) + gzip.compress(wire.framed(b"two")))
    assert list(read_records(path)) == [b"one", b"two"]


def test_an_empty_file_has_no_record(tmp_path):
    (tmp_path / "a.tfr").write_bytes(b"")
    assert list(read_records(tmp_path / "a.tfr")) == []


def spoiled(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (19 + 12, r"a\.tfr record 1 \(byte 19\): the checksum of its data is wrong"),
        (19, r"a\.tfr record 1 \(byte 19\): the checksum of its length is wrong"),
        (19 + 8, r"a\.tfr record 1 \(byte 19\): the checksum of its length is wrong"),
        (19 + 16, r"a\.tfr record 1 \(byte 19\): the checksum of its data is wrong"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, zlib.compress])
def test_one_wrong_bit_is_found_and_its_record_named(tmp_path, wire, pack, at, message):
    raw = wire.framed(b"one") + wire.framed(b"two!")  # 19 bytes and 20
    path = tmp_path / "a.tfr"
    path.write_bytes(pack(spoiled(raw, at)))
    with pytest.raises(CislensError, match=message):
        list(read_records(path))


@pytest.mark.parametrize("cut", [1, 5, 19, 25])
def test_a_file_that_ends_early_is_named_with_the_record(tmp_path, wire, cut):
    raw = wire.framed(b"one") + wire.framed(b"two!" * 10)
    path = tmp_path / "a.tfr"
    path.write_bytes(raw[: 19 + cut])
    with pytest.raises(CislensError, match=r"record 1 \(byte 19\): the file ends .* too early"):
        list(read_records(path))


def test_truncated_and_damaged_compression_is_named(tmp_path, wire):
    packed = zlib.compress(wire.framed(np.random.default_rng(0).bytes(5000)))
    path = tmp_path / "a.tfr"
    path.write_bytes(packed[:-2])
    with pytest.raises(CislensError, match=r"a\.tfr ends before its compressed data do"):
        list(read_records(path))
    path.write_bytes(spoiled(packed, len(packed) - 1))
    with pytest.raises(CislensError, match=r"a\.tfr cannot be decompressed"):
        list(read_records(path))


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "a.tfr"
    path.write_bytes(b"chr1\t100\t200\n" * 9)
    with pytest.raises(CislensError, match=r"record 0 \(byte 0\).*no TFRecord file"):
        list(read_records(path))


def test_features_of_bytes_and_of_floats_are_read_and_others_left_out(wire):
    values = np.array([1.5, -2, 0.25], "<f4")
    integers = wire.message(3, wire.message(1, b"\x05"))
    entry = wire.message(1, wire.message(1, b"count") + wire.message(2, integers))
    record = wire.example(sequence=b"\x00\x01", target=values) + wire.message(1, entry)
    found = example_features(record)
    assert set(found) == {"sequence", "target"}
    assert (bytes(found["sequence"].data), found["sequence"].floats) == (b"\x00\x01", False)
    assert found["target"].floats
    np.testing.assert_array_equal(np.frombuffer(found["target"].data, "<f4"), values)


def test_fields_may_come_in_any_order_among_unknown_ones(wire):
    value = wire.message(2, wire.message(1, wire.message(1, b"xyz")))
    # A number (field 9), eight bytes (field 10) and four (field 11) that nobody knows.
    other = b"\x48\xac\x02" + b"\x51" + bytes(8) + b"\x5d" + bytes(4)
    entry = wire.message(1, other + value + wire.message(1, b"name"))
    record = wire.message(7, b"?") + wire.message(1, entry)
    assert bytes(example_features(record)["name"].data) == b"xyz"


@pytest.mark.parametrize("record", [b"\x0a\x05ab", b"\x0b", b"\x0a\xff", b"\x08" + b"\xff" * 11])
def test_what_is_no_message_is_refused(record):
    with pytest.raises(ValueError, match=r"wire type|longer|does not end"):
        example_features(record)


def test_real_records_are_read(core_data):
    records = list(read_records(core_data / CAGE))
    assert [len(record) for record in records] == [1_130_550] * 10
    for record in records:
        found = example_features(record)
        sequence = np.frombuffer(found["sequence"].data, np.uint8).reshape(262_144, 4)
        assert np.isin(sequence.sum(1), [0, 1]).all()
        target = np.frombuffer(found["target"].data, "<f4").reshape(2048, 10)
        assert np.isfinite(target).all()
        assert target.min() >= 0
