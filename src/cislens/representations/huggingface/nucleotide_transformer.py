"""The Nucleotide Transformer, versions 1 and 2 (Dalla-Torre et al. 2025): an ESM encoder of 6-mers.

Version 1 has learned positions and a GELU layer; version 2 rotary positions and a gated layer
(SwiGLU) without biases. Own code; versions 1 and 2 but for the gate are held against
`transformers`' ESM in the tests.

Legend: B sequences, T tokens, D channels, H heads, K channels of a head.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.representations.huggingface.contract import LanguageModel, initialize
from cislens.representations.huggingface.loading import KeyMap, Weights, shape_from

# ESM scales embeddings as if this share of the tokens were masked, as in its training.
_MASKED_IN_TRAINING = 0.15 * 0.8

_BLOCK = "esm.encoder.layer.*."
KEYS: KeyMap = (
    ("esm.embeddings.word_embeddings.weight", "tokens.weight"),
    ("esm.embeddings.position_embeddings.weight", "positions.weight"),
    ("esm.embeddings.layer_norm.*", "first_norm.*"),
    (_BLOCK + "attention.self.query.*", "blocks.*.query.*"),
    (_BLOCK + "attention.self.key.*", "blocks.*.key.*"),
    (_BLOCK + "attention.self.value.*", "blocks.*.value.*"),
    (_BLOCK + "attention.output.dense.*", "blocks.*.attended.*"),
    (_BLOCK + "attention.LayerNorm.*", "blocks.*.attention_norm.*"),
    (_BLOCK + "intermediate.dense.*", "blocks.*.widen.*"),
    (_BLOCK + "output.dense.*", "blocks.*.narrow.*"),
    (_BLOCK + "LayerNorm.*", "blocks.*.mlp_norm.*"),
    ("esm.encoder.emb_layer_norm_after.*", "last_norm.*"),
    ("lm_head.dense.*", "head.dense.*"),
    ("lm_head.layer_norm.*", "head.norm.*"),
    ("lm_head.decoder.weight", "head.weight"),
    ("lm_head.decoder.bias", "head.bias"),
    ("lm_head.bias", "head.bias"),
    # Computed, not learned; or heads for other uses.
    ("esm.embeddings.position_ids", None),
    ("esm.rotary_embeddings.inv_freq", None),
    (_BLOCK + "attention.self.rotary_embeddings.inv_freq", None),
    ("esm.contact_head.regression.*", None),
    ("esm.pooler.dense.*", None),
)


@dataclass(frozen=True)
class EsmShape:
    """Shape of the encoder, under the names of the published config.json."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    gated: bool
    has_head: bool
    tied: bool
    pad_token_id: int = 1
    mask_token_id: int = 2
    position_embedding_type: str = "absolute"
    emb_layer_norm_before: bool = False
    token_dropout: bool = False
    add_bias_fnn: bool = True
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02


def version_1(config: Mapping[str, Any], weights: Weights, source: str) -> LanguageModel:
    """The encoder of a version 1 folder."""
    return _build(config, weights, source, gated=False)


def version_2(config: Mapping[str, Any], weights: Weights, source: str) -> LanguageModel:
    """The encoder of a version 2 folder."""
    return _build(config, weights, source, gated=True)


def max_tokens(config: Mapping[str, Any]) -> int:
    """Tokens that fit, [CLS] included: the first position is the one after the padding's id."""
    return int(config["max_position_embeddings"]) - int(config.get("pad_token_id") or 1) - 1


def _build(
    config: Mapping[str, Any], weights: Weights, source: str, gated: bool
) -> "NucleotideTransformer":
    return NucleotideTransformer(
        shape_from(
            EsmShape,
            config,
            source,
            gated=gated,
            has_head=any(key.startswith("head.") for key in weights),
            tied="head.weight" not in weights,
        )
    )


