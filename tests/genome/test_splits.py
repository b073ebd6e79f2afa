import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cislens.errors import CislensError
from cislens.example import example_path
from cislens.genome.codes import decode, reverse_complement
from cislens.genome.intervals import tile
from cislens.genome.reference import open_genome
from cislens.genome.splits import balanced_folds, split_by_chromosome, split_windows
from cislens.randomness import generator

FRACTIONS = {"train": 0.8, "valid": 0.1, "test": 0.1}
PACKAGED = [
    "yeast_mini/sacCer3_II_IV_XVI.fa.gz",
    "human_mini/hg19_chr20_40_44Mb.fa.gz",
    "fly_mini/dm6_chr2L_4_7Mb.fa.gz",
    "pombe_mini/spombe_chrI_1.0_2.5Mb.fa.gz",
]


@pytest.fixture(autouse=True)
def own_index_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_genome(folder, chromosomes):
    path = folder / "g.fa"
    path.write_text("".join(f">{name}\n{decode(codes)}\n" for name, codes in chromosomes.items()))
    return open_genome(path)


@pytest.fixture(scope="module")
def small_genome(tmp_path_factory):
    rng = generator(0)
    sizes = {"a": 6_000, "b": 3_500, "c": 900}
    chromosomes = {name: rng.integers(0, 4, size, np.uint8) for name, size in sizes.items()}
    return write_genome(tmp_path_factory.mktemp("small"), chromosomes)


def assert_no_shared_base(split, margin):
    parts = split.partition_by("split", as_dict=True)
    for (one,), first in parts.items():
        for (other,), second in parts.items():
            if one >= other:
                continue
            pairs = first.join(second, on="chrom")
            overlap = (pl.col("start") - margin < pl.col("end_right") + margin) & (
                pl.col("start_right") - margin < pl.col("end") + margin
            )
            assert pairs.filter(overlap).is_empty()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_base_is_shared_between_parts_margins_included(small_genome, data):
    width = data.draw(st.integers(30, 120))
    margin = data.draw(st.integers(0, 40))
    stride = data.draw(st.integers(10, 200))
    block_bp = data.draw(st.integers(width + 2 * margin, 700))
    windows = tile(small_genome.chrom_sizes, width, stride)
    share, seed = data.draw(st.floats(0.1, 1)), data.draw(st.integers(0, 99))
    windows = windows.filter(pl.Series(generator(seed).random(len(windows)) < share))
    try:
        split = split_windows(
            small_genome, windows, {"train": 0.5, "valid": 0.25, "test": 0.25}, block_bp, 0, margin
        )
    except CislensError as error:
        assert "no window" in str(error)
        return
    assert_no_shared_base(split, margin)
    assert split.select(windows.columns).join(windows, on=windows.columns).height == len(split)
    assert split.select("block", "split").unique().height == split["block"].n_unique()


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_genomes_split_without_one_large_component(name, caplog):
    genome = open_genome(example_path(name))
    windows = tile(genome.chrom_sizes, 8192, 2048)
    split = split_windows(genome, windows, FRACTIONS, 65_536, 0, margin=64)
    assert "one component holds" not in caplog.text
    assert len(split) > 0.9 * len(windows)
    share = split["split"].value_counts(normalize=True)
    for part, fraction in FRACTIONS.items():
        found = share.filter(pl.col("split") == part)["proportion"][0]
        # Off by one block at most, and by what was dropped.
        dropped = 1 - len(split) / len(windows)
        assert abs(found - fraction) <= 1 / split["block"].n_unique() + dropped
    assert_no_shared_base(split, 64)
    again = split_windows(genome, windows, FRACTIONS, 65_536, 0, margin=64)
    assert split.equals(again)
    other = split_windows(genome, windows, FRACTIONS, 65_536, 1, margin=64)
    assert not split.equals(other)


def long_kmers(codes):
    """The 31-mers (n, L - 30) of windows without N, as numbers."""
    kmers = np.zeros((len(codes), codes.shape[1] - 30), np.int64)
    for place in range(31):
        kmers = kmers * 4 + codes[:, place : place + kmers.shape[1]]
    return kmers


