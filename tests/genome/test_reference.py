import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cislens.errors import CislensError, MissingFileError
from cislens.example import example_path
from cislens.genome.codes import N, decode, encode
from cislens.genome.reference import open_genome, report_ambiguous

YEAST = "yeast_mini/sacCer3_II_IV_XVI.fa.gz"
SEQUENCES = {"one": "ACGTNNNNacgtRYacgtAACC", "two": "GGGTTTaaa", "three": "NNACGTN"}


@pytest.fixture(autouse=True)
def own_index_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def yeast():
    return open_genome(example_path(YEAST))


def write_fasta(path: Path, sequences: dict[str, str], width: int = 7, end: str = "\n") -> Path:
    lines = []
    for name, sequence in sequences.items():
        lines.append(f">{name} described")
        lines += [sequence[i : i + width] for i in range(0, len(sequence), width)]
    path.write_bytes((end.join(lines) + end).encode())
    return path


def write_two_bit(path: Path, sequences: dict[str, str]) -> Path:
    """By the format's description at genome.ucsc.edu/FAQ/FAQformat.html#format7."""

    def runs(flags: list[bool]) -> list[tuple[int, int]]:
        edges = np.flatnonzero(np.diff(np.array([0, *flags, 0], int)))
        return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]

    def record(sequence: str) -> bytes:
        data = struct.pack("<I", len(sequence))
        for blocks in (
            runs([base.upper() not in "ACGT" for base in sequence]),
            runs([base.islower() for base in sequence]),
        ):
            columns = [[start for start, _ in blocks], [size for _, size in blocks]]
            data += struct.pack(f"<I{2 * len(blocks)}I", len(blocks), *columns[0], *columns[1])
        packed = ["TCAG".find(base.upper()) % 4 for base in sequence]
        packed += [0] * (-len(packed) % 4)
        fours = np.array(packed).reshape(-1, 4)
        return data + struct.pack("<I", 0) + bytes((fours @ [64, 16, 4, 1]).tolist())

    position = 16 + sum(len(name) + 5 for name in sequences)
    header, body = struct.pack("<4I", 0x1A412743, 0, len(sequences), 0), b""
    for name, sequence in sequences.items():
        header += bytes([len(name)]) + name.encode() + struct.pack("<I", position + len(body))
        body += record(sequence)
    path.write_bytes(header + body)
    return path


def test_fasta_is_read_by_coordinate_whatever_its_case(tmp_path):
    genome = open_genome(write_fasta(tmp_path / "some.name.fa", SEQUENCES))
    assert genome.name == "some"
    assert genome.chrom_sizes == {"one": 22, "two": 9, "three": 7}
    for chrom, sequence in SEQUENCES.items():
        assert np.array_equal(genome.fetch(chrom, 0, len(sequence)), encode(sequence))
    assert decode(genome.fetch("one", 6, 13)) == "NNACGTN"


def test_beyond_the_chromosome_is_n(tmp_path):
    genome = open_genome(write_fasta(tmp_path / "g.fa", SEQUENCES))
    assert decode(genome.fetch("two", -3, 12)) == "NNNGGGTTTAAANNN"
    assert decode(genome.fetch("two", 20, 23)) == "NNN"
    windows = genome.windows(["two", "one", "two", "two"], [-3, 0, 40, -90], 15)
    assert [decode(window) for window in windows] == [
        "NNNGGGTTTAAANNN", "ACGTNNNNACGTNNA", "N" * 15, "N" * 15,
    ]  # fmt: skip


def test_soft_mask_and_ambiguous_bases(tmp_path):
    genome = open_genome(write_fasta(tmp_path / "g.fa", SEQUENCES))
    assert np.flatnonzero(genome.soft_mask("one", 0, 22)).tolist() == [8, 9, 10, 11, 14, 15, 16, 17]
    assert genome.soft_mask("two", 5, 12).tolist() == [False] + [True] * 3 + [False] * 3
    assert report_ambiguous(genome, genome.chrom_sizes) == {"one": {"R": 1, "Y": 1}}


