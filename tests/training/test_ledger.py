"""FLOPs of a training step, and runs at equal cost."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from cislens.cli.app import app
from cislens.errors import CislensError
from cislens.objectives.contract import Losses, Metrics, Objective
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import Training, TrainRecipe
from cislens.signal.store import ProfileStore
from cislens.training.courses import course_of
from cislens.training.ledger import flops_of, matched_steps, step_flops

TINY = {"preset": "space-plus-tiny", "dim": 24, "stem_dim": 8, "heads": 2, "key_dim": 8}


@dataclass(frozen=True)
class Rows:
    x_BD: Tensor


class Sum(Objective):
    """The sum of one layer's outputs, after batch normalization and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))

    def loss(self, batch: Rows) -> Losses:
        return Losses(self.model(batch.x_BD).sum(), {})

    def metrics(self) -> Metrics:
        raise AssertionError


class Attention(Sum):
    """Attention of 2 heads of 16 channels over 32 tokens."""

    def loss(self, batch: Rows) -> Losses:
        q = self.model[0].weight[0] * batch.x_BD
        return Losses(nn.functional.scaled_dot_product_attention(q, q, q).sum(), {})


def test_a_layer_costs_what_its_formula_says() -> None:
    # Forward 2 x 16 x 8 x 4, and as much for the weights and for what lies before them.
    assert flops_of(Sum(), Rows(torch.ones(16, 8))) == 3 * 2 * 16 * 8 * 4


def test_fused_attention_is_counted_forward_and_backward() -> None:
    product = 2 * 2 * 32 * 32 * 16  # of one of two products, both heads
    cost = flops_of(Attention(), Rows(torch.ones(1, 2, 32, 16)))
    assert cost == 2 * product + 4 * product


class Convolutions(Sum):
    """One that mixes 4 channels and one that does not, over 10 places; 3 taps each."""

    def loss(self, batch: Rows) -> Losses:
        mixed = nn.functional.conv1d(batch.x_BD, self.model[2].weight[:, :4, None].expand(4, 4, 3))
        alone = nn.functional.conv1d(
            batch.x_BD, self.model[2].weight[:, :1, None].expand(4, 1, 3), groups=4
        )
        return Losses((mixed + alone).sum(), {})


def test_convolutions_of_single_channels_count_nothing() -> None:
    """They are element-wise work on a CPU, and a count is to hold for every device."""
    cost = flops_of(Convolutions(), Rows(torch.ones(2, 4, 12)))
    forward = 2 * 2 * 10 * 4 * 4 * 3
    assert cost == 2 * forward  # with the gradient of the weights; the input has none


def test_counting_changes_neither_the_objective_nor_the_random_numbers() -> None:
    objective = Sum()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    state = torch.get_rng_state()
    flops_of(objective, Rows(torch.randn(16, 8, generator=torch.Generator().manual_seed(0))))
    assert torch.equal(torch.get_rng_state(), state)
    after = objective.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(weight.grad is None for weight in objective.parameters())


def recipe_of(store: ProfileStore, **model: Any) -> TrainRecipe:
    return TrainRecipe(
        store=store.path, model={**TINY, **model}, training=Training(steps=4, batch_size=4)
    )


def test_a_costlier_recipe_gets_fewer_steps(small_store: ProfileStore, tmp_path: Path) -> None:
    course = course_of(recipe_of(small_store))
    cost = step_flops(course)
    (tmp_path / "manifest.json").write_text(json.dumps({"ledger": {"flops": 100 * cost}}))
    assert matched_steps(course, tmp_path) == 100
    deeper = course_of(recipe_of(small_store, depth=30))
    ratio = step_flops(deeper) / cost
    assert ratio > 1.5
    assert matched_steps(deeper, tmp_path) == round(100 / ratio)


def test_a_run_without_a_count_cannot_be_matched(small_store: ProfileStore, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"ledger": {"steps": 3}}))
    with pytest.raises(CislensError, match="counts no FLOPs"):
        matched_steps(course_of(recipe_of(small_store)), tmp_path)


def test_the_command_line_matches_a_finished_run(small_store: ProfileStore, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"store: {small_store.path}\nmodel: {json.dumps(TINY)}\n"
        "training: {steps: 3, batch_size: 4, validate_every: 3}\n"
    )
    run = CliRunner().invoke(app, ["train", str(recipe), "--out", str(tmp_path / "one"), "--json"])
    ledger = json.loads(run.stdout)["ledger"]
    assert ledger["flops"] == 3 * ledger["step_flops"]
    assert ledger["device_seconds"] >= ledger["train_seconds"] > 0
    assert ledger["step_flops"] == step_flops(course_of(read_recipe(recipe, TrainRecipe)))
    options = ["--out", str(tmp_path / "two"), "--match", str(tmp_path / "one")]
    plan = CliRunner().invoke(app, ["train", str(recipe), *options, "--dry-run", "--json"])
    assert json.loads(plan.stdout)["steps"] == 3
    assert json.loads(plan.stdout)["flops"] == ledger["flops"]
    both = CliRunner().invoke(app, ["train", str(recipe), *options, "--steps", "2"])
    assert isinstance(both.exception, CislensError)
    assert "give one" in str(both.exception)
