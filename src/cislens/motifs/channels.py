"""The channels of a region store, and the constants that put them on common scales.

Motif values go with base composition: their part that a regression on it explains is taken off.
Accessibility is brought to one distribution over all cell types. Every constant comes from
training regions and training cell types alone.

Dimensions: R region, T motif, C cell type, F covariate, Q quantile.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.genome.codes import Codes, N
from cislens.untrusted import npz_arrays

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

LIMIT = 6.0  # motif values beyond so many standard deviations are cut
_QUANTILES = 1001
_MILLION = 1e6
_LEAST_SPREAD = 1e-6
_NAMED = 5


@dataclass(frozen=True)
class Constants:
    """What the channels of a store are made with.

    Attributes:
        beta_TF: coefficients of the motif values on `covariates` and, last, on the logarithm of
            the share of placements without N.
        sd_T: standard deviation of what they leave.
        reference_Q: quantiles of log1p(counts per million), mean over the training cell types.
        access_2: mean and standard deviation of accessibility.
        expression_2: mean and standard deviation of log1p(TPM); 0 and 1 without expression.
    """

    beta_TF: Singles
    sd_T: Singles
    reference_Q: Singles
    access_2: Singles
    expression_2: Singles

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write all arrays to a file in numpy's npz format."""
        arrays: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self)}
        np.savez(path, **arrays)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Constants":
        """Read what `write` wrote.

        Raises:
            CislensError: if the file is missing or damaged.
        """
        arrays = npz_arrays(path, "constants of the store", "build the store again")
        missing = [part.name for part in fields(cls) if part.name not in arrays]
        if missing:
            raise CislensError(f"{path} is damaged: it lacks {missing[0]}; build the store again.")
        return cls(**{part.name: arrays[part.name] for part in fields(cls)})

    def digest(self, motif_ids: Sequence[str], regions: pl.DataFrame, cells: pl.DataFrame) -> str:
        """sha256 over the constants, the motifs they are of, and the split they come from."""
        digest = hashlib.sha256()
        for part in fields(self):
            digest.update(f"{part.name}\n".encode())
            digest.update(np.ascontiguousarray(getattr(self, part.name), "<f4").tobytes())
        for rows in (motif_ids, *_split(regions, cells)):
            digest.update(("\n".join(rows) + "\n\n").encode())
        return digest.hexdigest()


def _split(regions: pl.DataFrame, cells: pl.DataFrame) -> tuple[list[str], list[str]]:
    return (
        [f"{name}\t{part}" for name, part in regions.select("region_id", "split").iter_rows()],
        [f"{name}\t{part}" for name, part in cells.select("cell_id", "split").iter_rows()],
    )


def covariates(gc_R: npt.ArrayLike, cpg_R: npt.ArrayLike) -> Floats:
    """What base composition is to the regression (R, 4): 1, GC, its square, CpG o/e.

    GC counts from 1/2, which spans the same space and keeps the normal equations well-behaved.
    """
    gc = np.asarray(gc_R, np.float64) - 0.5
    return np.stack([np.ones_like(gc), gc, gc**2, np.asarray(cpg_R, np.float64)], axis=1)


def log_valid_share(codes_RL: Codes, widths_T: npt.NDArray[np.int64]) -> Floats:
    """ln of the share of a motif's placements that hold no N (R, T); 0 where there is none."""
    called_R = (codes_RL != N).all(1)
    share_RT = np.zeros((len(codes_RL), len(widths_T)))
    uncalled = np.flatnonzero(~called_R)
    if not uncalled.size:
        return share_RT
    before = np.zeros((len(uncalled), codes_RL.shape[1] + 1), np.int64)
    np.cumsum(codes_RL[uncalled] == N, axis=1, out=before[:, 1:])
    for width in np.unique(widths_T).tolist():
        clean = before[:, width:] == before[:, : max(before.shape[1] - width, 0)]
        share = clean.mean(1) if clean.shape[1] else np.zeros(len(uncalled))
        logs = np.log(np.where(share > 0, share, 1))
        share_RT[np.ix_(uncalled, np.flatnonzero(widths_T == width))] = logs[:, None]
    return share_RT


