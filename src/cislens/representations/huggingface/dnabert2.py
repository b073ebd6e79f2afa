"""DNABERT-2 (Zhou et al. 2024): a MosaicBERT encoder of byte-pair words.

Post-norm blocks, positions as attention biases (ALiBi, Press et al. 2022) and a gated layer
(GEGLU, Shazeer 2020). Own code; held in the tests against `transformers`' BERT where the two are
the same and against the formulas where they are not.

Legend: B sequences, T tokens, D channels, H heads, K channels of a head.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.representations.huggingface.contract import LanguageModel, initialize
from cislens.representations.huggingface.loading import KeyMap, Weights, shape_from

_BLOCK = "bert.encoder.layer.*."
KEYS: KeyMap = (
    ("bert.embeddings.word_embeddings.weight", "tokens.weight"),
    ("bert.embeddings.token_type_embeddings.weight", "types.weight"),
    ("bert.embeddings.LayerNorm.*", "first_norm.*"),
    (_BLOCK + "attention.self.Wqkv.*", "blocks.*.qkv.*"),
    (_BLOCK + "attention.output.dense.*", "blocks.*.attended.*"),
    (_BLOCK + "attention.output.LayerNorm.*", "blocks.*.attention_norm.*"),
    (_BLOCK + "mlp.gated_layers.weight", "blocks.*.widen.weight"),
    (_BLOCK + "mlp.wo.*", "blocks.*.narrow.*"),
    (_BLOCK + "mlp.layernorm.*", "blocks.*.mlp_norm.*"),
    ("cls.predictions.transform.dense.*", "head.dense.*"),
    ("cls.predictions.transform.LayerNorm.*", "head.norm.*"),
    ("cls.predictions.decoder.weight", "head.weight"),
    ("cls.predictions.decoder.bias", "head.bias"),
    ("cls.predictions.bias", "head.bias"),
    # Computed, not learned; or a head for other uses.
    ("bert.encoder.alibi", None),
    ("bert.embeddings.position_ids", None),
    ("bert.embeddings.token_type_ids", None),
    ("bert.pooler.dense.*", None),
)


@dataclass(frozen=True)
class MosaicShape:
    """Shape of the encoder, under the names of the published config.json."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    has_head: bool
    tied: bool
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02


def build(config: Mapping[str, Any], weights: Weights, source: str) -> LanguageModel:
    """The encoder of a DNABERT-2 folder."""
    return MosaicBert(
        shape_from(
            MosaicShape,
            config,
            source,
            has_head=any(key.startswith("head.") for key in weights),
            tied="head.weight" not in weights,
        )
    )


def max_tokens(config: Mapping[str, Any]) -> int:
    """Tokens of a training window; biases go on beyond it, but nothing was learned there."""
    return int(config.get("max_position_embeddings") or 512)


class MosaicBert(LanguageModel):
    """Post-norm blocks over word embeddings, and a masked-language-model head."""

    slopes: Tensor

    def __init__(self, config: MosaicShape) -> None:
        super().__init__()
        self.config = config
        self.dim, self.depth = config.hidden_size, config.num_hidden_layers
        self.has_head = config.has_head
        self.tokens = nn.Embedding(config.vocab_size, self.dim)
        self.types = nn.Embedding(config.type_vocab_size, self.dim)
        self.first_norm = nn.LayerNorm(self.dim, eps=config.layer_norm_eps)
        self.blocks = nn.ModuleList(MosaicBlock(config) for _ in range(self.depth))
        if config.has_head:
            self.head = MosaicHead(config)
        slopes = torch.tensor(alibi_slopes(config.num_attention_heads))
        self.register_buffer("slopes", slopes, persistent=False)
        initialize(self, config.initializer_range)

    def states(self, ids_BT: Tensor, mask_BT: Tensor) -> list[Tensor]:
        x_BTD = self.first_norm(self.tokens(ids_BT) + self.types.weight[0])
        place = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        distance_TT = (place[:, None] - place).abs()
        bias_HTT = -self.slopes[:, None, None] * distance_TT
        bias_BHTT = bias_HTT.masked_fill(~mask_BT[:, None, None, :], -torch.inf)
        states = [x_BTD]
        for block in self.blocks:
            x_BTD = block(x_BTD, bias_BHTT)
            states.append(x_BTD)
        return states

    def logits(self, state_XD: Tensor) -> Tensor:
        weight = self.tokens.weight if self.config.tied else None
        scores: Tensor = self.head(state_XD, weight)
        return scores


class MosaicBlock(nn.Module):
    """LN(x + attention(x)), then LN(x + W(gelu(gate) * content))."""

    def __init__(self, config: MosaicShape) -> None:
        super().__init__()
        dim, inner = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attended = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.widen = nn.Linear(dim, 2 * inner, bias=False)
        self.narrow = nn.Linear(inner, dim)
        self.mlp_norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)

    def forward(self, x_BTD: Tensor, bias_BHTT: Tensor) -> Tensor:
        q_BHTK, k_BHTK, v_BHTK = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x_BTD).chunk(3, dim=2)
        )
        bias_BHTT = bias_BHTT.to(q_BHTK.dtype)
        y_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, attn_mask=bias_BHTT)
        x_BTD = self.attention_norm(x_BTD + self.attended(y_BHTK.transpose(1, 2).flatten(2)))
        gate, content = self.widen(x_BTD).chunk(2, dim=2)
        out: Tensor = self.mlp_norm(x_BTD + self.narrow(F.gelu(gate) * content))
        return out


class MosaicHead(nn.Module):
    """Dense layer, GELU, norm, and the scores of the vocabulary."""

    def __init__(self, config: MosaicShape) -> None:
        super().__init__()
        dim = config.hidden_size
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        if not config.tied:
            weight = torch.empty(config.vocab_size, dim)
            self.weight = nn.Parameter(nn.init.normal_(weight, std=config.initializer_range))

    def forward(self, state_XD: Tensor, tied: Tensor | None) -> Tensor:
        h_XD = self.norm(F.gelu(self.dense(state_XD)))
        return F.linear(h_XD, self.weight if tied is None else tied, self.bias)


def alibi_slopes(heads: int) -> list[float]:
    """Slope of each head: 2^(-8 i / H) for H a power of two (Press et al. 2022, section 3).

    For other numbers the slopes of the next lower power of two come first, then every second
    one of the next higher, as the authors' code has it.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8 * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-8 * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]
