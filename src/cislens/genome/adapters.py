"""Ends that all sequences of a library share, such as the adapters of a reporter assay."""

from collections.abc import Sequence

import numpy as np

from cislens.genome.codes import Codes


def common_ends(sequences: Sequence[Codes]) -> tuple[int, int]:
    """How many bases all sequences begin with, and end with; (0, 0) if nothing would be left."""
    shortest = min((len(codes) for codes in sequences), default=0)
    if not shortest:
        return 0, 0
    begin = np.stack([codes[:shortest] for codes in sequences])
    end = np.stack([codes[len(codes) - shortest :][::-1] for codes in sequences])
    left, right = (int((ends == ends[0]).all(axis=0).cumprod().sum()) for ends in (begin, end))
    return (left, right) if left + right < shortest else (0, 0)


def without_common_ends(sequences: Sequence[Codes]) -> list[Codes]:
    """The sequences without the ends that all share, which would align any two of them."""
    left, right = common_ends(sequences)
    return [codes[left : len(codes) - right] for codes in sequences]
