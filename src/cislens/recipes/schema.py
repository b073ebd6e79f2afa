"""The recipes: what `cislens data profile`, `cislens train` and `cislens bench` read."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cislens.recipes.objectives import AnyObjective
from cislens.recipes.profiles import Fraction, Objective
from cislens.recipes.reading import RecipeName, RecipePath, Section
from cislens.recipes.task_basics import GenomeSection, TaskSection
from cislens.recipes.task_sections import BuiltTask, ImportedTask


class Training(Section):
    """How long, how fast and with what care a model is trained."""

    steps: int = Field(ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: Fraction = 0.05  # share of the steps
    clip: float = Field(default=0.2, gt=0)  # norm of the gradient
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    validate_every: int = Field(default=500, ge=1)  # steps
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 on a GPU, fp32 on a CPU
    shift: int = Field(default=3, ge=0)  # bp, either way
    reverse_complement: bool = True
    # "alternate": every batch is of one species, in turn.
    batches: Literal["mixed", "alternate"] = "mixed"
    compile: bool = False
    checkpointing: bool = False  # activations are computed twice and half of them never kept
    # The batch of a step is computed in so many parts, one after another, whose gradients are
    # added: memory for one part. Statistics of a batch (of experts, of batch normalization, of
    # contrasts) are then those of a part.
    accumulate: int = Field(default=1, ge=1)
    # On several devices: every one has all weights, or a share of weights, gradients and moments.
    strategy: Literal["ddp", "fsdp"] = "ddp"
    loggers: list[Literal["tensorboard", "wandb", "mlflow"]] = []


class Source(Section):
    """Where data come from, for reports and model cards."""

    data: str
    source: str
    licence: str


class TrainRecipe(Section):
    """`cislens train`: a store, a model and an objective.

    Attributes:
        model: a preset's name, or {preset: name, <key>: <value>, ...}.
        init_from: run or model folder whose model is trained further; what the store adds to it,
            species or tracks, is appended. `model` is then left out.
        freeze: "encoder" trains heads and decoder only; "old" trains only what was appended.
        sources: of the data, for the model card.
    """

    store: RecipePath
    model: str | dict[str, Any] | None = None
    init_from: RecipePath | None = None
    freeze: Literal["nothing", "encoder", "old"] = "nothing"
    objective: AnyObjective = Objective()
    training: Training
    seed: int = 0
    sources: list[Source] = []

    @model_validator(mode="after")
    def _one_origin(self) -> "TrainRecipe":
        if (self.model is None) == (self.init_from is None):
            raise ValueError("give either model or init_from")
        if self.freeze != "nothing" and self.init_from is None:
            raise ValueError(f"freeze: {self.freeze} needs init_from")
        return self


class _GenomeTask(GenomeSection):
    width: int = Field(default=512, ge=1)  # bp of an example


class PeakTask(_GenomeTask):
    """Peaks against matched background."""

    kind: Literal["peaks"]
    peaks: RecipePath


class AccessibilityTask(_GenomeTask):
    """The signal of a track over peaks and matched background."""

    kind: Literal["accessibility"]
    peaks: RecipePath
    track: RecipePath
    transform: Literal["log1p", "identity"] = "log1p"


class WindowTask(TaskSection):
    """Mean signal of every track of the store over pieces of its windows."""

    kind: Literal["windows"]
    width: int = Field(default=512, ge=1)  # bp of a piece; a multiple of the bin size


class SavedTask(Section):
    """A task folder: card.yaml and examples.parquet."""

    kind: Literal["saved"]
    folder: RecipePath


LabelledTask = Annotated[
    PeakTask | AccessibilityTask | SavedTask | ImportedTask | BuiltTask,
    Field(discriminator="kind"),
]


class AttributionTask(Section):
    """Whether attributions of models of another task find the sites of a motif.

    Attributes:
        of: a task of two classes or of one value, whose sequences have one length.
        motif: name of a motif in `motifs`, or a consensus in IUPAC letters.
        motifs: file of motifs in MEME format.
        p_value: share of random words that score as the sites do.
        limit: at most so many test sequences are judged.
    """

    kind: Literal["attribution"]
    of: LabelledTask
    motif: str
    motifs: RecipePath | None = None
    p_value: float = Field(default=1e-4, gt=0, lt=1)
    limit: int = Field(default=100, ge=10)


AnyTask = Annotated[
    PeakTask
    | AccessibilityTask
    | WindowTask
    | SavedTask
    | AttributionTask
    | ImportedTask
    | BuiltTask,
    Field(discriminator="kind"),
]


class BenchSettings(Section):
    """How a bench is run; the same for every arm.

    Attributes:
        seeds: each redraws the training subset and the head's initialization, and for random
            twins the weights.
        train_fraction: share of the training blocks in a seed's subset.
        layers: whether layer and pooling of a representation are chosen on validation; else its
            last layer is taken.
        heads: on frozen features. The linear one is ridge or logistic regression.
        cnn: one-hot CNNs trained from scratch: onehot-cnn-tiny, -small, -base.
        finetune: how trained networks are trained further on each task.
        cnn_steps, cnn_batch: most gradient steps of every network trained on a task, and their
            size.
        trials: settings tried with seed 0 for every head that has some; the best on validation is
            kept. The same ones for every arm.
        labels: numbers of training examples, for curves of label efficiency.
        kmer: longest k-mer counted.
        gapped: whether gapped k-mers are a baseline too.
        motifs: library (`JASPAR2026:CORE:vertebrates`, or a file in MEME format) whose motifs'
            occupancy is a baseline too.
        conservation: assembly -> bigWig of conservation (phyloP, phastCons); what it says at a
            variant is a baseline of the variant tasks of that assembly.
    """

    seeds: int = Field(default=3, ge=1)
    train_fraction: float = Field(default=0.9, gt=0, le=1)
    layers: bool = False
    heads: list[Literal["linear", "mlp", "cnn", "neighbors"]] = Field(
        default=["linear"], min_length=1
    )
    cnn: list[str] = ["onehot-cnn-tiny"]
    finetune: list[Literal["lora", "full"]] = []
    cnn_steps: int = Field(default=200, ge=1)
    cnn_batch: int = Field(default=64, ge=2)
    trials: int = Field(default=2, ge=1)
    labels: list[Annotated[int, Field(ge=10)]] = []
    kmer: int = Field(default=5, ge=1, le=8)
    gapped: bool = False
    motifs: RecipeName | None = None
    conservation: dict[str, RecipePath] = {}
    seed: int = 0


class Loci(Section):
    """Held-out places of one species whose tracks the report draws, measured and predicted."""

    genome: RecipePath
    count: int = Field(default=2, ge=1, le=4)
    annotations: RecipePath | None = None  # genes or peaks: GTF, GFF3, BED or narrowPeak
    annotated_as: str = "genes"


class PublishedModel(Section):
    """A model folder in the shape of Hugging Face's, of a family that has an adapter."""

    family: str
    folder: RecipePath


class BenchRecipe(Section):
    """`cislens bench`: representations and tasks. The baselines come by themselves.

    Examples from the genomes of the `store` that the runs were trained on inherit the part of the
    window they lie in, and what resembles its train and valid windows is not tested.

    Attributes:
        runs: name of the arm -> run folder of `cislens train`.
        models: name of the arm -> published model.
        embeddings: name of the arm -> embedding store of `cislens embed`.
        store: of the runs; the one that their manifests name, unless given.
        suites: files of tasks, or names of packaged ones, that are added to `tasks`.
        only: patterns of task names, as for files; what matches none is left out of the suites.
        audit: whether every task is audited; a failed audit withholds gains.
        loci: species -> what to draw for the first run.
    """

    runs: dict[str, RecipePath] = {}
    models: dict[str, PublishedModel] = {}
    embeddings: dict[str, RecipePath] = {}
    store: RecipePath | None = None
    tasks: dict[str, AnyTask] = {}
    suites: list[RecipeName] = []
    only: list[str] = Field(default=["*"], min_length=1)
    settings: BenchSettings = BenchSettings()
    audit: bool = True
    loci: dict[str, Loci] = {}
    sources: list[Source] = []
