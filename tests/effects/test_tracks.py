from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from cislens.effects.track_files import write_track_bigwigs
from cislens.effects.track_model import TrackModel
from cislens.effects.tracks import RegionTracks, predict_tracks
from cislens.effects.tracks import predict as predict_regions
from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.genome.reference import Genome
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.signal.bigwig import read_windows
from cislens.signal.datacard import DataCard
from cislens.signal.tracks import Track, track_table

SIZES = {"chrI": 1000, "chrII": 331}
BIN, CROP, LENGTH = 16, 2, 128  # 4 central bins a window
TRACKS = track_table(
    [
        Track("ATAC", "a.bw", "yeast", scale=2.0),
        Track("plus", "p.bw", "yeast", strand="+", strand_pair="minus", sum_stat="mean"),
        Track("minus", "m.bw", "yeast", strand="-", strand_pair="plus", sum_stat="mean"),
    ]
)
IDS = ("ATAC", "plus", "minus")


class CountingModel(nn.Module):
    """Predicts the C or G (ATAC, scaled by 2), the G (plus) and the C (minus) of each bin."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.encoder = SimpleNamespace(bin_size=BIN)
        self.config = SimpleNamespace(crop=CROP, tracks={"yeast": IDS})

    def view(self, species: str) -> None:
        assert species == "yeast"

    def forward(self, x_B4L: torch.Tensor, species: str, crop: bool) -> torch.Tensor:
        assert crop and not self.training
        count_B4N = x_B4L.unflatten(2, (-1, BIN)).sum(3)[:, :, CROP:-CROP]
        c_BN, g_BN = count_B4N[:, 1], count_B4N[:, 2]
        return torch.stack([2 * (c_BN + g_BN), g_BN / BIN, c_BN / BIN], dim=1)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    rng = np.random.default_rng(3)
    path: Path = tmp_path_factory.mktemp("genome") / "small.fa"
    lines = [
        f">{name}\n{''.join(rng.choice(list('ACGT'), size))}\n" for name, size in SIZES.items()
    ]
    path.write_text("".join(lines))
    return Genome(path)


@pytest.fixture(scope="module")
def real_model() -> ProfileModel:
    torch.manual_seed(0)
    changes = {"dim": 32, "stem_dim": 16, "bin_size": BIN, "depth": 1}
    return build_model(preset_config("enformer-tiny", {"yeast": IDS}, crop=CROP, **changes))


def regions(*rows: tuple[str, int, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["chrom", "start", "end"], orient="row")


def whole() -> pl.DataFrame:
    return regions(*((name, 0, size) for name, size in SIZES.items()))


def predict(model: nn.Module, genome: Genome, where: pl.DataFrame, **more: object) -> RegionTracks:
    return predict_tracks(model, genome, where, "yeast", TRACKS, length=LENGTH, **more)  # type: ignore[arg-type]


def test_every_bin_holds_its_own_bases_up_to_both_ends(genome: Genome) -> None:
    found = predict(CountingModel(), genome, whole())
    assert found.bins.height == 63 + 21
    for row, (chrom, start, end) in enumerate(found.bins.rows()):
        bases = decode(genome.fetch(chrom, start, end))
        g, c = bases.count("G"), bases.count("C")
        # 2 (c + g) is the scaled sum of a bin: per base and unscaled it is (c + g) / BIN.
        np.testing.assert_allclose(
            found.values_RT[row], [(c + g) / BIN, g / BIN, c / BIN], atol=1e-6
        )


def test_last_bin_ends_with_its_chromosome(genome: Genome) -> None:
    found = predict(CountingModel(), genome, regions(("chrII", 330, 331), ("chrI", 999, 1000)))
    assert found.bins.rows() == [("chrI", 992, 1000), ("chrII", 320, 331)]


def test_regions_are_widened_to_whole_bins_and_never_repeated(genome: Genome) -> None:
    found = predict(CountingModel(), genome, regions(("chrI", 20, 33), ("chrI", 30, 49)))
    assert found.bins.rows() == [("chrI", 16, 32), ("chrI", 32, 48), ("chrI", 48, 64)]


spans = st.tuples(st.sampled_from(sorted(SIZES)), st.integers(0, 330), st.integers(1, 200)).map(
    lambda span: (span[0], span[1], min(span[1] + span[2], SIZES[span[0]]))
)


@given(spans=st.lists(spans, min_size=1, max_size=4), batch_size=st.integers(1, 7))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_bin_does_not_depend_on_region_or_batch(
    genome: Genome, real_model: ProfileModel, spans: list[tuple[str, int, int]], batch_size: int
) -> None:
    reference = predict(real_model, genome, whole(), batch_size=3)
    part = predict(real_model, genome, regions(*spans), batch_size=batch_size)
    both = part.bins.join(
        reference.bins.with_row_index("row"), on=["chrom", "start", "end"], maintain_order="left"
    )
    assert both.height == part.bins.height
    np.testing.assert_allclose(
        part.values_RT, reference.values_RT[both["row"].to_numpy()], atol=1e-5
    )


def test_values_are_those_of_the_model_on_the_same_bases(
    genome: Genome, real_model: ProfileModel
) -> None:
    found = predict(real_model, genome, regions(("chrI", 256, 320)))
    bases = decode(genome.fetch("chrI", 256 - CROP * BIN, 320 + CROP * BIN))
    x_14L = torch.tensor([[[float(base == letter) for base in bases] for letter in "ACGT"]])
    with torch.no_grad():
        rate_NT = real_model.eval()(x_14L, "yeast", crop=True)[0].T.numpy()
    np.testing.assert_allclose(found.values_RT, rate_NT / [2 * BIN, 1, 1], atol=1e-5)


def test_strand_average_of_a_symmetric_model_changes_nothing(genome: Genome) -> None:
    one = predict(CountingModel(), genome, whole())
    two = predict(CountingModel(), genome, whole(), average_strands=True)
    np.testing.assert_allclose(one.values_RT, two.values_RT, atol=1e-6)


def test_strand_average_is_the_mean_of_both_strands(
    genome: Genome, real_model: ProfileModel
) -> None:
    found = predict(real_model, genome, regions(("chrI", 256, 320)), average_strands=True)
    bases = decode(genome.fetch("chrI", 256 - CROP * BIN, 320 + CROP * BIN))
    turned = bases[::-1].translate(str.maketrans("ACGT", "TGCA"))
    rates = []
    for text in (bases, turned):
        x_14L = torch.tensor([[[float(base == letter) for base in text] for letter in "ACGT"]])
        with torch.no_grad():
            rates.append(real_model.eval()(x_14L, "yeast", crop=True)[0].T.numpy())
    mean_NT = (rates[0] + rates[1][::-1][:, [0, 2, 1]]) / 2
    np.testing.assert_allclose(found.values_RT, mean_NT / [2 * BIN, 1, 1], atol=1e-5)


def test_tracks_are_joined_by_id(genome: Genome) -> None:
    turned = track_table(TRACKS.rows()[::-1])
    found = predict_tracks(
        CountingModel(), genome, whole(), "yeast", turned, length=LENGTH  # type: ignore[arg-type]
    )  # fmt: skip
    assert found.tracks.frame["id"].to_list() == list(IDS)
    expected = predict(CountingModel(), genome, whole())
    np.testing.assert_array_equal(found.values_RT, expected.values_RT)


def test_training_mode_is_left_as_it_was(genome: Genome, real_model: ProfileModel) -> None:
    real_model.train()
    predict(real_model, genome, regions(("chrI", 0, 16)))
    assert real_model.training


def test_bigwigs_hold_the_predicted_bins(genome: Genome, tmp_path: Path) -> None:
    found = predict(CountingModel(), genome, whole())
    paths = write_track_bigwigs(found, tmp_path)
    assert [path.name for path in paths] == ["ATAC.bw", "plus.bw", "minus.bw"]
    for index, path in enumerate(paths):
        for chrom, size in SIZES.items():
            here = found.region(chrom, 0, size)
            read = read_windows(path, [chrom], [0], size)[0]
            expected = np.repeat(here.values_RT[:, index], BIN)[:size]
            np.testing.assert_allclose(read, expected, atol=1e-6)


def test_no_region_gives_no_bin(genome: Genome) -> None:
    found = predict(CountingModel(), genome, whole().clear())
    assert found.values_RT.shape == (0, 3)
    assert found.bins.height == 0


def test_region_takes_the_overlapping_bins(genome: Genome) -> None:
    found = predict(CountingModel(), genome, whole()).region("chrII", 31, 33)
    assert found.bins.rows() == [("chrII", 16, 32), ("chrII", 32, 48)]
    assert found.values_RT.shape == (2, 3)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("chrI", 10, 1001), "region 1, chrI:10-1001: expected 0 <= start < end <= 1000"),
        (("chrI", 10, 10), "chrI:10-10"),
        (("chrI", -5, 10), "chrI:-5-10"),
        (("chr1", 10, 20), "no chromosome 'chr1'"),
    ],
)
def test_impossible_regions_are_named(
    genome: Genome, row: tuple[str, int, int], message: str
) -> None:
    with pytest.raises(CislensError, match=message):
        predict(CountingModel(), genome, regions(row))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"chr": ["chrI"], "start": [0], "end": [9]}, "no column 'chrom'; it has chr, start, end"),
        ({"chrom": ["chrI"], "start": [0.5], "end": [9.5]}, "'start' .* is Float64"),
        ({"chrom": ["chrI"], "start": ["0"], "end": ["9"]}, "'start' .* is String"),
        ({"chrom": ["chrI"] * 2, "start": [0, None], "end": [9, 9]}, "region 2 has no start"),
    ],
)
def test_tables_that_are_no_regions_are_refused(
    genome: Genome, frame: dict[str, list[object]], message: str
) -> None:
    with pytest.raises(CislensError, match=message):
        predict(CountingModel(), genome, pl.DataFrame(frame))


def test_an_untyped_table_without_rows_gives_no_bin(genome: Genome) -> None:
    none = pl.DataFrame({"chrom": [], "start": [], "end": []})
    assert predict(CountingModel(), genome, none).values_RT.shape == (0, 3)


@pytest.mark.parametrize("length", [100, 64])
def test_a_length_that_does_not_fit_the_model_is_refused(genome: Genome, length: int) -> None:
    with pytest.raises(CislensError, match=f"length {length} must be a multiple"):
        predict_tracks(
            CountingModel(), genome, whole(), "yeast", TRACKS, length=length  # type: ignore[arg-type]
        )  # fmt: skip


def test_a_track_table_without_the_models_tracks_is_refused(genome: Genome) -> None:
    fewer = track_table(TRACKS.rows()[:1])
    with pytest.raises(CislensError, match="no yeast track plus, minus"):
        predict_tracks(
            CountingModel(), genome, whole(), "yeast", fewer, length=LENGTH  # type: ignore[arg-type]
        )  # fmt: skip


def test_an_unknown_species_is_refused(genome: Genome, real_model: ProfileModel) -> None:
    with pytest.raises(CislensError, match="no species 'yeats'"):
        predict_tracks(real_model, genome, whole(), "yeats", TRACKS, length=LENGTH)


def test_ids_that_meet_in_one_file_name_are_refused(genome: Genome, tmp_path: Path) -> None:
    found = predict(CountingModel(), genome, regions(("chrI", 0, 16)))
    rows = [Track("a/b", "x.bw", "yeast"), Track("a b", "y.bw", "yeast")]
    clash = RegionTracks(
        found.values_RT[:, :2], found.bins, track_table(rows), "yeast", "small", BIN, SIZES
    )
    with pytest.raises(CislensError, match=r"a_b\.bw"):
        write_track_bigwigs(clash, tmp_path)


def test_shifts_average_windows_a_base_to_either_side(genome: Genome) -> None:
    """A bin is the mean of three counts of C and G, and beyond the chromosome lies N."""
    found = predict(CountingModel(), genome, whole(), shifts=(1, 0, -1))
    for row, (chrom, start, _) in enumerate(found.bins.rows()):
        moved = genome.windows([chrom] * 3, [start - 1, start, start + 1], BIN)
        counts = [(decode(codes).count("C") + decode(codes).count("G")) / BIN for codes in moved]
        assert found.values_RT[row, 0] == pytest.approx(np.mean(counts), abs=1e-6)


@pytest.fixture(scope="module")
def desert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where genomes without any C or G but one are written."""
    return tmp_path_factory.mktemp("desert")


