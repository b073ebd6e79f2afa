"""The recipes: what `cislens data profile`, `cislens train` and `cislens bench` read."""

from typing import Annotated, Any, Literal

from pydantic import Field

from cislens.recipes.reading import RecipePath, Section

Fraction = Annotated[float, Field(ge=0, le=1)]


class Split(Section):
    """How windows are divided: by chromosome where any is named, else by homology-aware blocks."""

    fractions: dict[Literal["train", "valid", "test"], Fraction] = {
        "train": 0.8,
        "valid": 0.1,
        "test": 0.1,
    }
    block_bp: int = Field(default=262_144, ge=1)
    valid: dict[str, list[str]] = {}  # species -> chromosomes
    test: dict[str, list[str]] = {}


class DataRecipe(Section):
    """`cislens data profile`: genomes and a track table, cut into windows."""

    genomes: dict[str, RecipePath] = Field(min_length=1)  # species -> FASTA or 2bit
    tracks: RecipePath  # track table (TSV)
    length: int = Field(ge=1)  # bp of a window
    bin_size: int = Field(default=128, ge=1)  # bp
    crop: int = Field(default=0, ge=0)  # bins without target at either side
    margin: int = Field(default=3, ge=0)  # bp kept at either side, for shifts
    stride: int | None = Field(default=None, ge=1)  # bp; so that bins meet, unless given
    split: Split = Split()
    seed: int = 0


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
    loggers: list[Literal["tensorboard", "wandb", "mlflow"]] = []


class TrainRecipe(Section):
    """`cislens train`: a store, a model and an objective."""

    store: RecipePath
    model: str | dict[str, Any]  # a preset's name, or {preset: name, <key>: <value>, ...}
    objective: dict[str, Any] = {"name": "profile"}
    training: Training
    seed: int = 0
