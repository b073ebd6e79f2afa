import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.example import example_path
from cislens.genome.codes import N, encode, one_hot, reverse_complement
from cislens.motifs.scan import hits, log_odds, occupancy, placements, scanner_name
from cislens.motifs.sites import Motif, consensus_motif, find_motif, least_score, read_meme, scan
from cislens.randomness import generator

FUNGI = "motifs/JASPAR2026_CORE_fungi.meme.gz"


@pytest.fixture(scope="module")
def motifs():
    """Motifs of 4 to 33 columns, so that every number of pieces and every padding occurs."""
    rng = generator(0, "motifs")
    return [Motif(f"m{w}", rng.dirichlet(np.full(4, 0.3), w)) for w in range(4, 34)]


def random_codes(*shape, name="codes"):
    return generator(0, name).integers(0, 4, shape).astype(np.uint8)


def brute_force(codes, motif, background=(0.25,) * 4):
    """The definition, placement by placement."""
    share = np.array(background)
    scores = []
    for strand in (codes, reverse_complement(codes)):
        for start in range(len(codes) - len(motif) + 1):
            word = strand[start : start + len(motif)]
            if (word == N).any():
                continue
            p_W = 0.99 * motif.probabilities_W4[np.arange(len(motif)), word] + 0.01 * share[word]
            scores.append(np.log(p_W / share[word]).sum())
    return np.log(np.mean(np.exp(np.array(scores)))) if scores else np.nan


@pytest.mark.parametrize("background", [(0.25,) * 4, (0.31, 0.19, 0.19, 0.31)])
def test_occupancy_is_its_definition(motifs, background):
    codes = random_codes(6, 50)
    codes[1, 14] = N
    codes[2, :17] = N
    codes[3, [0, 25, 49]] = N
    codes[4] = N
    codes[5, 37:] = N
    found = occupancy(codes, motifs, background)
    wanted = np.array([[brute_force(row, motif, background) for motif in motifs] for row in codes])
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    assert np.isnan(found[4]).all() and np.isnan(found[3, -1]) and not np.isnan(found[:3]).any()
    assert np.nanmax(np.abs(found - wanted)) < 2e-5


def test_occupancy_does_not_know_the_strand(motifs):
    codes = random_codes(20, 700)
    codes[::3, 100:140] = N
    both = occupancy(codes, motifs), occupancy(reverse_complement(codes), motifs)
    assert np.abs(both[0] - both[1]).max() < 1e-4


def test_a_placement_that_touches_n_counts_for_nothing():
    motif = consensus_motif("TGACTCA")
    codes = random_codes(40, name="flanks")
    codes[10:17] = motif.consensus
    hidden = codes.copy()
    hidden[13] = N
    valid = placements(np.stack([codes, hidden]), [motif])
    assert valid.ravel().tolist() == [2 * 34, 2 * (34 - 7)]
    seen, unseen = occupancy(np.stack([codes, hidden]), [motif]).ravel()
    best = log_odds(motif).max(1).sum()
    assert seen > best - np.log(2 * 34) > unseen + 3
    # What an N hides does not depend on what stands beside it.
    pieces = occupancy(np.stack([np.append(codes[:13], [N] * 27), np.append(codes[14:], [N] * 14)]),
                       [motif]).ravel()  # fmt: skip
    weights = np.array([7, 20]) / 27
    assert unseen == pytest.approx(np.log((np.exp(pieces) * weights).sum()), abs=1e-4)


def test_scores_beyond_single_precision_are_exact():
    """The best word is e^-200 as likely as the motif's: float32 reaches down to e^-103."""
    sharp = Motif("sharp", np.eye(4)[random_codes(45, name="sharp")])
    against = (sharp.consensus + 2) % 4
    codes = np.stack([against, random_codes(45, name="other")])
    found = occupancy(codes, [sharp])
    assert found[0, 0] == pytest.approx(brute_force(against, sharp), rel=1e-6)
    assert found[1, 0] == pytest.approx(brute_force(codes[1], sharp), rel=1e-6)
    assert found.min() < -100


def test_long_regions_keep_their_precision():
    flat = Motif("flat", np.full((6, 4), 0.25))
    codes = random_codes(1, 300_000)
    # Every placement is as likely in the motif as in the background.
    # The sum, e^87, has a logarithm with half a step of 4e-6 in float32.
    assert abs(occupancy(codes, [flat])[0, 0]) < 1e-5


def test_regions_and_motifs_do_not_depend_on_their_company(motifs):
    codes = random_codes(9, 200)
    whole = occupancy(codes, motifs)
    order = generator(0, "order").permutation(len(motifs))
    assert np.array_equal(occupancy(codes[::-1], [motifs[m] for m in order]), whole[::-1, order])
    parts = [occupancy(codes[rows], motifs) for rows in (slice(0, 4), slice(4, 9))]
    assert np.array_equal(np.concatenate(parts), whole)


