"""The card of a task: everything about it that is not an example."""

from typing import Literal

from pydantic import Field, model_validator

from cislens.evaluation.metrics import METRICS
from cislens.recipes.reading import Section

TaskKind = Literal["binary", "regression", "multi_regression"]


class Target(Section):
    """What is predicted: one name per output, how a label became a number, and its unit."""

    names: list[str] = Field(min_length=1)
    label_map: dict[str, int] = {}
    transform: str = "identity"
    unit: str = ""


class Metric(Section):
    """The metric that decides, and those shown beside it; all are better when larger."""

    primary: str
    secondary: list[str] = []

    @model_validator(mode="after")
    def _known(self) -> "Metric":
        for name in (self.primary, *self.secondary):
            if name not in METRICS:
                raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}")
        return self


class TaskCard(Section):
    """A task's card; `card.yaml` beside `examples.parquet`.

    Attributes:
        name, revision: results are kept by both and by the task's hash.
        window: bp of every example, or None if lengths differ.
        split: how train, valid and test were parted.
        block: what one bootstrap block is, in words.
        negatives: where the examples of class 0 come from.
        strand: unstranded tasks allow reverse-complement augmentation and averaging, stranded
            ones forbid both.
        margin: a difference of the primary metric within this margin is no difference.
        exposure: what the judged models may have seen of this task.
        report: counts and balances that the builder noted.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    revision: str = "1"
    kind: TaskKind
    species: str | None = None
    assembly: str = ""
    window: int | None = Field(default=None, ge=1)
    target: Target
    metric: Metric
    split: Literal["chromosome", "homology", "predefined", "regions"]
    block: str
    negatives: Literal["genomic", "measured", "none"] = "none"
    strand: Literal["unstranded", "stranded"] = "unstranded"
    margin: float = Field(default=0.01, gt=0)
    exposure: str = "unknown"
    source: str = ""
    licence: str = "unknown"
    report: dict[str, str | int | float] = {}

    @property
    def stranded(self) -> bool:
        return self.strand == "stranded"

    @model_validator(mode="after")
    def _consistent(self) -> "TaskCard":
        if self.kind != "multi_regression" and len(self.target.names) != 1:
            raise ValueError(f"a {self.kind} task has one target, found {self.target.names}")
        ranked = {"auroc", "auprc", "mcc"} & {self.metric.primary, *self.metric.secondary}
        if self.kind != "binary" and ranked:
            raise ValueError(f"{', '.join(sorted(ranked))} need two classes, not {self.kind}")
        return self
