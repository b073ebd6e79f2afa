"""`cislens model card`, `push` and `pull`."""

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from cislens.cli.model import app
from cislens.errors import CislensError
from cislens.files import file_digest
from cislens.models.card import Card
from cislens.models.presets import encoder_config
from cislens.models.saving import save_model
from cislens.models.sequence import SequenceModel, SequenceModelConfig


def run(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = SequenceModelConfig(encoder=encoder_config("findna-plus-tiny", ("yeast",)))
    save_model(SequenceModel(config), tmp_path / "run/model", "# A card\n\n## Scores\nOld.\n")
    return tmp_path / "run"


def evaluation(folder: Path, digest: str) -> Path:
    """The files of an evaluation of profiles, of weights with this digest."""
    folder.mkdir()
    facts = {"weights": {"mine": [digest]}, "store": {"digest": "ab" * 32}, "split": "test"}
    (folder / "evaluation.json").write_text(json.dumps({"facts": facts, "notes": ["A note."]}))
    row = {"species": "fly", "group": "all", "metric": "pearson_pooled", "arm": "mine"}
    score = {"track": "all", "seed": None, "value": 0.5, "low": 0.4, "high": 0.6, "tracks": 2}
    other = {
        "comparison": "best baseline", "baseline": "kmer-ridge", "difference": 0.1,
        "diff_low": -0.1, "diff_high": 0.3, "outcome": "none",
    }  # fmt: skip
    pl.DataFrame([row | score]).write_parquet(folder / "profiles.parquet")
    pl.DataFrame([row | other]).write_parquet(folder / "differences.parquet")
    return folder


def test_scores_of_these_weights_enter_the_card(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model/model.safetensors"
    judged = evaluation(tmp_path / "judged", file_digest(weights))
    found = run("card", folder, "--judged", judged, "--license", "mit")
    assert (found["scores"], found["license"]) == (1, "mit")
    card = Card.read(folder / "model")
    row = "| fly, 2 tracks | pearson_pooled | 0.5000 | 0.4000 to 0.6000 |"
    assert f"{row} +0.1000 (-0.1000 to +0.3000) from kmer-ridge: no difference found |" in card.body
    assert "- A note." in card.body
    # Again: the same card.
    text = (folder / "model/README.md").read_text()
    assert run("card", folder, "--judged", judged)["scores"] == 1
    assert (folder / "model/README.md").read_text() == text


def test_scores_of_other_weights_and_other_folders_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    before = (folder / "model/README.md").read_text()
    judged = evaluation(tmp_path / "judged", "00" * 32)
    with pytest.raises(CislensError, match="none of them has the weights of"):
        run("card", folder, "--judged", judged)
    with pytest.raises(CislensError, match=r"has none of profiles\.parquet, cells\.parquet"):
        run("card", folder, "--judged", folder)
    (judged / "evaluation.json").write_text("{}")
    with pytest.raises(CislensError, match="is damaged"):
        run("card", folder, "--judged", judged)
    assert (folder / "model/README.md").read_text() == before


def test_push_and_pull_by_a_folder(folder: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    plan = run("push", folder, hub, "--dry-run")
    assert set(plan["files"]) == {"README.md", "config.json", "model.safetensors"}  # type: ignore[call-overload]
    assert not hub.exists()
    pushed = run("push", folder, hub)
    pulled = run("pull", hub, "--out", tmp_path / "again")
    assert pulled["sha256"] == pushed["sha256"]
    assert pulled["commit"] is None
