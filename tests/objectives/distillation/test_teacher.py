"""The running mean: its half-life in windows, and the closed form."""

import math

import pytest
import torch
from torch import nn

from cislens.objectives.distillation.teacher import distance, follow, half_life, momentum


@pytest.mark.parametrize(
    ("batch_size", "first", "last"), [(512, 0.996457, 0.999823), (64, 0.999556, 0.999978)]
)
def test_momentum_of_half_lives_from_1e5_to_2e6_windows(
    batch_size: int, first: float, last: float
) -> None:
    """2^(-B / H): 0.9965 -> 0.99982 for batches of 512, 0.99956 -> 0.99998 for 64."""
    assert momentum(batch_size, 1e5) == pytest.approx(first, abs=1e-6)
    assert momentum(batch_size, 2e6) == pytest.approx(last, abs=1e-6)
    assert momentum(batch_size, 2e6) < 1


def test_half_life_is_a_cosine_in_the_logarithm_of_shares_of_the_run() -> None:
    windows, shares = 1e6, (0.005, 0.1)
    assert half_life(0, 100, windows, shares) == pytest.approx(5e3)
    assert half_life(50, 100, windows, shares) == pytest.approx(math.sqrt(5e3 * 1e5))
    assert half_life(100, 100, windows, shares) == pytest.approx(1e5)
    assert half_life(150, 100, windows, shares) == pytest.approx(1e5)
    lives = [half_life(step, 100, windows, shares) for step in range(101)]
    assert lives == sorted(lives)


def test_after_one_half_life_half_of_a_weight_is_left() -> None:
    kept = momentum(64, 6400.0) ** 100
    assert kept == pytest.approx(0.5, rel=1e-12)


def test_half_life_of_0_makes_the_teacher_the_student() -> None:
    assert momentum(1, half_life(0, 10, 100, (0.0, 0.0))) == 0


def test_followed_weights_have_the_closed_form_and_buffers_are_copied() -> None:
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2))
    start = [weight.detach().clone() for weight in teacher.parameters()]
    seen: list[list[torch.Tensor]] = []
    rates = [0.9, 0.8, 0.95, 0.5, 0.99]
    for rate in rates:
        with torch.no_grad():
            for weight in student.parameters():
                weight.add_(torch.randn_like(weight))
        student(torch.randn(4, 3))
        seen.append([weight.detach().clone() for weight in student.parameters()])
        follow(teacher, student, rate)
    for at, weight in enumerate(teacher.parameters()):
        expected = math.prod(rates) * start[at]
        for step, rate in enumerate(rates):
            expected = expected + math.prod(rates[step + 1 :]) * (1 - rate) * seen[step][at]
        assert torch.allclose(weight, expected, atol=1e-6)
    for (name, own), other in zip(teacher.named_buffers(), student.buffers(), strict=True):
        assert torch.equal(own, other), name
    assert int(teacher[1].num_batches_tracked) == 5


def test_what_does_not_change_keeps_its_bits_and_is_at_distance_0() -> None:
    student = nn.Linear(5, 5)
    teacher = nn.Linear(5, 5)
    teacher.load_state_dict(student.state_dict())
    follow(teacher, student, 0.123)
    assert torch.equal(teacher.weight, student.weight)
    assert distance(teacher, student).item() == 0
    with torch.no_grad():
        student.weight.mul_(1.1)
        student.bias.mul_(1.1)
    assert distance(teacher, student).item() == pytest.approx(0.1, rel=1e-4)
