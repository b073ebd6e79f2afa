"""A table of offsets that belongs to the weights: which channel or layer reads how far away."""

from typing import Any

import torch
from torch import nn

from cislens.errors import CislensError


class Offsets(nn.Module):
    """Integers that were fixed when a model was made, kept with its weights.

    Weights that were trained with other offsets have the right shapes and mean nothing. So the
    offsets are stored beside them and held against those of the model that is to read them.

    Args:
        what: what the offsets are of, for the error.
        values: the offsets, in order.
    """

    table: torch.Tensor

    def __init__(self, what: str, values: tuple[int, ...]) -> None:
        super().__init__()
        self.what = what
        self.values = values
        self.register_buffer("table", torch.tensor(values, dtype=torch.int64))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """As that of `nn.Module`.

        Raises:
            CislensError: if the offsets of the weights are not those of the model.
        """
        stored = state_dict.get(f"{prefix}table")
        if stored is not None and tuple(stored.tolist()) != self.values:
            raise CislensError(
                f"{prefix}table: the weights were trained with {self.what} "
                f"{_listed(stored.tolist())}, this model has {_listed(self.values)}; take the "
                "configuration that was stored with the weights."
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _listed(values: Any) -> str:
    return ", ".join(str(value) for value in values)
