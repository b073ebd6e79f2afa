import numpy as np
import pytest

from cislens.effects.attribution.entropy import entropy_map
from cislens.genome.codes import N
from cislens.randomness import generator

LENGTH = 24


@pytest.fixture(scope="module")
def codes():
    found = generator(0, "codes").integers(0, 4, (5, LENGTH)).astype(np.uint8)
    found[0, 3] = N
    return found


class Sure:
    """Sure of position 5, of no other; refuses to be asked for N."""

    def base_log_probabilities(self, sequences, positions, species):
        assert all(codes[at] != N for codes, at in zip(sequences, positions, strict=True))
        p = np.full((len(positions), 4), 0.25, np.float32)
        p[np.array(positions) == 5] = (0.97, 0.01, 0.01, 0.01)
        return np.log(p)


def test_the_entropy_map_is_high_where_the_model_is_sure(codes):
    found = entropy_map(Sure(), codes, None, stranded=True)
    gain = np.log(4) + 0.97 * np.log(0.97) + 0.03 * np.log(0.01)
    assert np.allclose(found[:, 5], gain, atol=1e-5)
    assert np.abs(np.delete(found, 5, 1)).max() < 1e-6
    both = entropy_map(Sure(), codes, None)
    assert np.allclose(both[:, [5, LENGTH - 6]], gain / 2, atol=1e-5)


def test_a_sequence_without_a_called_base_has_a_map_of_zeros():
    assert not entropy_map(Sure(), np.full((1, LENGTH), N, np.uint8), None).any()
