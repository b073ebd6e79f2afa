import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from cislens.effects.attribution import (
    BothStrands,
    at_sequence,
    embedding_gradient,
    entropy_map,
    global_importance,
    ism,
    saliency,
)
from cislens.effects.sites import (
    Motif,
    annotate_sites,
    consensus_motif,
    find_motif,
    read_meme,
    scan,
    threshold,
)
from cislens.errors import CislensError
from cislens.example import example_path
from cislens.genome.codes import N, decode, encode, one_hot, reverse_complement
from cislens.randomness import generator

LENGTH = 24


class Linear(nn.Module):
    """A weight for each base at each position, two outputs."""

    def __init__(self):
        super().__init__()
        weights = generator(0, "linear").normal(size=(2, 4, LENGTH))
        self.w_TCL = nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, x_B4L):
        return torch.einsum("bcl,tcl->bt", x_B4L, self.w_TCL)


def convolution():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv1d(4, 8, 5, padding=2), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
            nn.Linear(8 * LENGTH, 2),
        )  # fmt: skip


def predict_with(module):
    def predict(sequences):
        module.eval()
        with torch.inference_mode():
            return module(torch.from_numpy(one_hot(np.stack(sequences)))).numpy()

    return predict


@pytest.fixture(scope="module")
def codes():
    found = generator(0, "codes").integers(0, 4, (5, LENGTH)).astype(np.uint8)
    found[0, 3] = N
    return found


def test_of_a_linear_model_saliency_and_mutagenesis_are_its_centered_weights(codes):
    module = Linear()
    w_4L = module.w_TCL.detach().numpy()[1]
    planted = np.where(codes == N, 0, (w_4L - w_4L.mean(0))[np.minimum(codes, 3), range(LENGTH)])
    assert np.allclose(saliency(module, codes, output=1), planted, atol=1e-6)
    values = ism(predict_with(module), codes, output=1)
    assert np.allclose(at_sequence(values, codes), planted, atol=1e-5)
    assert np.allclose(values[1], (w_4L - w_4L.mean(0)).T, atol=1e-5)
    assert np.abs(values.sum(2)).max() < 1e-5 and not values[0, 3].any()


def test_mutagenesis_of_any_function_is_what_each_substitution_does(codes):
    def predict(sequences):
        return np.array([float((s[:-1] * 5 + s[1:]) @ np.arange(LENGTH - 1)) for s in sequences])

    values = ism(predict, codes)
    for row, position, base in ((1, 0, 2), (2, 7, 0), (4, LENGTH - 1, 3)):
        scores = []
        for other in range(4):
            changed = codes[row].copy()
            changed[position] = other
            scores.append(predict([changed])[0])
        assert values[row, position, base] == pytest.approx(
            scores[base] - np.mean(scores), rel=1e-5
        )


def test_attributions_leave_the_network_as_it_was(codes):
    module = convolution().train()
    first = saliency(module, codes)
    assert module.training and module[0].weight.grad is None
    assert np.array_equal(saliency(module, codes), first)  # no dropout
    assert np.allclose(saliency(module, codes, batch_size=2), first, atol=1e-6)


def test_over_both_strands_the_map_of_the_reverse_complement_is_the_map_turned(codes):
    module = BothStrands(convolution())
    turned = saliency(module, reverse_complement(codes))
    assert np.allclose(turned[:, ::-1], saliency(module, codes), atol=1e-6)
    assert not np.allclose(
        saliency(module.module, reverse_complement(codes))[:, ::-1], saliency(module, codes)
    )


def test_the_bins_of_an_output_are_summed(codes):
    class Profile(nn.Module):
        def forward(self, x_B4L):
            return Linear.forward(linear, x_B4L)[:, :, None] * torch.tensor([0.25, 0.75])

    linear = Linear()
    assert np.allclose(saliency(Profile(), codes), saliency(linear, codes), atol=1e-6)


