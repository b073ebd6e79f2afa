"""What the card of a model of sequences must say."""

import pytest

from cislens.models.presets import encoder_config
from cislens.models.sequence import SequenceModelConfig
from cislens.models.sequence_card import about

TAGS = {"paper", "code", "measured", "choice"}


def card(name: str, **changes: object) -> str:
    config = SequenceModelConfig(encoder=encoder_config(name, ("yeast",), **changes))
    return about(config)


def test_the_reconstruction_says_that_it_is_one_and_what_it_changes() -> None:
    text = card("findna-paper-base")
    assert "documented reconstruction" in text
    assert "no score of this model is a reproduction" in text
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len(rows) == 7
    for row in rows:
        assert len(row) == 4
        assert all(row), row[0]
        assert set(row[2].split("; ")) <= TAGS, row[0]
    assert "4 blocks of 10 layers, 308 channels" in rows[0][3]


def test_findna_plus_is_no_reconstruction() -> None:
    text = card("findna-plus-tiny")
    assert "documented reconstruction" not in text
    assert "all that follows is our choice" in text.lower()
    assert "4 gated blocks of 64 channels" in text
    assert "reads both strands" in card("findna-plus-tiny", rc_equivariant=True)


@pytest.mark.parametrize("name", ["space-plus-tiny", "genebert-paper-tiny"])
def test_encoders_of_other_families_are_no_findna(name: str) -> None:
    text = card(name)
    assert "FinDNA" not in text
    assert f"Encoder `{name.removesuffix('-tiny')}`, trained on sequence alone." in text


def test_cards_are_ascii() -> None:
    for name in ("findna-paper-tiny", "findna-plus-tiny", "enformer-tiny"):
        assert card(name).isascii()