def test_windows_line_ends_read_as_unix_ones(tmp_path):
    unix = open_genome(write_fasta(tmp_path / "unix.fa", SEQUENCES))
    dos = open_genome(write_fasta(tmp_path / "dos.fa", SEQUENCES, end="\r\n"))
    assert dos.chrom_sizes == unix.chrom_sizes
    for chrom, size in unix.chrom_sizes.items():
        assert np.array_equal(dos.fetch(chrom, 0, size), unix.fetch(chrom, 0, size))


def test_fasta_bgzip_and_two_bit_are_one_genome(tmp_path):
    sequences = {name: text.replace("R", "N").replace("Y", "N") for name, text in SEQUENCES.items()}
    plain = write_fasta(tmp_path / "g.fa", sequences)
    pysam.tabix_compress(str(plain), str(tmp_path / "g.fa.gz"))
    write_two_bit(tmp_path / "g.2bit", sequences)
    first, *others = [open_genome(tmp_path / name) for name in ("g.fa", "g.fa.gz", "g.2bit")]
    for other in others:
        assert other.chrom_sizes == first.chrom_sizes
        for chrom, size in first.chrom_sizes.items():
            for start in range(size):
                assert np.array_equal(
                    other.fetch(chrom, start, size + 2), first.fetch(chrom, start, size + 2)
                )
            assert np.array_equal(other.soft_mask(chrom, 0, size), first.soft_mask(chrom, 0, size))


def test_two_bit_of_a_packaged_chromosome_equals_its_fasta(tmp_path, yeast):
    whole = decode(yeast.chromosome("chrII"))
    genome = open_genome(write_two_bit(tmp_path / "y.2bit", {"chrII": whole}))
    assert np.array_equal(genome.chromosome("chrII"), yeast.chromosome("chrII"))


def test_opening_writes_nothing_beside_the_file(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    path = write_fasta(folder / "g.fa", SEQUENCES)
    pysam.tabix_compress(str(path), str(folder / "g.fa.gz"))
    before = sorted(folder.iterdir())
    assert decode(open_genome(path).fetch("two", 0, 3)) == "GGG"
    assert decode(open_genome(folder / "g.fa.gz").fetch("two", 0, 3)) == "GGG"
    assert sorted(folder.iterdir()) == before


def test_a_changed_file_gets_a_new_index(tmp_path):
    path = write_fasta(tmp_path / "g.fa", {"one": "ACGT"})
    assert open_genome(path).chrom_sizes == {"one": 4}
    write_fasta(path, {"one": "ACGTAC"})
    assert open_genome(path).chrom_sizes == {"one": 6}


def test_a_pickled_genome_reopens_its_file(tmp_path):
    genome = open_genome(write_fasta(tmp_path / "g.fa", SEQUENCES), name="mine")
    genome.chromosome("one")
    payload = pickle.dumps(genome)
    assert len(payload) < 1000
    again = pickle.loads(payload)
    assert again.name == "mine"
    assert decode(again.fetch("two", 0, 9)) == "GGGTTTAAA"
    assert again.digest == genome.digest


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_windows_equal_fetches(yeast, data):
    n = data.draw(st.integers(1, 6))
    width = data.draw(st.integers(1, 3000))
    chroms = [data.draw(st.sampled_from(list(yeast.chrom_sizes))) for _ in range(n)]
    starts = [data.draw(st.integers(-4000, yeast.size(chrom) + 4000)) for chrom in chroms]
    fresh = open_genome(yeast.path)
    expected = [fresh.fetch(c, s, s + width) for c, s in zip(chroms, starts, strict=True)]
    windows = yeast.windows(chroms, starts, width)
    assert np.array_equal(windows, np.stack(expected))
    beyond = [max(-s, 0) + max(s + width - yeast.size(c), 0) >= width
              for c, s in zip(chroms, starts, strict=True)]  # fmt: skip
    assert (windows[beyond] == N).all()


@pytest.mark.peers
def test_sequences_equal_those_of_pyfaidx(yeast, tmp_path):
    from pyfaidx import Fasta

    plain = tmp_path / "yeast.fa"
    plain.write_bytes(gzip.decompress(example_path(YEAST).read_bytes()))
    peer = Fasta(str(plain))
    rng = np.random.default_rng(0)
    for chrom, size in yeast.chrom_sizes.items():
        assert len(peer[chrom]) == size
        for start in rng.integers(0, size - 500, 20).tolist():
            sequence = str(peer[chrom][start : start + 500])
            assert np.array_equal(yeast.fetch(chrom, start, start + 500), encode(sequence))


def test_unknown_chromosome_names_the_nearest(yeast):
    with pytest.raises(CislensError, match=r"no chromosome 'chr2'.*Did you mean 'chr"):
        yeast.fetch("chr2", 0, 10)
    with pytest.raises(CislensError, match="starts after its end"):
        yeast.fetch("chrII", 10, 9)


def test_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.fa does not exist"):
        open_genome(tmp_path / "nowhere.fa")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">a\n>b\nACGT\n", "line 1: record 'a' is empty"),
        (">a\nACGT\n>b\n", "line 3: record 'b' is empty"),
        (">a\nACGT\n>a\nGGGG\n", "line 3: record 'a' was already on line 1"),
        (">a\nACGT\nACG\nACGT\n", "line 4: the lines of record 'a' differ in length"),
        (">a\nACG\nACGT\n", "line 3: the lines of record 'a' differ in length"),
        (">a\nAC GT\n", "line 2: white space within the sequence of 'a'"),
        (">\nACGT\n", "line 1: the record has no name"),
        ("chr1\t0\t10\n", "no reference genome"),
        ("", "no reference genome"),
    ],
)
def test_broken_fasta(tmp_path, text, message):
    path = tmp_path / "broken.fa"
    path.write_text(text)
    with pytest.raises(CislensError, match=message) as error:
        open_genome(path)
    assert str(path) in str(error.value)