def test_no_yeast_test_window_is_a_copy_of_a_train_window():
    # An exact 31-mer survives at an identity of 0.95 with a chance of 0.2: the windows kept share
    # at most a few, while Ty elements and telomeres share thousands.
    genome = open_genome(example_path(PACKAGED[0]))
    windows = tile(genome.chrom_sizes, 8192, 4096)
    split = split_windows(genome, windows, FRACTIONS, 65_536, 0)

    def largest_overlap(train, test):
        kmers = long_kmers(genome.windows(test["chrom"], test["start"], 8192))
        codes = genome.windows(train["chrom"], train["start"], 8192)
        known = np.concatenate([long_kmers(codes), long_kmers(reverse_complement(codes))])
        hits = np.isin(known, kmers)
        close = np.flatnonzero(hits.sum(1) > 0.05 * 8162)  # others cannot matter below
        return max(
            (np.isin(kmer, known[row][hits[row]]).sum() for row in close for kmer in kmers),
            default=0,
        )

    train, test = (split.filter(pl.col("split") == part) for part in ("train", "test"))
    assert largest_overlap(train, test) < 0.15 * 8162
    # Without the filter there are copies: the windows that were dropped.
    dropped = windows.join(split, on=["chrom", "start", "end"], how="anti")
    assert largest_overlap(train, dropped) > 0.5 * 8162


def planted_genome(folder, length, identity=0.95):
    """Twenty blocks of 60 kb, where a stretch of block 3 lies, turned, in block 12 too."""
    rng = generator(1)
    codes = rng.integers(0, 4, 1_200_000, np.uint8)
    copy = reverse_complement(codes[190_000 : 190_000 + length])
    changed = rng.random(length) > identity
    copy[changed] = (copy[changed] + rng.integers(1, 4, changed.sum())) % 4
    codes[725_000 : 725_000 + length] = copy
    return write_genome(folder, {"a": codes})


def test_blocks_with_a_duplicated_segment_go_together(tmp_path):
    genome = planted_genome(tmp_path, 30_000)
    windows = tile(genome.chrom_sizes, 8000, 4000)
    fractions = {"train": 0.4, "valid": 0.3, "test": 0.3}
    together = []
    for seed in range(8):
        split = split_windows(genome, windows, fractions, 60_000, seed)
        part = dict(split.select("block", "split").unique().rows())
        together.append(part[3] == part[12])
    assert all(together)


def test_a_short_duplicate_is_dropped_from_the_later_part(tmp_path):
    genome = planted_genome(tmp_path, 8_000)
    windows = tile(genome.chrom_sizes, 8000, 4000)
    fractions = {"train": 0.4, "valid": 0.3, "test": 0.3}
    apart = 0
    for seed in range(8):
        split = split_windows(genome, windows, fractions, 60_000, seed)
        rank = split["split"].replace_strict(
            {"train": 0, "valid": 1, "test": 2}, return_dtype=pl.Int64
        )
        # Windows at least half within one of the two copies.
        in_first = split["start"].is_between(186_000, 194_000)
        in_second = split["start"].is_between(721_000, 729_000)
        first, second = rank.filter(in_first), rank.filter(in_second)
        part = dict(split.select("block", "split").unique().rows())
        if part[3] != part[12]:
            apart += 1
            assert min(len(first), len(second)) == 0
            assert max(len(first), len(second)) >= 2
    assert apart >= 3


def test_an_interspersed_repeat_does_not_join_blocks(tmp_path, caplog):
    rng = generator(2)
    codes = rng.integers(0, 4, 1_200_000, np.uint8)
    element = rng.integers(0, 4, 300, np.uint8)
    for place in range(2_000, 1_200_000, 6_000):
        codes[place : place + 300] = element
    genome = write_genome(tmp_path, {"a": codes})
    windows = tile(genome.chrom_sizes, 8000, 8000)
    split = split_windows(genome, windows, FRACTIONS, 60_000, 0)
    assert "one component holds" not in caplog.text
    assert len(split) > 0.9 * len(windows)


