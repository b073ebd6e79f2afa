"""The weighted sum of several objectives."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cislens.models.mixture import MixtureModel
from cislens.models.sequence import SequenceModel, SequenceModelConfig
from cislens.models.space_plus import SpacePlusConfig
from cislens.objectives.contract import Losses, Objective
from cislens.objectives.mixture import MixtureBatch, MixtureMetrics, MixtureObjective

ENCODER = SpacePlusConfig(
    kind="space-plus", dim=16, stem_dim=8, depth=1, heads=2, key_dim=4, width_multiple=8,
    species=("yeast",),
)  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """A number for each window, and how many are of yeast."""

    value_B: Tensor
    yeast: int = 0

    def windows(self, part: str = "") -> int:
        return self.yeast if part else len(self.value_B)

    def to(self, device: Any) -> "Batch":
        return Batch(self.value_B.to(device), self.yeast)


class Means:
    """The mean of what was seen."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def update(self, predictions: Any, targets: Any) -> None:
        assert targets is None
        self.seen += predictions["value"].tolist()

    def merge(self, other: "Means") -> None:
        self.seen += other.seen

    def summary(self) -> dict[str, float]:
        return {"mean/yeast": sum(self.seen) / len(self.seen)}


class Product(Objective):
    """The mean value times a weight of the encoder."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model: SequenceModel = model
        self.steps = 0

    def after_step(self) -> None:
        self.steps += 1

    def loss(self, batch: Batch) -> Losses:
        weight = next(self.model.encoder.parameters()).flatten()[0]
        total = weight * batch.value_B.mean()
        return Losses(total, {"product": total.detach()}, {"value": batch.value_B})

    def metrics(self) -> Means:
        return Means()


@pytest.fixture
def objective() -> MixtureObjective:
    names = ("masked", "distillation")
    models = {name: SequenceModel(SequenceModelConfig(encoder=ENCODER)) for name in names}
    parts = {name: Product(model) for name, model in models.items()}
    return MixtureObjective(MixtureModel.of(models), parts, {"masked": 2.0, "distillation": 0.5})


def test_the_loss_is_the_weighted_sum_and_terms_are_named_by_part(
    objective: MixtureObjective,
) -> None:
    batch = MixtureBatch({"masked": Batch(torch.ones(3)), "distillation": Batch(torch.ones(5) * 4)})
    losses = objective.loss(batch)
    weight = next(objective.model.encoder.parameters())
    first = weight.detach().flatten()[0]
    torch.testing.assert_close(losses.total, (2.0 * 1 + 0.5 * 4) * first)
    assert set(losses.terms) == {"masked.product", "distillation.product"}
    torch.testing.assert_close(losses.terms["distillation.product"], 4 * first)
    losses.total.backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad.flatten()[0], torch.tensor(4.0))
    # One part at a time, as in validation, adds up to the same.
    parts = [objective.loss(MixtureBatch({name: part})) for name, part in batch.parts.items()]
    torch.testing.assert_close(sum(part.total for part in parts), losses.total)
    assert [len(part.terms) for part in parts] == [1, 1]


def test_metrics_of_a_part_see_its_batches_only_and_merge(objective: MixtureObjective) -> None:
    one, other = objective.metrics(), objective.metrics()
    for metrics, name, value in (
        (one, "masked", 1.0), (one, "distillation", 5.0), (other, "masked", 3.0),
        (other, "distillation", 5.0),
    ):  # fmt: skip
        batch = MixtureBatch({name: Batch(torch.full((2,), value))})
        metrics.update(objective.loss(batch).predictions, batch.targets)
    one.merge(other)
    assert one.summary() == {"masked.mean/yeast": 2.0, "distillation.mean/yeast": 5.0}
    assert isinstance(one, MixtureMetrics)


def test_a_step_is_told_to_every_part(objective: MixtureObjective) -> None:
    objective.after_step()
    assert [part.steps for part in objective.parts.values()] == [1, 1]
    assert all(isinstance(part, nn.Module) for part in objective.parts.values())


def test_windows_are_those_of_the_parts_that_are_there() -> None:
    profile, masked = Batch(torch.ones(3), yeast=2), Batch(torch.ones(4))
    assert MixtureBatch({"profile": profile}).windows() == 3
    assert MixtureBatch({"profile": profile}).windows("yeast") == 2
    assert MixtureBatch({"masked": masked}).windows() == 4
    both = MixtureBatch({"profile": profile, "masked": masked})
    assert (both.windows(), both.windows("yeast")) == (7, 2)
    assert both.to("cpu").parts["masked"].value_B.equal(masked.value_B)