def test_gzip_that_is_not_bgzip(tmp_path):
    path = tmp_path / "g.fa.gz"
    path.write_bytes(gzip.compress(b">a\nACGT\n"))
    with pytest.raises(CislensError, match=r"no random access\. Compress it with bgzip"):
        open_genome(path)


def test_truncated_bgzip(tmp_path):
    path = tmp_path / "g.fa.gz"
    path.write_bytes(example_path(YEAST).read_bytes()[:-5000])
    with pytest.raises(CislensError, match="is truncated"):
        open_genome(path)


def test_fasta_shorter_than_its_index(tmp_path):
    path = write_fasta(tmp_path / "g.fa", SEQUENCES)
    pysam.faidx(str(path))
    assert open_genome(path).chrom_sizes["one"] == 22
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CislensError, match="The file is truncated, or the index is of another"):
        open_genome(path)


def test_fasta_longer_than_its_index(tmp_path):
    path = write_fasta(tmp_path / "g.fa", SEQUENCES)
    pysam.faidx(str(path))
    path.write_text(path.read_text() + ">four\nACGT\n")
    with pytest.raises(CislensError, match="The file is truncated, or the index is of another"):
        open_genome(path)


def test_broken_index(tmp_path):
    path = write_fasta(tmp_path / "g.fa", SEQUENCES)
    Path(f"{path}.fai").write_text("one\tmany\n")
    with pytest.raises(CislensError, match=r"g\.fa\.fai line 1"):
        open_genome(path)


def test_broken_two_bit(tmp_path):
    path = write_two_bit(tmp_path / "g.2bit", {"one": "ACGT" * 50, "two": "A"})
    whole = path.read_bytes()
    for kept in (len(whole) - 1, 60, 20, 10, 4):
        path.write_bytes(whole[:kept])
        with pytest.raises(CislensError, match="truncated"):
            open_genome(path)
    write_two_bit(path, {"one": "ACGT", "two": ""})
    with pytest.raises(CislensError, match="record 'two' is empty"):
        open_genome(path)