def test_the_entropy_map_is_high_where_the_model_is_sure(codes):
    class Sure:
        def base_log_probabilities(self, sequences, positions, species):
            p = np.full((len(positions), 4), 0.25, np.float32)
            p[np.array(positions) == 5] = (0.97, 0.01, 0.01, 0.01)
            return np.log(p)

    found = entropy_map(Sure(), codes, None, stranded=True)
    gain = np.log(4) + 0.97 * np.log(0.97) + 0.03 * np.log(0.01)
    assert np.allclose(found[:, 5], gain, atol=1e-5)
    assert np.abs(np.delete(found, 5, 1)).max() < 1e-6
    both = entropy_map(Sure(), codes, None)
    assert np.allclose(both[:, [5, LENGTH - 6]], gain / 2, atol=1e-5)


def test_the_gradient_at_an_embedding_is_copied_to_its_bases():
    weights = torch.tensor([3.0, 4.0])

    def head(values_BND):
        return (values_BND @ weights * torch.tensor([1.0, 2.0])).sum(1)

    module = nn.Module()
    module.forward = head
    norms = embedding_gradient(module, torch.zeros(1, 2, 2), bin_size=3, length=5)
    assert norms.tolist() == [[5, 5, 5, 10, 10]]


def test_a_motif_that_counts_has_an_importance_and_its_sham_none():
    motif = encode("TGACGTCA")

    def predict(sequences):
        return np.array([2.0 * decode(s).count("TGACGTCA") for s in sequences])

    backgrounds = generator(0, "gia").integers(0, 4, (20, 60)).astype(np.uint8)
    found = global_importance(predict, motif, backgrounds, seed=0)
    assert found.effect == pytest.approx(2.0, abs=0.02)
    assert abs(found.sham) < 0.02 and found.p_value < 1e-30
    other = global_importance(predict, encode("ACACACAG"), backgrounds, seed=0)
    assert abs(other.effect) < 0.02 and other.p_value > 0.05
    assert global_importance(predict, motif, backgrounds, seed=0) == found
    with pytest.raises(CislensError, match="no sham"):
        global_importance(predict, encode("AAAA"), backgrounds, seed=0)
    with pytest.raises(CislensError, match="does not fit"):
        global_importance(predict, np.tile(motif, 9), backgrounds, seed=0)


@pytest.mark.peers
def test_saliency_and_mutagenesis_are_those_of_tangermeme(codes):
    tangermeme = pytest.importorskip("tangermeme.saliency")
    mutagenesis = pytest.importorskip("tangermeme.saturation_mutagenesis")
    module = convolution().eval()
    x_B4L = torch.from_numpy(one_hot(codes[1:]))
    theirs = tangermeme.saliency(module, x_B4L, target=1, device="cpu").sum(1).numpy()
    assert np.allclose(saliency(module, codes[1:], output=1), theirs, atol=1e-6)
    theirs = mutagenesis.saturation_mutagenesis(
        module, x_B4L, target=1, hypothetical=True, device="cpu"
    ).numpy()
    ours = ism(predict_with(module), codes[1:], output=1)
    assert np.allclose(ours.transpose(0, 2, 1), theirs, atol=1e-5)


@pytest.mark.peers
def test_saliency_is_the_projection_of_captums_gradient(codes):
    captum = pytest.importorskip("captum.attr")
    module = convolution().eval()
    x_B4L = torch.from_numpy(one_hot(codes)).requires_grad_(True)
    gradient = captum.Saliency(module).attribute(x_B4L, target=0, abs=False)
    corrected = (gradient - gradient.mean(1, keepdim=True)) * x_B4L
    assert np.allclose(saliency(module, codes), corrected.sum(1).detach().numpy(), atol=1e-6)


