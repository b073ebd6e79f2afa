import numpy as np
import pytest
import torch

from cislens.effects.averaging import SHIFTS, Averaging, averaged_rates, read_averaging
from cislens.errors import CislensError
from cislens.genome.codes import reverse_complement

BIN, LENGTH, MARGIN = 16, 128, 3
PAIR = torch.tensor([0, 2, 1])


def counts(x_B4L: torch.Tensor) -> torch.Tensor:
    """C + G, G and C of each bin: tracks 1 and 2 are each other's strand. Exactly equivariant."""
    count_B4N = x_B4L.unflatten(2, (-1, BIN)).sum(3)
    return torch.stack([count_B4N[:, 1] + count_B4N[:, 2], count_B4N[:, 2], count_B4N[:, 1]], 1)


def uneven(x_B4L: torch.Tensor) -> torch.Tensor:
    """Not equivariant: every base of every position and track weighs differently."""
    weight_4LT = torch.linspace(0, 1, 4 * x_B4L.shape[2] * 3).reshape(4, -1, 3)
    return torch.einsum("bcl,clt->btl", x_B4L, weight_4LT).unflatten(2, (-1, BIN)).sum(3)


def windows(margin: int = MARGIN) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 5, size=(3, LENGTH + 2 * margin)).astype(np.uint8)


def test_an_equivariant_model_is_unchanged_by_the_other_strand() -> None:
    plain = averaged_rates(counts, windows(), MARGIN, None, Averaging())
    both = averaged_rates(counts, windows(), MARGIN, PAIR, Averaging(reverse_complement=True))
    assert torch.equal(plain, both)


def test_strands_that_are_not_swapped_would_be_seen() -> None:
    plain = averaged_rates(counts, windows(), MARGIN, None, Averaging())
    same = torch.arange(3)
    wrong = averaged_rates(counts, windows(), MARGIN, same, Averaging(reverse_complement=True))
    assert not torch.allclose(plain[:, 1:], wrong[:, 1:], atol=0.1)


def test_average_of_both_strands_turns_with_the_sequence() -> None:
    both = Averaging(reverse_complement=True)
    forward = averaged_rates(uneven, windows(), MARGIN, PAIR, both)
    turned = averaged_rates(uneven, reverse_complement(windows()), MARGIN, PAIR, both)
    assert torch.allclose(forward, turned[:, PAIR].flip(2), atol=1e-5)


def test_shifts_are_the_mean_of_shifted_windows() -> None:
    codes = windows()
    found = averaged_rates(uneven, codes, MARGIN, None, Averaging(shifts=SHIFTS))
    cut = [codes[:, MARGIN + shift : MARGIN + shift + LENGTH] for shift in (-1, 0, 1)]
    alone = [averaged_rates(uneven, each, 0, None, Averaging()) for each in cut]
    assert torch.allclose(found, sum(alone) / 3, atol=1e-5)


def test_both_averages_are_six_views() -> None:
    seen: list[int] = []

    def counting(x_B4L: torch.Tensor) -> torch.Tensor:
        seen.append(x_B4L.shape[2])
        return counts(x_B4L)

    averaging = read_averaging("rc,shift")
    averaged_rates(counting, windows(), MARGIN, PAIR, averaging)
    assert seen == [LENGTH] * 6 and averaging.views == 6 and str(averaging) == "rc,shift"


def test_a_shift_beyond_the_margin_is_refused() -> None:
    with pytest.raises(CislensError, match="up to 1 bp need as many bases"):
        averaged_rates(counts, windows(0), 0, None, Averaging(shifts=SHIFTS))


@pytest.mark.parametrize(
    ("text", "message"), [("shfit", "'shift'"), ("", "give rc"), ("none,rc", "give rc")]
)
def test_other_views_are_refused(text: str, message: str) -> None:
    with pytest.raises(CislensError, match=message):
        read_averaging(text)