def test_threads_may_scan_at_the_same_time(motifs):
    codes = random_codes(64, 300)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda rows: occupancy(rows, motifs), np.split(codes, 8)))
    assert np.array_equal(np.concatenate(parts), occupancy(codes, motifs))


def test_a_background_that_differs_between_strands_is_refused(motifs):
    with pytest.raises(CislensError, match="A = T and C = G"):
        occupancy(random_codes(1, 50), motifs, (0.3, 0.2, 0.3, 0.2))
    with pytest.raises(CislensError, match="not four probabilities"):
        occupancy(random_codes(1, 50), motifs, (0.3, 0.3, 0.3, 0.3))


def test_no_motif_and_no_region_give_empty_matrices(motifs):
    assert occupancy(random_codes(3, 50), []).shape == (3, 0)
    assert hits(random_codes(3, 50), []).shape == (3, 0)
    assert occupancy(random_codes(0, 50), motifs).shape == (0, len(motifs))
    assert np.isnan(occupancy(random_codes(2, 3), motifs)).all()


def test_hits_are_those_of_the_scan_with_one_motif():
    motifs = [m for m in read_meme(example_path(FUNGI)) if len(m) >= 8][:30]
    codes = random_codes(40, 600)
    codes[::4, 200:260] = N
    found = hits(codes, motifs, 1e-3)
    for at, motif in enumerate(motifs):
        rows = scan(list(codes), motif, 1e-3)["sequence"].to_numpy()
        assert np.array_equal(found[:, at], np.bincount(rows, minlength=40))
    assert found.sum() > 1000
    assert np.isnan(hits(np.full((1, 30), N, np.uint8), motifs)).all()


def test_of_a_motif_too_short_for_the_p_value_the_best_words_are_counted():
    motif = consensus_motif("ACGTA")
    codes = encode("TTACGTATTTACGTTTT")[None]
    # ACGTA once, and its reverse complement TACGT twice.
    assert hits(codes, [motif], 1e-4).tolist() == [[3.0]]
    assert least_score(motif, 1e-4) == least_score(motif, 1e-3) > least_score(motif, 0.5)


def test_time_is_linear_in_regions(motifs):
    codes = random_codes(1600, 500)
    occupancy(codes[:100], motifs)

    def seconds(rows):
        taken = []
        for _ in range(3):
            began = time.process_time()
            occupancy(codes[:rows], motifs)
            taken.append(time.process_time() - began)
        return min(taken)

    # 16 times the regions; the tables of words, made once a call, are the rest.
    assert seconds(1600) < 24 * seconds(100)


def test_without_numba_the_extra_is_named(monkeypatch, motifs):
    monkeypatch.setitem(sys.modules, "cislens.motifs.kernels", None)
    monkeypatch.delattr("cislens.motifs.kernels", raising=False)
    with pytest.raises(CislensError, match=r"pip install 'cislens\[multimodal\]'"):
        occupancy(random_codes(1, 50), motifs)


def test_the_scanner_has_a_name_and_a_version():
    assert scanner_name().startswith("cislens ")


@pytest.mark.peers
def test_hits_are_those_of_memelite():
    fimo = pytest.importorskip("memelite").fimo
    motifs = [m for m in read_meme(example_path(FUNGI)) if len(m) >= 8][:12]
    codes = random_codes(50, 500, name="peer")
    theirs = fimo(
        {m.id: m.probabilities_W4.T.copy() for m in motifs}, one_hot(codes), threshold=1e-2,
        bin_size=0.01,
    )  # fmt: skip
    ours = hits(codes, motifs, 1e-3)
    clear = np.zeros(2)
    for at, (motif, table) in enumerate(zip(motifs, theirs, strict=True)):
        # Both round the score of each column to hundredths of a bit.
        least, edge = least_score(motif, 1e-3) / 100, 0.01 * len(motif)
        sure, possible = (
            np.bincount(table["sequence_name"][table["score"] >= bar].astype(int), minlength=50)
            for bar in (least + edge, least - edge)
        )
        assert (sure <= ours[:, at]).all() and (ours[:, at] <= possible).all()
        clear += [sure.sum(), possible.sum()]
    assert clear[0] > 0.7 * clear[1] > 100


@pytest.mark.peers
def test_the_score_of_a_placement_is_that_of_biopython():
    bio = pytest.importorskip("Bio.motifs")
    motif = find_motif(read_meme(example_path(FUNGI)), "REB1")
    codes = random_codes(60, name="bio")
    smoothed = 0.99 * motif.probabilities_W4 + 0.01 * 0.25
    theirs = bio.Motif(counts={b: smoothed[:, i].tolist() for i, b in enumerate("ACGT")})
    letters = "".join("ACGT"[c] for c in codes)
    scores = [theirs.pssm.calculate(letters), theirs.pssm.reverse_complement().calculate(letters)]
    wanted = np.log(np.mean(2.0 ** np.concatenate(scores).astype(np.float64)))
    assert occupancy(codes[None], [motif])[0, 0] == pytest.approx(wanted, abs=1e-4)
