import numpy as np

from cislens.genome.adapters import common_ends, without_common_ends
from cislens.genome.codes import decode, encode


def test_shared_ends_are_found_and_taken_off() -> None:
    library = [encode(f"ACGT{middle}GGCA") for middle in ("TTA", "CAAAT", "AC")]
    assert common_ends(library) == (4, 4)
    assert [decode(codes) for codes in without_common_ends(library)] == ["TTA", "CAAAT", "AC"]


def test_unrelated_sequences_share_next_to_nothing() -> None:
    library = list(np.random.default_rng(0).integers(0, 4, (50, 40)).astype(np.uint8))
    assert common_ends(library) == (0, 0)
    assert all(a is not b and (a == b).all() for a, b in zip(
        without_common_ends(library), library, strict=True))  # fmt: skip


def test_something_is_left_of_every_sequence() -> None:
    assert common_ends([encode("ACGT"), encode("ACGT")]) == (0, 0)
    assert common_ends([encode("ACGT"), encode("ACGTACGT")]) == (0, 0)
    assert common_ends([]) == (0, 0)
    assert common_ends([encode(""), encode("A")]) == (0, 0)
