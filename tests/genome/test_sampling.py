import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.example import example_path
from cislens.genome.annotation import promoters, read_genes
from cislens.genome.codes import N, encode
from cislens.genome.intervals import Spans, centered, read_intervals, within
from cislens.genome.reference import open_genome
from cislens.genome.sampling import (
    cpg_observed_expected,
    matched_background,
    standardized_difference,
)
from cislens.randomness import generator


@pytest.fixture(scope="module")
def yeast():
    return open_genome(example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"))


@pytest.fixture(scope="module")
def yeast_promoters(yeast):
    genes = read_genes(example_path("yeast_mini/genes.bed.gz"))
    return within(promoters(genes, 249, 51), yeast.chrom_sizes)


@pytest.fixture(scope="module")
def human():
    return open_genome(example_path("human_mini/hg19_chr20_40_44Mb.fa.gz"))


@pytest.fixture(scope="module")
def accessible():
    return read_intervals(example_path("human_mini/fBrain_DHS.bed.gz"))


def check_background(genome, positives, background):
    found = background.intervals
    matched = positives[found["positive"].to_list()]
    assert found["positive"].is_unique().all()
    assert found["chrom"].to_list() == matched["chrom"].to_list()
    width = (matched["end"] - matched["start"]).to_list()
    assert (found["end"] - found["start"]).to_list() == width
    for (chrom,), rows in found.group_by("chrom"):
        starts, ends = rows["start"].to_numpy(), rows["end"].to_numpy()
        here = Spans.of(positives.filter(pl.col("chrom") == chrom))
        assert not here.overlap(starts, ends).any()
        order = np.argsort(starts)
        assert (starts[order][1:] >= ends[order][:-1]).all()
        assert starts.min() >= 0
        assert ends.max() <= genome.size(chrom)
    after = background.balance["after"]
    assert background.balance["covariate"].to_list() == ["gc", "cpg_oe", "repeat_frac"]
    assert after.abs().max() <= 0.1


def test_yeast_promoters_get_a_background_alike(yeast, yeast_promoters):
    background = matched_background(yeast, yeast_promoters, seed=0)
    check_background(yeast, yeast_promoters, background)
    assert len(background.intervals) == len(yeast_promoters)
    assert background.balance["before"].abs().max() > 0.3
    strands = yeast_promoters["strand"].gather(background.intervals["positive"])
    assert background.intervals["strand"].to_list() == strands.to_list()


def test_summit_windows_get_a_background_alike(yeast):
    peaks = read_intervals(example_path("yeast_mini/atac_peaks_macs3.narrowPeak.gz"))
    peaks = centered(peaks, 256, yeast.chrom_sizes)
    check_background(yeast, peaks, matched_background(yeast, peaks, seed=0))


def test_intervals_of_any_width_get_a_background_alike(human, accessible):
    background = matched_background(human, accessible, seed=0)
    check_background(human, accessible, background)
    assert background.balance["before"].abs().max() > 0.5


def test_the_seed_decides(human, accessible):
    windows = centered(accessible, 200, human.chrom_sizes)
    first, again, other = (matched_background(human, windows, seed) for seed in (1, 1, 2))
    assert first.intervals.equals(again.intervals)
    assert not first.intervals.equals(other.intervals)


def test_excluded_intervals_are_not_touched(human, accessible):
    windows = centered(accessible, 200, human.chrom_sizes)
    exclude = pl.DataFrame({"chrom": list(human.chrom_sizes), "start": [0], "end": [2_000_000]})
    background = matched_background(human, windows, 0, exclude)
    assert background.intervals["start"].min() >= 2_000_000


def test_regions_of_n_are_not_drawn(tmp_path):
    rng = generator(0)
    called = "".join(np.array(list("ACGT"))[rng.integers(0, 4, 40_000)])
    path = tmp_path / "g.fa"
    path.write_text(f">a\n{'N' * 40_000}{called}\n")
    genome = open_genome(path)
    starts = [60_000 + 1_000 * i for i in range(10)]
    positives = pl.DataFrame(
        {"chrom": ["a"] * 10, "start": starts, "end": [s + 200 for s in starts]}
    )
    found = matched_background(genome, positives, 0).intervals
    codes = genome.windows(found["chrom"], found["start"], 200)
    assert (codes == N).mean(1).max() <= 0.05


def test_a_background_that_cannot_match_is_refused(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(f">a\n{'GC' * 5_000}{'AT' * 15_000}\n")
    genome = open_genome(path)
    starts = list(range(0, 10_000, 200))
    positives = pl.DataFrame(
        {"chrom": ["a"] * 50, "start": starts, "end": [s + 200 for s in starts]}
    )
    with pytest.raises(CislensError, match="no positive has a background region like it"):
        matched_background(genome, positives, 0)


def test_a_background_that_stays_apart_is_refused(tmp_path):
    rng = generator(0)
    rich = rng.choice(list("ACGT"), 10_000, p=[0.2, 0.3, 0.3, 0.2])
    poor = rng.choice(list("ACGT"), 30_000, p=[0.27, 0.23, 0.23, 0.27])
    path = tmp_path / "g.fa"
    path.write_text(f">a\n{''.join(rich)}{''.join(poor)}\n")
    starts = list(range(0, 10_000, 200))
    positives = pl.DataFrame(
        {"chrom": ["a"] * 50, "start": starts, "end": [s + 200 for s in starts]}
    )
    with pytest.raises(CislensError, match=r"differs from the positives in \w+ by .*g\.fa holds"):
        matched_background(open_genome(path), positives, 0)


def test_no_room_for_a_background(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(f">a\n{'ACGT' * 100}\n")
    genome = open_genome(path)
    whole = pl.DataFrame({"chrom": ["a"], "start": [100], "end": [300]})
    with pytest.raises(CislensError, match="no free region of 200 bp"):
        matched_background(genome, whole, 0)
    with pytest.raises(CislensError, match="a positive of 900 bp lies on a, which has 400 bp"):
        matched_background(genome, whole.with_columns(end=pl.lit(1000)), 0)
    with pytest.raises(CislensError, match="at least one positive"):
        matched_background(genome, whole.clear(), 0)


def test_cpg_observed_over_expected():
    codes = np.stack([encode("CGCGAATT"), encode("CCGGNNAA"), encode("AAAATTTT")])
    # 2 CpG * 8 / (2 * 2), 1 CpG * 6 / (2 * 2), no C
    assert cpg_observed_expected(codes).tolist() == [4.0, 1.5, 0.0]


def test_standardized_difference():
    left, right = np.array([1.0, 3.0]), np.array([0.0, 2.0])
    assert standardized_difference(left, right) == 1.0
    assert standardized_difference(np.ones(3), np.ones(2)) == 0.0
    assert standardized_difference(np.ones(3), np.zeros(2)) == np.inf
