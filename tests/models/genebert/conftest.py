"""Made-up contexts of open regions, for the tests of what reads them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cislens.models.genebert.contract import RegionContext


class Contexts:
    """Ways to make and to change contexts."""

    @staticmethod
    def drawn(
        batch: int = 3, regions: int = 10, motifs: int = 12, seed: int = 0, expression: bool = False
    ) -> RegionContext:
        """Regions some hundred bp to some kb apart, none hidden, none padding."""
        source = torch.Generator().manual_seed(seed)
        center_B = torch.arange(batch) % regions
        place_BR = (200 + 5000 * torch.rand(batch, regions, generator=source)).cumsum(dim=1)
        return RegionContext(
            row_BR=torch.arange(regions).expand(batch, regions),
            motif_BRT=torch.randn(batch, regions, motifs, generator=source),
            access_BR=torch.randn(batch, regions, generator=source),
            expression_BT=torch.randn(batch, motifs, generator=source) if expression else None,
            offset_BR=place_BR - place_BR.gather(1, center_B[:, None]),
            pad_BR=torch.zeros(batch, regions, dtype=torch.bool),
            center_B=center_B,
            hidden_BR=torch.zeros(batch, regions, dtype=torch.bool),
            access_hidden_BR=torch.zeros(batch, regions, dtype=torch.bool),
            gc_B=torch.rand(batch, generator=source),
        )

    @staticmethod
    def scrambled(
        context: RegionContext, where_BR: Tensor, access_only: bool = False
    ) -> RegionContext:
        """The context with other values, partly not even numbers, where `where_BR`."""
        access_BR = context.access_BR.masked_fill(where_BR, torch.nan)
        if access_only:
            return replace(context, access_BR=access_BR)
        motif_BRT = torch.where(where_BR[:, :, None], 9 - context.motif_BRT, context.motif_BRT)
        motif_BRT[..., 0] = motif_BRT[..., 0].masked_fill(where_BR, torch.nan)
        return replace(context, motif_BRT=motif_BRT, access_BR=access_BR)

    @staticmethod
    def padded(context: RegionContext, more: int) -> RegionContext:
        """The context with `more` columns of padding at its end, which hold no numbers."""

        def longer(value: Tensor, fill: float) -> Tensor:
            shape = (len(value), more, *value.shape[2:])
            return torch.cat([value, torch.full(shape, fill).to(value.dtype)], dim=1)

        fills = {"row": -1, "motif": torch.nan, "access": torch.nan, "offset": torch.nan}
        changes = {"pad_BR": longer(context.pad_BR, True)}
        for name in ("row_BR", "motif_BRT", "access_BR", "offset_BR"):
            changes[name] = longer(getattr(context, name), fills[name.split("_")[0]])
        for name in ("hidden_BR", "access_hidden_BR"):
            changes[name] = longer(getattr(context, name), False)
        return replace(context, **changes)


@pytest.fixture(scope="session")
def contexts() -> type[Contexts]:
    return Contexts
