from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from cislens.effects.ensemble import Ensemble
from cislens.effects.track_model import TrackModel
from cislens.effects.tracks import predict
from cislens.errors import CislensError
from cislens.genome.reference import Genome
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.signal.datacard import DataCard
from cislens.signal.tracks import Track, track_table

BIN, CROP, LENGTH = 16, 2, 128
TRACKS = [
    Track("ATAC", "a.bw", "yeast", "ATAC", scale=2.0),
    Track("plus", "p.bw", "yeast", "CAGE", strand="+", strand_pair="minus", sum_stat="mean"),
    Track("minus", "m.bw", "yeast", "CAGE", strand="-", strand_pair="plus", sum_stat="mean"),
]


def model(
    seed: int = 0,
    tracks: list[Track] = TRACKS,
    length: int = LENGTH,
    crop: int = CROP,
    bin_size: int = BIN,
) -> TrackModel:
    torch.manual_seed(seed)
    species = tracks[0].species
    config = preset_config(
        "enformer-tiny", {species: [row.id for row in tracks]}, crop=crop, dim=32, stem_dim=16,
        bin_size=bin_size, depth=1,
    )  # fmt: skip
    card = DataCard(length, track_table(tracks))
    return TrackModel(build_model(config), card, f"model-{seed}")


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path: Path = tmp_path_factory.mktemp("genome") / "small.fa"
    bases = "".join(np.random.default_rng(1).choice(list("ACGT"), 700))
    path.write_text(f">chr1\n{bases}\n")
    return Genome(path)


def test_mean_and_spread_are_those_of_the_single_models(genome: Genome) -> None:
    models = [model(0), model(1), model(2)]
    every = np.stack([predict(each, genome).values_RT for each in models]).astype(np.float64)
    found = predict(models, genome)
    np.testing.assert_allclose(found.values_RT, every.mean(axis=0), rtol=1e-6)
    assert found.spread_RT is not None
    np.testing.assert_allclose(found.spread_RT, every.std(axis=0, ddof=1), rtol=1e-5, atol=1e-7)
    assert (found.spread_RT > 0).all()


def test_a_model_with_itself_has_no_spread(genome: Genome) -> None:
    one = predict(model(), genome)
    three = predict([model()] * 3, genome)
    assert one.spread_RT is None
    np.testing.assert_array_equal(three.values_RT, one.values_RT)
    np.testing.assert_array_equal(three.spread_RT, np.zeros_like(one.values_RT))


def test_tracks_of_a_second_model_are_joined_by_id(genome: Genome) -> None:
    """The second has the heads of the first in another order, and another scale."""
    first, second = model(), model(1, TRACKS[::-1])
    apart = [predict(each, genome) for each in (first, second)]
    found = predict([first, second], genome)
    assert found.tracks.frame["id"].to_list() == ["ATAC", "plus", "minus"]
    mean = (apart[0].values_RT + apart[1].values_RT[:, ::-1]) / 2
    np.testing.assert_allclose(found.values_RT, mean, rtol=1e-5)


def test_a_query_gives_the_columns_of_the_whole_prediction(genome: Genome) -> None:
    """The pair of a chosen track is needed for the other strand, chosen or not."""
    whole = predict(model(), genome)
    for query, columns in (('id == "minus"', [2]), ('assay in ("CAGE")', [1, 2])):
        found = predict(model(), genome, tracks=query)
        np.testing.assert_array_equal(found.values_RT, whole.values_RT[:, columns])


def test_trimming_keeps_the_rates_of_the_kept_bins(genome: Genome) -> None:
    """With one bin more trimmed a window serves two; each is what the model says of its window."""
    found = predict(model(), genome, trim=3, average="none")
    assert found.bins.height == 44
    codes = genome.windows(["chr1"], [64 - 3 * BIN], LENGTH)
    x_14L = torch.tensor(np.eye(5, 4, dtype=np.float32)[codes].transpose(0, 2, 1))
    with torch.no_grad():
        rate_TN = model().net.eval()(x_14L, "yeast", crop=True)[0].numpy()
    row = found.bins.with_row_index().filter(start=64)["index"][0]
    expected = rate_TN[:, 1:3].T / [2 * BIN, 1, 1]
    np.testing.assert_allclose(found.values_RT[row : row + 2], expected, rtol=1e-5)


def test_the_table_has_a_row_for_every_bin_and_track(genome: Genome) -> None:
    found = predict([model(0), model(1)], genome, pl.DataFrame([("chr1", 20, 40)], orient="row",
                    schema=["chrom", "start", "end"]))  # fmt: skip
    table = found.table()
    assert table.columns == ["chrom", "start", "end", "track", "value", "spread"]
    assert table.height == 2 * 3
    row = table.filter(start=32, track="plus").row(0, named=True)
    assert row["value"] == found.values_RT[1, 1]
    assert found.spread_RT is not None
    assert row["spread"] == found.spread_RT[1, 1]
    narrower = found.region("chr1", 32, 33)
    assert narrower.spread_RT is not None
    np.testing.assert_array_equal(narrower.spread_RT, found.spread_RT[1:])


def test_models_are_left_as_they_were(genome: Genome) -> None:
    both = [model(0), model(1)]
    both[0].net.train()
    both[1].net.eval()
    predict(both, genome)
    assert both[0].net.training
    assert not both[1].net.training


OTHER = [replace(row, species="fly") for row in TRACKS]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lambda: model(1, OTHER), "model-0 predicts yeast and model-1 does not: it has fly"),
        (lambda: model(1, TRACKS[:1]), "2 yeast tracks are in one only, such as 'minus'"),
        (lambda: model(1, bin_size=32), "bins of the first have 16 bp, those of the second 32"),
        (lambda: model(1, length=256), "windows of the first have 128 bp, .* the second 256"),
    ],
)
def test_models_that_do_not_fit_are_refused(second: object, message: str) -> None:
    with pytest.raises(CislensError, match=message):
        Ensemble.of([model(), second()])  # type: ignore[operator]


def test_the_widest_crop_of_the_models_is_trimmed() -> None:
    assert Ensemble.of([model(), model(1, crop=3)]).trim == 3
    with pytest.raises(CislensError, match="--trim 2 is below the 3 bins"):
        Ensemble.of([model(), model(1, crop=3)], trim=2)


def test_a_trim_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(CislensError, match="8 bins, none is left"):
        Ensemble.of(model(), trim=4)


def test_no_model_is_refused() -> None:
    with pytest.raises(CislensError, match="no model was given"):
        Ensemble.of([])
