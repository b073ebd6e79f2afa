"""How the mixer moves channels along the sequence."""

import torch

from cislens.models.findna.mixer import OFFSETS, shift


def test_any_distance_below_64_tokens_takes_four_blocks_at_most() -> None:
    reached, within = {0}, {}
    for hops in range(1, 5):
        reached = {place + offset for place in reached for offset in OFFSETS}
        for place in reached:
            within.setdefault(place, hops)
    assert all(abs(place) in within for place in range(-63, 64))
    assert max(within[place] for place in range(1, 64)) == 4


def test_each_group_comes_from_its_offset_and_zeros_from_beyond_the_ends() -> None:
    """13 groups in 29 channels; windows shorter than the farthest offset too."""
    for tokens in (1, 5, 70):
        z = torch.randn(2, tokens, 29)
        moved = shift(z)
        expected = torch.zeros_like(z)
        first = 0
        for offset, group in zip(OFFSETS, z.tensor_split(13, dim=2), strict=True):
            last = first + group.shape[2]
            for token in range(tokens):
                if 0 <= token + offset < tokens:
                    expected[:, token, first:last] = z[:, token + offset, first:last]
            first = last
        assert torch.equal(moved, expected)
