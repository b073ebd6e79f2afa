from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cislens.effects.tiling import Tiling, as_regions, read_regions, tile_regions, whole_genome
from cislens.errors import CislensError
from cislens.genome.reference import Genome

SIZES = {"chr2": 1000, "chr1": 331, "tiny": 5}
BIN, TRIM, LENGTH = 16, 2, 128  # 4 central bins, 64 bp


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path: Path = tmp_path_factory.mktemp("genome") / "small.fa"
    path.write_text("".join(f">{name}\n{'ACGTA' * (size // 5)}A\n" for name, size in SIZES.items()))
    found = Genome(path)
    SIZES.update(found.chrom_sizes)
    return found


def tiling(genome: Genome, rows: list[tuple[str, int, int]]) -> Tiling:
    frame = pl.DataFrame(rows, schema=["chrom", "start", "end"], orient="row")
    return tile_regions(genome, frame, bin_size=BIN, length=LENGTH, trim=TRIM)


spans = st.tuples(st.sampled_from(["chr2", "chr1"]), st.integers(0, 329), st.integers(1, 400)).map(
    lambda span: (span[0], span[1], min(span[1] + span[2], 331))
)


@given(rows=st.lists(spans, min_size=1, max_size=6))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_bins_are_those_that_regions_touch_once_in_genome_order(
    genome: Genome, rows: list[tuple[str, int, int]]
) -> None:
    found = tiling(genome, rows)
    touched = {
        (list(genome.chrom_sizes).index(chrom), base // BIN)
        for chrom, start, end in rows
        for base in range(start, end)
    }
    expected = [
        (name, at * BIN, min((at + 1) * BIN, genome.size(name)))
        for place, at in sorted(touched)
        for name in [list(genome.chrom_sizes)[place]]
    ]
    assert found.bins(0, found.rows).rows() == expected


@given(rows=st.lists(spans, min_size=1, max_size=6), first=st.integers(0, 3))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_every_row_is_found_in_the_window_that_shows_its_bases(
    genome: Genome, rows: list[tuple[str, int, int]], first: int
) -> None:
    found = tiling(genome, rows)
    part = slice(min(first, found.windows - 1), found.windows)
    window_R, bin_R = found.places(part)
    starts_W, chroms = found.starts()[part], found.names(part)
    bins = found.bins(int(found.row_W[part.start]), found.rows)
    assert len(window_R) == bins.height
    assert bool(((bin_R >= 0) & (bin_R < found.central)).all())
    np.testing.assert_array_equal(
        starts_W[window_R] + (TRIM + bin_R) * BIN, bins["start"].to_numpy()
    )
    assert [chroms[at] for at in window_R] == bins["chrom"].to_list()


@given(rows=st.lists(spans, min_size=1, max_size=6))
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_no_window_is_shown_twice_or_for_nothing(
    genome: Genome, rows: list[tuple[str, int, int]]
) -> None:
    found = tiling(genome, rows)
    places = list(zip(found.names(slice(0, found.windows)), found.starts().tolist(), strict=True))
    assert len(set(places)) == len(places)
    assert (np.diff(found.row_W) > 0).all()


def test_windows_beyond_an_end_are_counted(genome: Genome) -> None:
    whole = tile_regions(genome, whole_genome(genome).frame, bin_size=BIN, length=LENGTH, trim=TRIM)
    sizes = genome.chrom_sizes
    over = sum(
        start < 0 or start + LENGTH > sizes[name]
        for name, start in zip(
            whole.names(slice(0, whole.windows)), whole.starts().tolist(), strict=True
        )
    )
    # Two of chr2, the first and the last two of chr1, and the only one of tiny.
    assert whole.padded == over == 6
    assert tiling(genome, [("chr2", 128, 256)]).padded == 0


def test_nothing_is_left_of_a_window_that_is_all_trimmed(genome: Genome) -> None:
    with pytest.raises(CislensError, match="trim less"):
        tile_regions(genome, whole_genome(genome).frame, bin_size=16, length=64, trim=2)


def test_regions_of_a_file_are_known_by_line(genome: Genome, tmp_path: Path) -> None:
    bed = tmp_path / "some.bed"
    bed.write_text("# a comment\n2\t10\t20\n\nchr1\t300\t332\n")
    with pytest.raises(CislensError, match=r"some\.bed line 4, chr1:300-332: .* <= 331"):
        read_regions(bed, genome)
    bed.write_text("# a comment\n2\t10\t20\nchr1\t300\t331\n")
    found = read_regions(bed, genome)
    assert found.frame["chrom"].to_list() == ["chr2", "chr1"]
    count, first = found.narrower(BIN)
    assert count == 1
    assert first.endswith("some.bed line 2")


def test_an_empty_file_of_regions_is_refused(genome: Genome, tmp_path: Path) -> None:
    (tmp_path / "empty.bed").write_text("# nothing\n")
    with pytest.raises(CislensError, match=r"empty\.bed holds no interval"):
        read_regions(tmp_path / "empty.bed", genome)


def test_no_regions_are_the_whole_genome(genome: Genome) -> None:
    assert as_regions(None, genome).frame.rows() == [
        (name, 0, size) for name, size in genome.chrom_sizes.items()
    ]