class MotifRegression:
    """Ordinary least squares of motif values on base composition, block by block of regions.

    A value that is NaN is left out of its motif's regression.
    """

    def __init__(self, motifs: int) -> None:
        self.gram_TFF = np.zeros((motifs, 5, 5))
        self.product_TF = np.zeros((motifs, 5))
        self.square_T = np.zeros(motifs)
        self.count_T = np.zeros(motifs, np.int64)
        self.least_T = np.full(motifs, np.inf)
        self.most_T = np.full(motifs, -np.inf)

    def add(self, raw_RT: npt.NDArray[Any], covariates_RF: Floats, share_RT: Floats) -> None:
        """Count regions in: values, `covariates`, `log_valid_share`."""
        if not len(raw_RT):
            return
        known = np.isfinite(raw_RT)
        valid = known.astype(np.float64)
        value = np.where(known, raw_RT, 0).astype(np.float64)
        share = np.where(known, share_RT, 0)
        squares = (covariates_RF[:, :, None] * covariates_RF[:, None, :]).reshape(-1, 16)
        self.gram_TFF[:, :4, :4] += (valid.T @ squares).reshape(-1, 4, 4)
        crossed = share.T @ covariates_RF
        self.gram_TFF[:, 4, :4] += crossed
        self.gram_TFF[:, :4, 4] += crossed
        self.gram_TFF[:, 4, 4] += (share**2).sum(0)
        self.product_TF[:, :4] += value.T @ covariates_RF
        self.product_TF[:, 4] += (value * share).sum(0)
        self.square_T += (value**2).sum(0)
        self.count_T += known.sum(0)
        self.least_T = np.minimum(self.least_T, np.where(known, raw_RT, np.inf).min(0))
        self.most_T = np.maximum(self.most_T, np.where(known, raw_RT, -np.inf).max(0))

    def solve(self, motif_ids: Sequence[str], value: str) -> tuple[Singles, Singles]:
        """Coefficients (T, 5) and standard deviations (T,) of what is left.

        Raises:
            CislensError: naming the motifs, if values are the same in all regions, or composition
                leaves nothing of them.
        """
        absent = self.count_T == 0
        if absent.any():
            raise CislensError(
                f"{_names(motif_ids, absent)}: no training region has a place for them without N; "
                "they are longer than a region. Take wider regions or another motif file."
            )
        beta = np.einsum(
            "tfg,tg->tf",
            np.linalg.pinv(self.gram_TFF, rcond=1e-10, hermitian=True),
            self.product_TF,
        )
        left = self.square_T - np.einsum("tf,tf->t", beta, self.product_TF)
        sd = np.sqrt(np.maximum(left, 0) / self.count_T)
        never = (self.most_T <= 0) & (value == "hits")
        if never.any():
            raise CislensError(
                f"{_names(motif_ids, never)}: no hit in any training region, so a model would "
                "learn nothing of them. Give a larger p_value, so that the cut-off is lower, or "
                "take value: occupancy, which has none."
            )
        constant = (self.most_T <= self.least_T) | (sd <= _LEAST_SPREAD)
        if constant.any():
            raise CislensError(
                f"{_names(motif_ids, constant)}: the value is the same in all training regions "
                f"({self.count_T.max():,} of them) beside what base composition tells. Take more "
                "regions, or leave the motifs out."
            )
        return beta.astype(np.float32), sd.astype(np.float32)


def motif_channel(
    raw_RT: npt.NDArray[Any],
    covariates_RF: Floats,
    share_RT: Floats | None,
    constants: Constants,
) -> Singles:
    """Motif values (R, T) beside what composition explains, in standard deviations.

    Cut at 6; 0 where there is no value. `share_RT` is None where no region has an N.
    """
    found = raw_RT.astype(np.float32)
    # A product of matrices would round differently for another number of regions.
    for place, column_R in enumerate(covariates_RF.astype(np.float32).T):
        found -= column_R[:, None] * constants.beta_TF[:, place]
    if share_RT is not None:
        found -= share_RT.astype(np.float32) * constants.beta_TF[:, 4]
    found /= constants.sd_T
    np.clip(found, -LIMIT, LIMIT, out=found)
    np.nan_to_num(found, copy=False, nan=0.0)
    return found


def access_channel(
    raw_RC: Floats, train_R: Bools, train_C: Bools, cells: Sequence[str]
) -> tuple[Singles, Singles, Singles]:
    """Accessibility (R, C) in standard deviations, its reference (Q,), and its mean and deviation.

    Counts or scores become log1p of parts of a million; a cell type's own quantiles over the
    training regions are mapped to their mean over the training cell types (Bolstad et al. 2003,
    Bioinformatics 19:185), equal values to the mean of their places.

    Raises:
        CislensError: naming a cell type without any signal in training regions.
    """
    total_C = raw_RC[train_R].sum(0)
    for cell, total in zip(cells, total_C.tolist(), strict=True):
        if not total > 0:
            raise CislensError(
                f"cell type {cell!r} has no signal in any of the {int(train_R.sum()):,} training "
                "regions; leave it out, or name other chromosomes for valid and test."
            )
    log_RC = np.log1p(raw_RC / total_C * _MILLION)
    own_QC = np.quantile(log_RC[train_R], np.linspace(0, 1, _QUANTILES), axis=0)
    reference_Q = own_QC[:, train_C].mean(1)
    mapped_RC = np.empty_like(log_RC)
    for column in range(log_RC.shape[1]):
        known, place = np.unique(own_QC[:, column], return_inverse=True)
        target = np.bincount(place, reference_Q) / np.bincount(place)
        mapped_RC[:, column] = np.interp(log_RC[:, column], known, target)
    scale = _mean_and_deviation(mapped_RC[train_R][:, train_C])
    return (
        ((mapped_RC - scale[0]) / scale[1]).astype(np.float32),
        reference_Q.astype(np.float32),
        scale.astype(np.float32),
    )


def expression_channel(tpm_TC: Floats, missing_T: Bools, train_C: Bools) -> tuple[Singles, Singles]:
    """log1p(TPM) (T, C) in standard deviations, 0 for missing genes; its mean and deviation."""
    logs = np.log1p(np.where(missing_T[:, None], 0, tpm_TC))
    scale = _mean_and_deviation(logs[~missing_T][:, train_C])
    found = np.where(missing_T[:, None], 0, (logs - scale[0]) / scale[1])
    return found.astype(np.float32), scale.astype(np.float32)


def _mean_and_deviation(values: Floats) -> Floats:
    """Of values that are all the same, or none, the deviation is 1."""
    if not values.size:
        return np.array([0.0, 1.0])
    spread = float(values.std())
    return np.array([float(values.mean()), spread if spread > _LEAST_SPREAD else 1.0])


def _names(motif_ids: Sequence[str], which: Bools) -> str:
    names = [motif_ids[row] for row in np.flatnonzero(which).tolist()]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} of {len(motif_ids)} motifs ({', '.join(names[:_NAMED])}{more})"
