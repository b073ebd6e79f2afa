"""Randomness as a pure function of a key, so that workers and devices never change a draw."""

import hashlib

import numpy as np


def generator(*key: int | str) -> np.random.Generator:
    """A generator that depends on `key` alone, e.g. `generator(seed, "shift", epoch, index)`.

    Keys that differ in any part, also in its type, give independent streams.
    """
    text = repr(tuple(part if isinstance(part, str) else int(part) for part in key))
    words = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words))


def seed_of(*key: int | str) -> int:
    """A 63-bit seed that depends on `key` alone, for libraries that take an integer."""
    return int(generator(*key).integers(0, 2**63 - 1))
