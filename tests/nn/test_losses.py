"""The Poisson loss."""

import torch
from scipy import stats

from cislens.nn.losses import poisson, poisson_terms


def test_differs_from_scipy_by_the_constant_only() -> None:
    rate, count = torch.tensor([0.3, 2.0, 7.5]), torch.tensor([0.0, 3.0, 5.0])
    log_factorial = torch.lgamma(count + 1)
    expected = -torch.from_numpy(stats.poisson.logpmf(count.numpy(), rate.numpy()))
    found = poisson_terms(rate, count) + log_factorial
    torch.testing.assert_close(found, expected.float(), atol=1e-6, rtol=1e-6)


def test_is_least_at_the_target() -> None:
    target = torch.tensor([0.5, 3.0])
    rate = target.clone().requires_grad_()
    poisson(rate, target).backward()
    torch.testing.assert_close(rate.grad, torch.zeros(2), atol=1e-6, rtol=0)


def test_rate_that_underflowed_gives_a_finite_loss_and_gradient() -> None:
    logit = torch.tensor([-200.0, -50.0, 0.0], requires_grad=True)
    loss = poisson(torch.nn.functional.softplus(logit), torch.tensor([4.0, 4.0, 0.0]))
    loss.backward()
    assert loss.isfinite()
    assert logit.grad is not None
    assert logit.grad.isfinite().all()


def test_half_precision_rates_are_scored_in_fp32() -> None:
    rate, target = torch.rand(1000) + 0.5, torch.rand(1000)
    half = rate.bfloat16()
    assert poisson(half, target).dtype == torch.float32
    torch.testing.assert_close(poisson(half, target), poisson(half.float(), target))
