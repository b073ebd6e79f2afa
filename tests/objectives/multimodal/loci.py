"""Random loci and small models, for the tests of this folder."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cislens.models.genebert.contract import RegionContext
from cislens.models.genebert.multimodal import MultimodalConfig, MultimodalModel
from cislens.objectives.multimodal.batch import TorchRegionBatch

MOTIFS = 5
PLUS: dict[str, Any] = {
    "encoder": {"kind": "genebert-plus", "dim": 32, "depth": 1, "heads": 2},
    "regions": {"kind": "tokens", "dim": 32, "depth": 1, "heads": 2, "dropout": 0.0},
    "motifs": tuple(f"M{number}" for number in range(MOTIFS)),
    "width": 64,
    "context": 6,
    "constants": "0" * 64,
    "joint_dim": 32,
}


def model(**changes: Any) -> MultimodalModel:
    """A model of 32 channels that reads 64 bp, 6 regions and 5 motifs."""
    torch.manual_seed(0)
    return MultimodalModel(MultimodalConfig.model_validate({**PLUS, **changes}))


def context(loci: int, regions: int = 6, seed: int = 0, pads: int = 1) -> RegionContext:
    """Random values; half of the regions hidden, of one more the accessibility; pads at the end."""
    rng = torch.Generator().manual_seed(seed)
    real = regions - pads
    pad = torch.arange(regions).expand(loci, -1) >= real
    hidden = torch.rand(loci, regions, generator=rng).argsort(dim=1) < regions // 2
    more = torch.rand(loci, regions, generator=rng) < 0.3
    places = torch.randint(600, 5000, (loci, regions), generator=rng).cumsum(dim=1).float()
    center = torch.randint(0, real, (loci,), generator=rng)
    return RegionContext(
        row_BR=torch.arange(loci * regions).reshape(loci, regions).where(~pad, -1),
        motif_BRT=torch.randn(loci, regions, MOTIFS, generator=rng) * ~pad[:, :, None],
        access_BR=torch.randn(loci, regions, generator=rng) * ~pad,
        expression_BT=None,
        offset_BR=(places - places.gather(1, center[:, None])) * ~pad,
        pad_BR=pad,
        center_B=center,
        hidden_BR=hidden & ~pad,
        access_hidden_BR=(hidden | more) & ~pad,
        gc_B=torch.full((loci,), 0.4),
    )


def batch(loci: int = 6, length: int = 64, seed: int = 0) -> TorchRegionBatch:
    """Random loci of one GC content, all of them apart, with a few N; 15 % of the bases asked."""
    rng = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 4, (loci, length), generator=rng, dtype=torch.uint8)
    target[:, 3] = 4
    scored = (torch.rand(loci, length, generator=rng) < 0.15) & (target < 4)
    return TorchRegionBatch(
        row_B=torch.arange(loci),
        cell_B=torch.zeros(loci, dtype=torch.int64),
        target_BL=target,
        codes_BL=target.clone(),
        hidden_BL=scored,
        scored_BL=scored,
        next_B=torch.arange(loci) % 2,
        context=context(loci, seed=seed),
        other=context(loci, seed=seed + 1000),
        apart_BB=~torch.eye(loci, dtype=torch.bool),
        gc_B=torch.full((loci,), 0.4),
    )


def with_context(of: TorchRegionBatch, **changes: Tensor) -> TorchRegionBatch:
    """The batch with some fields of its contexts changed."""
    return replace(of, context=replace(of.context, **changes))
