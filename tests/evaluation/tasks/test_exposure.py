"""What models saw in pre-training is not tested: planted in the test split, and not planted."""

import numpy as np
import pytest
from plants import binary_card, labelled, random_codes

from cislens.errors import CislensError
from cislens.evaluation.tasks.exposure import DROPPED, without_seen
from cislens.evaluation.tasks.task import Task
from cislens.genome.codes import Codes, decode, reverse_complement
from cislens.signal.store import ProfileStore

WIDTH, COUNT = 200, 100  # the last 20 examples are the test split


def task(planted: list[Codes], species: str = "yeast", **changes: object) -> Task:
    """Random sequences, of which the last ones are replaced."""
    rng = np.random.default_rng(0)
    codes = random_codes(rng, COUNT, WIDTH)
    for row, sequence in enumerate(planted, start=COUNT - len(planted)):
        codes[row] = sequence
    y = np.arange(COUNT) % 2
    return labelled(binary_card("exposed", species=species, **changes), codes, y)


def windows(store: ProfileStore, species: str, split: str, count: int) -> list[Codes]:
    """Pieces of windows of a part, without an unknown base."""
    rows = np.flatnonzero((store.windows(species)["split"] == split).to_numpy())
    pieces = [codes[300 : 300 + WIDTH] for codes in store.sequence(species, rows)]
    return [codes for codes in pieces if (codes < 4).all()][:count]


def of_test(found: Task) -> list[str]:
    return found.examples.filter(split="test")["sequence"].to_list()


def test_copies_of_windows_of_pretraining_are_dropped_on_either_strand(
    small_store: ProfileStore,
) -> None:
    train, valid = (windows(small_store, "yeast", part, 2) for part in ("train", "valid"))
    planted = [*train, *map(reverse_complement, valid)]
    before = task(planted)
    after = without_seen(before, small_store)
    assert after.card.report[DROPPED] == 4
    assert after.card.exposure.startswith("4 of 20 test examples with a homolog")
    assert not set(of_test(after)) & {decode(codes) for codes in planted}
    assert len(of_test(after)) == 16
    kept = before.examples.filter(before.examples["split"] != "test")
    assert after.examples.filter(after.examples["split"] != "test").equals(kept)


def test_a_changed_copy_is_still_a_homolog(small_store: ProfileStore) -> None:
    [window] = windows(small_store, "yeast", "train", 1)
    changed = window.copy()
    changed[::20] = (changed[::20] + 1) % 4  # 95 % identical
    assert without_seen(task([changed]), small_store).card.report[DROPPED] == 1


def test_what_several_stores_drop_is_counted_together(small_store: ProfileStore) -> None:
    once = without_seen(task(windows(small_store, "yeast", "train", 2)), small_store)
    again = without_seen(once, small_store, inherited=False)
    assert again.card.report[DROPPED] == 2
    assert again.card.exposure.startswith("2 of 20 test examples")


def test_the_clean_twin_is_left_as_it_is(small_store: ProfileStore) -> None:
    clean = task([])
    after = without_seen(clean, small_store)
    assert after.examples.equals(clean.examples)
    assert after.card.report[DROPPED] == 0
    assert without_seen(clean, None) is clean


def test_only_the_species_of_the_task_is_searched_if_the_store_has_it(
    small_store: ProfileStore,
) -> None:
    planted = windows(small_store, "fly", "train", 2)
    assert without_seen(task(planted, "yeast"), small_store).card.report[DROPPED] == 0
    assert without_seen(task(planted, "fly"), small_store).card.report[DROPPED] == 2
    assert without_seen(task(planted, "human"), small_store).card.report[DROPPED] == 2


def test_tasks_that_took_their_parts_from_the_store_are_not_searched(
    small_store: ProfileStore,
) -> None:
    planted = windows(small_store, "yeast", "train", 1)
    placed = task(planted, split="regions")
    assert without_seen(placed, small_store) is placed


def test_a_test_split_of_which_nothing_is_left_is_refused(small_store: ProfileStore) -> None:
    planted = windows(small_store, "yeast", "train", 20)
    with pytest.raises(CislensError, match=f"20 of 20 {DROPPED} .* were dropped"):
        without_seen(task(planted), small_store)
