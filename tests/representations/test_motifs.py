"""Motif occupancy as a representation: the baseline that knows the motifs."""

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.evaluation.arms.lineup import _baselines
from cislens.genome.codes import Codes, encode, reverse_complement
from cislens.motifs.library import MotifLibrary, read_library
from cislens.motifs.scan import occupancy
from cislens.recipes.schema import BenchSettings
from cislens.representations.motifs import MotifOccupancy

WORDS = {"M1 CACGTG": "CACGTG", "M2 TGACTCA": "TGACTCA", "M3 long": "GATAAGGATAAG"}
RNG = np.random.default_rng(0)


def meme(words: dict[str, str]) -> str:
    text = "MEME version 4\n\nALPHABET= ACGT\n\n"
    for name, word in words.items():
        rows = "".join(
            " ".join("0.85" if base == at else "0.05" for base in "ACGT") + "\n" for at in word
        )
        text += f"MOTIF {name}\nletter-probability matrix: alength= 4 w= {len(word)}\n{rows}\n"
    return text


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> MotifLibrary:
    path = tmp_path_factory.mktemp("motifs") / "three.meme"
    path.write_text(meme(WORDS))
    return read_library(str(path))


def sequences(count: int, length: int) -> list[Codes]:
    return list(RNG.integers(0, 4, (count, length)).astype(np.uint8))


def test_a_planted_motif_stands_out_in_its_own_column(library: MotifLibrary) -> None:
    background = sequences(200, 100)
    planted = [codes.copy() for codes in background]
    for codes in planted:
        codes[40:47] = encode("TGACTCA")
    motifs = MotifOccupancy(library)
    gain = (motifs.embed(planted, None) - motifs.embed(background, None)).mean(0)
    assert gain.argmax() == 1
    assert gain[1] > 3 * np.abs(gain[[0, 2]]).max()


def test_it_is_the_occupancy_of_the_scan_and_the_same_on_both_strands(
    library: MotifLibrary,
) -> None:
    given = sequences(7, 64)
    motifs = MotifOccupancy(library)
    found = motifs.embed(given, None)
    assert found.shape == (7, 3)
    assert found.dtype == np.float32
    assert np.array_equal(found, occupancy(np.stack(given), library.motifs))
    turned = motifs.embed([reverse_complement(codes) for codes in given], None)
    np.testing.assert_allclose(turned, found, atol=1e-4)


def test_neither_order_nor_longer_sequences_beside_it_change_a_sequence(
    library: MotifLibrary,
) -> None:
    mixed = [*sequences(3, 40), *sequences(3, 200), *sequences(2, 13)]
    motifs = MotifOccupancy(library)
    together = motifs.embed(mixed, None)
    alone = np.concatenate([motifs.embed([codes], None) for codes in mixed])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(motifs.embed(mixed[::-1], None)[::-1], together, atol=1e-5)


def test_a_motif_that_fits_nowhere_counts_as_background(library: MotifLibrary) -> None:
    short, unknown = encode("CACGTG"), encode("N" * 50)
    found = MotifOccupancy(library).embed([short, unknown], None)
    assert np.isfinite(found).all()
    assert found[0, 0] > 1
    assert found[0, 1:].tolist() == [0, 0]
    assert found[1].tolist() == [0, 0, 0]


def test_another_library_has_another_digest(library: MotifLibrary, tmp_path) -> None:
    path = tmp_path / "two.meme"
    path.write_text(meme(dict(list(WORDS.items())[:2])))
    other = MotifOccupancy(read_library(str(path)))
    assert other.digest != MotifOccupancy(library).digest
    assert MotifOccupancy(library).digest == MotifOccupancy(library).digest


class _Examples:
    """What the lineup asks of a ground: a card and sequences of one length."""

    def __init__(self, kind: str) -> None:
        import polars as pl

        self.card = type("Card", (), {"kind": kind})
        self.task = type("Task", (), {"examples": pl.DataFrame({"length": [100, 100]})})


def test_a_bench_has_the_baseline_where_its_settings_name_a_library(tmp_path) -> None:
    path = tmp_path / "three.meme"
    path.write_text(meme(WORDS))
    named = _baselines(_Examples("sequence"), BenchSettings(motifs=str(path)))  # type: ignore[arg-type]
    assert [each.name for each in named].count("motifs") == 1
    plain = _baselines(_Examples("sequence"), BenchSettings())  # type: ignore[arg-type]
    assert "motifs" not in [each.name for each in plain]
    with pytest.raises(CislensError, match="nowhere"):
        _baselines(_Examples("sequence"), BenchSettings(motifs="nowhere.meme"))  # type: ignore[arg-type]
