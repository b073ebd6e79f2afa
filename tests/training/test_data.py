import numpy as np
import pytest
import torch

from cislens.signal.loader import ProfileLoader
from cislens.signal.store import ProfileStore
from cislens.training.data import SplitPass, StepStream, to_tensors


@pytest.fixture
def loader(small_store: ProfileStore) -> ProfileLoader:
    return ProfileLoader(small_store, "train", batch_size=16, seed=3)


def test_passes_go_on_where_the_last_one_ended(loader: ProfileLoader) -> None:
    steps = len(loader) + 5  # into the second epoch
    whole = [batch.codes_BL for batch in StepStream(loader, steps, steps)]
    stream = StepStream(loader, steps, 7)
    parts = []
    while stream.next_step < steps:
        parts += [batch.codes_BL for batch in stream]
    assert len(parts) == steps
    assert all(torch.equal(a, b) for a, b in zip(parts, whole, strict=True))


def test_a_stream_can_start_at_any_step(loader: ProfileLoader) -> None:
    whole = [batch.codes_BL for batch in StepStream(loader, 9, 9)]
    late = StepStream(loader, 9, 9)
    late.next_step = 6
    assert all(torch.equal(a.codes_BL, b) for a, b in zip(late, whole[6:], strict=True))


def test_devices_share_a_batch_and_together_hold_all_of_it(loader: ProfileLoader) -> None:
    batch = loader.batch(0, 0)
    names = loader.store.species
    whole = to_tensors(batch, names)
    shares = [to_tensors(batch, names, rank, 3) for rank in range(3)]
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
    seen = sum(len(batch.species_B) for batch in SplitPass(loader))
    expected = sum(
        (small_store.windows(name)["split"] == "valid").sum() for name in small_store.species
    )
    assert seen == expected > 0
