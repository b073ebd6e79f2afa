"""What stands between the heads' logits and the predicted rates.

Dimensions: B window, N bin, T track of the head, D embedding channel, C species channel.
"""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass

from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.nn.routing import Routing
from cislens.recipes.reading import Section

# The group of tracks of which nothing is known.
ONE_GROUP = "all"


class HeadConfig(Section):
    """Tracks of one species that are predicted together, by one linear layer.

    Attributes:
        species: whose tracks.
        tracks: their ids, in the order of the head's outputs.
        groups: assay group of each track; all in one group unless given.
        strand_pairs: place in this head of each track's other strand, its own where it has none;
            none has one unless given.
    """

    species: str
    tracks: tuple[str, ...] = Field(min_length=1)
    groups: tuple[str, ...] = ()
    strand_pairs: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "HeadConfig":
        count = len(self.tracks)
        track, uses = Counter(self.tracks).most_common(1)[0]
        if uses > 1:
            raise ValueError(f"species {self.species!r} has two tracks {track!r}")
        for name, given in (("groups", self.groups), ("strand_pairs", self.strand_pairs)):
            if given and len(given) != count:
                raise ValueError(f"{len(given)} {name} for {count} tracks of {self.species!r}")
        pairs = self.pairs
        if any(not 0 <= pair < count or pairs[pair] != own for own, pair in enumerate(pairs)):
            raise ValueError(f"strand_pairs of {self.species!r} do not point at each other")
        return self

    @property
    def track_groups(self) -> tuple[str, ...]:
        """The group of each track."""
        return self.groups or (ONE_GROUP,) * len(self.tracks)

    @property
    def pairs(self) -> tuple[int, ...]:
        """Place of each track's other strand, its own where it has none."""
        return self.strand_pairs or tuple(range(len(self.tracks)))


@dataclass(frozen=True)
class Decoded:
    """What a decoder makes of the logits of one head.

    Attributes:
        logits_BNT: of the prediction.
        auxiliary_BNT: of the second Poisson term of the loss.
        routing: where its expert layers sent their tokens.
    """

    logits_BNT: Tensor
    auxiliary_BNT: Tensor
    routing: tuple[Routing, ...]


class Decoder(nn.Module, ABC):
    """Refines the logits of a head's tracks. Parameters of one head are kept apart by head.

    Attributes:
        loss_weights: of the Poisson terms of the prediction and of the auxiliary rates.
        groups: names of the groups in the order that `Routing.group_T` counts.
        bins: how many central bins it is made for; None for any number.
    """

    loss_weights: tuple[float, float]
    groups: tuple[str, ...]
    bins: int | None = None

    @abstractmethod
    def forward(
        self,
        head: int,
        species: int,
        logits_BNT: Tensor,
        y_BND: Tensor,
        species_BC: Tensor,
        valid_BN: Tensor,
    ) -> Decoded:
        """Decode the central bins of windows of one species.

        Args:
            head: whose logits, an index into the heads the decoder was made for.
            species: index of the species, for the routing statistics.
            y_BND: embedding of the bins.
            species_BC: what the encoder knows of the windows' species.
            valid_BN: False for bins without any called base; they are decoded, not counted.
        """

    @abstractmethod
    def add_head(self, head: HeadConfig) -> None:
        """Append a head; the parameters and outputs of the others are not touched."""
