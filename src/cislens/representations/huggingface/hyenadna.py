"""HyenaDNA (Nguyen et al. 2023): gated long convolutions whose kernels a small network writes.

Causal, one token per base. Only order 2, which every published model has. Own code; held in the
tests against a direct convolution and a plain computation of the whole network.

Legend: B sequences, T tokens, D channels, L the longest input.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.representations.huggingface.contract import LanguageModel, initialize
from cislens.representations.huggingface.loading import KeyMap, Weights, shape_from

# Constants of the published kernels' window (Poli et al. 2023, appendix D).
_SHIFT, _FAST, _SLOW, _TARGET = 0.05, 0.3, 1.5, 1e-2

_BLOCK = "hyena.backbone.layers.*."
_FILTER = _BLOCK + "mixer.filter_fn."
KEYS: KeyMap = (
    ("hyena.backbone.embeddings.word_embeddings.weight", "tokens.weight"),
    (_BLOCK + "norm1.*", "blocks.*.mixer_norm.*"),
    (_BLOCK + "norm2.*", "blocks.*.mlp_norm.*"),
    (_BLOCK + "mlp.fc1.*", "blocks.*.widen.*"),
    (_BLOCK + "mlp.fc2.*", "blocks.*.narrow.*"),
    (_BLOCK + "mixer.in_proj.*", "blocks.*.project.*"),
    (_BLOCK + "mixer.out_proj.*", "blocks.*.mixed.*"),
    (_BLOCK + "mixer.short_filter.*", "blocks.*.short.*"),
    (_FILTER + "bias", "blocks.*.direct"),
    # The sine's frequency is one tensor that several places of the filter share.
    (_FILTER + "implicit_filter.1.freq", "blocks.*.kernel.frequency"),
    (_FILTER + "implicit_filter.3.freq", "blocks.*.kernel.frequency"),
    (_FILTER + "implicit_filter.5.freq", "blocks.*.kernel.frequency"),
    (_FILTER + "implicit_filter.*.*", "blocks.*.kernel.layers.*.*"),
    (_FILTER + "pos_emb.z", "blocks.*.kernel.features"),
    (_FILTER + "pos_emb.t", "blocks.*.kernel.time"),
    (_FILTER + "modulation.deltas", "blocks.*.kernel.decay"),
    ("hyena.backbone.ln_f.*", "last_norm.*"),
    ("lm_head.weight", "head.weight"),
)


@dataclass(frozen=True)
class HyenaShape:
    """Shape of the model, under the names of the published config.json."""

    d_model: int
    n_layer: int
    d_inner: int
    max_seq_len: int
    vocab_size: int
    has_head: bool
    emb_dim: int = 5
    filter_order: int = 64
    num_inner_mlps: int = 2
    short_filter_order: int = 3
    hyena_order: int = 2
    activation_freq: float = 10.0
    train_freq: bool = True
    pad_vocab_size_multiple: int = 8
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02

    @property
    def padded_vocabulary(self) -> int:
        """Rows of the embedding: the vocabulary filled up to a multiple."""
        multiple = self.pad_vocab_size_multiple
        return -(-self.vocab_size // multiple) * multiple


def build(config: Mapping[str, Any], weights: Weights, source: str) -> LanguageModel:
    """The model of a HyenaDNA folder in the shape for Hugging Face (its name ends in -hf)."""
    shape = shape_from(HyenaShape, config, source, has_head="head.weight" in weights)
    if shape.hyena_order != 2 or not shape.train_freq:
        raise CislensError(
            f"{source}: hyena_order {shape.hyena_order} and train_freq {shape.train_freq} are not "
            "read; the published models have 2 and true."
        )
    return Hyena(shape)


def max_tokens(config: Mapping[str, Any]) -> int:
    """Tokens that fit, [SEP] included."""
    return int(config["max_seq_len"])


class Hyena(LanguageModel):
    """Pre-norm blocks of gated long convolutions; reads from left to right."""

    causal = True

    def __init__(self, config: HyenaShape) -> None:
        super().__init__()
        self.config = config
        self.dim, self.depth = config.d_model, config.n_layer
        self.has_head = config.has_head
        self.tokens = nn.Embedding(config.padded_vocabulary, self.dim)
        self.blocks = nn.ModuleList(HyenaBlock(config) for _ in range(self.depth))
        self.last_norm = nn.LayerNorm(self.dim, eps=config.layer_norm_epsilon)
        if config.has_head:
            self.head = nn.Linear(self.dim, config.padded_vocabulary, bias=False)
        initialize(self, config.initializer_range)

    def states(self, ids_BT: Tensor, mask_BT: Tensor) -> list[Tensor]:
        # No mask is needed: padding lies to the right, where no state looks.
        x_BTD = self.tokens(ids_BT)
        states = [x_BTD]
        for block in self.blocks:
            x_BTD = block(x_BTD)
            states.append(x_BTD)
        states[-1] = self.last_norm(x_BTD)
        return states

    def logits(self, state_XD: Tensor) -> Tensor:
        scores: Tensor = self.head(state_XD)
        return scores


class HyenaBlock(nn.Module):
    """x + mixer(LN x), then x + MLP(LN x).

    The mixer projects to three parts a, b, v with a short causal convolution each, and gives
    W(a * conv(b * v)), the convolution with a kernel as long as the input.
    """

    def __init__(self, config: HyenaShape) -> None:
        super().__init__()
        dim, short = config.d_model, config.short_filter_order
        self.mixer_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 3 * dim)
        self.short = nn.Conv1d(3 * dim, 3 * dim, short, padding=short - 1, groups=3 * dim)
        self.kernel = Kernel(config)
        self.direct = nn.Parameter(torch.randn(dim))
        self.mixed = nn.Linear(dim, dim)
        self.widen = nn.Linear(dim, config.d_inner)
        self.narrow = nn.Linear(config.d_inner, dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self._mix(self.mixer_norm(x_BTD))
        wide = F.gelu(self.widen(self.mlp_norm(x_BTD)), approximate="tanh")
        update: Tensor = self.narrow(wide)
        return x_BTD + update

    def _mix(self, x_BTD: Tensor) -> Tensor:
        tokens = x_BTD.shape[1]
        parts = self.short(self.project(x_BTD).transpose(1, 2))[..., :tokens]
        a_BDT, b_BDT, v_BDT = parts.chunk(3, dim=1)
        gated_BDT = b_BDT * v_BDT
        long_BDT = causal_convolution(gated_BDT, self.kernel(tokens).T)
        y_BDT = a_BDT * (long_BDT + self.direct[:, None] * gated_BDT)
        mixed: Tensor = self.mixed(y_BDT.transpose(1, 2))
        return mixed


class Kernel(nn.Module):
    """A network from position to kernel, under a decaying window.

    Features of a position are its time in 0 to 1 and a few cosines and sines; the layers' sines
    share one learned frequency.
    """

    time: Tensor
    decay: Tensor

    def __init__(self, config: HyenaShape) -> None:
        super().__init__()
        longest, width, dim = config.max_seq_len, config.filter_order, config.d_model
        time = torch.linspace(0, 1, longest)[:, None]
        bands = (config.emb_dim - 1) // 2
        place = torch.arange(longest, dtype=torch.float32)[:, None]
        angle = torch.linspace(1e-4, bands - 1, bands) * (2 * math.pi * place / longest)
        features = torch.cat([time, angle.cos(), -angle.sin()], dim=1)
        self.features = nn.Parameter(features[None])
        self.frequency = nn.Parameter(torch.full((1, width), config.activation_freq))
        # The even places are linear layers, as in the published numbering; sines lie between.
        layers = {"0": nn.Linear(config.emb_dim, width)}
        for i in range(config.num_inner_mlps):
            layers[str(2 * i + 2)] = nn.Linear(width, width)
        layers[str(2 * config.num_inner_mlps + 2)] = nn.Linear(width, dim, bias=False)
        self.layers = nn.ModuleDict(layers)
        fastest, slowest = math.log(_TARGET) / _FAST, math.log(_TARGET) / _SLOW
        decay = torch.linspace(slowest, fastest, dim)[None, None]
        self.register_buffer("time", time[None], persistent=False)
        self.register_buffer("decay", decay, persistent=False)

    def forward(self, tokens: int) -> Tensor:
        """The kernel's first values (T, D)."""
        h = self.features[0, :tokens]
        *inner, last = self.layers.values()
        for layer in inner:
            h = torch.sin(self.frequency * layer(h))
        window: Tensor = torch.exp(-self.time[0, :tokens] * self.decay[0].abs()) + _SHIFT
        kernel: Tensor = last(h) * window
        return kernel


def causal_convolution(x_BDT: Tensor, kernel_DT: Tensor) -> Tensor:
    """y_t = sum over s <= t of kernel_(t-s) x_s per channel, by FFT in fp32."""
    tokens = x_BDT.shape[-1]
    size = next_fast_len(2 * tokens, real=True)
    spectrum = torch.fft.rfft(kernel_DT.float(), n=size)
    spectrum = spectrum * torch.fft.rfft(x_BDT.float(), n=size)
    y_BDT: Tensor = torch.fft.irfft(spectrum, n=size)[..., :tokens]
    return y_BDT.to(x_BDT.dtype)
