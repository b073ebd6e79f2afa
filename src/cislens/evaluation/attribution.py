"""Whether attributions find what is known to matter, and whether methods and seeds agree.

Shapes: n sequences, L positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl
from torch import nn

from cislens.effects.attribution.gradients import BothStrands, saliency
from cislens.effects.attribution.maps import at_sequence
from cislens.effects.mutagenesis import Predict, ism
from cislens.errors import CislensError
from cislens.evaluation.metrics import metric_draws
from cislens.evaluation.tasks.card import Metric
from cislens.evaluation.tasks.task import SITES, Fold, Task
from cislens.genome.codes import Codes, encode
from cislens.motifs.sites import Motif, annotate_sites
from cislens.randomness import generator

Map = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

PERMUTATIONS = 100
_JUDGED = 100  # test sequences with a site: mutagenesis costs 3 L predictions for each


@dataclass(frozen=True)
class Localization:
    """How well |attribution| tells positions in sites from all others.

    Attributes:
        auprc: mean over sequences of the area under precision and recall along the positions.
        each_n: of each sequence.
        null_mean, null_high: mean and 97.5 % quantile of `auprc` with the positions of every map
            permuted. Permuted, not shifted, so smooth maps have a wider spread than this null.
    """

    auprc: float
    each_n: Array
    null_mean: float
    null_high: float


def localize(
    maps_nL: Map, sites_nL: npt.ArrayLike, *, seed: int, permutations: int = PERMUTATIONS
) -> Localization:
    """Hold maps against a 0/1 mask of the sites; the sign of an attribution does not count.

    Raises:
        CislensError: if shapes differ, a value is not finite, or a sequence has no site or
            nothing else.
    """
    scores, mask = np.abs(maps_nL).astype(np.float64), np.asarray(sites_nL, dtype=np.float64)
    if scores.shape != mask.shape or not np.isfinite(scores).all():
        raise CislensError(
            f"maps of shape {scores.shape} (finite: {bool(np.isfinite(scores).all())}) cannot be "
            f"held against sites of shape {mask.shape}."
        )
    covered = mask.mean(1)
    if not len(mask) or (covered == 0).any() or (covered == 1).any():
        raise CislensError("every sequence needs a site, and positions outside of its sites.")
    each = metric_draws("site_auprc", mask, scores, np.eye(len(mask)))
    rng = generator(seed, "localize")
    every = np.ones((1, len(mask)))
    null = [
        float(metric_draws("site_auprc", mask, rng.permuted(scores, axis=1), every)[0])
        for _ in range(permutations)
    ]
    return Localization(
        float(each.mean()), each, float(np.mean(null)), float(np.quantile(null, 0.975))
    )


def agreement(one_nL: Map, other_nL: Map) -> Array:
    """The Pearson correlation (n,) of two maps' absolute values along each sequence.

    NaN where a map is the same at all positions.
    """
    one, other = (np.abs(maps).astype(np.float64) for maps in (one_nL, other_nL))
    one, other = (maps - maps.mean(1, keepdims=True) for maps in (one, other))
    spread = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, (one * other).sum(1) / spread, np.nan)


def stability(maps: Sequence[Map]) -> float:
    """The mean agreement of all pairs of maps (n, L), e.g. of one model trained with other seeds.

    Raises:
        CislensError: for fewer than two maps.
    """
    if len(maps) < 2:
        raise CislensError(f"stability compares two or more sets of maps, got {len(maps)}.")
    each = [agreement(one, other) for one, other in combinations(maps, 2)]
    return float(np.nanmean(each))


def network_maps(module: nn.Module, fold: Fold, stranded: bool, output: int = 0) -> Map:
    """Saliency |A| (n, L) of a network for a fold's sequences, over both strands if unstranded."""
    judged = module if stranded else BothStrands(module)
    return np.abs(saliency(judged, np.stack(fold.sequences), output))


def mutagenesis_maps(
    predict: Callable[[Fold], npt.NDArray[np.float32]], fold: Fold, output: int = 0
) -> Map:
    """|ISM| (n, L) at the bases of a fold's sequences, of any function of a fold."""
    codes = np.stack(fold.sequences)
    return np.abs(at_sequence(ism(_of_sequences(predict), codes, output), codes))


def attribution_task(
    task: Task,
    motif: Motif,
    *,
    name: str | None = None,
    p_value: float = 1e-4,
    limit: int | None = _JUDGED,
    seed: int = 0,
) -> Task:
    """An attribution task: a labelled one, with the sites of a motif in its test sequences.

    Of a binary task only positives can have a site, for a word in a sequence that was not bound
    is no known site. Stranded tasks are searched on their own strand.

    Args:
        p_value: share of random words that score as the sites do.
        limit: at most so many test sequences keep their sites and are judged.

    Raises:
        CislensError: for a task that is neither binary nor a regression, whose lengths differ,
            or whose test sequences have no site.
    """
    card = task.card
    if card.kind not in ("binary", "regression"):
        raise CislensError(
            f"task {card.name} is of kind {card.kind}; attributions are judged on models of a "
            "binary or a regression task."
        )
    frame = task.examples.with_row_index("row")
    wanted = pl.col("split") == "test"
    if card.kind == "binary":
        wanted &= pl.col("y").list.first() == 1
    rows = frame.filter(wanted)["row"].to_numpy()
    sequences: list[Codes] = [encode(task.examples["sequence"][int(row)]) for row in rows]
    sites = annotate_sites(sequences, motif, p_value, card.stranded)
    found = np.array([bool(places) for places in sites], dtype=bool)
    order = generator(seed, "attribution_task", card.name).permutation(np.flatnonzero(found))
    kept = set(order[:limit].tolist())
    column: list[list[dict[str, int]] | None] = [None] * len(frame)
    for number, row in enumerate(rows.tolist()):
        if number in kept:
            column[row] = sites[number]
    outcome = {
        "motif": motif.name, "p-value of sites": p_value,
        "test sequences searched": len(rows), "test sequences with a site": int(found.sum()),
        "test sequences judged": len(kept),
    }  # fmt: skip
    classes = card.target.classes or (["0", "1"] if card.kind == "binary" else [])
    changed = card.model_dump() | {
        "name": name or f"{card.name}-sites", "kind": "attribution",
        "target": card.target.model_dump() | {"classes": classes},
        "metric": Metric(primary="site_auprc").model_dump(),
        "report": card.report | outcome, "reference": [], "audit": {},
    }  # fmt: skip
    examples = task.examples.with_columns(sites=pl.Series(column, dtype=SITES))
    return Task(type(card).model_validate(changed), examples)


def _of_sequences(predict: Callable[[Fold], npt.NDArray[np.float32]]) -> Predict:
    def scores(sequences: tuple[Codes, ...]) -> npt.NDArray[np.float32]:
        ids = tuple(map(str, range(len(sequences))))
        return predict(Fold(ids, sequences, np.array(ids), None))

    return scores
