"""What every encoder gives: DNA in, one vector per bin out.

Dimensions: B window, L base pair, N bin, D channel.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.nn.routing import Routing

# Index of a window whose species is unknown or hidden.
UNKNOWN = -1


@dataclass(frozen=True)
class Embedding:
    """Vectors of consecutive bins, from the first base of the input on.

    Attributes:
        values_BND: one vector per bin.
        bin_size: base pairs per bin.
        valid_BN: False for bins without any called base (padding, assembly gaps). Their
            vectors are finite, mean nothing, and no other bin depends on them.
        routing: where each expert layer sent the bins; empty without experts.
        species_BC: what the encoder knows of each window's species; None if it tells none apart.
        summary_BD: one vector per window that the encoder itself makes of it, such as that of a
            [CLS]; None if it makes none.
    """

    values_BND: Tensor
    bin_size: int
    valid_BN: Tensor
    routing: tuple[Routing, ...] = ()
    species_BC: Tensor | None = None
    summary_BD: Tensor | None = None

    def mean(self) -> Tensor:
        """Mean over the valid bins, (B, D); zeros for a window without any."""
        weight_BN1 = self.valid_BN.unsqueeze(2).to(self.values_BND.dtype)
        # `where`, not a product: no value of an invalid bin may reach the sum.
        kept = self.values_BND.where(self.valid_BN.unsqueeze(2), 0.0)
        return kept.sum(dim=1) / weight_BN1.sum(dim=1).clamp_min(1.0)


class Encoder(nn.Module, ABC):
    """DNA -> embedding.

    Attributes:
        bin_size: base pairs per bin.
        dim: channels of the embedding.
        species: names of the species that the encoder tells apart, in index order; empty when
            it does not.
        species_dim: channels of `Embedding.species_BC`; 0 when it tells none apart.
        summarizes: whether its embeddings have a `summary_BD`.
    """

    bin_size: int
    dim: int
    species: tuple[str, ...]
    species_dim: int = 0
    summarizes: bool = False

    @abstractmethod
    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
        """Embed one-hot windows of any length L > 0.

        Args:
            x_B4L: one-hot A, C, G, T; N is all zeros. Padded on the right with N to whole bins.
            species_B: index into `species` per window; -1, or None for all, means unknown.
        """

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that `hidden` gives, first to last; the last is the output."""
        return ("out",)

    def hidden(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Iterator[Embedding]:
        """The embeddings of all `layers`, one after another; the last is what `forward` gives.

        Each is computed when it is asked for, so that who stops early pays for no later layer.
        """
        embedding: Embedding = self(x_B4L, species_B)
        yield embedding

    def local(self, x_B4L: Tensor, species_B: Tensor | None = None) -> "LocalEncoder | None":
        """What recomputes for a substitution only what it reaches; None if nothing is to be gained.

        In evaluation mode alone: in training a batch norm lets every base reach everything.

        Args:
            x_B4L: reference windows, as in `forward`. Their activations of every layer are kept, as
                those of a training step are.
            species_B: as in `forward`.
        """
        return None

    def add_species(self, name: str) -> None:
        """Append a species; parameters and outputs of the others are not touched.

        Raises:
            CislensError: if the encoder has it, or tells no species apart.
        """
        raise CislensError(f"This encoder tells no species apart; {name!r} needs no place in it.")


class LocalEncoder(ABC):
    """Reference windows with the activations that a substitution in one of them leaves alone."""

    @abstractmethod
    def reference(self) -> Embedding:
        """Of the reference windows themselves, padded to whole bins; without gradient."""

    @abstractmethod
    def embeddings(self, row_M: Tensor, position_M: Tensor, base_M: Tensor) -> Embedding:
        """Of M windows, each a reference window with one base replaced; without gradient.

        They are those that the encoder gives for the changed windows, up to rounding.

        Args:
            row_M: which of the reference windows.
            position_M: which base of it, 0-based; it must not be N.
            base_M: what stands there instead: 0 to 3 for A, C, G, T; may be the base itself.
        """


def whole_bins(x_B4L: Tensor, bin_size: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """One-hot windows padded with N to whole bins, which bins are valid, and these as a mask.

    The mask is None where every bin is known to be valid.
    """
    missing = -x_B4L.shape[2] % bin_size
    x_B4L = F.pad(x_B4L, (0, missing)) if missing else x_B4L
    called_BL = x_B4L.detach().ne(0).any(dim=1)
    valid_BN = called_BL.view(len(x_B4L), -1, bin_size).any(dim=2)
    # On a CPU the look is free and saves a pass over every activation; a compiler cannot look.
    look = x_B4L.device.type == "cpu" and not torch.compiler.is_compiling()
    return x_B4L, valid_BN, None if look and bool(valid_BN.all()) else valid_BN
