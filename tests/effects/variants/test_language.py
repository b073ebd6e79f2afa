import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from cislens.effects.variants.language import as_subject
from cislens.effects.variants.scores import score_variants
from cislens.errors import CislensError
from cislens.genome.codes import decode, reverse_complement
from cislens.genome.reference import Genome
from cislens.models.saving import save_model
from cislens.models.sequence import SequenceModel, SequenceModelConfig
from cislens.recipes.reading import read_section

LENGTH = 64


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path: Path = tmp_path_factory.mktemp("genome") / "small.fa"
    path.write_text(f">chr1\n{''.join(np.random.default_rng(2).choice(list('ACGT'), 600))}\n")
    return Genome(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of sequences whose head tells bases apart."""
    torch.manual_seed(1)
    encoder = {"kind": "findna-plus", "dim": 16, "depth": 1, "stem_dim": 8}
    model = SequenceModel(read_section({"encoder": encoder}, SequenceModelConfig, "test"))
    out = tmp_path_factory.mktemp("run") / "model"
    save_model(model, out, "# untrained\n")
    return out


def variants(genome: Genome) -> pl.DataFrame:
    rows = []
    for first in (0, 5, 200, 310, 599):
        ref = decode(genome.fetch("chr1", first, first + 1))
        alt = "ACGT"[("ACGT".index(ref) + 2) % 4]
        rows += [("chr1", first + 1, ref, alt), ("chr1", first + 1, ref, ref + "GG")]
        rows += [("chr1", first + 1, ref, ref)]
    return pl.DataFrame(rows, schema=["chrom", "pos", "ref", "alt"], orient="row")


def test_the_ratio_is_of_the_hidden_base_on_both_strands(genome: Genome, folder: Path) -> None:
    table = variants(genome)
    found = score_variants(folder.parent, genome, table, length=LENGTH)
    language = as_subject(folder).language
    assert language is not None
    assert found.tracks is None
    for row, (_, pos, ref, alt) in enumerate(table.rows()):
        score = found.scalars["llr"][row]
        if len(alt) > 1:
            assert np.isnan(score)
        elif ref == alt:
            assert score == 0
        else:
            codes = genome.fetch("chr1", pos - 1 - LENGTH // 2, pos - 1 + LENGTH // 2)
            r, a = "ACGT".index(ref), "ACGT".index(alt)
            (p,) = language.base_log_probabilities([codes], [LENGTH // 2], None)
            (q,) = language.base_log_probabilities(
                [reverse_complement(codes)], [LENGTH // 2 - 1], None
            )
            assert score == pytest.approx((p[a] - p[r] + q[3 - a] - q[3 - r]) / 2, abs=1e-5)
            assert score != 0


def test_embeddings_of_equal_alleles_are_no_distance_apart(genome: Genome, folder: Path) -> None:
    table = variants(genome)
    found = score_variants(folder, genome, table, length=LENGTH)
    same = (table["ref"] == table["alt"]).to_numpy()
    for name in ("embedding_l1", "embedding_l2", "embedding_cosine"):
        assert not found.scalars[name][same].any()
        assert (found.scalars[name][~same] > 0).all()


def test_what_needs_tracks_is_refused(genome: Genome, folder: Path) -> None:
    with pytest.raises(CislensError, match="predicts no tracks, so that center means nothing"):
        score_variants(folder, genome, variants(genome), center=100)
    with pytest.raises(CislensError, match="no score 'log_fold' here"):
        score_variants(folder, genome, variants(genome), scores=["log_fold"])


def test_a_model_of_tracks_tells_no_bases(model_folder: Path) -> None:
    subject = as_subject(model_folder)
    assert subject.language is None
    assert subject.tracks is not None
    assert subject.encoder is subject.tracks.net.encoder


def test_a_species_that_an_encoder_was_not_trained_on_is_refused(
    genome: Genome, folder: Path, tmp_path: Path
) -> None:
    """The encoder would read it as an unknown species, and a name that is misspelt with it."""
    encoder = {"kind": "space-plus", "species": ["yeast"], "bin_size": 16, "depth": 1}
    small = {"dim": 16, "heads": 2, "key_dim": 8, "stem_dim": 8, "experts": 2, "code_dim": 8}
    model = SequenceModel(read_section({"encoder": encoder | small}, SequenceModelConfig, "test"))
    save_model(model, tmp_path / "model", "# untrained\n")
    score_variants(tmp_path / "model", genome, variants(genome), species="yeast", length=LENGTH)
    with pytest.raises(CislensError, match=r"knows no species 'yeats'\. Did you mean 'yeast'"):
        score_variants(tmp_path / "model", genome, variants(genome), species="yeats")


@pytest.mark.parametrize("given_run", [False, True])
def test_a_head_for_bases_that_was_never_trained_gives_no_ratio(
    genome: Genome, folder: Path, tmp_path: Path, given_run: bool
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    recipe = {"store": "store", "model": "own", "training": {"steps": 1}}
    given = tmp_path if given_run else tmp_path / "model"
    for masked in (1.0, 0.0):
        objective = {"objective": {"name": "distillation", "masked": masked}}
        (tmp_path / "recipe.yaml").write_text(json.dumps(recipe | objective))
        found = score_variants(given, genome, variants(genome), length=LENGTH)
        assert ("llr" in found.scalars) is (masked > 0)
        assert "embedding_l2" in found.scalars
    with pytest.raises(CislensError, match="no score 'llr' here"):
        score_variants(given, genome, variants(genome), scores=["llr"])
