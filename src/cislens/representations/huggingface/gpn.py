"""GPN (Benegas et al. 2023): dilated convolutions over one-hot bases, a masked language model.

The published single-sequence models; those that read alignments (GPN-MSA) are another family.
Own code; held in the tests against a plain computation of the whole network.

Legend: B sequences, T tokens, D channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.representations.huggingface.contract import LanguageModel, initialize
from cislens.representations.huggingface.loading import KeyMap, Weights, shape_from

# The places of the parts in the published model's sequences of layers.
_BLOCK = "model.encoder.*."
KEYS: KeyMap = (
    (_BLOCK + "conv.1.*", "blocks.*.convolution.*"),
    (_BLOCK + "conv.4.*", "blocks.*.convolution_norm.*"),
    (_BLOCK + "ffn.0.*", "blocks.*.dense.*"),
    (_BLOCK + "ffn.2.*", "blocks.*.dense_norm.*"),
    ("cls.decoder.0.*", "head.0.*"),
    ("cls.decoder.2.*", "head.2.*"),
    ("cls.decoder.3.*", "head.3.*"),
)
# The window that the published models were trained on; the weights set no limit.
MAX_TOKENS = 512


@dataclass(frozen=True)
class ConvNetShape:
    """Shape of the network, under the names of the published config.json."""

    vocab_size: int
    hidden_size: int
    n_layers: int
    has_head: bool
    kernel_size: int = 9
    dilation_double_every: int = 1
    dilation_max: int = 32
    dilation_cycle: int = 6
    dilation_base: int = 2
    n_aux_features: int = 0
    initializer_range: float = 0.02

    def dilation(self, layer: int) -> int:
        """Step between the bases that a layer's kernel looks at."""
        power = layer % self.dilation_cycle // self.dilation_double_every
        return min(self.dilation_max, int(self.dilation_base**power))


def build(config: Mapping[str, Any], weights: Weights, source: str) -> LanguageModel:
    """The network of a GPN folder."""
    has_head = any(key.startswith("head.") for key in weights)
    shape = shape_from(ConvNetShape, config, source, has_head=has_head)
    if shape.n_aux_features:
        raise CislensError(
            f"{source}: n_aux_features is {shape.n_aux_features}; models that read an alignment "
            "besides the sequence are not in this family."
        )
    return ConvNet(shape)


def max_tokens(config: Mapping[str, Any]) -> int:
    """Tokens of a training window."""
    return MAX_TOKENS


class ConvNet(LanguageModel):
    """Residual blocks of a dilated convolution and a dense layer.

    The first state is the one-hot of the token in the first channels.
    """

    def __init__(self, config: ConvNetShape) -> None:
        super().__init__()
        self.config = config
        self.dim, self.depth = config.hidden_size, config.n_layers
        self.has_head = config.has_head
        self.blocks = nn.ModuleList(
            ConvNetBlock(config, config.dilation(layer)) for layer in range(self.depth)
        )
        if config.has_head:
            self.head = nn.Sequential(
                nn.Linear(self.dim, self.dim),
                nn.GELU(),
                nn.LayerNorm(self.dim),
                nn.Linear(self.dim, config.vocab_size),
            )
        initialize(self, config.initializer_range)

    def states(self, ids_BT: Tensor, mask_BT: Tensor) -> list[Tensor]:
        x_BTD = F.one_hot(ids_BT, self.dim).to(next(self.parameters()).dtype)
        states = [x_BTD]
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BT)
            states.append(x_BTD)
        return states

    def logits(self, state_XD: Tensor) -> Tensor:
        scores: Tensor = self.head(state_XD)
        return scores


class ConvNetBlock(nn.Module):
    """x + LN(gelu(conv x)), then x + LN(gelu(W x))."""

    def __init__(self, config: ConvNetShape, dilation: int) -> None:
        super().__init__()
        dim = config.hidden_size
        self.convolution = nn.Conv1d(
            dim, dim, config.kernel_size, padding="same", dilation=dilation
        )
        self.convolution_norm = nn.LayerNorm(dim)
        self.dense = nn.Linear(dim, dim)
        self.dense_norm = nn.LayerNorm(dim)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        # Beyond the end a sequence alone is convolved with zeros; so it is with padding.
        shown_BDT = (x_BTD * mask_BT[..., None]).transpose(1, 2)
        h_BTD = F.gelu(self.convolution(shown_BDT).transpose(1, 2))
        x_BTD = x_BTD + self.convolution_norm(h_BTD)
        update: Tensor = self.dense_norm(F.gelu(self.dense(x_BTD)))
        return x_BTD + update
