import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.example import example_path
from cislens.genome.codes import decode, encode, one_hot, reverse_complement
from cislens.motifs.sites import (
    Motif,
    annotate_sites,
    consensus_motif,
    find_motif,
    read_meme,
    scan,
    threshold,
)
from cislens.randomness import generator


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
    path.write_text("MOTIF a\nletter-probability matrix: w= 0\nMOTIF b\n")
    with pytest.raises(CislensError, match=r"bad.meme line 2: .* without rows"):
        read_meme(path)
    matrix = "letter-probability matrix: w= 1\n0.5 0.5 0 0\n"
    path.write_text(f"MOTIF a x\n{matrix}\nMOTIF a y\n{matrix}")
    with pytest.raises(CislensError, match=r"line 5: a second motif 'a', the first is on line 1"):
        read_meme(path)
    path.write_text(f"MOTIF a x\n{matrix.replace('1', '2')}")
    with pytest.raises(CislensError, match=r"line 2: the matrix has 1 rows, not w= 2"):
        read_meme(path)
    for text in (f"MOTIF b\n{matrix}\nMOTIF a y\n", f"\n\n\nMOTIF a y\nMOTIF b\n{matrix}"):
        path.write_text(text)
        with pytest.raises(CislensError, match=r"line [45]: motif 'a y' has no letter-prob"):
            read_meme(path)
    path.write_text("MEME version 4\n")
    with pytest.raises(CislensError, match="holds no motif"):
        read_meme(path)
    with pytest.raises(CislensError, match="no IUPAC letter"):
        consensus_motif("TGXA")


@pytest.mark.parametrize(
    ("name", "identifier", "factors"),
    [
        ("MA0139.2 CTCF", "MA0139.2", ("CTCF",)),
        ("MA0099.3 FOS::JUN", "MA0099.3", ("FOS", "JUN")),
        ("MA0065.2 Pparg::Rxra", "MA0065.2", ("PPARG", "RXRA")),
        ("MA0017.2 NR2F1(var.2)", "MA0017.2", ("NR2F1",)),
        ("MA0533.1 su(Hw)", "MA0533.1", ("SU(HW)",)),
        ("AHR.H12CORE.0.P.B", "AHR.H12CORE.0.P.B", ("AHR",)),
        ("HNF1A.H13CORE.0.PSM.A", "HNF1A.H13CORE.0.PSM.A", ("HNF1A",)),
        ("AIRE_HUMAN.H11MO.0.C", "AIRE_HUMAN.H11MO.0.C", ("AIRE",)),
        ("TGTANATA", "TGTANATA", ("TGTANATA",)),
    ],
)
def test_a_motif_knows_its_identifier_and_the_genes_that_bind_it(name, identifier, factors):
    motif = Motif(name, np.full((4, 4), 0.25))
    assert (motif.id, motif.factors) == (identifier, factors)


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
