"""What an evaluation keeps of predictions: a few sums for each window and track.

From them every metric here can be had exactly, over any set of
windows and under any weighting of blocks, and they are some hundred times smaller than the
predictions.

Dimensions: W window, N bin, T track, K sum.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cislens.errors import CislensError
from cislens.files import atomic_path
from cislens.nn.losses import poisson_terms
from cislens.objectives.metrics import MetricMismatch, MetricValue, WindowMoments, window_moments
from cislens.untrusted import npz_arrays

Values = npt.NDArray[np.float64]

POOLED, WINDOW, NLL, LOG1P = "pearson_pooled", "pearson_window", "poisson_nll", "pearson_log1p"
METRICS = (POOLED, WINDOW, NLL, LOG1P)
LOWER_IS_BETTER = frozenset({NLL})
# Assays that count where transcripts start: few bins hold nearly all of the signal, and its
# logarithm is what published work correlates.
_STARTS = ("CAGE", "RAMPAGE", "STRIPE", "PROCAP", "PRO-CAP", "GROCAP", "GRO-CAP", "CSRNA")


def counts_starts(assay: str, group: str) -> bool:
    """Whether a track is CAGE-like, by the beginning of its assay's or its group's name."""
    return any(name.upper().startswith(_STARTS) for name in (assay, group))


@dataclass(frozen=True)
class WindowSums:
    """Sums over the bins of each window, for the tracks of one species.

    Attributes:
        tracks: ids, in the order of the arrays' last axis.
        log_tracks: those whose moments were also taken on the log1p scale.
        rows: (W,) row of each window in the store.
        bins: bins of a window.
        moments_5WT: means of prediction x and target y, and centered sums of xx, yy and xy.
        nll_WT: sum of the Poisson terms p - t ln p.
        log_moments_5WT: as `moments_5WT`, of ln(1 + value), for `log_tracks`.
        seen_W: whether the window resembles one that the model was trained on.
    """

    tracks: tuple[str, ...]
    log_tracks: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    bins: int
    moments_5WT: Values
    nll_WT: Values
    log_moments_5WT: Values
    seen_W: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        rate_WNT: Tensor,
        target_WNT: Tensor,
        tracks: Sequence[str],
        log_tracks: Sequence[str] = (),
        rows: npt.ArrayLike | None = None,
    ) -> "WindowSums":
        """The sums of windows: predicted rates and targets, (W, N, T) on one device."""
        columns = [tracks.index(name) for name in log_tracks]
        nll_WT = poisson_terms(rate_WNT, target_WNT).double().sum(dim=1)
        logs = window_moments(
            rate_WNT[:, :, columns].double().log1p(), target_WNT[:, :, columns].double().log1p()
        )
        count = len(rate_WNT)
        numbers = np.arange(count) if rows is None else np.asarray(rows, dtype=np.int64)
        return cls(
            tuple(tracks), tuple(log_tracks), numbers, rate_WNT.shape[1],
            _stacked(window_moments(rate_WNT, target_WNT)), nll_WT.cpu().numpy(), _stacked(logs),
            np.zeros(count, bool),
        )  # fmt: skip

    def merge(self, *others: "WindowSums") -> "WindowSums":
        """The windows of several shards one after another.

        Raises:
            MetricMismatch: if they are of other tracks or of windows of another size.
        """
        parts = (self, *others)
        for part in others:
            if (part.tracks, part.log_tracks, part.bins) != (
                self.tracks, self.log_tracks, self.bins,
            ):  # fmt: skip
                raise MetricMismatch("sums of other tracks or bins cannot be merged.")
        return replace(
            self,
            rows=np.concatenate([part.rows for part in parts]),
            moments_5WT=np.concatenate([part.moments_5WT for part in parts], axis=1),
            nll_WT=np.concatenate([part.nll_WT for part in parts]),
            log_moments_5WT=np.concatenate([part.log_moments_5WT for part in parts], axis=1),
            seen_W=np.concatenate([part.seen_W for part in parts]),
        )

    def take(
        self, tracks: Sequence[str], windows: npt.NDArray[np.bool_] | None = None
    ) -> "WindowSums":
        """Some tracks, by their ids and in this order, of some windows or of all."""
        kept = slice(None) if windows is None else windows
        place = {name: column for column, name in enumerate(self.tracks)}
        log_place = {name: column for column, name in enumerate(self.log_tracks)}
        logs = [name for name in tracks if name in log_place]
        columns, log_columns = [place[name] for name in tracks], [log_place[name] for name in logs]
        return WindowSums(
            tuple(tracks), tuple(logs), self.rows[kept], self.bins,
            self.moments_5WT[:, kept][:, :, columns], self.nll_WT[kept][:, columns],
            self.log_moments_5WT[:, kept][:, :, log_columns], self.seen_W[kept],
        )  # fmt: skip

    def measured(self, metric: str) -> tuple[str, ...]:
        """The tracks that have the metric."""
        return self.log_tracks if metric == LOG1P else self.tracks

    def additive(self, metric: str) -> Values:
        """(K, W, T) sums which, added over windows, determine the metric; see `combined`.

        They are taken about the track's mean over all windows, so that no digits are lost.
        """
        if metric == NLL:
            return np.stack([self.nll_WT, np.full_like(self.nll_WT, self.bins)])
        if metric == WINDOW:
            moments = WindowMoments(*map(torch.from_numpy, self.moments_5WT))
            return np.stack([part.numpy().astype(np.float64) for part in moments.correlation()])
        if metric not in METRICS:
            raise MetricMismatch(f"no sums of {metric!r}; there are {', '.join(METRICS)}.")
        x, y, xx, yy, xy = self.log_moments_5WT if metric == LOG1P else self.moments_5WT
        x, y, n = x - x.mean(0), y - y.mean(0), self.bins
        return np.stack(
            [np.full_like(x, n), n * x, n * y, xx + n * x * x, yy + n * y * y, xy + n * x * y]
        )

    def value(self, metric: str) -> MetricValue:
        """The metric over all windows, with what had to be left out."""
        per_track = combined(metric, self.additive(metric).sum(1))
        if metric == WINDOW:
            return MetricValue(metric, per_track, int((self.moments_5WT[3] == 0).sum()))
        return MetricValue(metric, per_track, int(np.isnan(per_track).sum()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them as .npz, whole or not at all."""
        with atomic_path(path) as aside, aside.open("wb") as handle:
            names = (np.array(self.tracks, "U"), np.array(self.log_tracks, "U"))
            np.savez_compressed(
                handle, tracks=names[0], log_tracks=names[1], rows=self.rows, bins=self.bins,
                moments=self.moments_5WT, nll=self.nll_WT, log_moments=self.log_moments_5WT,
                seen=self.seen_W,
            )  # fmt: skip

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "WindowSums":
        """Read what `save` wrote.

        Raises:
            CislensError: if the file is missing or damaged.
        """
        advice = "remove it, the evaluation makes it again"
        kept = npz_arrays(path, "sums of an evaluation", advice)
        try:
            return cls(
                tuple(kept["tracks"].tolist()), tuple(kept["log_tracks"].tolist()),
                kept["rows"], int(kept["bins"]), kept["moments"], kept["nll"],
                kept["log_moments"], kept["seen"],
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise CislensError(f"{path} is damaged ({error}); {advice}.") from None


def combined(metric: str, sums_KXT: Values) -> Values:
    """The metric (X, T) of sums added over windows; NaN where the target does not vary."""
    if metric == NLL:
        return _ratio(sums_KXT[0], sums_KXT[1])
    if metric == WINDOW:
        return _ratio(sums_KXT[0], sums_KXT[1])
    n, x, y, xx, yy, xy = sums_KXT
    with np.errstate(invalid="ignore", divide="ignore"):
        var_x, var_y, cov = xx - x * x / n, yy - y * y / n, xy - x * y / n
        # What rounding leaves of a variance of zero is no variance.
        flat_x, flat_y = var_x <= 1e-12 * xx, var_y <= 1e-12 * yy
        r = np.where(flat_x, 0.0, cov / np.sqrt(np.where(flat_x | flat_y, 1.0, var_x * var_y)))
    found: Values = np.where(flat_y | ~(n > 0), np.nan, r)
    return found


def _ratio(above: Values, below: Values) -> Values:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Values = np.where(below > 0, above / below, np.nan)
        return found


def _stacked(moments: WindowMoments) -> Values:
    stacked: Values = torch.stack(list(moments)).cpu().numpy()
    return stacked
