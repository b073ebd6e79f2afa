"""The field's own tools go on from what is written here (extra `interpret`)."""

from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from cislens.effects.attribution.attribute import Attributions, attribute
from cislens.effects.attribution.files import write_modisco
from cislens.effects.attribution.seqlets import find_seqlets, name_seqlets
from cislens.example import example_path
from cislens.genome.codes import Codes, encode, one_hot, reverse_complement
from cislens.motifs.library import read_library
from cislens.motifs.sites import find_motif

pytestmark = pytest.mark.peers

REGIONS, LENGTH = 240, 400
PLACE = 180  # inside the 400 bp that modisco looks at


class Detector(nn.Module):
    """A motif's matches on both strands, added up where they are good."""

    def __init__(self, consensus: Codes) -> None:
        super().__init__()
        both = np.stack([one_hot(consensus), one_hot(reverse_complement(consensus))])
        self.register_buffer("filters", torch.from_numpy(both))

    def forward(self, x_B4L: Tensor) -> Tensor:
        width = self.filters.shape[2]  # type: ignore[union-attr, index]
        fit = nn.functional.conv1d(x_B4L, self.filters)  # type: ignore[arg-type]
        return nn.functional.softplus(2 * (fit - width + 2)).sum((1, 2))[:, None]


@pytest.fixture(scope="module")
def consensus() -> Codes:
    """GATA-like in length and unlike any shift of itself."""
    return encode("ATGACGTCATCG")


@pytest.fixture(scope="module")
def explained(consensus: Codes) -> Attributions:
    """Attributions of random sequences with the motif in each, on either strand."""
    rng = np.random.default_rng(7)
    codes = rng.integers(0, 4, (REGIONS, LENGTH)).astype(np.uint8)
    for row in range(REGIONS):
        at = PLACE + int(rng.integers(0, 30))
        word = consensus if row % 2 else reverse_complement(consensus)
        codes[row, at : at + len(word)] = word
    return attribute(Detector(consensus), one_hot(codes), 0, device="cpu", average="none")


@pytest.mark.slow
def test_modisco_lite_reads_the_files_and_finds_the_planted_motif(
    explained: Attributions, consensus: Codes, tmp_path: Path
) -> None:
    from click.testing import CliRunner
    from modiscolite.cli import cli

    starts = np.arange(REGIONS) * 1000
    windows = pl.DataFrame({"chrom": "chr1", "start": starts, "end": starts + LENGTH, "name": "r"})
    sizes = {"chr1": 1000 * REGIONS}
    write_modisco(tmp_path, windows, explained.hypothetical, explained.one_hot, sizes)
    out = tmp_path / "modisco.h5"
    given = ["-s", tmp_path / "ohe.npz", "-a", tmp_path / "shap.npz", "-n", "1000", "-o", out]
    ran = CliRunner().invoke(cli, ["motifs", *map(str, given)])
    assert ran.exit_code == 0, ran.output
    with h5py.File(out) as file:
        pattern = file["pos_patterns"]["pattern_0"]
        sequence_L4 = pattern["sequence"][:]
        seqlets = pattern["seqlets"]["n_seqlets"][0]
        first = {name: pattern["seqlets"][name][0] for name in ("example_idx", "start", "end")}
    assert seqlets > 0.9 * REGIONS
    found = sequence_L4.argmax(1).astype(np.uint8).tobytes()
    assert consensus.tobytes() in found or reverse_complement(consensus).tobytes() in found
    # `modisco seqlet-bed` puts a seqlet where it lies in the genome.
    bed = tmp_path / "found.bed"
    given = ["-i", out, "-p", tmp_path / "regions.bed", "-o", bed, "-c", "*"]
    ran = CliRunner().invoke(cli, ["seqlet-bed", *map(str, given)])
    assert ran.exit_code == 0, ran.output
    row = next(line.split("\t") for line in bed.read_text().splitlines() if line.startswith("chr1"))
    assert int(row[2]) == starts[first["example_idx"]] + first["end"]


@pytest.mark.slow  # what it calls is compiled first
def test_tangermeme_calls_the_planted_motif_and_tomtom_knows_motifs_by_their_seqlets(
    explained: Attributions, consensus: Codes
) -> None:
    found = find_seqlets(explained.hypothetical, explained.one_hot, 1e-3)
    planted = found.filter(pl.col("start").is_between(PLACE - 3, PLACE + 45))
    assert planted["row"].n_unique() > 0.95 * REGIONS
    library = read_library(str(example_path("motifs/JASPAR2026_vertebrates_subset.meme.gz")))
    motif = find_motif(library.motifs, library.motifs[0].id)
    one = one_hot(motif.consensus)[None]
    seqlet = pl.DataFrame({"row": [0], "start": [0], "end": [len(motif)]})
    named = name_seqlets(seqlet, one, library.motifs)
    assert named["motif"][0] == motif.name
    assert named["motif_p"][0] < 1e-4


def test_captum_gives_the_gradient_that_saliency_centers(
    explained: Attributions, consensus: Codes
) -> None:
    from captum.attr import Saliency

    x = torch.from_numpy(explained.one_hot[:8])
    gradient = Saliency(Detector(consensus)).attribute(x.requires_grad_(), abs=False).detach()
    centered = gradient - gradient.mean(1, keepdim=True)
    np.testing.assert_allclose(explained.hypothetical[:8], centered.numpy(), atol=1e-6)
