"""The model card: what is read back is what was written, and names in it are only text."""

import re
from pathlib import Path

import pytest
import yaml

from cislens.errors import CislensError
from cislens.models.card import Card, Judgement, Score, plain, table

TEST = Judgement(
    "profile-prediction", "profile store", "ab" * 32, "test",
    [Score("fly", "pearson", 0.5, 0.4, 0.6, "kmer", (0.1, 0.05, 0.15), "gain")], ["A note."],
)  # fmt: skip


def test_scores_are_in_the_block_and_in_the_section() -> None:
    card = Card.parse("---\nlicense: mit\n---\n# A title\n\nText.\n").judged([TEST])
    again = Card.parse(card.text())
    assert again.meta == card.meta
    assert again.body == card.body
    assert again.meta["license"] == "mit"
    metric = again.meta["model-index"][0]["results"][0]["metrics"][0]
    assert (metric["args"]["low"], metric["value"], metric["args"]["high"]) == (0.4, 0.5, 0.6)
    against = "+0.1000 (+0.0500 to +0.1500) from kmer: gain"
    assert f"| fly | pearson | 0.5000 | 0.4000 to 0.6000 | {against} |" in again.body
    assert "- A note." in again.body


def test_scores_on_the_same_part_are_replaced_and_others_are_kept() -> None:
    valid = Judgement("profile-prediction", "profile store", "ab" * 32, "valid", TEST.scores)
    newer = Judgement(
        "profile-prediction", "profile store", "ab" * 32, "test", [Score("fly", "pearson", 0.25)]
    )
    card = Card.parse("# A title\n").judged([TEST, valid]).judged([newer])
    splits = [each["dataset"]["split"] for each in card.meta["model-index"][0]["results"]]
    assert splits == ["test", "valid"]
    assert card.body.count("## Scores") == 1
    assert card.body.count("| fly | pearson | 0.5000 |") == 1
    assert "| fly | pearson | 0.2500 | none |  |" in card.body
    assert card.scores() == 1


def test_the_hub_library_reads_the_card(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="the extra hf is not installed")
    path = tmp_path / "README.md"
    path.write_text(Card({"license": "mit", "tags": ["dna"]}, "# T\n").judged([TEST]).text())
    data = hub.ModelCard.load(path).data
    (result,) = data.eval_results
    assert (data.library_name, data.license, data.model_name) == ("cislens", "mit", "T")
    assert (result.metric_value, result.dataset_revision) == (0.5, "ab" * 32)
    assert result.metric_args["high"] == 0.6
    # And writes it, without loss.
    index = yaml.safe_load(data.to_yaml())["model-index"]
    assert index[0]["results"][0]["dataset"]["args"] == {"notes": ["A note."]}


def test_names_are_text_whatever_they_hold() -> None:
    hostile = "<script>a|b</script>\n# `x` [y](javascript:z) *_q_* $m$"
    shown = plain(hostile)
    assert re.search(r"[<>|`*\[\]$\n]", shown) is None
    assert plain("pearson_pooled") == "pearson_pooled"
    assert table(("a", "b"), [(hostile, 1)]).count("\n") == 2
    assert table(("a", "b"), [(hostile, 1)]).splitlines()[2].count("|") == 3
    score = Score("x\n---\n<!-- /scores -->", hostile, 0.5, 0.4, 0.6)
    card = Card({}, "# T\n").judged([Judgement("t", "tasks", "0", "test", [score], [hostile])])
    again = Card.parse(card.text()).judged([TEST])
    assert "<script>" not in again.body
    assert again.body.count("<!-- /scores -->") == 1
    assert len(again.meta["model-index"][0]["results"]) == 2


@pytest.mark.parametrize("block", ["a: [", "- a", "a: !!python/name:os.system"])
def test_a_damaged_block_is_named(tmp_path: Path, block: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{block}\n---\n# T\n")
    with pytest.raises(CislensError, match=r"README\.md begins with a block that is no YAML"):
        Card.read(tmp_path)


def test_a_license_is_written_as_the_hub_does() -> None:
    assert Card().licensed("cc-by-4.0").meta == {"license": "cc-by-4.0"}
    with pytest.raises(CislensError, match="no name of a license"):
        Card().licensed("My license: do as I say")
