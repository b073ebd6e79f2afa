import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cislens.effects.attribution.target_parser import parse_target
from cislens.effects.attribution.targets import FLOOR, Grid, Reading, read_probe, write_probe
from cislens.errors import CislensError, MissingFileError
from cislens.randomness import generator
from cislens.signal.tracks import Track, track_table

TRACKS = track_table(
    [
        Track("k-atac", "1.bw", "human", assay="ATAC", biosample="K562"),
        Track("g-atac", "2.bw", "human", assay="ATAC", biosample="GM12878 (B, cell)"),
        Track("k-cage", "3.bw", "human", assay="CAGE", biosample="K562"),
    ]
)
# Eight bins of 16 bp, the middle between the fourth and the fifth.
GRID = Grid(-64, 16, 8)


@pytest.fixture(scope="module")
def rates():
    values = generator(0, "rates").random((5, 3, 8)).astype(np.float32)
    return torch.from_numpy(values)


def value(text, values, **more):
    target = parse_target(text, TRACKS)
    assert target.text == text
    return target(Reading(values, GRID, **more))


@pytest.mark.parametrize(
    ("text", "tracks", "bins"),
    [
        ("mean()", [0, 1, 2], slice(0, 8)),
        ('mean(assay == "ATAC")', [0, 1], slice(0, 8)),
        ('mean(biosample == "K562")[-16:16]', [0, 2], slice(3, 5)),
        ('mean(biosample == "K562")[0:1]', [0, 2], slice(4, 5)),
        ('mean(biosample == "K562") [-17 : +17]', [0, 2], slice(2, 6)),
        ('mean(id in ("k-atac", "k-cage"))[-900:-48]', [0, 2], slice(0, 1)),
        ('bin(biosample == "GM12878 (B, cell)", -1)', [1], slice(3, 4)),
        ('bin(biosample == "GM12878 (B, cell)", 0)', [1], slice(4, 5)),
        ('bin(assay == "ATAC" and (biosample ~ "^K"), 63)', [0], slice(7, 8)),
    ],
)
def test_means_and_bins_are_of_the_tracks_and_bins_that_are_named(rates, text, tracks, bins):
    assert torch.allclose(value(text, rates), rates[:, tracks, bins].mean((1, 2)), atol=1e-6)


def test_a_difference_is_the_log_ratio_of_two_means(rates):
    found = value('difference(biosample == "K562", biosample ~ "B, cell")[-16:16]', rates)
    ratio = rates[:, [0, 2], 3:5].mean((1, 2)) / rates[:, 1, 3:5].mean(1)
    assert torch.allclose(found, ratio.log(), atol=1e-4)
    assert torch.allclose(
        value('log(bin(id == "k-cage", -64))', rates), (rates[:, 2, 0] + FLOOR).log()
    )
    nothing = value('difference(assay == "CAGE", assay == "ATAC")', torch.zeros(1, 3, 8))
    assert nothing.tolist() == [0]  # rates of 0 have a logarithm


def test_a_probe_is_a_direction_in_the_embedding(tmp_path):
    values = torch.from_numpy(generator(0, "d").normal(size=(2, 6, 8)).astype(np.float32))
    weights = generator(0, "w").normal(size=6).astype(np.float32)
    write_probe(tmp_path / "probe.npz", weights, 0.5)
    text = f"probe({tmp_path / 'probe.npz'})"
    target = parse_target(text, None)
    assert target.reads == "embedding"
    w = torch.from_numpy(weights)
    assert torch.allclose(target(Reading(values, GRID)), values.mean(2) @ w + 0.5, atol=1e-5)
    valid = torch.ones(2, 8, dtype=torch.bool)
    valid[:, :3] = False
    found = target(Reading(values, GRID, valid))
    assert torch.allclose(found, values[:, :, 3:].mean(2) @ w + 0.5, atol=1e-5)
    summary = values[:, :, 0]
    assert torch.allclose(target(Reading(values, GRID, valid, summary)), summary @ w + 0.5)
    # A stretch is of bins, whatever summary the encoder makes.
    inside = parse_target(f'probe("{tmp_path / "probe.npz"}")[-32:0]', None)
    found = inside(Reading(values, GRID, valid, summary))
    assert torch.allclose(found, values[:, :, 3] @ w + 0.5, atol=1e-5)


def test_targets_are_differentiable(rates):
    x = rates.clone().requires_grad_(True)
    value('bin(id == "k-cage", 20)', x).sum().backward()
    assert x.grad.nonzero().tolist() == [[row, 2, 5] for row in range(5)]


@given(st.integers(-64, 63), st.integers(1, 200))
def test_the_bins_of_a_stretch_are_those_that_overlap_it(start, width):
    bins = GRID.within((start, start + width))
    begin = [GRID.first + 16 * i for i in range(8)]
    overlap = [i for i in range(8) if begin[i] < start + width and begin[i] + 16 > start]
    assert list(range(8))[bins] == overlap
    assert GRID.at(start) == overlap[0]


@pytest.mark.parametrize(("start", "end"), [(-200, -64), (64, 90)])
def test_a_stretch_or_an_offset_without_bins_is_refused(start, end):
    with pytest.raises(CislensError, match=r"no bin overlaps .* reach from -64 to 64, 16 bp each"):
        GRID.within((start, end))
    with pytest.raises(CislensError, match="no bin lies 64 bp from"):
        parse_target("bin(, 64)", TRACKS).require(GRID)
    for text in ("mean()", "difference(, )", "log(mean()[64:90])"):
        where = f"[{start}:{end}]"
        text = text.replace("[64:90]", where) if "[" in text else text + where
        with pytest.raises(CislensError, match="no bin overlaps"):
            parse_target(text, TRACKS).require(GRID)


def test_a_probe_that_is_none_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"probe .*absent.npz does not exist"):
        parse_target(f"probe({tmp_path / 'absent.npz'})", None)
    (tmp_path / "text.npz").write_text("weights")
    with pytest.raises(CislensError, match=r"or no \.npz file"):
        read_probe(tmp_path / "text.npz")
    np.savez(tmp_path / "wide.npz", weights=np.zeros((2, 3)))
    with pytest.raises(CislensError, match="holds weights; expected `weights`"):
        read_probe(tmp_path / "wide.npz")
    np.savez(tmp_path / "nan.npz", weights=np.full(3, np.nan))
    with pytest.raises(CislensError, match="not finite"):
        read_probe(tmp_path / "nan.npz")
    np.savez(tmp_path / "bare.npz", weights=np.ones(3))
    weights, intercept = read_probe(tmp_path / "bare.npz")
    assert weights.tolist() == [1, 1, 1] and intercept == 0
