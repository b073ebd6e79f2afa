"""Hostile input to every reader ends in a value or one CislensError, quickly and without a trace.

`python -m tests.fuzz` does the same with a million inputs.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fuzz.campaign import shares
from tests.fuzz.harness import (
    ACCEPTED,
    CRASHED,
    GOOD,
    HUNG,
    PRINTED,
    REFUSED,
    STRAY,
    Arena,
    Reader,
    attempts,
    overheard,
)
from tests.fuzz.readers import readers

from cislens.errors import CislensError

_INPUTS = 3000


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Reader]]:
    folder = tmp_path_factory.mktemp("fuzz")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    yield readers(folder / "shop")
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


def test_every_reader_gives_a_value_or_one_clear_error(known: list[Reader], tmp_path: Path) -> None:
    wanted = shares({reader.name: reader.cost for reader in known}, _INPUTS)
    tried, faults = 0, []
    with overheard() as listen:
        arena = Arena(tmp_path)
        for reader in known:
            numbers = range(max(reader.whole, wanted[reader.name]))
            for number, trial in attempts(arena, reader, numbers, listen):
                tried += 1
                if trial.outcome not in GOOD or (not number and trial.outcome != ACCEPTED):
                    faults.append(f"{reader.name} #{number} {trial.outcome}: {trial.detail}")
    assert not faults, "\n".join(faults)
    assert tried >= _INPUTS
    assert len({reader.name for reader in known}) == len(known)


def test_an_input_is_told_by_its_number(known: list[Reader]) -> None:
    for reader in known[:3]:
        inputs = [reader.input(number) for number in range(40)]
        assert inputs == [reader.input(number) for number in range(40)]
        assert len(set(inputs)) > 30


def _crash(path: Path) -> object:
    return {}[path.read_bytes()]


def _hang(path: Path) -> object:
    while path:
        pass


def _sleep(path: Path) -> object:
    time.sleep(60)


def _swallow(path: Path) -> object:
    """Catches every Exception, as a careless reader may."""
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            continue


def _print(path: Path) -> object:
    return os.write(2, b"[E::idx] x\n")


def _leave(path: Path) -> object:
    return path.with_name(".x.partial").write_bytes(b"half")


def _grow(path: Path) -> object:
    return bytearray(1 << 36)


def _refuse_badly(path: Path) -> object:
    raise CislensError("")


def _refuse(path: Path) -> object:
    raise CislensError("line 1: not so")


@pytest.mark.parametrize(
    ("read", "outcome", "why"),
    [
        (_crash, CRASHED, "KeyError"),
        (_hang, HUNG, ""),
        (_sleep, HUNG, ""),
        (_swallow, HUNG, ""),
        (_print, PRINTED, "[E::idx] x"),
        (_leave, STRAY, ".x.partial"),
        (_grow, CRASHED, "MemoryError"),
        (sys.exit, CRASHED, "SystemExit"),
        (_refuse_badly, CRASHED, "empty message"),
        (_refuse, REFUSED, "not so"),
        (Path.read_bytes, ACCEPTED, ""),
    ],
)
def test_a_planted_fault_is_noticed(
    tmp_path: Path, read: Callable[[Path], object], outcome: str, why: str
) -> None:
    reader = Reader("planted", "x.txt", (b"seed",), read)
    with overheard() as listen:
        arena = Arena(tmp_path, limit_s=0.02)
        (found,) = [trial for _, trial in attempts(arena, reader, [0], listen)]
    assert (found.outcome, why in found.detail) == (outcome, True)


def test_what_was_left_behind_is_gone_for_the_next_input(tmp_path: Path) -> None:
    calls: list[bytes] = []

    def once(path: Path) -> object:
        calls.append(path.read_bytes())
        return _leave(path) if len(calls) == 1 else None

    reader = Reader("planted", "x.txt", (b"a", b"b"), once)
    with overheard() as listen:
        found = [trial.outcome for _, trial in attempts(Arena(tmp_path), reader, [0, 1], listen)]
    assert found == [STRAY, ACCEPTED]


def test_readers_share_the_inputs_by_what_one_takes() -> None:
    found = shares({"quick": 1.0, "slow": 9.0}, 1000)
    assert found == {"quick": 901, "slow": 101}
    assert sum(found.values()) >= 1000
