"""A toy species with three tracks to build from, and a folder of records to import.

The writer of records is apart from the package's reader, down to the checksum.
"""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cislens.genome.codes import decode
from cislens.genome.reference import Genome, open_genome
from cislens.signal import plan
from cislens.signal.bigwig import write_bigwig
from cislens.signal.plan import SplitSpec
from cislens.signal.tracks import Track, TrackTable, track_table

CHROM_SIZES = {"chrA": 30_000, "chrB": 6_000, "chrC": 4_100}
UNCALLED = (10_000, 11_400)  # a run of N on chrA


@dataclass
class Toy:
    """Files and settings of a build of 40 windows in 5 units."""

    folder: Path
    genome: Genome
    rows: list[Track] = field(default_factory=list)

    @property
    def tracks(self) -> TrackTable:
        return track_table(self.rows)

    @property
    def genomes(self) -> dict[str, Genome]:
        return {"toy": self.genome}

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "length": 1024,
            "bin_size": 32,
            "crop": 1,
            "margin": 8,
            "split": SplitSpec(valid={"toy": ["chrB"]}, test={"toy": ["chrC"]}),
        }

    def write_counts(self, name: str, counts: dict[str, np.ndarray], sizes: dict[str, int]) -> Path:
        """A count track: bases with 0 are left out, as count tracks do."""
        path = self.folder / name
        at = {chrom: np.flatnonzero(values) for chrom, values in counts.items()}
        chroms = np.concatenate([np.full(places.size, chrom) for chrom, places in at.items()])
        starts = np.concatenate(list(at.values()))
        values = np.concatenate([counts[chrom][places] for chrom, places in at.items()])
        write_bigwig(path, sizes, chroms, starts, starts + 1, values.astype(np.float32))
        return path


def write_fasta(path: Path, sequences: dict[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in sequences.items()))
    return path


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.setattr(plan, "_UNIT_WINDOWS", 8)
    rng = np.random.default_rng(7)
    bases = {c: rng.integers(0, 4, size).astype(np.uint8) for c, size in CHROM_SIZES.items()}
    bases["chrA"][slice(*UNCALLED)] = 4
    fasta = write_fasta(tmp_path / "toy.fa", {c: decode(codes) for c, codes in bases.items()})
    toy = Toy(tmp_path, open_genome(fasta, "toy"))
    for name, sign, pair, strand in (
        ("plus", 1, "minus", "+"), ("minus", -1, "plus", "-"), ("atac", 1, "", "."),
    ):  # fmt: skip
        counts = {c: sign * rng.poisson(0.4, size) for c, size in CHROM_SIZES.items()}
        file = toy.write_counts(f"{name}.bw", counts, CHROM_SIZES)
        toy.rows.append(
            Track(
                name, str(file), "toy", assay="TEST", strand=strand, strand_pair=pair,
                scale=float(sign), clip=16, clip_mode="soft",
            )
        )  # fmt: skip
    return toy


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit (reflected polynomial 0x82F63B78), apart from the package's library."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    """One record of a TFRecord file."""

    def masked(part: bytes) -> bytes:
        crc = crc32c(part)
        turned = (crc >> 15 | crc << 17) & 0xFFFFFFFF
        return ((turned + 0xA282EAD8) % 2**32).to_bytes(4, "little")

    length = len(data).to_bytes(8, "little")
    return length + masked(length) + data + masked(data)


def message(number: int, payload: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    size, head = len(payload), bytes([number << 3 | 2])
    while size > 127:
        head += bytes([size & 127 | 128])
        size >>= 7
    return head + bytes([size]) + payload


def example(**features: bytes | np.ndarray) -> bytes:
    """A tf.train.Example; bytes become a list of one string, arrays a packed list of floats."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            held = message(1, message(1, value))
        else:
            held = message(2, message(1, np.asarray(value, "<f4").tobytes()))
        entries += message(1, message(1, name.encode()) + message(2, held))
    return message(1, entries)


def one_hot_bytes(codes: np.ndarray) -> bytes:
    return (codes[:, None] == np.arange(4)).astype(np.uint8).tobytes()


@dataclass
class Barnyard:
    """A folder as calico/basenji lays it out: 11 train, 2 valid, 2 test windows of 256 bp.

    Bins of 16 bp, two without target at either side, three tracks. Train records lie in files of
    four, numbered 2, 9 and 10.
    """

    folder: Path
    fasta: Path
    windows: list[tuple[str, int, int, str]] = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)
    targets: list[np.ndarray] = field(default_factory=list)

    def record(self, row: int) -> bytes:
        return example(sequence=one_hot_bytes(self.codes[row]), target=self.targets[row].tobytes())

    def write(self, name: str, rows: range) -> Path:
        path = self.folder / "tfrecords" / name
        raw = b"".join(framed(self.record(row)) for row in rows)
        path.write_bytes(zlib.compress(raw))
        return path


@pytest.fixture
def barnyard(tmp_path: Path) -> Barnyard:
    rng = np.random.default_rng(3)
    genome = {chrom: rng.integers(0, 4, 4000).astype(np.uint8) for chrom in ("chr1", "chr2")}
    genome["chr1"][300:330] = 4
    fasta = write_fasta(tmp_path / "hg.fa", {c: decode(codes) for c, codes in genome.items()})
    made = Barnyard(tmp_path / "human", fasta)
    (made.folder / "tfrecords").mkdir(parents=True)
    places = [("chr1", 128 + 200 * i, "train") for i in range(11)]
    places += [("chr2", 100, "valid"), ("chr2", 300, "valid")]
    places += [("chr2", 1000, "test"), ("chr2", 3000, "test")]
    for chrom, start, split in places:
        made.windows.append((chrom, start, start + 256, split))
        made.codes.append(genome[chrom][start : start + 256])
        made.targets.append(rng.gamma(1, 2, (12, 3)).astype("<f2"))
    lines = ["\t".join(map(str, window)) for window in made.windows]
    (made.folder / "sequences.bed").write_text("\n".join(lines) + "\n")
    statistics = {
        "num_targets": 3, "train_seqs": 11, "valid_seqs": 2, "test_seqs": 2, "seq_length": 256,
        "pool_width": 16, "crop_bp": 32, "target_length": 12,
    }  # fmt: skip
    (made.folder / "statistics.json").write_text(json.dumps(statistics))
    (made.folder / "targets.txt").write_text(
        "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription\n"
        "0\t0\tENC1\t/d/1.w5\t32\t2\tmean\tDNASE:heart\n"
        "1\t0\tENC2\t/d/2.w5\t32\t2\tmean\tCHIP:H3K4me3:heart\n"
        "2\t0\tENC3\t/d/3.w5\t384\t1\tsum\tCAGE:heart\n"
    )
    for name, rows in (
        ("train-0-2.tfr", range(4)), ("train-0-9.tfr", range(4, 8)),
        ("train-0-10.tfr", range(8, 11)), ("valid-0-0.tfr", range(11, 13)),
        ("test-0-0.tfr", range(13, 15)),
    ):  # fmt: skip
        made.write(name, rows)
    return made


@pytest.fixture
def wire() -> SimpleNamespace:
    """The writer of records, for tests that make their own."""
    return SimpleNamespace(
        crc32c=crc32c, framed=framed, message=message, example=example, one_hot=one_hot_bytes
    )
