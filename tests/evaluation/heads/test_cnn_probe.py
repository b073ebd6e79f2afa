import numpy as np
import pytest
import torch
from plants import binary_card

from cislens.errors import CislensError
from cislens.evaluation.heads.cnn_probe import REDUCTION, CNNProbe, ProbeShape, fit_cnn_probe
from cislens.evaluation.heads.fitting import Regime, graph_hash
from cislens.evaluation.metrics import metric_value

SMALL = ProbeShape(reduced=16, widened=16, dense=16)
CARD = binary_card("planted")


def probe(bins: int, features: int, shape: ProbeShape | None = None) -> CNNProbe:
    return CNNProbe(bins, features, 1, shape or ProbeShape(), 0)


def pairs(n: int, bins: int = 16, features: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Two features rise in neighboring bins (class 1) or far apart: their means are the same."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, bins, features)).astype(np.float32)
    y = rng.integers(0, 2, n)
    for row, label in zip(x, y, strict=True):
        at = rng.integers(0, bins)
        row[at, 0] += 6
        row[(at + (1 if label else bins // 2)) % bins, 1] += 6
    return x, y[:, None].astype(np.float32)


def test_the_order_of_bins_is_used() -> None:
    x, y = pairs(2400, bins=12)
    fitted = fit_cnn_probe(
        x[:1800], y[:1800], x[1800:], y[1800:], card=CARD, regime=Regime(200, 64, 1e-2), seed=0,
        shape=SMALL,
    )  # fmt: skip
    assert fitted.valid_metric > 0.95
    # No function of the mean over the bins can do that.
    mean = x.mean(1)
    assert abs(metric_value("auroc", y, mean[:, :1] + mean[:, 1:2]) - 0.5) < 0.05
    assert metric_value("auroc", y[1800:], fitted.scores(x[1800:])) == pytest.approx(
        fitted.valid_metric, abs=1e-6
    )


def test_only_the_reduction_differs_between_representations() -> None:
    narrow, wide = probe(64, 8), probe(64, 1024)
    assert graph_hash(narrow) != graph_hash(wide)
    assert graph_hash(narrow, [REDUCTION]) == graph_hash(wide, [REDUCTION])
    assert graph_hash(probe(230, 8), [REDUCTION]) == graph_hash(narrow, [REDUCTION])

    def count(net: CNNProbe) -> int:
        return sum(p.numel() for p in net.parameters())

    # Of LayerNorm two numbers, of the 1 x 1 convolution 128, for each feature.
    assert count(wide) - count(narrow) == (1024 - 8) * (2 + 128)
    kernels = 128 * 128 * 7 + 128 + 128 * 256 * 5 + 256
    norms = 2 * 128 + 2 * 256
    dense = 512 * 256 + 256 + 256 + 1
    assert count(narrow) == 8 * (2 + 128) + 128 + kernels + norms + dense


@pytest.mark.parametrize(
    ("bins", "first", "second", "pool"),
    [(1, 1, 1, 1), (2, 3, 3, 1), (4, 7, 5, 1), (8, 7, 3, 4), (9, 7, 5, 4), (230, 7, 5, 4)],
)
def test_few_bins_get_short_kernels(bins: int, first: int, second: int, pool: int) -> None:
    net = probe(bins, 4, SMALL)
    assert (net.first.kernel_size, net.second.kernel_size) == ((first,), (second,))
    assert net.pool == pool
    x = torch.randn(3, bins, 4)
    net(x).sum().backward()
    # Every tap of every kernel meets data.
    for layer in (net.first, net.second):
        assert (layer.weight.grad.abs().sum((0, 1)) > 0).all()
    assert net(x).shape == (3, 1)


def test_a_fit_tells_its_graph_and_size_and_is_a_function_of_the_seed() -> None:
    x, y = pairs(60)
    regime = Regime(4, 16, 1e-3, checks=1)

    def fit(features: int, seed: int):
        part = x[:, :, :features]
        return fit_cnn_probe(
            part[:40], y[:40], part[40:], y[40:], card=CARD, regime=regime, seed=seed, shape=SMALL
        )  # fmt: skip

    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, other = fit(6, 1), fit(3, 1)
    assert (torch.get_rng_state() == before).all()
    assert one.graph == other.graph
    assert one.parameters - other.parameters == 3 * (2 + 16)
    assert one.steps == 4
    assert (fit(6, 1).scores(x) == one.scores(x)).all()
    assert not np.allclose(fit(6, 2).scores(x), one.scores(x))


def test_features_without_bins_are_refused() -> None:
    x, y = pairs(20)
    fit = {"card": CARD, "regime": Regime(1, 4, 1e-3), "seed": 0}
    with pytest.raises(CislensError, match=r"found \(20, 6\)"):
        fit_cnn_probe(x.mean(1), y, x.mean(1), y, **fit)
    with pytest.raises(CislensError, match="equal in N and D"):
        fit_cnn_probe(x, y, x[:, :8], y, **fit)
