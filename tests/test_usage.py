"""What the process has used."""

import numpy as np
import pytest

from cislens.usage import memory_high_water, time_left


def test_the_high_water_mark_rises_and_stays() -> None:
    before = memory_high_water()
    held = np.ones(40_000_000)  # 320 MB, more than the tests before it can have freed
    high = memory_high_water()
    del held
    assert high >= 320_000_000
    assert memory_high_water() >= high >= before


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3569.0, "59 min"),
        (3570.1, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (191_000, "2 d 5 h"),
    ],
)
def test_time_left_in_words(seconds: float, words: str) -> None:
    assert time_left(seconds) == words
