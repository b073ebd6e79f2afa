"""The matrix as an image: a Swin transformer (Liu et al., ICCV 2021) over motifs x regions.

Dimensions: B locus, K channel of the image, T motif (row), R region (column), H and W rows and
columns of the final map, E channel.
"""

from importlib import import_module
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.models.genebert.columns import at_center, expression_of
from cislens.models.genebert.contract import RegionContext, RegionEncoder, RegionTokens
from cislens.randomness import generator
from cislens.recipes.reading import Section

_PATCH = 4
# Rows are padded to a multiple of it: a patch of 4, halved in three mergers.
_ROWS = 32


class SwinConfig(Section):
    """Shape of the Swin transformer.

    Attributes:
        dim: channels of a patch; they double with each stage after the first.
        depths, heads: layers and attention heads of each stage.
        window: patches along either side of an attention window.
        drop_path: share of training loci that skip the last layer; rises to it from 0.
        shuffle_rows: put the motifs in a random order, always the same one. Windows over rows
            mean something only if neighbors are alike, so this tells what the layout earns.
    """

    kind: Literal["swin"] = "swin"
    dim: int = Field(ge=1)
    depths: tuple[int, ...] = Field(min_length=1, max_length=4)
    heads: tuple[int, ...]
    window: int = Field(8, ge=2)
    drop_path: float = Field(0.1, ge=0, lt=1)
    shuffle_rows: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "SwinConfig":
        if len(self.heads) != len(self.depths):
            raise ValueError(f"heads {self.heads} and depths {self.depths} must be as many")
        for stage, heads in enumerate(self.heads):
            if heads < 1 or (self.dim << stage) % heads:
                raise ValueError(f"stage {stage + 1} has {self.dim << stage} channels, not {heads}")
        return self


class SwinEncoder(RegionEncoder):
    """Matrix -> image -> Swin -> one vector per region.

    Channels of the image are kept apart: motifs, accessibility (the same in every row) and
    expression (the same in every column). The rows are in the order of the store, where alike
    motifs are neighbors. In the first two channels a learned value stands for what is hidden;
    padding is 0. The final map, averaged over its rows, is interpolated between its columns to
    give each region a vector; the vector of the context is the mean over the map. The image
    knows neither distances nor which region is the central one.

    Raises:
        CislensError: without the package transformers.
    """

    def __init__(self, config: SwinConfig, motifs: int, expression: bool) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim << (len(config.depths) - 1)
        self.expression = expression
        self.rows = (
            generator(0, "motif rows").permutation(motifs).tolist() if config.shuffle_rows else None
        )
        self.hidden = nn.Parameter(torch.randn(2) * 0.02)
        self.swin = _swin(config, 3 if expression else 2)

    def forward(self, context: RegionContext) -> RegionTokens:
        image_BKTR = self._image(context)
        patches, (height, width) = self.swin.embeddings(image_BKTR)
        # Always in windows of the same size, padded: the maps of the last stages are smaller.
        mapped = self.swin.encoder(patches, (height, width), always_partition=True)
        map_BNE: Tensor = self.swin.layernorm(mapped.last_hidden_state)
        mergers = len(self.config.depths) - 1
        shape = (len(map_BNE), height >> mergers, width >> mergers, self.dim)
        column_BEW = map_BNE.reshape(shape).mean(dim=1).transpose(1, 2)
        regions = context.pad_BR.shape[1]
        column_BER = F.interpolate(column_BEW, size=image_BKTR.shape[3], mode="linear")
        values_BRE = column_BER[:, :, :regions].transpose(1, 2)
        return RegionTokens(
            values_BRE, context.pad_BR, at_center(values_BRE, context), column_BEW.mean(dim=2)
        )

    def _image(self, context: RegionContext) -> Tensor:
        """(B, K, T, R), both sides padded at their end to whole patches of the last stage."""
        hidden_BR1 = context.hidden_BR.unsqueeze(2)
        closed_BR = context.hidden_BR | context.access_hidden_BR
        motif_BRT = torch.where(hidden_BR1, self.hidden[0], context.motif_BRT)
        access_BR = torch.where(closed_BR, self.hidden[1], context.access_BR)
        channels = [motif_BRT, access_BR.unsqueeze(2).expand_as(motif_BRT)]
        if self.expression:
            channels.append(expression_of(context).unsqueeze(1).expand_as(motif_BRT))
        image_BKRT = torch.stack(channels, dim=1)
        image_BKRT = image_BKRT.where(~context.pad_BR[:, None, :, None], 0.0)
        if self.rows is not None:
            image_BKRT = image_BKRT[..., self.rows]
        image_BKTR = image_BKRT.transpose(2, 3)
        columns = _PATCH << (len(self.config.depths) - 1)
        rows, regions = image_BKTR.shape[2:]
        return F.pad(image_BKTR, (0, -regions % columns, 0, -rows % _ROWS))


def _swin(config: SwinConfig, channels: int) -> Any:
    try:
        transformers = import_module("transformers")
    except ImportError:
        raise CislensError(
            "The encoder of regions 'swin' needs the package transformers; install it with: "
            "pip install 'cislens[multimodal]'"
        ) from None
    shape = transformers.SwinConfig(
        # Sizes of weights do not depend on it; images of any size are read.
        image_size=(_ROWS, _ROWS),
        patch_size=_PATCH,
        num_channels=channels,
        embed_dim=config.dim,
        depths=list(config.depths),
        num_heads=list(config.heads),
        window_size=config.window,
        drop_path_rate=config.drop_path,
    )
    # It holds tables that are in no file of weights, so not even a model that is about to be
    # read from one may be made without memory.
    with torch.device("cpu"):
        return transformers.SwinModel(shape, add_pooling_layer=False)
