"""Training a representation's own network further, wholly or through low-rank adapters.

Dimensions: B sequence, T token, D channel.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cislens.errors import CislensError, nearest
from cislens.evaluation.heads.fitting import Part, Regime, Rows, Scores, predict, train
from cislens.evaluation.heads.goal import Goal, goal_of
from cislens.evaluation.tasks.card import TaskCard
from cislens.evaluation.tasks.task import Fold
from cislens.genome.codes import Codes, reverse_complement
from cislens.randomness import generator, seed_of
from cislens.representations.contract import Tunable
from cislens.representations.seeding import seeded

Mode = Literal["lora", "full"]
LEARNING_RATES = (1e-5, 5e-5, 1e-4, 5e-4)  # validation chooses; the same for all networks
# DART-Eval's values (Patel et al. 2024).
LORA_RANK, LORA_ALPHA, LORA_DROPOUT = 8, 16, 0.05
_HEAD_RATE = 1e-3  # the head starts at zero, the network does not
_EMA_DECAY = 0.98
_MEASURED_SEQUENCES = 512  # for the mean and spread of the features that the head sees
_BASES_PER_STEP, _LEAST_BATCH = 16_384, 4
_BASES_AT_ONCE = 65_536


@dataclass(frozen=True)
class FittedTuned:
    """A tuned network under a linear head, its best validation metric and what it took.

    Attributes:
        parameters: of the network and its head, `trained` of which were trained.
    """

    net: "TunedNetwork"
    tunable: Tunable
    card: TaskCard
    goal: Goal
    mode: Mode
    trained: int
    valid_metric: float
    steps: int
    wall_s: float

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.net.parameters())

    def scores(self, sequences: tuple[Codes, ...]) -> Scores:
        """(n, T); the mean of both strands for unstranded tasks."""
        feed = _Collated(sequences, self.tunable, self.card)
        return self.goal.scores(predict(self.net, feed))


def fit_finetuned(
    tunable: Tunable,
    train_fold: Fold,
    valid_fold: Fold,
    *,
    card: TaskCard,
    mode: Mode,
    regime: Regime,
    seed: int,
) -> FittedTuned:
    """Train a copy of the representation's network; the best weights on validation stay.

    The head is linear on the mean of the values over the bases that the tokens cover. Unstranded:
    each training sequence is reverse-complemented with probability 1/2. The representation's own
    network is not changed, and the copy computes where it lies.

    Args:
        mode: "full" trains every parameter; "lora" adds adapters of rank 8 to the linear layers
            that the representation names (Hu et al. 2022) and leaves all else, also the running
            statistics of batch norm, as it is.

    Raises:
        CislensError: for an unknown mode, a missing `peft`, or names that match no linear layer.
    """
    if mode not in get_args(Mode):
        raise CislensError(f"unknown mode {mode!r}. {nearest(mode, get_args(Mode))}")
    assert train_fold.labels is not None and valid_fold.labels is not None
    network = tunable.network()
    if mode == "lora":
        with seeded(seed_of("lora", seed)):
            add_adapters(network, tunable.lora_targets)
    else:
        network.requires_grad_(True)
    feed = _Collated(train_fold.sequences, tunable, card)
    rng = generator(seed, "finetune_batches")
    mean_D, spread_D = _measure(network, feed, rng)
    device = str(mean_D.device)
    goal = goal_of(card, train_fold.labels, valid_fold.labels, device)
    net = TunedNetwork(network, mean_D, spread_D, goal.outputs, mode == "lora", seed)
    tuned = [p for p in network.parameters() if p.requires_grad]
    head = list(net.head.parameters())
    parts = [
        Part(tuned, regime.learning_rate), Part(head, max(_HEAD_RATE, regime.learning_rate)),
    ]  # fmt: skip
    done = train(
        net, feed, _Collated(valid_fold.sequences, tunable, card), goal, regime, rng,
        ema_decay=_EMA_DECAY, parts=parts, head=net.head, weights=train_fold.weights,
    )  # fmt: skip
    trained = sum(p.numel() for p in [*tuned, *head])
    return FittedTuned(
        net, tunable, card, goal, mode, trained, done.valid_metric, done.steps, done.wall_s
    )


class TunedNetwork(nn.Module):
    """A representation's network, the weighted mean of its values, and a linear head on it."""

    mean_D: Tensor
    scale_D: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean_D: Tensor,
        spread_D: Tensor,
        outputs: int,
        keep_statistics: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.keep_statistics = keep_statistics
        self.seed, self.passes = seed, 0
        self.register_buffer("mean_D", mean_D)
        self.register_buffer("scale_D", 1 / spread_D)
        with seeded(seed):
            self.head = nn.Linear(len(mean_D), outputs, device=mean_D.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> "TunedNetwork":
        """As `nn.Module.train`, but batch norm keeps its statistics if they are to be kept."""
        super().train(mode)
        if self.keep_statistics:
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, batch: Any) -> Tensor:
        """A batch of the representation's -> (B, outputs)."""
        if self.training:
            # A network from elsewhere may draw dropout from torch's global state.
            self.passes += 1
            with seeded(seed_of("finetune_dropout", self.seed, self.passes)):
                features_BD = pooled(*self.network(batch))
        else:
            features_BD = pooled(*self.network(batch))
        scores: Tensor = self.head((features_BD - self.mean_D) * self.scale_D)
        return scores


