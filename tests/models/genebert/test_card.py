"""What the card of a GeneBERT model must say."""

from typing import Any

import pytest

from cislens.models.genebert.card import about
from cislens.models.genebert.multimodal import MultimodalConfig
from cislens.models.genebert.presets import multimodal_config

TAGS = {"paper", "code", "measured", "recollection", "choice"}


def config(name: str, **changes: Any) -> MultimodalConfig:
    motifs = tuple(f"m{row}" for row in range(40))
    return multimodal_config(name, motifs, 512, 64, False, "abc123", **changes)


def table(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_reconstruction_says_that_it_is_one() -> None:
    text = " ".join(about(config("genebert-paper-base")).split())
    assert "documented reconstruction" in text
    assert "No score of this model is a reproduction" in text
    assert "constants abc123" in text


def test_every_field_of_the_reconstruction_has_a_tag() -> None:
    rows = table(about(config("genebert-paper-base")))
    assert len(rows) == 14
    for row in rows:
        assert len(row) == 4
        assert any(tag in row[2] for tag in TAGS), row[0]
        assert all(row), row[0]


@pytest.mark.parametrize(
    ("name", "changes", "field", "said"),
    [
        ("genebert-paper-base", {}, "sequence encoder", "12 layers, 768 channels, 12 heads"),
        ("genebert-paper-tiny", {}, "sequence encoder", "2 layers, 64 channels, 4 heads"),
        ("genebert-paper-base", {}, "tokens", "k = 6, 4,101 words"),
        ("genebert-paper-tiny", {"encoder": {"k": 3}}, "tokens", "k = 3, 69 words"),
        ("genebert-paper-base", {}, "2D encoder", "96 channels, depths 2-2-6-2"),
        ("genebert-paper-base", {"regions": {"shuffle_rows": True}}, "2D encoder", "shuffled"),
        ("genebert-paper-base", {"regions": {"kind": "mean"}}, "2D encoder", "`mean`, 512"),
        ("genebert-paper-base", {}, "fusion", "as there"),
        ("genebert-paper-base", {"match": "cross"}, "fusion", "the regions attend"),
        ("genebert-paper-base", {}, "matrix", "40 rows"),
    ],
)
def test_the_table_has_what_the_model_has(
    name: str, changes: dict[str, Any], field: str, said: str
) -> None:
    rows = {row[0]: row[3] for row in table(about(config(name, **changes)))}
    assert said in rows[field]


def test_plus_claims_no_published_shape() -> None:
    text = about(config("genebert-plus-tiny"))
    assert "is our choice" in " ".join(text.split())
    assert not table(text)
    assert "40 motifs x 64 regions of 512 bp" in text
