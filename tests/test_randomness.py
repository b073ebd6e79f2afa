import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cislens.randomness import generator, seed_of

KEY = st.lists(st.one_of(st.integers(0, 10**6), st.text(max_size=5)), min_size=1, max_size=4)


@given(KEY)
def test_the_same_key_gives_the_same_draws(key: list[int | str]) -> None:
    assert np.array_equal(generator(*key).random(5), generator(*key).random(5))


@given(KEY, KEY)
def test_different_keys_give_different_draws(a: list[int | str], b: list[int | str]) -> None:
    same = [*map(repr, a)] == [*map(repr, b)]
    assert np.array_equal(generator(*a).random(5), generator(*b).random(5)) == same


def test_a_number_and_its_text_are_different_keys() -> None:
    assert seed_of(1) != seed_of("1")
    assert seed_of("a", "b") != seed_of("a', 'b")
    assert seed_of(np.int64(1)) == seed_of(1)


def test_streams_of_neighboring_keys_are_uncorrelated() -> None:
    draws = np.stack([generator(0, "epoch", i).standard_normal(2000) for i in range(20)])
    off_diagonal = np.corrcoef(draws)[~np.eye(20, dtype=bool)]
    assert abs(off_diagonal).max() < 0.12  # 5 standard errors of r at n = 2000
