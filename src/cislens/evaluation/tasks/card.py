"""The card of a task: everything about it that is not an example."""

from typing import Literal

from pydantic import Field, model_validator

from cislens.evaluation.metrics import METRICS
from cislens.recipes.reading import Section

TaskKind = Literal[
    "binary",  # y 0 or 1
    "multiclass",  # y the number of one of `target.classes`
    "multilabel",  # y 0 or 1 for each of several outputs
    "regression",  # y one value
    "multi_regression",  # y a value for each of several outputs
    "splicing",  # y the percent spliced in, 0 to 1, of each tissue
    "variant",  # a reference and an alternate sequence; y a class or an effect
    "attribution",  # trained as binary or regression; judged by where the sites are found
]
# Metrics, and the kinds of task that they can judge.
_CLASSES = {"auroc", "auprc"}
_MULTICLASS = {"accuracy", "macro_auroc"}
_WHOLE = {"binary", "multilabel", "variant"}


class Target(Section):
    """What is predicted: one name per output, how a label became a number, and its unit.

    Attributes:
        names: of the outputs.
        classes: names of the classes of a multiclass target, in the order of their numbers.
        label_map: the class of every text that stood for a label.
        masked: whether labels may be missing (NaN).
    """

    names: list[str] = Field(min_length=1)
    classes: list[str] = []
    label_map: dict[str, int] = {}
    transform: str = "identity"
    unit: str = ""
    masked: bool = False


class Metric(Section):
    """The metric that decides, and those shown beside it; all are better when larger."""

    primary: str
    secondary: list[str] = []

    @property
    def names(self) -> tuple[str, ...]:
        return (self.primary, *self.secondary)

    @model_validator(mode="after")
    def _known(self) -> "Metric":
        for name in self.names:
            if name not in METRICS:
                raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}")
        return self


class File(Section):
    """A file that the task was made from."""

    role: str
    name: str
    bytes: int = Field(ge=0)
    rows: int | None = None
    sha256: str


class Reference(Section):
    """A published value, and how near a rerun of it must come."""

    arm: str
    metric: str
    value: float
    tolerance: float = Field(gt=0)
    source: str


class TaskCard(Section):
    """A task's card; `card.yaml` beside `examples.parquet`.

    Attributes:
        name, revision: results are kept by both and by the task's hash.
        window: bp of every example, or None if lengths differ.
        parts: lengths of the pieces that the sequences are joined from, e.g. both ends of an exon;
            empty for a sequence in one piece.
        split: how train, valid and test were parted.
        block: what one bootstrap block is, in words.
        negatives: where the examples of class 0 come from.
        strand: unstranded tasks allow reverse-complement augmentation and averaging, stranded
            ones forbid both.
        score_sign: of a variant's score: signed (alternate minus reference, positive is more
            activity) or unsigned.
        margin: a difference of the primary metric within this margin is no difference.
        exposure: what the judged models may have seen of this task.
        files: what it was made from.
        report: counts and balances that the builder noted.
        audit: summary of the last audit; not part of the task's hash.
    """

    schema_version: Literal[2] = 2
    name: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")
    revision: str = "1"
    kind: TaskKind
    species: str | None = None
    assembly: str = ""
    window: int | None = Field(default=None, ge=1, le=1 << 31)
    parts: list[int] = []
    target: Target
    metric: Metric
    split: Literal["chromosome", "homology", "predefined", "regions", "fold", "random"]
    block: str
    negatives: Literal["genomic", "accessible", "shuffled", "synthetic", "measured", "none"] = (
        "none"
    )
    strand: Literal["unstranded", "stranded"] = "unstranded"
    score_sign: Literal["signed", "unsigned"] | None = None
    margin: float = Field(default=0.01, gt=0)
    exposure: str = "unknown"
    source: str = ""
    licence: str = "unknown"
    files: list[File] = []
    reference: list[Reference] = []
    report: dict[str, str | int | float] = {}
    audit: dict[str, str | int | float] = {}

    @property
    def stranded(self) -> bool:
        return self.strand == "stranded"

    @property
    def outputs(self) -> int:
        """Scores of one example: one per class, or one per output."""
        return len(self.target.classes) if self.kind == "multiclass" else len(self.target.names)

    @property
    def ranked(self) -> bool:
        """Whether the primary metric ranks two classes, so that labels are 0 and 1."""
        return self.kind in ("binary", "multilabel") or self.metric.primary in _CLASSES

    def as_trained(self) -> "TaskCard":
        """The card that heads are trained by: of an attribution task its labels, of a variant
        task its effects; any other card itself."""
        if self.kind not in ("attribution", "variant"):
            return self
        binary = bool(self.target.classes) if self.kind == "attribution" else self.ranked
        metric = self.metric
        if self.kind == "attribution":
            metric = Metric(primary="auroc" if binary else "pearson")
        changes = {
            "kind": "binary" if binary else "regression", "metric": metric, "score_sign": None,
        }  # fmt: skip
        return self.model_copy(update=changes)

    @model_validator(mode="after")
    def _consistent(self) -> "TaskCard":
        several = ("multilabel", "multi_regression", "splicing")
        if self.kind not in several and len(self.target.names) != 1:
            raise ValueError(f"a {self.kind} task has one target, found {self.target.names}")
        metrics = set(self.metric.names)
        misplaced = metrics & _MULTICLASS if self.kind != "multiclass" else set()
        if self.kind not in _WHOLE:
            misplaced |= metrics & _CLASSES
        if self.kind not in ("binary", "multiclass"):
            misplaced |= metrics & {"mcc"}
        if (self.kind == "attribution") != ("site_auprc" in metrics):
            misplaced |= metrics
        if misplaced:
            raise ValueError(f"a {self.kind} task is not judged by {', '.join(sorted(misplaced))}")
        if self.kind == "multiclass" and len(self.target.classes) < 3:
            raise ValueError("a multiclass task needs three or more target.classes")
        if (self.kind == "variant") != (self.score_sign is not None):
            raise ValueError("a variant task, and no other, needs score_sign: signed or unsigned")
        if self.parts and self.window not in (None, sum(self.parts)):
            raise ValueError(f"parts of {self.parts} bp do not make a window of {self.window} bp")
        return self
