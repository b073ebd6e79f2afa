"""What a representation is: anything that turns sequences into one row of features each."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

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
