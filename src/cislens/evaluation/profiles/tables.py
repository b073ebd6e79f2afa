"""The two tables of an evaluation, tidy and complete: what a page or a plot needs.

`profiles.parquet`, one row for each (species, group, track, metric, arm, seed): `track` is "all"
for the mean over a group's tracks, `group` "all" for every track of the species, `seed` null for
the mean over seeds, which alone has an interval. `median` is that over a group's tracks.

`differences.parquet`, one row for each (species, group, metric, arm, comparison): the arm minus
what it is held against, drawn together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.evaluation.multiplicity import ALPHA, holm, minimum_detectable
from cislens.evaluation.profiles.baselines import BASELINES
from cislens.evaluation.profiles.scoring import Scored, score, seeds_of
from cislens.evaluation.profiles.sums import LOWER_IS_BETTER, METRICS, WINDOW, WindowSums
from cislens.evaluation.statistics import Contrast
from cislens.progress import track as progress

ALL = "all"
FIRST, BEST = "first arm", "best baseline"
_SINGLE_TRACKS = 256  # of a species; of more, single tracks get no interval

_TEXT = ("species", "group", "track", "metric", "arm", "kind", "method", "comparison", "baseline",
         "outcome")  # fmt: skip
_COUNTS = ("seed", "tracks", "windows", "blocks", "excluded", "seeds")


def _schema(names: Sequence[str]) -> dict[str, type[pl.DataType]]:
    return {
        name: pl.String if name in _TEXT else pl.Int64 if name in _COUNTS else pl.Float64
        for name in names
    }


SCORE_SCHEMA = _schema(
    ("species", "group", "track", "metric", "arm", "kind", "seed", "value", "low", "high", "se",
     "median", "tracks", "windows", "blocks", "effective_blocks", "excluded", "method")
)  # fmt: skip
DIFFERENCE_SCHEMA = _schema(
    ("species", "group", "metric", "arm", "comparison", "baseline", "point", "low", "high",
     "difference", "diff_low", "diff_high", "diff_low90", "diff_high90", "se", "se_examples",
     "se_seeds", "df", "p", "p_holm", "mde", "tracks", "blocks", "seeds", "method", "outcome")
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """The sums of all arms for one species, on the same windows and tracks.

    Attributes:
        tracks: id -> group.
        runs: names of the trained arms, the first one first.
        sums: arm or baseline -> sums of each seed.
        valid: baseline -> its sums on the valid part, by which the best is chosen.
        block_W: block of each window.
        left_out: tracks of the store that not every arm predicts.
        seen: windows that were dropped because a model may have learned them.
    """

    species: str
    tracks: Mapping[str, str]
    runs: tuple[str, ...]
    sums: Mapping[str, Sequence[WindowSums]]
    valid: Mapping[str, WindowSums]
    block_W: npt.NDArray[np.int64]
    left_out: int
    seen: int

    def groups(self) -> dict[str, list[str]]:
        """Assay group -> its tracks; "all" last, where there are several groups."""
        found: dict[str, list[str]] = {}
        for name, group in self.tracks.items():
            found.setdefault(group, []).append(name)
        return found if len(found) == 1 else {**found, ALL: list(self.tracks)}

    def best_baseline(self, metric: str, tracks: Sequence[str]) -> str:
        """The baseline with the best mean over the tracks on the valid part."""
        sign = -1 if metric in LOWER_IS_BETTER else 1

        def value(name: str) -> float:
            sums = self.valid[name]
            mean = sums.take(tracks).value(metric).mean
            return sign * mean if np.isfinite(mean) else -np.inf

        return max(BASELINES, key=value)

    def notes(self) -> list[str]:
        """What a reader must know of the species' data."""
        notes = []
        if self.left_out:
            notes.append(
                f"{self.species}: {self.left_out} tracks of the store are left out, as not every "
                "arm predicts them."
            )
        if self.seen:
            notes.append(
                f"{self.species}: {self.seen} windows are left out, as they resemble windows that "
                "an arm was trained or chosen on."
            )
        if self.block_W.max() == 0:
            notes.append(f"{self.species}: a single block, so no interval can be given.")
        some = next(iter(self.sums.values()))[0]
        flat = some.value(WINDOW).excluded
        notes.append(
            f"{self.species}: {flat} of {some.nll_WT.size} (window, track) pairs have a constant "
            f"target and are not part of {WINDOW}."
        )
        return notes


