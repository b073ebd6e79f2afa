"""The sequence half of GeneBERT as published, as far as is known: BERT over overlapping k-mers.

A reconstruction: Mo et al. (arXiv 2110.05231) name the tasks and the data; the shape is that of
BERT-base (Devlin et al. 2019) with the tokens of DNABERT-6 (Ji et al. 2021).
Dimensions: B sequence, L base pair, J slot (see `kmers`), R row, N token of a row, D channel.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.models.contract import Embedding
from cislens.models.genebert.kmers import SPECIALS, Kmers, Rows, kmers, neighbors, per_base
from cislens.models.reading import Reading, ReadingEncoder
from cislens.nn.checkpointing import run
from cislens.nn.transformer import POST_NORM_EPS, PostNormBlock
from cislens.recipes.reading import Section

TOKENS = 512


class GenebertPaperConfig(Section):
    """Shape of the k-mer encoder.

    Attributes:
        k: bases of a k-mer.
        dim: channels.
        depth: transformer blocks.
        heads: attention heads.
        dropout: of vectors and of attention weights, in training.
    """

    kind: Literal["genebert-paper"] = "genebert-paper"
    k: int = Field(6, ge=1, le=8)
    dim: int = Field(gt=0)
    depth: int = Field(ge=1)
    heads: int = Field(gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> "GenebertPaperConfig":
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} does not divide into {self.heads} heads")
        return self


@dataclass(frozen=True, kw_only=True)
class KmerReading(Reading):
    """A reading whose `tokens_BJD` are the slots of one segment after those of the other.

    Attributes:
        read_BJ: slots that were read.
        segments: 2 for a pair.
    """

    read_BJ: Tensor
    segments: int


class GenebertPaperEncoder(ReadingEncoder):
    """BERT over k-mers; a base has the mean vector of the k-mers that cover it.

    A row has at most 512 tokens: sequences longer than 505 + k bp are cut after every 510 k-mers
    into pieces, each read for itself between its own [CLS] and [SEP]. Where fewer than k bases
    are called in all, they have the vector of one [UNK].

    Attributes:
        checkpointing: set it to True before training to keep only the inputs of the blocks and
            to compute the rest again for the gradient.
    """

    checkpointing: bool = False

    def __init__(self, config: GenebertPaperConfig) -> None:
        super().__init__()
        self.config = config
        self.bin_size = 1
        self.dim = config.dim
        self.species = ()
        self.words = nn.Embedding(4**config.k + SPECIALS, config.dim)
        self.positions = nn.Embedding(TOKENS, config.dim)
        self.types = nn.Embedding(2, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=POST_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            PostNormBlock(config.dim, config.heads, config.dropout) for _ in range(config.depth)
        )
        self.apply(_initialize)

    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
        return self.read(x_B4L).embedding

    @property
    def layers(self) -> tuple[str, ...]:
        """`embed`, `L1` .. and `out`, the last block; no norm follows it."""
        return ("embed", *(f"L{block}" for block in range(1, len(self.blocks))), "out")

    def hidden(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Iterator[Embedding]:
        tokens = kmers(x_B4L, None, self.config.k)
        rows = Rows.of(tokens, 1, TOKENS - 2)
        for states_RND in self._states(tokens, rows):
            yield self._embedding(tokens, rows.to_slots(states_RND), 1)

    def read(
        self, x_B4L: Tensor, hidden_BL: Tensor | None = None, pair: bool = False
    ) -> KmerReading:
        """See `ReadingEncoder.read`; every k-mer that touches a hidden base is [MASK].

        Raises:
            CislensError: if a pair is of odd length or does not fit into one row.
        """
        batch, segments = len(x_B4L), 2 if pair else 1
        if pair:
            self._check_pair(x_B4L.shape[2])
            x_B4L = x_B4L.reshape(batch, 4, 2, -1).transpose(1, 2).flatten(0, 1)
            hidden_BL = None if hidden_BL is None else hidden_BL.reshape(2 * batch, -1)
        tokens = kmers(x_B4L, hidden_BL, self.config.k)
        rows = Rows.of(tokens, segments, TOKENS - 2)
        states_RND = deque(self._states(tokens, rows), maxlen=1).pop()
        slots_SJD = rows.to_slots(states_RND)
        return KmerReading(
            embedding=self._embedding(tokens, slots_SJD, segments),
            tokens_BJD=slots_SJD.reshape(batch, -1, self.dim),
            pooled_BD=_pooled(states_RND, rows),
            read_BJ=tokens.read_BJ.reshape(batch, -1),
            segments=segments,
        )

    def base_head(self) -> nn.Module:
        return KmerHead(self.dim, self.config.k)

    def contextual(
        self, ids_RN: Tensor, read_RN: Tensor | None, types_N: Tensor, more: Tensor | float = 0.0
    ) -> Iterator[Tensor]:
        """States (R, N, D) of rows of tokens: the embedding, then each block's.

        Args:
            read_RN: tokens that are read; None where all are.
            more: is added to the tokens' vectors.
        """
        places_N = torch.arange(ids_RN.shape[1], device=ids_RN.device)
        x_RND = self.words(ids_RN) + more + self.positions(places_N) + self.types(types_N)
        x_RND = self.dropout(self.norm(x_RND))
        yield x_RND
        for block in self.blocks:
            x_RND = run(block, x_RND, read_RN, checkpointing=self.checkpointing)
            yield x_RND

    def _states(self, tokens: Kmers, rows: Rows) -> Iterator[Tensor]:
        # On a CPU the look is free; without a mask attention has less to do.
        look = rows.read_RN.device.type == "cpu" and not torch.compiler.is_compiling()
        everything = look and bool(rows.read_RN.all())
        more = 0.0 if tokens.tangent_BJ4K is None else rows.from_slots(self._tangent(tokens))
        return self.contextual(
            rows.ids_RN, None if everything else rows.read_RN, rows.types_N, more
        )

    def _tangent(self, tokens: Kmers) -> Tensor:
        """Zeros whose gradient with respect to a base is the difference that its k-mers make.

        A table has no gradient with respect to what is looked up in it. As a function of one
        base of a one-hot sequence the vector of a k-mer is linear, and this is its slope.
        """
        assert tokens.tangent_BJ4K is not None
        total = torch.zeros((), device=tokens.ids_BJ.device)
        for offset, tangent_BJ4 in enumerate(tokens.tangent_BJ4K.unbind(3)):
            # Checkpointed: k times four vectors for each token would have to be kept.
            total = total + run(self._slope, tokens.ids_BJ, offset, tangent_BJ4, checkpointing=True)
        return total

    def _slope(self, ids_BJ: Tensor, offset: int, tangent_BJ4: Tensor) -> Tensor:
        vectors_BJ4D = self.words.weight.detach()[neighbors(ids_BJ, offset, self.config.k)]
        return (tangent_BJ4.unsqueeze(2) @ vectors_BJ4D).squeeze(2)

    def _embedding(self, tokens: Kmers, slots_SJD: Tensor, segments: int) -> Embedding:
        length = tokens.valid_BL.shape[1]
        values = per_base(slots_SJD.unsqueeze(2), tokens.read_BJ, self.config.k, length)
        return Embedding(
            values.reshape(-1, segments * length, self.dim),
            1,
            tokens.valid_BL.reshape(-1, segments * length),
        )

    def _check_pair(self, length: int) -> None:
        longest = (TOKENS - 3) // 2 + self.config.k - 1
        if length % 2 or length > 2 * longest:
            raise CislensError(
                f"A pair of {length} bp cannot be read: give two segments of equal length, of at "
                f"most {longest} bp each."
            )


class KmerHead(nn.Module):
    """Logits of A, C, G, T of every base: the mean of what its k-mers say of it."""

    def __init__(self, dim: int, k: int) -> None:
        super().__init__()
        self.k = k
        self.to_bases = nn.Linear(dim, 4 * k)

    def forward(self, reading: KmerReading) -> Tensor:
        """(B, L, 4)."""
        batch, length = reading.embedding.valid_BN.shape
        rows, segment = batch * reading.segments, length // reading.segments
        logits_BJKX = self.to_bases(reading.tokens_BJD).view(rows, -1, self.k, 4)
        read_BJ = reading.read_BJ.view(rows, -1)
        return per_base(logits_BJKX, read_BJ, self.k, segment).reshape(batch, length, 4)


def _pooled(states_RND: Tensor, rows: Rows) -> Tensor:
    """[CLS]; of a sequence in pieces the mean over those that hold anything, (B, D)."""
    cls_BPD = states_RND[:, 0].reshape(-1, rows.pieces, states_RND.shape[2])
    # Every piece reads its [CLS] and [SEP].
    held_BP = (rows.read_RN.sum(dim=1) > 1 + rows.segments).view(-1, rows.pieces)
    weight_BP1 = held_BP.unsqueeze(2).to(cls_BPD.dtype)
    pooled_BD: Tensor = (cls_BPD * weight_BP1).sum(dim=1) / weight_BP1.sum(dim=1).clamp_min(1.0)
    return pooled_BD


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