def pooled(values_BTD: Tensor, weight_BT: Tensor) -> Tensor:
    """(B, D) the mean of the values, weighted by the bases that each token covers."""
    weight_BT1 = weight_BT.to(torch.float32).unsqueeze(-1)
    total_B1 = weight_BT1.sum(1).clamp_min(1e-6)
    return (values_BTD.float() * weight_BT1).sum(1) / total_B1


def add_adapters(network: nn.Module, targets: Sequence[str]) -> int:
    """Put LoRA adapters on linear layers and freeze the rest; how many parameters then train.

    Args:
        targets: endings of the layers' names, at a dot.

    Raises:
        CislensError: if `peft` is missing or no linear layer has such a name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise CislensError(
            "fine-tuning by LoRA needs the package peft; install cislens[hf], or use mode 'full'."
        ) from error
    layers = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        and any(name == target or name.endswith(f".{target}") for target in targets)
    }
    if not layers:
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        raise CislensError(
            f"{type(network).__name__} has no linear layer whose name ends in "
            f"{', '.join(targets)}; it has {', '.join(linear[:8]) or 'none'}."
        )
    network.requires_grad_(False)
    config = LoraConfig(
        r=LORA_RANK, lora_alpha=LORA_ALPHA, lora_dropout=LORA_DROPOUT, bias="none",
        target_modules="|".join(re.escape(name) for name in layers),
    )  # fmt: skip
    inject_adapter_in_model(config, network)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    expected = sum(LORA_RANK * (at.in_features + at.out_features) for at in layers.values())
    assert trained == expected, f"{trained} parameters train, {expected} were added"
    return trained


@dataclass(frozen=True)
class _Collated:
    """Sequences as a representation's network takes them, as a feed."""

    sequences: tuple[Codes, ...]
    tunable: Tunable
    card: TaskCard

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def largest_batch(self) -> int:
        return max(_LEAST_BATCH, _BASES_PER_STEP // self._longest)

    @property
    def at_once(self) -> int:
        return max(1, _BASES_AT_ONCE // self._longest)

    @property
    def _longest(self) -> int:
        return max(map(len, self.sequences))

    def batch(self, rows: Rows, rng: np.random.Generator) -> Any:
        chosen = [self.sequences[row] for row in rows]
        if not self.card.stranded:
            flip_B: npt.NDArray[np.bool_] = rng.random(len(rows)) < 0.5
            chosen = [
                reverse_complement(codes) if flip else codes
                for codes, flip in zip(chosen, flip_B, strict=True)
            ]
        return self.tunable.collate(chosen, self.card.species)

    def views(self, rows: Rows) -> Iterator[Any]:
        chosen = [self.sequences[row] for row in rows]
        yield self.tunable.collate(chosen, self.card.species)
        if not self.card.stranded:
            flipped = [reverse_complement(codes) for codes in chosen]
            yield self.tunable.collate(flipped, self.card.species)


def _measure(
    network: nn.Module, feed: _Collated, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of the features of some training sequences."""
    rows = np.sort(rng.permutation(len(feed))[:_MEASURED_SEQUENCES])
    features = []
    network.eval()
    with torch.no_grad():
        for start in range(0, len(rows), feed.at_once):
            batch = next(feed.views(rows[start : start + feed.at_once]))
            features.append(pooled(*network(batch)))
    features_BD = torch.cat(features)
    spread_D = features_BD.std(0, correction=0)
    return features_BD.mean(0), torch.where(spread_D > 1e-6, spread_D, torch.ones_like(spread_D))
