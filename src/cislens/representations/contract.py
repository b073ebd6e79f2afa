"""What a representation is: anything that turns sequences into one row of features each."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import nn

from cislens.genome.codes import Codes

Features = npt.NDArray[np.float32]

# The part a representation plays in a comparison. `onehot` and `composition` are the two kinds of
# baseline: the sequence itself, and what its base composition or length alone would give away.
Kind = Literal["trained", "random", "onehot", "composition"]


class Representation(Protocol):
    """Sequences in, features out; no labels are seen.

    Attributes:
        name: how tables call it, unique within a bench.
        kind: its part in the comparison.
        parameters: number of parameters behind the features, 0 for a formula.
        digest: changes whenever the features of a sequence could.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def parameters(self) -> int: ...

    @property
    def digest(self) -> str: ...

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        """Features (n, D), float32 and finite, row by row for codes (L,) of any lengths.

        Args:
            sequences: codes on the strand the task gives.
            species: its name, for representations that condition on it.
            stranded: if false, a sequence and its reverse complement get the same features.
        """
        ...


@runtime_checkable
class Twinned(Representation, Protocol):
    """A trained representation that can be had with random weights instead."""

    def twin(self, draw: int) -> Representation:
        """The same architecture with fresh weights, independent for each `draw`."""
        ...


@runtime_checkable
class Viewed(Representation, Protocol):
    """A representation with features at several layers and poolings.

    Attributes:
        views: names such as "embed.mean" or "L4.max", layer and pooling, from the input to the
            output; the last is the one that `embed` gives.
    """

    @property
    def views(self) -> tuple[str, ...]: ...

    def embed_views(
        self,
        sequences: Sequence[Codes],
        species: str | None,
        stranded: bool,
        views: Sequence[str],
    ) -> dict[str, Features]:
        """Features (n, D) of each view asked for; D may differ between them."""
        ...


@runtime_checkable
class Binned(Representation, Protocol):
    """A representation that keeps where along the sequence a feature lies."""

    @property
    def bin_size(self) -> int: ...

    def embed_bins(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> npt.NDArray[np.float32]:
        """(n, N, D): one vector for each `bin_size` bases, for sequences of one length.

        Unstranded: the mean of the forward pass and the reversed pass over the reverse complement.
        """
        ...


@runtime_checkable
class MaskedLikelihood(Protocol):
    """A masked language model of bases."""

    def base_log_probabilities(
        self, sequences: Sequence[Codes], positions: Sequence[int], species: str | None
    ) -> npt.NDArray[np.float32]:
        """(n, 4) log probability of A, C, G, T at one masked 0-based position of each sequence."""
        ...


@runtime_checkable
class CausalLikelihood(Protocol):
    """A language model that gives the probability of whole sequences."""

    def log_likelihood(
        self, sequences: Sequence[Codes], species: str | None
    ) -> npt.NDArray[np.float32]:
        """(n,) sum of the log probabilities of the bases."""
        ...


@runtime_checkable
class TrackEffects(Protocol):
    """A model that predicts measured tracks, and so what a variant changes in them."""

    def effect_tracks(self, species: str | None) -> tuple[str, ...]:
        """Ids of the tracks that are predicted for a species; empty where none are."""
        ...

    def track_effects(
        self,
        reference: Sequence[Codes] | Codes,
        alternate: Sequence[Codes] | Codes,
        species: str | None,
        stranded: bool = False,
    ) -> npt.NDArray[np.float32]:
        """(n, T) log fold change of each track's signal, alternate over reference, of windows of
        one length that hold the variant in the middle."""
        ...


@runtime_checkable
class Tunable(Protocol):
    """A representation whose network can be trained further.

    Attributes:
        lora_targets: endings of the names of the linear layers that adapters are put on.
    """

    @property
    def lora_targets(self) -> tuple[str, ...]: ...

    def network(self) -> nn.Module:
        """A trainable copy; called with a batch it gives values (B, T, D) and weights (B, T), the
        bases that each token covers (0 for special tokens and padding)."""
        ...

    def collate(self, sequences: Sequence[Codes], species: str | None) -> Any:
        """A batch for the network."""
        ...


@runtime_checkable
class Stored(Representation, Protocol):
    """A representation that reads features instead of computing them."""

    def require(self, sequences: Sequence[Codes], species: str | None, stranded: bool) -> None:
        """Refuse sequences that were not embedded for this species and strand policy.

        Raises:
            CislensError: naming what is there.
        """
        ...

    def require_precise(self) -> None:
        """Refuse features that are too coarse for the difference of two alleles.

        Raises:
            CislensError: if they were not kept in fp32.
        """
        ...
