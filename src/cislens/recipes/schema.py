"""The recipes: what `cislens train` and `cislens bench` read."""

from typing import Annotated, Any, Literal

from pydantic import Field

from cislens.recipes.reading import RecipePath, Section

Fraction = Annotated[float, Field(ge=0, le=1)]


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
