"""Our own masked models: features of the encoder, and how likely each base is at a hidden place.

Legend: B windows, L bases, M questions.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.genome.codes import Codes, N
from cislens.models.bases import base_head
from cislens.models.contract import Encoder
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.mixture import part_of_kind
from cislens.models.reading import read
from cislens.models.sequence import SequenceModel
from cislens.randomness import seed_of
from cislens.recipes.multimodal import MultimodalTerms
from cislens.recipes.objectives import MixtureTerms, OneObjective
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.recipes.sequence_terms import DistillationTerms, MaskedTerms
from cislens.representations.contract import Features, Kind
from cislens.representations.controls import random_twin
from cislens.representations.encoder import (
    EncoderEmbedding,
    encoder_inputs,
    length_batches,
    with_weights,
)
from cislens.representations.seeding import seeded

logger = logging.getLogger("cislens")


class LanguageEmbedding(EncoderEmbedding):
    """An encoder with the head that tells its hidden bases: a masked language model.

    Args:
        encoder: as `EncoderEmbedding`.
        head: `head(reading)` gives logits of A, C, G, T at every base, (B, L, 4).
    """

    def __init__(
        self, encoder: Encoder, head: nn.Module, name: str, kind: Kind = "trained"
    ) -> None:
        super().__init__(encoder, name, kind)
        self.head = head

    @cached_property
    def digest(self) -> str:
        """sha256 of the encoder's digest and the head's weights."""
        return with_weights(super().digest, self.head)

    def base_log_probabilities(
        self, sequences: Sequence[Codes], positions: Sequence[int], species: str | None
    ) -> Features:
        """(n, 4) log probability of A, C, G, T at one hidden 0-based position of each sequence.

        The four add up to 1. Everything is computed in fp32 on the strand that is given. A
        position that is asked several times of the same sequence is computed once.

        Raises:
            CislensError: if a position lies outside its sequence or holds no called base, or what
                comes out is not finite.
        """
        _check(self.name, sequences, positions)
        asked, back = _distinct(sequences, positions)
        found = np.empty((len(asked), 4), dtype=np.float32)
        self.encoder.eval()
        self.head.eval()
        with torch.inference_mode():
            for rows in length_batches([sequences[row] for row in asked]):
                codes = np.stack([sequences[asked[row]] for row in rows])
                at = np.array([positions[asked[row]] for row in rows])
                found[rows] = self._asked(codes, at, species).cpu().numpy()
        if not np.isfinite(found).all():
            raise CislensError(
                f"{self.name}: probabilities of bases are not finite; the weights may be damaged."
            )
        return found[back]

    def twin(self, draw: int) -> "LanguageEmbedding":
        """This model with the encoder's `random_twin` and a fresh head."""
        encoder = random_twin(self.encoder, draw)
        with seeded(seed_of("random_head", draw)):
            head = base_head(encoder)
        head = head.to(next(encoder.parameters()).device).eval()
        return LanguageEmbedding(encoder, head, f"{self.name}-random", "random")

    def _asked(self, codes: Codes, at: npt.NDArray[np.int64], species: str | None) -> Tensor:
        """(B, 4) of one position of each row."""
        x_B4L, species_B = encoder_inputs(self.encoder, codes, species)
        rows = torch.arange(len(codes), device=x_B4L.device)
        at_B = torch.as_tensor(at, device=x_B4L.device)
        hidden_BL = torch.zeros_like(x_B4L[:, 0], dtype=torch.bool)
        hidden_BL[rows, at_B] = True
        with torch.autocast(x_B4L.device.type, enabled=False):
            logits_BL4 = self.head(read(self.encoder, x_B4L, hidden_BL, species_B=species_B))
        log_p_B4: Tensor = logits_BL4[rows, at_B].float().log_softmax(-1)
        return log_p_B4


def language_model(model: nn.Module, name: str) -> LanguageEmbedding | None:
    """The masked language model that a trained model is or, as a mixture, has a part of.

    None for a model without a head for bases. Whether it was ever trained `tells_bases` says.
    """
    found = part_of_kind(model, SequenceModel) or part_of_kind(model, MultimodalModel)
    return None if found is None else LanguageEmbedding(found.encoder, found.base_head, name)


def trained_language_model(folder: Path, model: nn.Module, name: str) -> LanguageEmbedding | None:
    """`language_model` of a model folder's model; None if its head was never trained.

    The run's `recipe.yaml` beside the folder tells; without one the head counts as trained.

    Raises:
        CislensError: as `tells_bases`.
    """
    found = language_model(model, name)
    run = folder.resolve().parent
    if found is None or not (run / "recipe.yaml").exists() or tells_bases(run):
        return found
    logger.info("%s was not trained to tell hidden bases and is not asked for them", name)
    return None


def tells_bases(folder: Path) -> bool:
    """Whether a run's objective asked for hidden bases; else a head for them is as it was drawn.

    Raises:
        MissingFileError, CislensError: as `read_recipe`.
    """
    path = require_file(folder / "recipe.yaml", "recipe of the run")
    objective = read_recipe(path, TrainRecipe).objective
    if isinstance(objective, MixtureTerms):
        return any(part.weight > 0 and _asks_bases(part.objective) for part in objective.parts)
    return _asks_bases(objective)


def _asks_bases(objective: OneObjective) -> bool:
    if isinstance(objective, DistillationTerms | MultimodalTerms):
        return objective.masked > 0
    return isinstance(objective, MaskedTerms)


def _check(name: str, sequences: Sequence[Codes], positions: Sequence[int]) -> None:
    for row, (codes, position) in enumerate(zip(sequences, positions, strict=True)):
        if not 0 <= position < len(codes):
            raise CislensError(
                f"{name}: position {position} of sequence {row} lies outside its {len(codes)} bp."
            )
        if codes[position] == N:
            raise CislensError(
                f"{name}: sequence {row} reads N at position {position}; only called bases can "
                "be hidden and asked for. Leave it out."
            )


def _distinct(
    sequences: Sequence[Codes], positions: Sequence[int]
) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Rows of the distinct questions, and for every row the question that it is.

    What stands at the position itself is hidden, so that sequences may differ there.
    """
    number: dict[tuple[bytes, bytes], int] = {}
    asked: list[int] = []
    back = np.empty(len(sequences), dtype=np.int64)
    for row, (codes, position) in enumerate(zip(sequences, positions, strict=True)):
        key = (codes[:position].tobytes(), codes[position + 1 :].tobytes())
        if key not in number:
            number[key] = len(asked)
            asked.append(row)
        back[row] = number[key]
    return asked, back
