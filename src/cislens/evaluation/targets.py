"""From the labels of a task to what heads are trained on and metrics compare with.

Shapes: N examples, T outputs.
"""

import numpy as np
import numpy.typing as npt
from scipy import special

from cislens.evaluation.tasks.card import TaskCard

Labels = npt.NDArray[np.float32]
PSI_CLIP = 1e-5


def metric_labels(card: TaskCard, y_NT: Labels) -> Labels:
    """What scores are compared with: delta-logits for splicing, else the labels as they are."""
    return delta_logit(y_NT) if card.kind == "splicing" else y_NT


def delta_logit(psi_NT: Labels) -> Labels:
    """logit(psi) minus the logit of the mean over the observed tissues; NaN stays NaN.

    As MTSplice has it (Cheng et al., Genome Biology 2021): what differs between the tissues.
    """
    psi = np.clip(psi_NT.astype(np.float64), PSI_CLIP, 1 - PSI_CLIP)
    delta: Labels = (special.logit(psi) - mean_logit(psi_NT)).astype(np.float32)
    return delta


def mean_logit(psi_NT: Labels) -> npt.NDArray[np.float64]:
    """(N, 1) logit of the mean percent spliced in over the observed tissues."""
    psi = np.clip(psi_NT.astype(np.float64), PSI_CLIP, 1 - PSI_CLIP)
    logit: npt.NDArray[np.float64] = special.logit(np.nanmean(psi, axis=1, keepdims=True))
    return logit


def site_mask(sites: list[list[dict[str, int]]], length: int) -> Labels:
    """(N, L) 1 at positions within a site (start, end: 0-based half-open), 0 elsewhere."""
    mask = np.zeros((len(sites), length), dtype=np.float32)
    for row, places in zip(mask, sites, strict=True):
        for place in places:
            row[place["start"] : place["end"]] = 1
    return mask