def test_a_consensus_is_found_on_both_strands_and_overlaps_are_joined():
    motif = consensus_motif("TGTANATA")
    sequences = [
        encode("CCTGTACATACC"),
        encode("GGTATTTACAGG"),
        encode("TGTANATACCCC"),
        encode("TG"),
    ]
    hits = scan(sequences, motif)
    assert hits.select("sequence", "start", "end", "strand").rows() == [
        (0, 2, 10, "+"),
        (1, 2, 10, "-"),
    ]
    assert hits["score"].to_list() == pytest.approx([14.0, 14.0], abs=0.05)
    assert annotate_sites(sequences, motif, stranded=True)[1] == []
    repeat = consensus_motif("ACACAC")
    joined = annotate_sites([encode("GACACACACG")], repeat, p_value=3e-4)
    assert joined == [[{"start": 1, "end": 9}]]


def test_the_threshold_is_the_exact_tail_of_all_words():
    probabilities = generator(3, "pwm").dirichlet(np.ones(4), size=6)
    motif = Motif("random", probabilities)
    words = np.stack(np.meshgrid(*[np.arange(4)] * 6, indexing="ij")).reshape(6, -1).T
    odds = np.rint((np.log2(probabilities + 1e-4) + 2) * 100)
    scores = odds[np.arange(6), words].sum(1)
    for p_value in (0.5, 0.03, 0.002):
        least = threshold(motif, p_value)
        assert (scores >= least).mean() <= p_value < (scores >= least - 1).mean()
    with pytest.raises(CislensError, match="too short or too vague"):
        threshold(consensus_motif("ACGT"), 1e-4)


def test_motifs_of_a_file_are_found_by_either_name(tmp_path):
    motifs = read_meme(example_path("motifs/JASPAR2026_CORE_fungi.meme.gz"))
    reb1 = find_motif(motifs, "REB1")
    assert decode(reb1.consensus).count("CCGGGTA") + decode(
        reverse_complement(reb1.consensus)
    ).count("CCGGGTA") == 1  # fmt: skip
    assert find_motif(motifs, reb1.name.split()[0]) is reb1
    assert np.allclose(reb1.probabilities_W4.sum(1), 1)
    with pytest.raises(CislensError, match=r"no motif is called 'REB'. Did you mean 'REB1'"):
        find_motif(motifs, "REB")
    path = tmp_path / "bad.meme"
    path.write_text("MOTIF a\nletter-probability matrix: w= 2\n0.5 0.5 0 0\n0.5 0.5 0.5 0\n")
    with pytest.raises(CislensError, match=r"bad.meme line 4: '0.5 0.5 0.5 0' is not four"):
        read_meme(path)
    path.write_text("MOTIF a\n")
    with pytest.raises(CislensError, match="holds no motif"):
        read_meme(path)
    with pytest.raises(CislensError, match="no IUPAC letter"):
        consensus_motif("TGXA")


@pytest.mark.peers
@pytest.mark.slow
def test_hits_are_those_of_memelite():
    fimo = pytest.importorskip("memelite").fimo
    motif = find_motif(read_meme(example_path("motifs/JASPAR2026_CORE_fungi.meme.gz")), "REB1")
    sequences = generator(5, "scan").integers(0, 4, (200, 500)).astype(np.uint8)
    ours = scan(sequences, motif, 1e-3)
    theirs = fimo(
        {"m": motif.probabilities_W4.T.copy()}, one_hot(sequences), threshold=1e-3, bin_size=0.01
    )
    theirs = pl.DataFrame({k: np.concatenate([np.asarray(t[k]) for t in theirs])
                           for k in ("sequence_name", "start", "score")})  # fmt: skip
    assert len(ours) > 100
    # Both round scores, so a hit within rounding of the threshold may be in one only.
    edge = threshold(motif, 1e-3) / 100 + 0.01 * len(motif)
    clear = ours.filter(pl.col("score") > edge)
    their_clear = theirs.filter(pl.col("score") > edge)
    assert set(clear.select("sequence", "start").rows()) == {
        (int(row), start) for row, start in their_clear.select("sequence_name", "start").rows()
    }
