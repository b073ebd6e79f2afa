import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.motifs.channels import (
    LIMIT,
    Constants,
    MotifRegression,
    access_channel,
    covariates,
    expression_channel,
    log_valid_share,
    motif_channel,
)

R, T = 400, 3


@pytest.fixture
def measured():
    """Values that lean on GC, CpG and N, with noise of deviation 0.5, 1 and 2."""
    rng = np.random.default_rng(0)
    columns = covariates(rng.uniform(0.3, 0.7, R), rng.uniform(0, 1.2, R))
    share = np.where(rng.random((R, 1)) < 0.2, np.log(rng.uniform(0.5, 1, (R, T))), 0)
    beta = rng.normal(size=(T, 5)) * [5, 1, 20, 2, 3] + [0, 15, 0, 0, 0]
    noise = rng.normal(size=(R, T)) * [0.5, 1, 2]
    return columns @ beta[:, :4].T + share * beta[:, 4] + noise, columns, share


def solved(raw, columns, share, value="occupancy", blocks=1):
    regression = MotifRegression(raw.shape[1])
    for part in np.array_split(np.arange(len(raw)), blocks):
        regression.add(raw[part], columns[part], share[part])
    return regression.solve([f"M{t}" for t in range(raw.shape[1])], value)


def constants(beta, sd):
    pair = np.array([0, 1], np.float32)
    return Constants(beta, sd, np.zeros(1001, np.float32), pair, pair)


@pytest.mark.parametrize("blocks", [1, 7, 1000])
def test_coefficients_are_those_of_least_squares_whatever_the_blocks(measured, blocks):
    raw, columns, share = measured
    raw[5:40, 1] = np.nan
    beta, sd = solved(raw, columns, share, blocks=blocks)
    for t in range(T):
        known = np.isfinite(raw[:, t])
        design = np.column_stack([columns, share[:, t]])[known]
        expected = np.linalg.lstsq(design, raw[known, t], rcond=None)[0]
        np.testing.assert_allclose(beta[t], expected, rtol=1e-5, atol=1e-5)
        left = raw[known, t] - design @ expected
        assert sd[t] == pytest.approx(left.std(), rel=1e-5)
    np.testing.assert_allclose(sd, [0.5, 1, 2], rtol=0.1)


def test_the_channel_has_mean_0_and_deviation_1_and_does_not_go_with_composition(measured):
    raw, columns, share = measured
    found = motif_channel(raw, columns, share, constants(*solved(raw, columns, share)))
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-4)
    assert np.abs(np.corrcoef(columns[:, 1], raw[:, 0])[0, 1]) > 0.5
    assert np.abs(np.corrcoef(columns[:, 1], found[:, 0])[0, 1]) < 1e-3


def test_without_an_n_the_share_is_left_out(measured):
    raw, columns, share = measured
    beta, sd = solved(raw, columns, np.zeros_like(share))
    assert (beta[:, 4] == 0).all()
    found = [motif_channel(raw, columns, given, constants(beta, sd)) for given in (None, share)]
    np.testing.assert_array_equal(*found)


def test_values_are_cut_at_six_deviations_and_0_where_there_is_none(measured):
    raw, columns, share = measured
    fitted = constants(*solved(raw, columns, share))
    raw[0], raw[1], raw[2] = np.nan, 1e4, -1e4
    found = motif_channel(raw, columns, share, fitted)
    assert (found[0] == 0).all()
    assert (found[1] == LIMIT).all()
    assert (found[2] == -LIMIT).all()


def test_motifs_without_a_hit_are_named_with_the_remedy(measured):
    raw, columns, share = measured
    raw = np.abs(np.round(raw))
    raw[:, [0, 2]] = 0
    with pytest.raises(CislensError, match=r"2 of 3 motifs \(M0, M2\).*larger p_value.*occupancy"):
        solved(raw, columns, share, "hits")


def test_motifs_of_one_value_or_none_are_refused(measured):
    raw, columns, share = measured
    with pytest.raises(CislensError, match=r"1 of 3 motifs \(M1\): the value is the same"):
        solved(np.where([False, True, False], 3.0, raw), columns, share)
    with pytest.raises(CislensError, match=r"1 of 3 motifs \(M2\): no training region has a place"):
        solved(np.where([False, False, True], np.nan, raw), columns, share)


def test_the_share_of_placements_without_n_is_counted_one_by_one():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 4, (5, 30)).astype(np.uint8)
    codes[1, 10], codes[2, :3], codes[3, ::7], codes[4] = 4, 4, 4, 4
    widths = np.array([4, 9, 4, 40])
    found = log_valid_share(codes, widths)
    for row, region in enumerate(codes):
        for column, width in enumerate(widths):
            words = [region[at : at + width] for at in range(30 - width + 1)]
            clean = [4 not in word for word in words]
            expected = np.log(np.mean(clean)) if any(clean) else 0
            assert found[row, column] == pytest.approx(expected)