class NucleotideTransformer(LanguageModel):
    """Pre-norm transformer blocks over token embeddings, and a masked-language-model head."""

    def __init__(self, config: EsmShape) -> None:
        super().__init__()
        self.config = config
        self.dim, self.depth = config.hidden_size, config.num_hidden_layers
        self.has_head = config.has_head
        self.tokens = nn.Embedding(config.vocab_size, self.dim, padding_idx=config.pad_token_id)
        if config.position_embedding_type == "absolute":
            self.positions = nn.Embedding(
                config.max_position_embeddings, self.dim, padding_idx=config.pad_token_id
            )
        else:
            self.unused = ("positions.weight",)
        if config.emb_layer_norm_before:
            self.first_norm = nn.LayerNorm(self.dim, eps=config.layer_norm_eps)
        self.blocks = nn.ModuleList(EsmBlock(config) for _ in range(self.depth))
        self.last_norm = nn.LayerNorm(self.dim, eps=config.layer_norm_eps)
        if config.has_head:
            self.head = EsmHead(config)
        initialize(self, config.initializer_range)

    def states(self, ids_BT: Tensor, mask_BT: Tensor) -> list[Tensor]:
        x_BTD = self._embed(ids_BT, mask_BT)
        states = [x_BTD]
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BT)
            states.append(x_BTD)
        states[-1] = self.last_norm(x_BTD)
        return states

    def logits(self, state_XD: Tensor) -> Tensor:
        weight = self.tokens.weight if self.config.tied else None
        scores: Tensor = self.head(state_XD, weight)
        return scores

    def _embed(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        x_BTD = self.tokens(ids_BT)
        if self.config.token_dropout:
            masked_BT = ids_BT == self.config.mask_token_id
            x_BTD = x_BTD.masked_fill(masked_BT[..., None], 0)
            share_B = masked_BT.sum(1) / mask_BT.sum(1)
            x_BTD = x_BTD * ((1 - _MASKED_IN_TRAINING) / (1 - share_B))[:, None, None]
        if self.config.position_embedding_type == "absolute":
            place_BT = mask_BT.long().cumsum(1) + self.config.pad_token_id
            x_BTD = x_BTD + self.positions(place_BT)
        if self.config.emb_layer_norm_before:
            x_BTD = self.first_norm(x_BTD)
        embedded: Tensor = x_BTD * mask_BT[..., None]
        return embedded


class EsmBlock(nn.Module):
    """x + attention(LN x), then x + MLP(LN x)."""

    def __init__(self, config: EsmShape) -> None:
        super().__init__()
        dim, inner = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.rotary = config.position_embedding_type == "rotary"
        self.gated = config.gated
        bias = config.add_bias_fnn
        self.attention_norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.attended = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.widen = nn.Linear(dim, 2 * inner if config.gated else inner, bias=bias)
        self.narrow = nn.Linear(inner, dim, bias=bias)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        h_BTD = self.attention_norm(x_BTD)
        q_BHTK, k_BHTK, v_BHTK = (
            layer(h_BTD).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        if self.rotary:
            q_BHTK, k_BHTK = rotated(q_BHTK), rotated(k_BHTK)
        y_BHTK = F.scaled_dot_product_attention(
            q_BHTK, k_BHTK, v_BHTK, attn_mask=mask_BT[:, None, None, :]
        )
        x_BTD = x_BTD + self.attended(y_BHTK.transpose(1, 2).flatten(2))
        wide: Tensor = self.widen(self.mlp_norm(x_BTD))
        if self.gated:
            gate, content = wide.chunk(2, dim=-1)
            wide = F.silu(gate) * content
        else:
            wide = F.gelu(wide)
        update: Tensor = self.narrow(wide)
        return x_BTD + update


class EsmHead(nn.Module):
    """Dense layer, GELU, norm, and the scores of the vocabulary."""

    def __init__(self, config: EsmShape) -> None:
        super().__init__()
        dim = config.hidden_size
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        if not config.tied:
            weight = torch.empty(config.vocab_size, dim)
            self.weight = nn.Parameter(nn.init.normal_(weight, std=config.initializer_range))

    def forward(self, state_XD: Tensor, tied: Tensor | None) -> Tensor:
        h_XD = self.norm(F.gelu(self.dense(state_XD)))
        return F.linear(h_XD, self.weight if tied is None else tied, self.bias)


def rotated(x_BHTK: Tensor) -> Tensor:
    """Rotary positions: pairs (i, i + K/2) turned by t / 10000^(2i/K) (Su et al. 2021)."""
    tokens, channels = x_BHTK.shape[-2:]
    step = torch.arange(0, channels, 2, device=x_BHTK.device, dtype=torch.float32) / channels
    place = torch.arange(tokens, device=x_BHTK.device, dtype=torch.float32)
    angle_TK = torch.outer(place, 1.0 / 10000**step).repeat(1, 2)
    first, second = x_BHTK.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x_BHTK * angle_TK.cos() + turned * angle_TK.sin()).to(x_BHTK.dtype)
