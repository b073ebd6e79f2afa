import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from cislens.effects.attribution.insertion import asked_motifs, insert_motifs
from cislens.effects.attribution.plan import Extras, Plan, Question
from cislens.effects.attribution.subject import Subject
from cislens.errors import CislensError
from cislens.example import example_path
from cislens.genome.codes import encode, one_hot
from cislens.genome.reference import open_genome
from cislens.motifs.library import read_library
from cislens.motifs.sites import consensus_motif


class Counts(nn.Module):
    """How well the best place of a window fits a word, less 7: above 0 where the word is whole."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.read = 0
        self.register_buffer("filter", torch.from_numpy(one_hot(encode(word)))[None])

    def forward(self, x_B4L: Tensor) -> Tensor:
        self.read += len(x_B4L)
        fit = nn.functional.conv1d(x_B4L, self.filter)  # type: ignore[arg-type]
        return nn.functional.relu(fit - 7).sum(2)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Sixteen windows of 200 bp and one at the chromosome's start; the net counts TGACTCAG."""
    rng = np.random.default_rng(1)
    (tmp_path / "g.fa").write_text(f">chr1\n{''.join(rng.choice(list('ACGT'), 30_000))}\n")
    genome = open_genome(tmp_path / "g.fa")
    starts = [-50, *range(1000, 9000, 500)]
    windows = pl.DataFrame(
        {"chrom": "chr1", "start": starts, "end": [s + 200 for s in starts], "name": "r"}
    )
    net = Counts("TGACTCAG")
    monkeypatch.setattr(Question, "network", lambda *_: net)
    subject = Subject(net, None, 200, "")
    return Plan(subject, genome, windows, Question("x"), Extras(), tmp_path / "out", "cpu")


@pytest.mark.parametrize("background", ["shuffled", "genome"])
def test_the_motif_that_counts_has_an_effect_of_one_and_another_none(
    plan: Plan, background: str, caplog: pytest.LogCaptureFixture
) -> None:
    motifs = [consensus_motif("TGACTCAG"), consensus_motif("GGGCGGGG")]
    with caplog.at_level(logging.WARNING, "cislens"):
        found = insert_motifs(plan, motifs, background=background, count=60)  # type: ignore[arg-type]
    assert "1 of 17 regions have an N" in caplog.text
    assert found["motif"].to_list() == ["TGACTCAG", "GGGCGGGG"]
    assert found["backgrounds"].to_list() == [60, 60]
    own, other = found.iter_rows(named=True)
    assert own["effect"] == pytest.approx(1, abs=0.05)
    assert own["low"] <= own["effect"] <= own["high"]
    assert own["p_value"] < 1e-9
    assert abs(own["sham"]) < 0.1
    assert abs(other["effect"]) < 0.1
    assert other["p_value"] > 0.01
    # The backgrounds themselves are read once, and with each motif and its sham.
    assert plan.subject.model.read == 60 * (1 + 2 * 2)  # type: ignore[operator]
    again = insert_motifs(plan, motifs[:1], background=background, count=60)  # type: ignore[arg-type]
    assert again.equals(found[:1])


def test_backgrounds_of_the_genome_lie_clear_of_the_regions(plan: Plan) -> None:
    from cislens.effects.attribution.insertion import _elsewhere

    codes_nL = _elsewhere(plan, 100)
    assert codes_nL.shape == (100, 200)
    assert (codes_nL != 4).all()
    chromosome = plan.genome.chromosome("chr1").tobytes()
    starts = [chromosome.find(row.tobytes()) for row in codes_nL]
    windows = plan.windows["start"].to_list()
    assert all(abs(start - other) >= 200 for start in starts for other in windows)


def test_motifs_are_found_by_letters_identifier_or_name() -> None:
    library = read_library(str(example_path("motifs/JASPAR2026_vertebrates_subset.meme.gz")))
    first = library.motifs[0]
    found = asked_motifs(["TGANTCA", first.id, "TGANTCA"], library)
    assert [motif.name for motif in found] == ["TGANTCA", first.name]
    with pytest.raises(CislensError, match="give --motifs"):
        asked_motifs([first.id], None)
    with pytest.raises(CislensError, match=r"no motif is called 'MA9999\.1'"):
        asked_motifs(["MA9999.1"], library)


def test_regions_that_give_no_background_are_refused(plan: Plan) -> None:
    from dataclasses import replace

    with pytest.raises(CislensError, match="every region has an N"):
        insert_motifs(replace(plan, windows=plan.windows[:1]), [consensus_motif("TGACTCAG")])
    with pytest.raises(CislensError, match="no background 'random'"):
        insert_motifs(plan, [consensus_motif("TGACTCAG")], background="random")  # type: ignore[arg-type]