def test_windows_too_wide_for_their_blocks(small_genome):
    windows = tile(small_genome.chrom_sizes, 500, 500)
    with pytest.raises(
        CislensError, match="blocks of 600 bp cannot hold windows of 500 bp with 64"
    ):
        split_windows(small_genome, windows, FRACTIONS, 600, 0, margin=64)


def test_too_few_blocks_for_three_parts(small_genome):
    windows = tile(small_genome.chrom_sizes, 500, 500)
    with pytest.raises(CislensError, match="no window is left for"):
        split_windows(small_genome, windows, FRACTIONS, 5_000, 0)


clusters = st.lists(st.integers(0, 40), min_size=30, max_size=300)


@given(clusters, st.integers(0, 5))
def test_a_cluster_is_never_cut(cluster, seed):
    folds = balanced_folds(cluster, FRACTIONS, seed)
    assert len(set(zip(cluster, folds.tolist(), strict=True))) == len(set(cluster))


def test_folds_balance_rows_and_strata():
    rng = generator(3)
    cluster = rng.integers(0, 800, 4000)
    label = (cluster % 10 == 0).astype(int)  # whole clusters carry the rare label
    folds = balanced_folds(cluster, FRACTIONS, 0, label)
    for value in (0, 1):
        rows = folds[label == value]
        for part, fraction in FRACTIONS.items():
            assert abs((rows == part).mean() - fraction) < 0.01
    assert (folds == balanced_folds(cluster, FRACTIONS, 0, label)).all()
    assert (folds != balanced_folds(cluster, FRACTIONS, 1, label)).any()


def test_rows_that_nothing_joins_are_balanced_however_few_they_are():
    folds = balanced_folds(np.arange(5), {"train": 0.6, "valid": 0.2, "test": 0.2}, seed=0)
    assert sorted(folds) == ["test", "train", "train", "train", "valid"]


def test_a_component_of_more_than_a_tenth_goes_to_train(caplog):
    cluster = np.concatenate([np.zeros(300, int), np.arange(1, 701)])
    for seed in range(5):
        folds = balanced_folds(cluster, {"test": 0.5, "valid": 0.2, "train": 0.3}, seed)
        assert set(folds[:300]) == {"train"}
    assert "300 of 1000 rows are joined by homology; they all go to train" in caplog.text


@pytest.mark.parametrize(
    "fractions", [{"train": 0.9, "test": 0.2}, {"train": 1.5, "test": -0.5}, {}]
)
def test_fractions_that_are_none(fractions):
    with pytest.raises(CislensError, match="must be positive and sum to 1"):
        balanced_folds([0, 1, 2], fractions, 0)


def test_split_by_chromosome():
    windows = tile({"a": 100, "b": 100, "c": 100}, 50, 50)
    split = split_by_chromosome(windows, valid=["b"], test=["c"])
    assert split.select("chrom", "block", "split").unique(maintain_order=True).rows() == [
        ("a", 0, "train"), ("b", 1, "valid"), ("c", 2, "test"),
    ]  # fmt: skip
    with pytest.raises(CislensError, match=r"no window lies on 'cc'. Did you mean 'c'"):
        split_by_chromosome(windows, ["b"], ["cc"])
    with pytest.raises(CislensError, match="'b' is named for both"):
        split_by_chromosome(windows, ["b"], ["b"])
    with pytest.raises(CislensError, match="no window is left for train"):
        split_by_chromosome(windows, ["a", "b"], ["c"])


def test_no_windows(small_genome):
    windows = tile(small_genome.chrom_sizes, 50, 50).clear()
    with pytest.raises(CislensError, match="no windows to split"):
        split_windows(small_genome, windows, FRACTIONS, 500, 0)


def test_unknown_chromosome_of_a_window(small_genome):
    windows = pl.DataFrame({"chrom": ["chrZ"], "start": [0], "end": [50]})
    with pytest.raises(CislensError, match="no chromosome 'chrZ'"):
        split_windows(small_genome, windows, FRACTIONS, 500, 0)
