"""The Poisson loss."""

import torch
from scipy import stats

from cislens.nn.losses import (
    poisson_by_track,
    poisson_multinomial_by_track,
    poisson_terms,
)


def test_differs_from_scipy_by_the_constant_only() -> None:
    rate, count = torch.tensor([0.3, 2.0, 7.5]), torch.tensor([0.0, 3.0, 5.0])
    log_factorial = torch.lgamma(count + 1)
    expected = -torch.from_numpy(stats.poisson.logpmf(count.numpy(), rate.numpy()))
    found = poisson_terms(rate, count) + log_factorial
    torch.testing.assert_close(found, expected.float(), atol=1e-6, rtol=1e-6)


def test_is_least_at_the_target() -> None:
    target = torch.tensor([0.5, 3.0])
    rate = target.clone().requires_grad_()
    poisson_terms(rate, target).mean().backward()
    torch.testing.assert_close(rate.grad, torch.zeros(2), atol=1e-6, rtol=0)


def test_rate_that_underflowed_gives_a_finite_loss_and_gradient() -> None:
    logit = torch.tensor([-200.0, -50.0, 0.0], requires_grad=True)
    rate = torch.nn.functional.softplus(logit)
    loss = poisson_terms(rate, torch.tensor([4.0, 4.0, 0.0])).mean()
    loss.backward()
    assert loss.isfinite()
    assert logit.grad is not None
    assert logit.grad.isfinite().all()


def test_half_precision_rates_are_scored_in_fp32() -> None:
    rate, target = torch.rand(1000) + 0.5, torch.rand(1000)
    half = rate.bfloat16()
    assert poisson_terms(half, target).dtype == torch.float32
    torch.testing.assert_close(poisson_terms(half, target), poisson_terms(half.float(), target))


def test_poisson_is_total_times_shape() -> None:
    """The likelihood of counts is that of their sum times the multinomial one of their shares."""
    rng = torch.Generator().manual_seed(0)
    rate, target = torch.rand(3, 9, 4, generator=rng) + 0.1, torch.rand(3, 9, 4, generator=rng)
    whole = poisson_multinomial_by_track(rate, target, 1.0)
    torch.testing.assert_close(whole, poisson_by_track(rate, target), atol=1e-5, rtol=1e-5)


def test_shape_term_is_the_multinomial_likelihood() -> None:
    rate, count = torch.tensor([0.5, 2.0, 1.5]), torch.tensor([1.0, 4.0, 2.0])
    shares = (rate / rate.sum()).double().numpy()
    log_coefficient = torch.lgamma(count.sum() + 1) - torch.lgamma(count + 1).sum()
    expected = stats.multinomial.logpmf(count.numpy(), 7, shares / shares.sum())
    found = poisson_multinomial_by_track(rate.view(1, 3, 1), count.view(1, 3, 1), 0.0)
    assert abs(3 * found.item() - (log_coefficient.item() - expected)) < 1e-5
