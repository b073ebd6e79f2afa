from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.tasks.builders import accessibility
from cislens.evaluation.tasks.promoters import promoters
from cislens.evaluation.tasks.task import Task
from cislens.example import example_path
from cislens.genome.annotation import read_genes
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import Genome, open_genome
from cislens.signal.bigwig import read_windows

PUM2 = {
    "train": "example:tables/PUM2_train.csv.gz", "valid": "example:tables/PUM2_valid.csv.gz",
    "test": "example:tables/PUM2_test.csv.gz", "sequence": "seq", "label": "binding_site",
    "block": "gene_id", "classes": {"FALSE": 0, "TRUE": 1}, "stranded": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def yeast() -> Genome:
    return open_genome(example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"))


@pytest.fixture(scope="module")
def genes() -> pl.DataFrame:
    return read_genes(example_path("yeast_mini/genes.bed.gz"))


def _promoters(yeast: Genome, genes: pl.DataFrame, **changes: object) -> Task:
    fields = {"name": "promoters", "species": "yeast", "width": 256, "limit": 150, **changes}
    return promoters(yeast, genes, **fields)  # type: ignore[arg-type]


def test_promoters_are_matched_disjoint_and_parted(yeast: Genome, genes: pl.DataFrame) -> None:
    task = _promoters(yeast, genes)
    frame = task.examples
    label = np.array([y[0] for y in frame["y"]])
    assert len(frame) == pytest.approx(300, abs=10)
    assert (frame["length"] == 256).all()
    gc = frame["gc"].to_numpy()
    assert abs(gc[label == 1].mean() - gc[label == 0].mean()) < 0.005
    ordered = frame.sort("chrom", "start")
    gaps = ordered.with_columns(before=pl.col("end").shift(1).over("chrom"))
    assert (gaps["start"] >= gaps["before"]).drop_nulls().all()
    shares = frame["split"].value_counts(normalize=True)
    assert dict(shares.iter_rows())["train"] == pytest.approx(0.7, abs=0.05)
    assert "standardized difference of gc" in task.card.report
    row = frame.row(7, named=True)
    assert len(row["sequence"]) == row["end"] - row["start"]
    assert _promoters(yeast, genes).task_hash == task.task_hash
    assert _promoters(yeast, genes, seed=1).task_hash != task.task_hash


def test_the_start_codon_has_no_fixed_position(yeast: Genome, genes: pl.DataFrame) -> None:
    task = _promoters(yeast, genes, limit=600)
    positives = task.examples.filter(pl.col("y").list.first() == 1)["sequence"]
    share = [(positives.str.slice(at, 3) == "ATG").mean() for at in range(254)]
    assert max(share) < 0.10  # half of them, at 192, in windows that are not moved


def test_examples_inherit_the_split_of_pretraining(yeast: Genome, genes: pl.DataFrame) -> None:
    # Chromosome II is trained on, the halves of IV are valid and test; XVI was not used.
    half = 760_000
    regions = pl.DataFrame(
        {
            "chrom": ["chrII", "chrIV", "chrIV"],
            "start": [0, 0, half],
            "end": [813_184, half, 1_531_933],
            "split": ["train", "valid", "test"],
            "block": [0, 0, 1],
        }
    )
    task = _promoters(yeast, genes, regions=regions)
    places = task.examples.group_by("chrom", "split").len().sort("chrom", "split")
    assert places.select("chrom", "split").rows() == [
        ("chrII", "train"), ("chrIV", "test"), ("chrIV", "valid"),
    ]  # fmt: skip
    test = task.examples.filter(pl.col("split") == "test")
    assert test["start"].min() >= half  # type: ignore[operator]
    assert task.card.report["examples outside the regions of pre-training"] > 50  # type: ignore[operator]


def test_accessibility_is_the_log_of_the_mean_signal(yeast: Genome) -> None:
    track = example_path("yeast_mini/atac_nfr_lt120.bw")
    intervals = read_intervals(example_path("yeast_mini/atac_peaks_macs3.narrowPeak.gz"))
    task = accessibility(
        yeast, intervals, str(track), name="a", species="yeast", width=256, limit=100
    )
    row = task.examples.row(11, named=True)
    signal = read_windows(track, [row["chrom"]], [row["start"]], 256, missing=0.0)
    assert row["y"][0] == pytest.approx(np.log1p(signal.mean()), rel=1e-5)
    y = np.array([value[0] for value in task.examples["y"]])
    assert y.std() > 0.3


def test_a_labelled_table_keeps_its_splits_and_strand(make: Callable[..., Task]) -> None:
    task = make("table", **PUM2, limit=600)
    frame = task.examples
    assert task.card.stranded
    assert task.card.window == 101
    assert frame["example_id"][0].startswith("test")
    assert set(frame["split"]) == {"train", "valid", "test"}
    train = frame.filter(pl.col("split") == "train")
    assert train["block_id"].n_unique() < len(train)
    motif = frame.select(
        site=pl.col("sequence").str.contains("TGTA[ACGT]ATA"), y=pl.col("y").list.first()
    )
    share = dict(motif.group_by("y").agg(pl.col("site").mean()).iter_rows())
    assert share[1.0] > 0.15 and share[0.0] < 0.05  # 0.255 and 0.012 in the whole table


def test_bad_tables_are_refused_with_file_and_line(make: Callable[..., Task]) -> None:
    with pytest.raises(CislensError, match=r"PUM2_train.*no column 'sequ'\. Did you mean 'seq'"):
        make("table", **{**PUM2, "sequence": "sequ"})
    with pytest.raises(CislensError, match=r"PUM2_train.csv.gz line 2: label 'TRUE' is not among"):
        make("table", **{**PUM2, "classes": {"yes": 1, "FALSE": 0}})
    with pytest.raises(CislensError, match="files for each split need `test`"):
        make("table", **{**PUM2, "test": None})


def test_a_track_may_be_taken_as_it_is(yeast: Genome) -> None:
    track = str(example_path("yeast_mini/atac_nfr_lt120.bw"))
    intervals = read_intervals(example_path("yeast_mini/atac_peaks_macs3.narrowPeak.gz"))
    plain, logged = (
        accessibility(yeast, intervals, track, name="a", species="yeast", width=256, limit=60,
                      transform=transform)
        for transform in ("identity", "log1p")
    )  # fmt: skip
    assert plain.card.target.transform == "identity"
    values = [np.array(task.examples["y"].to_list()) for task in (plain, logged)]
    np.testing.assert_allclose(np.log1p(values[0]), values[1], rtol=1e-5)
