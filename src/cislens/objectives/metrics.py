"""Streaming metrics of predicted profiles, in fp64, mergeable across shards.

Dimensions: W window, N bin, T track. Two Pearson correlations are in use in the field and
differ by tenths on the same predictions; each is its own type here, and mixing them is an error.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cislens.errors import CislensError
from cislens.nn.losses import poisson_terms

Values = npt.NDArray[np.float64]
Metric = TypeVar("Metric", bound="StreamingMetric")


class MetricMismatch(CislensError):  # noqa: N818 - named in the specification
    """Two numbers of different metrics were merged or compared."""


@dataclass(frozen=True)
class MetricValue:
    """A metric of every track.

    Attributes:
        name: the metric; values of different names never meet.
        per_track: (T,), NaN where nothing could be measured.
        excluded: number of windows (pearson_window) or tracks (others) left out because their
            target was constant.
    """

    name: str
    per_track: Values
    excluded: int

    @property
    def mean(self) -> float:
        """Mean over the tracks that could be measured; NaN if none could."""
        kept = self.per_track[~np.isnan(self.per_track)]
        return float(kept.mean()) if kept.size else float("nan")

    @property
    def median(self) -> float:
        """Median over the same tracks."""
        kept = self.per_track[~np.isnan(self.per_track)]
        return float(np.median(kept)) if kept.size else float("nan")

    def minus(self, other: "MetricValue") -> Values:
        """Difference track by track.

        Raises:
            MetricMismatch: if the other value is of another metric or other tracks.
        """
        if self.name != other.name or self.per_track.shape != other.per_track.shape:
            raise MetricMismatch(
                f"{self.name} of {self.per_track.size} tracks cannot be compared with "
                f"{other.name} of {other.per_track.size} tracks."
            )
        return self.per_track - other.per_track


class WindowMoments(NamedTuple):
    """Prediction x and target y of each window and track, over its bins: (W, T) fp64 each.

    Means, and sums of the products of the deviations from them. `yy_WT` is 0 exactly where the
    target is constant.
    """

    x_WT: Tensor
    y_WT: Tensor
    xx_WT: Tensor
    yy_WT: Tensor
    xy_WT: Tensor

    def correlation(self) -> tuple[Tensor, Tensor]:
        """Correlation within each window, and where there is one: the target varies.

        A constant prediction of a varying target scores 0, and so does what cannot be measured.
        """
        scale_WT = (self.xx_WT * self.yy_WT).sqrt()
        measured_WT = self.yy_WT > 0
        r_WT = self.xy_WT / scale_WT.where(scale_WT > 0, 1.0)
        return r_WT * measured_WT, measured_WT


def window_moments(rate_WNT: Tensor, target_WNT: Tensor) -> WindowMoments:
    """The moments of each window, from which every correlation of a split can be had exactly."""
    x_WNT, y_WNT = rate_WNT.double(), target_WNT.double()
    x_WT, y_WT = x_WNT.mean(dim=1), y_WNT.mean(dim=1)
    varies_WT = target_WNT.amax(dim=1) > target_WNT.amin(dim=1)
    x_WNT, y_WNT = x_WNT - x_WT[:, None], y_WNT - y_WT[:, None]
    xx_WT, yy_WT = x_WNT.square().sum(dim=1), y_WNT.square().sum(dim=1) * varies_WT
    return WindowMoments(x_WT, y_WT, xx_WT, yy_WT, (x_WNT * y_WNT).sum(dim=1))


class StreamingMetric(ABC):
    """Sums over what was seen so far; `merge` gives the sums over both shards."""

    name: str

    def __init__(self, tracks: int) -> None:
        self.tracks = tracks

    @abstractmethod
    def update(self, rate_WNT: Tensor, target_WNT: Tensor) -> None:
        """Take in windows; both tensors of one shape, on any device."""

    def merge(self: Metric, other: Metric) -> None:
        """Take in the sums of another shard.

        Raises:
            MetricMismatch: if it measured something else.
        """
        if type(self) is not type(other) or self.tracks != other.tracks:
            raise MetricMismatch(
                f"{self.name} of {self.tracks} tracks cannot be merged with "
                f"{getattr(other, 'name', other)} of {getattr(other, 'tracks', '?')} tracks."
            )
        self._add(other)

    @abstractmethod
    def _add(self: Metric, other: Metric) -> None:
        """As `merge`, for another of the same kind."""

    @abstractmethod
    def compute(self) -> MetricValue:
        """The metric of everything seen so far."""


class PearsonPooled(StreamingMetric):
    """Correlation over all windows x bins of a track.

    Keeps the count, means and centered second moments (x prediction, y target) and combines
    them by the pairwise formula of Chan, Golub and LeVeque, which loses no digits when the
    mean is large against the spread.
    """

    name = "pearson_pooled"

    def __init__(self, tracks: int) -> None:
        super().__init__(tracks)
        self.count = 0
        self.mean_2T = torch.zeros(2, tracks, dtype=torch.float64)
        self.moments_3T = torch.zeros(3, tracks, dtype=torch.float64)  # xx, yy, xy

    def update(self, rate_WNT: Tensor, target_WNT: Tensor) -> None:
        x_PT, y_PT = (v.reshape(-1, self.tracks).double() for v in (rate_WNT, target_WNT))
        mean_2T = torch.stack([x_PT.mean(dim=0), y_PT.mean(dim=0)])
        x_PT, y_PT = x_PT - mean_2T[0], y_PT - mean_2T[1]
        moments = [(a * b).sum(dim=0) for a, b in ((x_PT, x_PT), (y_PT, y_PT), (x_PT, y_PT))]
        self._combine(x_PT.shape[0], mean_2T.cpu(), torch.stack(moments).cpu())

    def _add(self, other: "PearsonPooled") -> None:
        self._combine(other.count, other.mean_2T, other.moments_3T)

    def _combine(self, count: int, mean_2T: Tensor, moments_3T: Tensor) -> None:
        total = self.count + count
        if not count:
            return
        step_2T = mean_2T - self.mean_2T
        products = torch.stack([step_2T[0] ** 2, step_2T[1] ** 2, step_2T[0] * step_2T[1]])
        self.moments_3T = self.moments_3T + moments_3T + products * (self.count * count / total)
        self.mean_2T = self.mean_2T + step_2T * (count / total)
        self.count = total

    def compute(self) -> MetricValue:
        """NaN for a track with a constant target; 0 where only the prediction is constant."""
        xx_T, yy_T, xy_T = self.moments_3T
        return MetricValue(self.name, _correlation(xx_T, yy_T, xy_T), int((yy_T == 0).sum()))


class PearsonWindow(StreamingMetric):
    """Correlation over the bins of each window, averaged over windows.

    Windows with a constant target have no correlation: they are left out and counted. A
    constant prediction of a varying target scores 0.
    """

    name = "pearson_window"

    def __init__(self, tracks: int) -> None:
        super().__init__(tracks)
        self.sum_T = torch.zeros(tracks, dtype=torch.float64)
        self.count_T = torch.zeros(tracks, dtype=torch.int64)
        self.excluded = 0

    def update(self, rate_WNT: Tensor, target_WNT: Tensor) -> None:
        r_WT, measured_WT = window_moments(rate_WNT, target_WNT).correlation()
        self.sum_T = self.sum_T + r_WT.sum(dim=0).cpu()
        self.count_T = self.count_T + measured_WT.sum(dim=0).cpu()
        self.excluded += int((~measured_WT).sum())

    def _add(self, other: "PearsonWindow") -> None:
        self.sum_T = self.sum_T + other.sum_T
        self.count_T = self.count_T + other.count_T
        self.excluded += other.excluded

    def compute(self) -> MetricValue:
        return MetricValue(self.name, (self.sum_T / self.count_T).numpy(), self.excluded)


class PoissonNll(StreamingMetric):
    """Mean Poisson negative log-likelihood per bin, without the constant ln t!."""

    name = "poisson_nll"

    def __init__(self, tracks: int) -> None:
        super().__init__(tracks)
        self.count = 0
        self.sum_T = torch.zeros(tracks, dtype=torch.float64)

    def update(self, rate_WNT: Tensor, target_WNT: Tensor) -> None:
        terms_PT = poisson_terms(rate_WNT, target_WNT).reshape(-1, self.tracks)
        self.sum_T = self.sum_T + terms_PT.double().sum(dim=0).cpu()
        self.count += terms_PT.shape[0]

    def _add(self, other: "PoissonNll") -> None:
        self.sum_T = self.sum_T + other.sum_T
        self.count += other.count

    def compute(self) -> MetricValue:
        return MetricValue(self.name, (self.sum_T / max(self.count, 1)).numpy(), 0)


class ProfileMetrics:
    """The metrics of every species' tracks."""

    def __init__(self, tracks: Mapping[str, Sequence[str]]) -> None:
        self.tracks = {species: tuple(ids) for species, ids in tracks.items()}
        self.metrics: dict[str, list[StreamingMetric]] = {
            species: [kind(len(ids)) for kind in (PearsonPooled, PearsonWindow, PoissonNll)]
            for species, ids in self.tracks.items()
        }

    def update(self, predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
        """Take in predicted rates and targets of each species that occurs, (W, N, T)."""
        for species, rate_WNT in predictions.items():
            for metric in self.metrics[species]:
                metric.update(rate_WNT, targets[species])

    def merge(self, other: "ProfileMetrics") -> None:
        """Take in what another process saw of the same tracks."""
        if self.tracks != other.tracks:
            raise MetricMismatch("Metrics of different tracks cannot be merged.")
        for species, metrics in self.metrics.items():
            for mine, theirs in zip(metrics, other.metrics[species], strict=True):
                mine.merge(theirs)

    def compute(self) -> dict[str, dict[str, MetricValue]]:
        """By species, then by metric name."""
        return {
            species: {metric.name: metric.compute() for metric in metrics}
            for species, metrics in self.metrics.items()
        }

    def summary(self) -> dict[str, float]:
        """`metric/species` for each, and their mean over species under the metric's own name."""
        computed = self.compute()
        values = {
            f"{name}/{species}": value.mean
            for species, by_name in computed.items()
            for name, value in by_name.items()
        }
        for name in next(iter(computed.values())):
            # A species without a validation window has no value.
            parts = [by_name[name].mean for by_name in computed.values()]
            parts = [part for part in parts if part == part]
            values[name] = sum(parts) / len(parts) if parts else float("nan")
        return values


def _correlation(xx_T: Tensor, yy_T: Tensor, xy_T: Tensor) -> Values:
    scale_T = (xx_T * yy_T).sqrt()
    r_T = xy_T / scale_T.where(scale_T > 0, 1.0)
    return np.asarray(r_T.where(yy_T > 0, float("nan")).numpy(), dtype=np.float64)
