"""Enformer (Avsec et al. 2021) from a folder in the shape of enformer-pytorch's.

The trunk is `models.enformer.EnformerEncoder`; heads for tracks are not read.
"""

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cislens.errors import CislensError
from cislens.models.enformer import EnformerConfig, EnformerEncoder
from cislens.models.limits import bounded
from cislens.models.published.enformer import TRUNK, second_name
from cislens.models.saving import load_weights
from cislens.nn.positions import Positions, RelativeBasis
from cislens.representations.contract import Kind
from cislens.representations.encoder import EncoderEmbedding
from cislens.representations.huggingface.loading import (
    KeyMap,
    audit,
    constants,
    most_of,
    read_config,
    read_weights,
    rename,
)

# A file beside the weights with the tensor `gamma` (2 N - 1, F / 6), for one number of bins N.
GAMMA_FILE = "gamma_table.safetensors"

# Every tensor of the trunk under both of its names; heads are not read.
KEYS: KeyMap = (
    *TRUNK,
    *((other, ours) for key, ours in TRUNK if (other := second_name(key))),
    ("_heads.*.0.*", None),
)


class StoredBasis(RelativeBasis):
    """Position tables whose gamma features are a stored table for one number of bins.

    The published weights were trained with features that fp32 rounding in TensorFlow moved by up
    to 0.0025; only its own table has them.
    """

    def __init__(self, made: RelativeBasis, gamma_RF: Tensor) -> None:
        super().__init__(made.features, made.positions, made.bin_size)
        self._gamma_RF = gamma_RF

    def table(self, tokens: int, device: torch.device) -> Tensor:
        """(2 N - 1, F), fp32; exponential, mask and gamma features, then all with a sign."""
        made = super().table(tokens, device)
        if len(made) != len(self._gamma_RF):
            return made
        count = self.features // 6
        distance = torch.arange(1 - tokens, tokens, device=device)
        gamma_RF = self._gamma_RF.to(device)
        signed_RF = distance.sign()[:, None] * gamma_RF
        parts = (made[:, : 2 * count], gamma_RF, made[:, 3 * count : 5 * count], signed_RF)
        return torch.cat(parts, dim=1)


class EnformerEmbedding(EncoderEmbedding):
    """As `EncoderEmbedding`; its digest knows a stored position table as well."""

    def __init__(self, encoder: EnformerEncoder, name: str, kind: Kind = "trained") -> None:
        super().__init__(encoder, name, kind)
        self._basis = encoder.basis

    @cached_property
    def digest(self) -> str:
        """sha256 of the encoder's class, configuration, weights, buffers and stored table."""
        own = EncoderEmbedding(self.encoder, self.name).digest
        if not isinstance(self._basis, StoredBasis):
            return own
        return hashlib.sha256(own.encode() + self._basis._gamma_RF.numpy().tobytes()).hexdigest()


def load_enformer(
    folder: str | os.PathLike[str], name: str, positions: Positions | None = None
) -> EnformerEmbedding:
    """Enformer's trunk from config.json and model.safetensors, on the CPU.

    Args:
        folder: if a gamma_table.safetensors is in it, its features are used at its length.
        name: how tables call it.
        positions: how gamma features are normalized, see `nn.positions.relative_basis`; by
            default "feature-axis" if the config has `use_tf_gamma` false, as enformer-pytorch
            trains, else "position", as the published weights were trained.

    Raises:
        CislensError: as `load_huggingface`; or for enformer-pytorch's ConvNeXt variant.
        MissingFileError: if a file is missing.
    """
    path = Path(folder)
    config = read_config(path)
    weights = read_weights(path)
    source = str(path / "config.json")
    with bounded(source, most_of(weights)):
        encoder = EnformerEncoder(_shape(config, source, positions))
    fresh = constants(encoder)
    load_weights(encoder, rename(weights, KEYS, "", str(path)), str(path))
    problems = audit(encoder, fresh)
    if problems:
        raise CislensError(f"{path}: {'; '.join(problems[:5])}.")
    if (path / GAMMA_FILE).is_file():
        encoder.basis = StoredBasis(encoder.basis, _gamma(path / GAMMA_FILE, encoder.basis))
    return EnformerEmbedding(encoder.eval(), name)


def _shape(config: Mapping[str, Any], source: str, positions: Positions | None) -> EnformerConfig:
    if config.get("use_convnext"):
        raise CislensError(f"{source}: use_convnext is true; only the published tower is read.")
    missing = [key for key in ("dim", "depth", "heads") if not isinstance(config.get(key), int)]
    if missing:
        raise CislensError(f"{source} does not say {missing[0]}; is it an Enformer's folder?")
    if positions is None:
        positions = "feature-axis" if config.get("use_tf_gamma") is False else "position"
    try:
        return EnformerConfig(
            dim=config["dim"],
            depth=config["depth"],
            heads=config["heads"],
            key_dim=config.get("attn_dim_key", 64),
            stem_dim=None,
            width_multiple=config.get("dim_divisible_by", 128),
            bin_size=2 ** config.get("num_downsamples", 7),
            dropout=config.get("dropout_rate", 0.4),
            positions=positions,
        )
    except ValueError as error:
        raise CislensError(f"{source} describes no Enformer: {error}.") from None


def _gamma(path: Path, basis: RelativeBasis) -> Tensor:
    try:
        gamma_RF = load_file(path).get("gamma")
    except SafetensorError as error:
        raise CislensError(f"{path} is not a whole safetensors file ({error}).") from None
    expected = basis.features // 6
    if gamma_RF is None or gamma_RF.ndim != 2 or gamma_RF.shape[1] != expected:
        found = None if gamma_RF is None else tuple(gamma_RF.shape)
        raise CislensError(f"{path} needs a tensor `gamma` (2 N - 1, {expected}), found {found}.")
    return gamma_RF.float()
