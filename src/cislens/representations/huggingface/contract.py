"""What every language model of DNA gives, whatever its architecture.

Legend: B sequences, T tokens, D channels, V symbols of the vocabulary.
"""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """The tokens of one sequence, special tokens left out.

    Attributes:
        ids: (T,) indices into the vocabulary.
        spans: (T, 2) the bases that each token covers, 0-based and half-open.
        texts: the bases as the token has them.
    """

    ids: Ids
    spans: Ids
    texts: tuple[str, ...]


class Tokenizer(ABC):
    """Text to tokens that cover all of it; padding goes to the right.

    Attributes:
        kind: "char" (one base), "kmer" (whole words, single bases where none fits) or "bpe".
        prefix, suffix: ids of special tokens that the model expects around a sequence.
        pad_id, mask_id: ids of the tokens for padding and for a hidden base, None if there is none.
        token_size: about how many bases a token covers.
        remapped: how often each symbol was read as another one since the start.
        digest: changes whenever the tokens of a sequence could.
    """

    kind: str
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad_id: int
    mask_id: int | None
    token_size: int
    digest: str
    remapped: Counter[str]

    @abstractmethod
    def tokenize(self, text: str) -> Tokens:
        """Tokens of a sequence of any case; U reads as T, other symbols by the family's policy."""

    @abstractmethod
    def id_of(self, text: str) -> int | None:
        """The id of one token, None if there is no such token."""


class Batch(NamedTuple):
    """Framed and padded tokens: ids, which are real, and how many bases each one covers."""

    ids_BT: Tensor
    mask_BT: Tensor
    weight_BT: Tensor


class LanguageModel(nn.Module, ABC):
    """Tokens in, the state after every layer out.

    Padding may stand to the right of a sequence and must not change its states.

    Attributes:
        config: what the constructor takes, so that a twin can be built.
        dim: channels of the states.
        depth: layers; there are depth + 1 states.
        causal: whether a state knows the tokens to its left only.
        has_head: whether the weights include a language-model head, the module `head`.
        unused: tensors that some folders hold and a model of this configuration does not read.
    """

    config: Any
    dim: int
    depth: int
    causal: bool = False
    has_head: bool
    unused: tuple[str, ...] = ()

    @abstractmethod
    def states(self, ids_BT: Tensor, mask_BT: Tensor) -> list[Tensor]:
        """States (B, T, D): the embedding first, the last one after the final norm.

        Args:
            ids_BT: indices into the vocabulary.
            mask_BT: True at real tokens, False at padding.
        """

    @abstractmethod
    def logits(self, state_XD: Tensor) -> Tensor:
        """Scores (X, V) of the vocabulary from last states; only with a head."""

    def drop_head(self) -> None:
        """Leave the language-model head away, so that no parameter of a tuned model is idle."""
        if self.has_head:
            self.has_head = False
            del self.head


class TunedNetwork(nn.Module):
    """A language model whose last states are trained further.

    Called with a `Batch` it gives last states (B, T, D) and the bases of each token (B, T).
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model
        self.model.drop_head()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.model.states(batch.ids_BT, batch.mask_BT)[-1], batch.weight_BT


def initialize(model: nn.Module, deviation: float) -> None:
    """The start that BERT and its kin are trained from: normal matrices, zero biases."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=deviation)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
