from functools import partial

import numpy as np
import pytest
import torch

from cislens.signal.loader import ProfileLoader
from cislens.signal.store import ProfileStore
from cislens.training.data import SpeciesLabels, to_tensors
from cislens.training.stream import SplitPass, StepStream


@pytest.fixture
def loader(small_store: ProfileStore) -> ProfileLoader:
    return ProfileLoader(small_store, "train", batch_size=16, seed=3)


def labels_of(loader: ProfileLoader) -> SpeciesLabels:
    return SpeciesLabels.of(loader.store, loader.store.species)


def convert(loader: ProfileLoader) -> partial:
    return partial(to_tensors, labels=labels_of(loader))


def codes_of(loader: ProfileLoader, steps: int, interval: int, done: int) -> list[torch.Tensor]:
    stream = StepStream(loader, [convert(loader)], steps, interval, lambda: done)
    return [batch.codes_BL for batch in stream]


def test_passes_go_on_where_the_last_one_ended(loader: ProfileLoader) -> None:
    steps = len(loader) + 5  # into the second epoch
    whole = codes_of(loader, steps, steps, 0)
    parts: list[torch.Tensor] = []
    while len(parts) < steps:
        parts += codes_of(loader, steps, 7, len(parts))
    assert len(parts) == len(whole) == steps
    assert all(torch.equal(a, b) for a, b in zip(parts, whole, strict=True))


def test_a_pass_begins_at_any_step_and_ends_with_its_interval(loader: ProfileLoader) -> None:
    whole = codes_of(loader, 20, 20, 0)
    late = codes_of(loader, 20, 8, 6)
    assert len(late) == 2
    assert all(torch.equal(a, b) for a, b in zip(late, whole[6:8], strict=True))


def test_what_was_fetched_and_not_used_comes_again(loader: ProfileLoader) -> None:
    stream = StepStream(loader, [convert(loader)], 8, 8, lambda: 0)
    ahead = next(iter(stream)).codes_BL
    assert torch.equal(next(iter(stream)).codes_BL, ahead)


def test_devices_share_a_batch_and_together_hold_all_of_it(loader: ProfileLoader) -> None:
    batch = loader.batch(0, 0)
    names = loader.store.species
    labels = labels_of(loader)
    whole = to_tensors(batch, labels)
    shares = [to_tensors(batch, labels, rank, 3) for rank in range(3)]
    assert sum(len(share.species_B) for share in shares) == 16
    for rank, share in enumerate(shares):
        assert torch.equal(share.codes_BL, whole.codes_BL[rank::3])
        for index, name in enumerate(names):
            mine = np.arange(16)[rank::3]
            count = int((batch.species_B[mine] == index).sum())
            assert (share.targets[name].shape[0] if name in share.targets else 0) == count
    for name, target in whole.targets.items():
        parts = torch.cat([share.targets[name] for share in shares if name in share.targets])
        assert parts.sum().item() == pytest.approx(target.sum().item(), rel=1e-5)


def test_a_split_pass_sees_every_window_once(small_store: ProfileStore) -> None:
    loader = ProfileLoader(small_store, "valid", 32, shift=0, reverse_complement=False)
    seen = sum(len(batch.species_B) for batch in SplitPass(loader, convert(loader)))
    expected = sum(
        (small_store.windows(name)["split"] == "valid").sum() for name in small_store.species
    )
    assert seen == expected > 0


def test_the_model_may_count_species_otherwise(loader: ProfileLoader) -> None:
    batch = loader.batch(0, 0)
    names = loader.store.species
    labels = SpeciesLabels.of(loader.store, ("worm", *reversed(names)))
    found = to_tensors(batch, labels)
    assert found.shown_B is None
    expected = [("worm", *reversed(names)).index(names[s]) for s in batch.species_B]
    assert found.species_B.tolist() == expected


def test_shuffled_labels_are_permuted_once_and_reach_the_encoder_alone(
    loader: ProfileLoader,
) -> None:
    store = loader.store
    labels = SpeciesLabels.of(store, store.species, shuffled=True, seed=1)
    assert labels.shown_W is not None
    true_W = np.repeat([0, 1], [store.windows(name).height for name in store.species])
    np.testing.assert_array_equal(np.bincount(labels.shown_W), np.bincount(true_W))
    # Independent labels agree by chance alone: within 4 standard deviations.
    share = np.bincount(true_W) / true_W.size
    chance = float((share**2).sum())
    agree = float((labels.shown_W == true_W).mean())
    assert abs(agree - chance) < 4 * np.sqrt(chance * (1 - chance) / true_W.size)
    batch = loader.batch(0, 0)
    found = to_tensors(batch, labels, rank=1, world=3)
    np.testing.assert_array_equal(found.species_B, batch.species_B[1::3])
    assert found.shown_B is not None
    np.testing.assert_array_equal(found.shown_B, labels.shown_W[batch.index_B[1::3]])
    again = SpeciesLabels.of(store, store.species, shuffled=True, seed=1)
    np.testing.assert_array_equal(again.shown_W, labels.shown_W)
    other = SpeciesLabels.of(store, store.species, shuffled=True, seed=2)
    assert (other.shown_W != labels.shown_W).any()