def score_table(
    judged: Sequence[Judged], draws: int, seed: int
) -> tuple[pl.DataFrame, list[Scored]]:
    """`profiles.parquet`, and the scores of the groups with what was drawn for them."""
    rows: list[dict[str, Any]] = []
    kept = []
    for each in judged:
        jobs = [(group, ALL, names) for group, names in each.groups().items()]
        jobs += [(group, name, [name]) for name, group in each.tracks.items()]
        single = len(each.tracks) <= _SINGLE_TRACKS
        for group, name, tracks in progress(jobs, f"intervals {each.species}"):
            for metric in METRICS:
                scored = score(
                    each.sums, each.block_W, metric, tracks, species=each.species, group=group,
                    draws=draws if single or name == ALL else 0, seed=seed,
                )  # fmt: skip
                if scored is not None:
                    rows += _score_rows(each, scored, name)
                    kept += [scored] if name == ALL else []
    return pl.DataFrame(rows, schema=SCORE_SCHEMA), kept


def difference_table(judged: Sequence[Judged], scored: Sequence[Scored]) -> pl.DataFrame:
    """`differences.parquet`. Holm's correction is over all groups of all species for one metric,
    arm and comparison; the rows of all tracks together are a family of their own."""
    rows = []
    by_species = {each.species: each for each in judged}
    for one in scored:
        each = by_species[one.species]
        best = each.best_baseline(one.metric, one.tracks)
        for arm in each.runs:
            rows.append(_difference_row(each, one, arm, best, BEST))
            if arm != each.runs[0]:
                rows.append(_difference_row(each, one, arm, each.runs[0], FIRST))
    families: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["p"] is not None:
            key = (row["metric"], row["arm"], row["comparison"], row["group"] == ALL)
            families.setdefault(key, []).append(row)
    for family in families.values():
        adjusted = holm([row["p"] for row in family]).tolist()
        for row, p in zip(family, adjusted, strict=True):
            row["p_holm"] = p
            row["mde"] = minimum_detectable(row["se"], len(family), row["df"])
            row["outcome"] = _outcome(row)
    return pl.DataFrame(rows, schema=DIFFERENCE_SCHEMA)


def _outcome(row: Mapping[str, Any]) -> str:
    """gain, loss or none: clear of zero after Holm's correction, in the metric's good direction."""
    sign = -1 if row["metric"] in LOWER_IS_BETTER else 1
    if row["p_holm"] >= ALPHA or row["diff_low"] <= 0 <= row["diff_high"]:
        return "none"
    return "gain" if sign * row["difference"] > 0 else "loss"


def _score_rows(each: Judged, scored: Scored, track: str) -> list[dict[str, Any]]:
    rows = []
    some = next(iter(each.sums.values()))[0].take(scored.tracks)
    common = {
        "species": each.species, "group": scored.group, "track": track, "metric": scored.metric,
        "tracks": len(scored.tracks), "windows": len(each.block_W),
        "excluded": some.value(scored.metric).excluded,
    }  # fmt: skip
    for number, arm in enumerate(scored.arms):
        mine = common | {"arm": arm, "kind": "trained" if arm in each.runs else "baseline"}
        drawn: dict[str, Any] = {"method": "none"}
        if scored.resampled is not None:
            value = scored.resampled.value(arm)
            drawn = {
                "low": value.low, "high": value.high, "se": value.se,
                "blocks": scored.resampled.blocks, "method": scored.resampled.method,
                "effective_blocks": scored.resampled.effective_blocks,
            }  # fmt: skip
        rows.append({**mine, **drawn, "value": scored.mean(arm)})
        runs = each.sums[arm]
        if track == ALL:
            per_track = [run.take(scored.tracks).value(scored.metric).per_track for run in runs]
            rows[-1]["median"] = float(np.median(np.mean(per_track, axis=0)))
        if len(runs) > 1:
            values = scored.full_MR[number].tolist()
            rows += [{**mine, "seed": r, "value": v, "method": "none"} for r, v in
                     enumerate(values)]  # fmt: skip
    return rows


def _difference_row(
    each: Judged, scored: Scored, arm: str, rival: str, comparison: str
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "species": each.species, "group": scored.group, "metric": scored.metric, "arm": arm,
        "comparison": comparison, "baseline": rival, "point": scored.mean(arm),
        "difference": scored.mean(arm) - scored.mean(rival), "tracks": len(scored.tracks),
        "seeds": seeds_of({name: each.sums[name] for name in (arm, rival)}),
        "p": None, "method": "none", "outcome": "none",
    }  # fmt: skip
    if scored.resampled is None:
        return row
    value = scored.resampled.value(arm)
    found: Contrast = scored.resampled.difference(arm, rival)
    return row | {
        "low": value.low, "high": value.high, "diff_low": found.low, "diff_high": found.high,
        "diff_low90": found.low90, "diff_high90": found.high90, "se": found.se,
        "se_examples": found.se_examples, "se_seeds": found.se_seeds, "df": found.df,
        "p": found.p, "blocks": scored.resampled.blocks, "method": scored.resampled.method,
    }  # fmt: skip
