"""The checkpoints of a run, in a folder that may be moved while the run is interrupted."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from cislens.files import atomic_path


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint whole, and to the disk, before it takes the place of the one before."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_path(path) as aside:
            aside.write_bytes(content.getbuffer())


def newest(folder: Path) -> Path | None:
    """The checkpoint of a run folder from which the fewest steps are lost, if there is one.

    Beside the last validation's there may be one that Lightning writes when SLURM says that it is
    going to stop the job.
    """
    found = [folder / "checkpoints" / "last.ckpt", *folder.glob("hpc_ckpt_*.ckpt")]
    steps = {
        path: torch.load(path, weights_only=True, map_location="meta")["global_step"]
        for path in found
        if path.exists()
    }
    return max(steps, key=steps.__getitem__) if steps else None


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best and the last validation of a run as `best.ckpt` and `last.ckpt`.

    Without a metric to choose by, the best is the last.

    Lightning's own class forgets the best score of a folder that has another path than when it
    was saved; a resumed run could then choose other weights.
    """

    def __init__(self, folder: Path, selection: str | None) -> None:
        super().__init__(
            folder, filename="best", monitor=selection, save_last=True,
            enable_version_counter=False,
        )  # fmt: skip

    @property
    def state_key(self) -> str:
        # The name under which runs that are still interrupted have saved it.
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.dirpath is not None
        here = Path(self.dirpath)

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        changed = {name: moved(state_dict[name]) for name in paths if name in state_dict}
        scores = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(
            {**state_dict, **changed, "best_k_models": scores, "dirpath": self.dirpath}
        )
