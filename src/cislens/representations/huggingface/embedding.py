"""A language model of DNA as a representation.

Legend: B pieces, T tokens, D channels, N bins.
"""

import copy
import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from cislens.errors import CislensError, nearest
from cislens.genome.codes import Codes, N, decode, reverse_complement
from cislens.representations.contract import Features, Kind
from cislens.representations.controls import random_first_layer, random_twin, shuffled
from cislens.representations.huggingface.contract import (
    Batch,
    LanguageModel,
    Tokenizer,
    Tokens,
    TunedNetwork,
)
from cislens.representations.huggingface.loading import audit, constants
from cislens.representations.huggingface.pooling import (
    Pooled,
    add_to_bins,
    bases_per_bin,
    poolings_of,
)
from cislens.representations.huggingface.windows import Piece, batches_of, collated, pieces_of

logger = logging.getLogger("cislens")

Control = Literal["shuffle", "embed"]
Self = TypeVar("Self", bound="LanguageModelEmbedding")
_QUARTERS = (0.25, 0.5, 0.75, 1.0)
# Longer sequences are binned by the size of a token: one vector per base would not fit.
_LONGEST_PER_BASE = 1_024


class LanguageModelEmbedding:
    """Features of a language model's states, at any layer and pooling, in fp32.

    Views are layer.pooling: the layers are `embed` and those at 25, 50, 75 and 100 % of the depth
    (L1 is the state after the first block, the last one is after the final norm), the poolings
    those of `pooling.poolings_of`. Special tokens and padding never count. Sequences that are
    longer than the model takes are read in overlapping windows whose edges are not used.
    Unstranded: the mean of both strands.

    Args:
        model: used in evaluation mode on the device where it lies.
        name: how tables call it.
        max_tokens: the most tokens that the model takes, special ones included.
        lora_targets: endings of the names of its linear layers.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        name: str,
        max_tokens: int,
        lora_targets: tuple[str, ...] = (),
        kind: Kind = "trained",
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.max_tokens = max_tokens
        self.lora_targets = lora_targets
        self.kind = kind
        self._told: set[str] = set()

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @cached_property
    def digest(self) -> str:
        """sha256 of the model's class, configuration and weights, and of its tokenizer."""
        described = (type(self.model).__name__, self.model.config, self.max_tokens)
        digest = hashlib.sha256(f"{described}{self.tokenizer.digest}".encode())
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @property
    def remapped(self) -> Mapping[str, int]:
        """How often each symbol was read as another one, both strands counted."""
        return dict(self.tokenizer.remapped)

    @property
    def views(self) -> tuple[str, ...]:
        """Every layer of the grid with every pooling; `embed` gives the last."""
        depths = sorted({math.ceil(share * self.model.depth) for share in _QUARTERS})
        poolings = poolings_of(self.tokenizer, self.model.causal)
        # A special token has the same embedding in every sequence.
        first = tuple(f"embed.{pooling}" for pooling in poolings if pooling not in ("cls", "last"))
        return first + tuple(f"L{depth}.{pooling}" for depth in depths for pooling in poolings)

    @property
    def bin_size(self) -> int:
        """Bases per bin of `embed_bins`, 1; see `bin_size_for` for long sequences."""
        return 1

    def bin_size_for(self, length: int) -> int:
        """Bases per bin for sequences of a length: 1 up to 1,024 bp, then a token's bases."""
        return 1 if length <= _LONGEST_PER_BASE else self.tokenizer.token_size

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        """Features (n, D) of the last layer.

        Raises:
            CislensError: if a sequence holds no called base, or features are not finite.
        """
        view = self.views[-1]
        return self.embed_views(sequences, species, stranded, (view,))[view]

    def embed_views(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool, views: Sequence[str]
    ) -> dict[str, Features]:
        """Features (n, D) of each view, all of one pass over each strand.

        Any layer may be asked for, also one that is not among `views`.

        Raises:
            CislensError: as `embed`, or for a view that there is not.
        """
        asked = {view: self._parts(view) for view in views}
        self._refuse_uncalled(sequences)
        found = self._pooled(sequences, asked)
        if not stranded:
            other = self._pooled([reverse_complement(codes) for codes in sequences], asked)
            found = {view: (value + other[view]) / np.float32(2) for view, value in found.items()}
        for view, values in found.items():
            if not np.isfinite(values).all():
                raise CislensError(f"{self.name}: {view} is not finite; are the weights damaged?")
        return found

    def embed_bins(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        """The last layer (n, N, D), bins of `bin_size_for` the sequences' length.

        Raises:
            CislensError: as `embed`, or if lengths differ.
        """
        lengths = sorted({len(codes) for codes in sequences})
        self._refuse_uncalled(sequences)
        if len(lengths) > 1:
            raise CislensError(
                f"{self.name}: bins need sequences of one length, found {lengths[0]} to "
                f"{lengths[-1]} bp; crop them."
            )
        found = self._binned(sequences, flip=False)
        if not stranded:
            flipped = [reverse_complement(codes) for codes in sequences]
            found = (found + self._binned(flipped, flip=True)) / np.float32(2)
        if not np.isfinite(found).all():
            raise CislensError(f"{self.name}: bins are not finite; are the weights damaged?")
        return found

    def tokenize(self, text: str) -> Tokens:
        """The tokens of a sequence as the model reads it, special ones left out."""
        return self.tokenizer.tokenize(text)

    def twin(self: Self, draw: int) -> Self:
        """The same architecture with fresh weights."""
        return self._with(random_twin(cast(Any, self.model), draw), "random")

    def control(self: Self, how: Control, draw: int) -> Self:
        """Every tensor permuted, or a random layer in place of the one that reads the tokens."""
        if how == "shuffle":
            return self._with(shuffled(cast(Any, self.model), draw), "shuffled")
        return self._with(random_first_layer(cast(Any, self.model), draw), "random-embed")

    def network(self) -> nn.Module:
        """A trainable copy without the language-model head; see `TunedNetwork`."""
        return TunedNetwork(copy.deepcopy(self.model)).requires_grad_()

    def collate(self, sequences: Sequence[Codes], species: str | None) -> Batch:
        """Tokens, mask and weights of sequences that fit the model whole.

        Raises:
            CislensError: if one does not fit.
        """
        pieces = []
        for row, codes in enumerate(sequences):
            found = pieces_of(row, self.tokenize(decode(codes)), self.tokenizer, self.max_tokens)
            if len(found) > 1:
                raise CislensError(
                    f"{self.name} takes {self.max_tokens} tokens at once, sequence {row} of "
                    f"{len(codes)} bp has more; crop it for training."
                )
            pieces += found
        return collated(pieces, self.tokenizer.pad_id, self._device)

    def audit(self) -> list[str]:
        """Tensors that are not as they should be; see `loading.audit`."""
        return audit(self.model, constants(type(self.model)(self.model.config)))

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _with(self: Self, model: Any, what: str) -> Self:
        name = f"{self.name}-{what}"
        limits = (self.max_tokens, self.lora_targets)
        return type(self)(model, self.tokenizer, name, *limits, kind="random")

    def _parts(self, view: str) -> tuple[int, str]:
        layer, _, pooling = view.rpartition(".")
        layers = {"embed": 0, **{f"L{i}": i for i in range(1, self.model.depth + 1)}}
        known = poolings_of(self.tokenizer, self.model.causal)
        if layer not in layers or pooling not in (*known, "mean_tok"):
            raise CislensError(
                f"{self.name} has no view {view!r}, which is layer.pooling. "
                f"{nearest(view, self.views)}"
            )
        return layers[layer], pooling

    def _pooled(
        self, sequences: Sequence[Codes], asked: Mapping[str, tuple[int, str]]
    ) -> dict[str, Features]:
        pooled = {v: Pooled(len(sequences), self.model.dim, how) for v, (_, how) in asked.items()}
        for pieces, batch, states in self._run(sequences):
            for view, (layer, _) in asked.items():
                pooled[view].add(pieces, batch, states[layer])
        return {view: part.values() for view, part in pooled.items()}

    def _binned(self, sequences: Sequence[Codes], flip: bool) -> Features:
        length = len(sequences[0])
        size = self.bin_size_for(length)
        out = np.zeros((len(sequences), -(-length // size), self.model.dim), dtype=np.float32)
        for pieces, _, states in self._run(sequences):
            for piece, state_TD in zip(pieces, states[-1], strict=True):
                spans = piece.spans[piece.kept]
                if flip:
                    spans = length - spans[:, ::-1]
                kept_TD = state_TD[: len(piece.ids)].cpu()[torch.from_numpy(piece.kept)]
                add_to_bins(torch.from_numpy(out[piece.row]), kept_TD, spans, size)
        return out / bases_per_bin(length, size)[:, None]

    def _run(self, sequences: Sequence[Codes]) -> Iterator[tuple[list[Piece], Batch, list[Tensor]]]:
        """Windows of all sequences, and the states of their tokens."""
        pieces = []
        for row, codes in enumerate(sequences):
            tokens = self.tokenize(decode(codes))
            pieces += pieces_of(row, tokens, self.tokenizer, self.max_tokens)
        self._tell()
        self.model.eval()
        with torch.inference_mode():
            for group in batches_of(pieces):
                batch = collated(group, self.tokenizer.pad_id, self._device)
                yield group, batch, self.model.states(batch.ids_BT, batch.mask_BT)

    def _tell(self) -> None:
        for symbol, count in self.tokenizer.remapped.items():
            if symbol not in self._told:
                self._told.add(symbol)
                logger.warning(
                    "%s: %d times %s so far, for which it has no token; read as unknown.",
                    self.name, count, symbol,
                )  # fmt: skip

    def _refuse_uncalled(self, sequences: Sequence[Codes]) -> None:
        if not len(sequences):
            raise CislensError(f"{self.name}: there is no sequence to embed.")
        empty = [i for i, codes in enumerate(sequences) if not (codes != N).any()]
        if empty:
            raise CislensError(
                f"{self.name}: sequence {empty[0]} holds no called base (only N); leave it out."
            )
