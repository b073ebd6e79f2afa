"""A representation that can do everything, and knows a planted motif in one of its layers."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from plants import MOTIF
from torch import Tensor, nn

from cislens.genome.codes import Codes
from cislens.representations.contract import Features, Kind

_BIN = 10


def matches(sequences: Sequence[Codes]) -> np.ndarray:
    """(n, L) bases of the motif that match at each position, on the better strand."""
    codes = np.stack(sequences)
    padded = np.pad(codes, ((0, 0), (0, len(MOTIF) - 1)), constant_values=4)
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(MOTIF), axis=1)
    strands = [(windows == site).sum(-1) for site in (MOTIF, 3 - MOTIF[::-1])]
    return np.maximum(*strands).astype(np.float32)


def noise(sequences: Sequence[Codes], draw: int = 0) -> np.ndarray:
    """(n, 1) a value that only tells sequences apart."""
    codes = np.stack(sequences).astype(float)
    weights = np.random.default_rng(draw).normal(size=(codes.shape[1], 1))
    return np.sin(7 * codes @ weights).astype(np.float32)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(4, 6, 5, padding=2)
        self.mix = nn.Linear(6, 6)

    def forward(self, x_B4L: Tensor) -> tuple[Tensor, Tensor]:
        h_BLD = self.mix(torch.relu(self.convolution(x_B4L)).transpose(1, 2))
        return h_BLD, x_B4L.sum(1)


class Model:
    """Views, bins, a random twin and a network; layer L2 holds the best match of the motif.

    `asked` lists the views of every pass.
    """

    parameters = 7
    views = ("L1.mean", "L2.mean", "out.mean")
    bin_size = _BIN
    lora_targets = ("mix",)

    def __init__(self, name: str = "model", kind: Kind = "trained", draw: int = 0) -> None:
        self.name, self.kind, self.draw = name, kind, draw
        self.digest = f"{name}/{draw}"
        self.asked: list[tuple[str, ...]] = []
        with torch.random.fork_rng():
            torch.manual_seed(draw)
            self.net = Net()

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        return self.embed_views(sequences, species, stranded, self.views[-1:])[self.views[-1]]

    def embed_views(
        self,
        sequences: Sequence[Codes],
        species: str | None,
        stranded: bool,
        views: Sequence[str],
    ) -> dict[str, Features]:
        self.asked.append(tuple(views))
        found = {view: noise(sequences, self.draw + len(view)) for view in views}
        if "L2.mean" in views and self.kind == "trained":
            found["L2.mean"] = matches(sequences).max(1, keepdims=True)
        return found

    def embed_bins(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        best = matches(sequences)
        binned = best[:, : best.shape[1] // _BIN * _BIN].reshape(len(best), -1, _BIN)
        return np.stack([binned.max(-1), binned.mean(-1)], axis=-1)

    def twin(self, draw: int) -> "Model":
        return Model(f"{self.name}-random", "random", draw + 1)

    def network(self) -> nn.Module:
        return copy.deepcopy(self.net)

    def collate(self, sequences: Sequence[Codes], species: str | None) -> Tensor:
        codes = torch.from_numpy(np.stack(sequences)).long()
        return torch.eye(5)[codes][..., :4].transpose(1, 2).contiguous()


class LanguageModel(Model):
    """It also tells how likely each base is, which here is always the same."""

    log_p = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))

    def base_log_probabilities(
        self, sequences: Sequence[Codes], positions: Sequence[int], species: str | None
    ) -> Features:
        return np.tile(self.log_p, (len(positions), 1))
