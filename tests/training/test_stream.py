"""Which batches a run sees, whatever happens in between."""

from collections.abc import Iterator

import pytest

from cislens.motifs.loader import RegionLoader
from cislens.motifs.store import RegionStore
from cislens.recipes.multimodal import MultimodalTerms
from cislens.training.stream import SplitPass, StepStream


class Numbers:
    """Batches (epoch, step) of epochs of five, and how many were made."""

    wait_seconds = 0.0

    def __init__(self) -> None:
        self.made = 0

    def __len__(self) -> int:
        return 5

    def batch(self, epoch: int, step: int) -> tuple[int, int]:
        self.made += 1
        return epoch, step

    def epoch(self, epoch: int, first: int = 0, every: int = 1) -> Iterator[tuple[int, int]]:
        yield from (self.batch(epoch, step) for step in range(first, 5, every))


def seen(done: int, steps: int, interval: int) -> list[tuple[int, int]]:
    return list(StepStream(Numbers(), [lambda batch: batch], steps, interval, lambda: done))


@pytest.mark.parametrize("done", range(13))
@pytest.mark.parametrize("interval", [1, 4, 7, 100])
def test_from_any_step_come_the_batches_to_the_end_of_its_interval(
    done: int, interval: int
) -> None:
    whole = [divmod(step, 5) for step in range(13)]
    end = min((done // interval + 1) * interval, 13)
    assert seen(done, 13, interval) == whole[done:end]


def test_a_finished_run_gets_none() -> None:
    assert seen(13, 13, 4) == []


def test_nothing_beyond_the_end_is_made() -> None:
    loader = Numbers()
    assert len(list(StepStream(loader, [lambda batch: batch], 7, 7, lambda: 0))) == 7
    assert loader.made == 7


def test_devices_share_the_batches_of_a_pass() -> None:
    def passed(rank: int, world: int) -> list[tuple[int, int]]:
        return list(SplitPass(Numbers(), lambda batch: batch, rank, world))

    whole = passed(0, 1)
    assert whole == [(0, step) for step in range(5)]
    assert (passed(0, 2), passed(1, 2)) == (whole[::2], whole[1::2])
    assert passed(6, 7) == []


def test_an_interrupted_run_sees_the_regions_it_would_have_seen(region_store: RegionStore) -> None:
    def rows(done: int, steps: int, interval: int) -> list[list[int]]:
        terms = MultimodalTerms(context=4)
        loader = RegionLoader(region_store, "train", 64, seed=3, terms=terms)
        stream = StepStream(loader, [lambda batch: batch], steps, interval, lambda: done)
        return [batch.row_B.tolist() for batch in stream]

    whole = rows(0, 9, 9)
    parts: list[list[int]] = []
    while len(parts) < 9:
        parts += rows(len(parts), 9, 4)
    assert parts == whole
    assert len({tuple(batch) for batch in whole}) == 9