@pytest.fixture
def counts():
    """Signal of four cell types, each with a depth and a distribution of its own."""
    rng = np.random.default_rng(2)
    shape = rng.gamma(1.0, size=(R, 1)) * rng.gamma(2.0, size=(R, 4))
    return shape ** [1, 1.3, 0.8, 1.1] * [10, 300, 40, 1000]


TRAIN_R = np.arange(R) < 300
TRAIN_C = np.array([True, True, True, False])
CELLS = ("a", "b", "c", "held out")


def test_cell_types_have_one_distribution_of_accessibility(counts):
    found, reference, scale = access_channel(counts, TRAIN_R, TRAIN_C, CELLS)
    train = np.sort(found[TRAIN_R], axis=0)
    np.testing.assert_allclose(train[:, TRAIN_C].mean(), 0, atol=1e-3)
    np.testing.assert_allclose(train[:, TRAIN_C].std(), 1, atol=1e-3)
    assert np.abs(train - train[:, :1]).max() < 0.1
    assert (np.diff(reference) >= 0).all()
    assert scale[1] > 0
    for cell in range(4):
        order = np.argsort(counts[:, cell], kind="stable")
        assert (np.diff(found[order, cell]) >= 0).all()


def test_equal_counts_stay_equal(counts):
    counts[::2] = 0
    found, _reference, _scale = access_channel(counts, TRAIN_R, TRAIN_C, CELLS)
    for cell in range(4):
        assert len(np.unique(found[counts[:, cell] == 0, cell])) == 1


def test_constants_of_accessibility_see_nothing_but_training(counts):
    _found, reference, scale = access_channel(counts, TRAIN_R, TRAIN_C, CELLS)
    other = counts.copy()
    other[~TRAIN_R] *= 17
    other[:, 3] = other[::-1, 3] ** 2 + 1
    _found, reference2, scale2 = access_channel(other, TRAIN_R, TRAIN_C, CELLS)
    assert np.array_equal(reference, reference2)
    assert np.array_equal(scale, scale2)
    other[0, 0] += 1000
    _found, reference3, _scale = access_channel(other, TRAIN_R, TRAIN_C, CELLS)
    assert not np.array_equal(reference, reference3)


def test_a_cell_type_without_signal_in_training_regions_is_refused(counts):
    counts[:300, 1] = 0
    with pytest.raises(CislensError, match="cell type 'b' has no signal in any of the 300"):
        access_channel(counts, TRAIN_R, TRAIN_C, CELLS)


def test_one_constant_score_tells_nothing(counts):
    found, _reference, scale = access_channel(np.ones((R, 1)), TRAIN_R, TRAIN_C[:1], CELLS[:1])
    assert (found == 0).all()
    assert scale[1] == 1


def test_expression_is_scaled_by_training_cells_and_0_for_missing_genes():
    tpm = np.random.default_rng(3).gamma(1, 30, (6, 4))
    missing = np.array([False, True, False, False, False, False])
    found, scale = expression_channel(tpm, missing, TRAIN_C)
    logs = np.log1p(tpm)
    inside = logs[~missing][:, TRAIN_C]
    np.testing.assert_allclose(scale, [inside.mean(), inside.std()], rtol=1e-6)
    np.testing.assert_allclose(found[0], (logs[0] - scale[0]) / scale[1], rtol=1e-4)
    assert (found[1] == 0).all()
    tpm[:, 3], tpm[1] = 1e5, 1e5
    assert np.array_equal(expression_channel(tpm, missing, TRAIN_C)[1], scale)


def test_constants_survive_a_file_and_their_digest_knows_split_and_motifs(tmp_path, measured):
    first = constants(*solved(*measured))
    first.write(tmp_path / "constants.npz")
    read = Constants.read(tmp_path / "constants.npz")
    regions = pl.DataFrame({"region_id": ["a", "b"], "split": ["train", "test"]})
    cells = pl.DataFrame({"cell_id": ["x"], "split": ["train"]})
    digest = first.digest(["M0"], regions, cells)
    assert read.digest(["M0"], regions, cells) == digest
    moved = regions.with_columns(split=pl.Series(["test", "train"]))
    held = cells.with_columns(split=pl.lit("test"))
    other = constants(first.beta_TF, first.sd_T + np.float32(1e-3))
    different = {
        first.digest(["M1"], regions, cells),
        first.digest(["M0"], moved, cells),
        first.digest(["M0"], regions, held),
        other.digest(["M0"], regions, cells),
    }
    assert len(different | {digest}) == 5


def test_damaged_constants_are_named(tmp_path):
    (tmp_path / "constants.npz").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(CislensError, match=r"constants\.npz is damaged"):
        Constants.read(tmp_path / "constants.npz")
