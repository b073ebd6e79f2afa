"""What the readers of an evaluation of cells and of a bench take of their tables."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from cislens.errors import CislensError, MissingFileError
from cislens.evaluation.contestants import run_representation
from cislens.evaluation.judgements import judgements_of
from cislens.evaluation.verdict import VERDICT_SCHEMA
from cislens.files import file_digest
from cislens.models.card import Card
from cislens.models.presets import encoder_config
from cislens.models.saving import save_model
from cislens.models.sequence import SequenceModel, SequenceModelConfig

ARM = "mine"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = SequenceModelConfig(encoder=encoder_config("findna-plus-tiny", ("yeast",)))
    save_model(SequenceModel(config), tmp_path / "run/model", "# A card\n")
    (tmp_path / "run/manifest.json").write_text("{}")
    return tmp_path / "run/model"


def cells(folder: Path, weights: list[str]) -> Path:
    """An evaluation of cells, with an arm of these weights and another one."""
    folder.mkdir()
    facts = {"weights": {ARM: weights, "other": ["11" * 32]}, "store": {"digest": "cd" * 32}}
    (folder / "evaluation.json").write_text(
        json.dumps({"facts": facts | {"split": "test"}, "notes": ["Said of all."]})
    )
    rows = [
        {"part": part, "arm": arm, "metric": metric, "value": value, "low": value - 0.1,
         "high": value + 0.1}
        for part, value in (("cells", 0.7), ("regions", 0.8))
        for arm, metric in ((ARM, "auroc"), (ARM, "auprc"), ("other", "auroc"))
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "cells.parquet")
    return folder


def bench(folder: Path, model: Path, digest: str) -> Path:
    """A bench that read a run's weights with this digest, on two tasks."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(f"runs: {{{ARM}: {model.parent}}}\n")
    record = folder / "results/results/first" / ARM / "seed0"
    record.mkdir(parents=True)
    pl.DataFrame({"digest": [digest]}).write_parquet(record / "record.parquet")
    rows: list[dict[str, Any]] = []
    for task, value in (("first", 0.75), ("second", 0.5)):
        (folder / "results/tasks" / task).mkdir(parents=True)
        (folder / "results/tasks" / task / "card.yaml").write_text(f"name: {task}\n")
        found = {
            "task": task, "metric": "auroc", "arm": ARM, "point": value, "low": value - 0.05,
            "high": value + 0.05, "baseline": "kmer-1to6", "difference": value - 0.6,
            "diff_low": value - 0.7, "diff_high": value - 0.5, "n_test": 1200, "blocks": 40,
            "seeds": 3, "verdict": "better than one-hot (diff 0.15, 0.05 to 0.25)",
        }  # fmt: skip
        rows += [
            found | {"comparison": "onehot"},
            found | {"comparison": "random", "baseline": "twin", "point": 0.1},
            found | {"comparison": "onehot", "arm": "other", "point": 0.2},
        ]
    pl.DataFrame(rows, schema=VERDICT_SCHEMA).write_parquet(folder / "verdicts.parquet")
    return folder


def test_an_evaluation_of_cells_gives_each_part_its_own_scores(model: Path, tmp_path: Path) -> None:
    weights = [file_digest(model / "model.safetensors"), "22" * 32]
    found = judgements_of(model, cells(tmp_path / "judged", weights))
    assert [(each.task, each.split) for each in found] == [
        ("accessibility-prediction", "cells"), ("accessibility-prediction", "regions"),
    ]  # fmt: skip
    first = found[0]
    assert (first.kind, first.digest) == ("region store", "cd" * 32)
    scores = [(each.metric, each.value, each.low, each.high) for each in first.scores]
    assert scores == [("auroc", 0.7, 0.7 - 0.1, 0.7 + 0.1), ("auprc", 0.7, 0.7 - 0.1, 0.7 + 0.1)]
    assert first.notes == [
        "Said of all.", "Means over 2 runs with other seeds, of which this model is one.",
    ]  # fmt: skip
    card = Card.parse("# A card\n").judged(found)
    assert card.scores() == 4
    alone = judgements_of(model, cells(tmp_path / "alone", weights[:1]))
    assert alone[0].notes == ["Said of all."]


def test_an_evaluation_of_other_weights_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CislensError, match="judged mine, other, and none of them has the weights"):
        judgements_of(model, cells(tmp_path / "judged", ["33" * 32]))
    with pytest.raises(MissingFileError):
        judgements_of(model, tmp_path / "nowhere")


def test_a_bench_gives_the_arm_against_one_hot(model: Path, tmp_path: Path) -> None:
    digest = run_representation(model.parent, ARM).digest
    (found,) = judgements_of(model, bench(tmp_path / "judged", model, digest))
    assert (found.task, found.kind, found.split) == ("frozen-features", "tasks", "test")
    assert [(each.of, each.value, each.versus) for each in found.scores] == [
        ("first", 0.75, "kmer-1to6"), ("second", 0.5, "kmer-1to6"),
    ]  # fmt: skip
    first = found.scores[0]
    assert first.difference == pytest.approx((0.15, 0.05, 0.25))
    assert first.said == "better than one-hot"
    assert found.notes[0] == (
        "first: 1,200 test examples in 40 blocks; heads of 3 seeds, one training run of the "
        "encoder."
    )
    # Other tasks are other data.
    again = bench(tmp_path / "again", model, digest)
    (again / "results/tasks/first/card.yaml").write_text("name: another\n")
    assert judgements_of(model, again)[0].digest != found.digest


def test_a_bench_of_other_weights_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CislensError, match="judged mine, and none of them has the weights"):
        judgements_of(model, bench(tmp_path / "judged", model, "another"))


def test_a_damaged_bench_is_named(model: Path, tmp_path: Path) -> None:
    digest = run_representation(model.parent, ARM).digest
    judged = bench(tmp_path / "judged", model, digest)
    pl.DataFrame({"task": ["first"]}).write_parquet(judged / "verdicts.parquet")
    with pytest.raises(CislensError, match="judged"):
        judgements_of(model, judged)