@given(
    place=st.tuples(st.sampled_from(sorted(SIZES)), st.integers(0, 330)),
    spans=st.lists(spans, max_size=3),
    trim=st.integers(CROP, 3),
    batch_size=st.integers(1, 5),
    average=st.sampled_from(["none", "rc"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_impulse_comes_out_at_its_own_coordinates(
    desert: Path,
    place: tuple[str, int],
    spans: list[tuple[str, int, int]],
    trim: int,
    batch_size: int,
    average: str,
) -> None:
    """One G in a genome of A: only the bin that holds it differs from 0, on its own strand."""
    where, position = place
    path = desert / "impulse.fa"
    path.unlink(missing_ok=True)
    bases = {name: ["A"] * size for name, size in SIZES.items()}
    bases[where][position] = "G"
    path.write_text("".join(f">{name}\n{''.join(text)}\n" for name, text in bases.items()))
    model = TrackModel(CountingModel(), DataCard(LENGTH, TRACKS))  # type: ignore[arg-type]
    asked = [*spans, (where, max(0, position - 40), min(SIZES[where], position + 1))]
    found = predict_regions(
        model, Genome(path), regions(*asked), species="yeast", average=average, trim=trim,
        batch_size=batch_size,
    )  # fmt: skip
    table = found.table().filter(pl.col("value") != 0)
    start = position // BIN * BIN
    end = min(start + BIN, SIZES[where])
    assert table.sort("track").rows() == [
        (where, start, end, "ATAC", 1 / BIN), (where, start, end, "plus", 1 / BIN),
    ]  # fmt: skip
