"""What a representation costs, counted and not guessed."""

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from cislens.evaluation.tasks.task import Fold
from cislens.representations.contract import Representation

_COUNTED = 2  # sequences that are embedded once more to count


def flops_per_bp(representation: Representation, fold: Fold, species: str | None) -> float:
    """Floating-point operations for each base of a forward pass, a multiply-add as two.

    Counted by torch on one strand of a few sequences, so 0 for what is no torch network.
    """
    sequences = fold.sequences[:_COUNTED]
    counter = FlopCounterMode(display=False)
    with counter:
        representation.embed(sequences, species, True)
    return float(counter.get_total_flops()) / float(np.sum([len(codes) for codes in sequences]))
