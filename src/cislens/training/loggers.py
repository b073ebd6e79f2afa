"""Other tools' loggers beside metrics.parquet, which stays the source of truth.

All of them write into `logs/` of the run folder and need no network: what they wrote is looked at
with `tensorboard --logdir`, `wandb sync` or `mlflow ui`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

FOLDER = "logs"


def loggers_of(names: Sequence[str], folder: Path) -> list[Logger]:
    """Lightning's loggers of a recipe.

    A run that goes on adds to the files of TensorBoard; for the others it is another run.

    Args:
        names: tensorboard, wandb, mlflow; their packages are installed.
        folder: of the run.
    """
    root = folder / FOLDER
    return [_MAKERS[name](root, folder.resolve().name) for name in names]


def _tensorboard(root: Path, name: str) -> Logger:
    return TensorBoardLogger(save_dir=root, name="tensorboard", version="")


def _wandb(root: Path, name: str) -> Logger:
    root.mkdir(parents=True, exist_ok=True)
    # Read when wandb is first imported: reports of its own errors would wait for a network.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    return WandbLogger(name=name, save_dir=root, project="cislens", offline=True)


def _mlflow(root: Path, name: str) -> Logger:
    root.mkdir(parents=True, exist_ok=True)
    tracking = f"sqlite:///{(root / 'mlflow.db').resolve()}"
    return MLFlowLogger(
        experiment_name="cislens",
        run_name=name,
        tracking_uri=tracking,
        artifact_location=str((root / "mlflow").resolve()),
    )


_MAKERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
