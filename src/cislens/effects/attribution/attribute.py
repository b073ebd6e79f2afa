"""What each base contributes to a number that a model gives.

Dimensions: n sequence, L base pair, K background.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cislens.effects.attribution.entropy import entropy_map
from cislens.effects.attribution.gradients import corrected_gradients
from cislens.effects.attribution.integrated import Baseline, baselines, integrated_gradients
from cislens.effects.attribution.maps import Map
from cislens.effects.attribution.network import TargetNet
from cislens.effects.attribution.subject import Model, language_of, predictor, target_network
from cislens.effects.attribution.targets import Target
from cislens.effects.devices import running
from cislens.effects.mutagenesis import Predict, ism, substitutions
from cislens.errors import CislensError, nearest
from cislens.genome.codes import Codes, N, one_hot

Method = Literal["saliency", "integrated_gradients", "ism", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)
Average = Literal["rc", "none"]
BATCH_SIZE = 16
# A share of the scores' differences that contributions may lack before the log says so.
_MISSING = 0.05
# Of the scores themselves: what rounding leaves where they do not differ.
_NOISE = 1e-5

logger = logging.getLogger("cislens")


@dataclass(frozen=True)
class Attributions:
    """What each base contributes, and what each other base would.

    Attributes:
        hypothetical: (n, 4, L) float32, the contribution of A, C, G, T if it stood there. By
            saliency and mutagenesis the four of a position add up to 0; by integrated gradients
            their mean under the background is 0; by entropy all four are the same, for that map
            says how sure the model is and nothing of other bases. 0 at N.
        one_hot: (n, 4, L) float32, the sequences; N is all zeros.
        score: (n,) float32, the target of the sequences; NaN by entropy.
        reference: (n,) float32, by integrated gradients the target's mean over the backgrounds, so
            that the contributions add up to `score - reference`; NaN by others.
        method: one of `METHODS`.
        target: what is explained, in words.
    """

    hypothetical: Map
    one_hot: Map
    score: Map
    reference: Map
    method: Method
    target: str

    @property
    def contributions(self) -> Map:
        """(n, 4, L): hypothetical values at the bases that are there, else 0."""
        return self.hypothetical * self.one_hot

    @property
    def per_base(self) -> Map:
        """(n, L) of the bases that are there; 0 at N."""
        found: Map = self.contributions.sum(1)
        return found

    @property
    def missing(self) -> Map:
        """(n,) what the contributions by integrated gradients lack of `score - reference`."""
        found: Map = self.score - self.reference - self.per_base.sum(1)
        return found


def attribute(
    model: Model,
    x_n4L: Tensor | Map,
    target: str | Target | int | None = None,
    method: Method = "saliency",
    *,
    species: str | None = None,
    average: Average = "rc",
    steps: int = 32,
    baseline: Baseline = "shuffled",
    backgrounds: int = 4,
    positions: Sequence[int] | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    seed: int = 0,
) -> Attributions:
    """Explain a target for sequences of one length, in fp32.

    Args:
        model: a model of tracks or its folder; for probes any model with an encoder; for the
            number of an output any network x (B, 4, L) -> (B, T) or (B, T, N), whose bins are
            summed; for entropy a masked language model or its folder.
        x_n4L: one-hot A, C, G, T; N is all zeros.
        target: in words (`attribution.target_parser`), parsed, or the number of an output.
        method: gradient-corrected saliency (Majdandzic et al. 2023), integrated gradients
            (Sundararajan et al. 2017), mutagenesis with every base, or the map of entropies.
        species: whose tracks; may be left out where there is one only.
        average: "rc" explains the mean over both strands, "none" the strand that is given.
        steps: points of a path of integrated gradients.
        baseline: where paths begin: `backgrounds` dinucleotide shuffles of each sequence, or zeros.
        positions: that mutagenesis replaces, 0-based; the rest stays 0. All if None.
        device: see `resolve_device`; place and mode of the model are restored.
        batch_size: windows at once; 16, and by their number of bins 16 to 128 mutants, if None.

    Raises:
        CislensError: for sequences that are not one-hot, an unknown method, a target that does
            not fit the model or the window, a device that is not there, or attributions that are
            not finite.
    """
    x, codes_nL = _sequences(x_n4L)
    if method not in METHODS:
        raise CislensError(f"there is no method {method!r}. {nearest(method, METHODS)}")
    if average not in ("rc", "none"):
        raise CislensError(f"average is {average!r}, expected rc or none.")
    batch = BATCH_SIZE if batch_size is None else batch_size
    if min(steps, backgrounds, batch) < 1:
        raise CislensError("steps, backgrounds and batch_size must each be at least 1.")
    if positions is not None and method != "ism":
        raise CislensError(f"positions are those that ism replaces; leave them out of {method}.")
    if method == "entropy":
        if target is not None:
            raise CislensError("the map of entropies has no target; leave it out.")
        with language_of(model, device) as likelihood:
            map_nL = entropy_map(likelihood, codes_nL, species, stranded=average == "none")
        four = np.repeat(map_nL[:, None], 4, axis=1)
        return _finished(four, x, None, None, method, "entropy of hidden bases")
    module = target_network(model, target, species, both_strands=average == "rc")
    if isinstance(module, TargetNet):
        module.grid(x.shape[2])
    with running(module, device):
        predict = predictor(module, batch)
        score_n, reference_n = predict(tuple(codes_nL)), None
        if method == "saliency":
            parts = corrected_gradients(module, codes_nL, 0, batch)
            found = np.concatenate([part for _, part in parts])
        elif method == "ism":
            found = _mutagenesis(module, predict, codes_nL, positions, batch_size)
            found = found.transpose(0, 2, 1)
        else:
            base_nKL = baselines(codes_nL, baseline, backgrounds, seed)
            found = integrated_gradients(module, codes_nL, base_nKL, steps, batch)
            every = predict(tuple(base_nKL.reshape(-1, x.shape[2])))
            reference_n = every.reshape(base_nKL.shape[:2]).mean(1)
    attributions = _finished(found, x, score_n, reference_n, method, _words(target))
    _tell_missing(attributions)
    return attributions


def _finished(
    found_n4L: Map,
    x_n4L: Map,
    score_n: Map | None,
    reference_n: Map | None,
    method: Method,
    target: str,
) -> Attributions:
    """Checked, and 0 at N."""
    if not np.isfinite(found_n4L).all():
        raise CislensError("the attributions are not finite; the model's weights may be damaged.")
    nothing = np.full(len(x_n4L), np.nan, np.float32)
    return Attributions(
        np.ascontiguousarray(found_n4L * x_n4L.max(1, keepdims=True), np.float32),
        x_n4L,
        nothing if score_n is None else score_n,
        nothing if reference_n is None else reference_n,
        method,
        target,
    )


def _tell_missing(found: Attributions) -> None:
    gain, missing = np.abs(found.score - found.reference).sum(), np.abs(found.missing).sum()
    if missing > max(_MISSING * gain, _NOISE * np.abs(found.score).sum()):  # never so for NaN
        logger.warning(
            "integrated gradients: contributions lack %.3g of the %.3g by which the scores differ "
            "from the backgrounds'. More steps help, except where a path goes from one expert to "
            "another and the score jumps",
            missing,
            gain,
        )


def _words(target: str | Target | int | None) -> str:
    if isinstance(target, Target):
        return target.text or type(target).__name__.lower()
    return target.strip() if isinstance(target, str) else f"output {target}"


def _sequences(x_n4L: Tensor | Map) -> tuple[Map, Codes]:
    """As float32 and as codes."""
    if isinstance(x_n4L, Tensor):
        x_n4L = x_n4L.detach().cpu().numpy()
    x = np.asarray(x_n4L)
    if x.ndim != 3 or x.shape[1] != 4 or not len(x) or not x.shape[2]:
        raise CislensError(f"sequences of shape {x.shape}; expected (n, 4, L), none of it 0.")
    wrong = np.array((((x != 0) & (x != 1)).any(1) | (x.sum(1) > 1)).any(1))
    if wrong.any():
        raise CislensError(
            f"sequence {int(wrong.argmax())} is not one-hot: each position has a single 1 in the "
            "order A, C, G, T, or is all zeros for N."
        )
    codes_nL: Codes = np.where(x.any(1), x.argmax(1), N).astype(np.uint8)
    return one_hot(codes_nL), codes_nL


def _mutagenesis(
    module: nn.Module,
    predict: Predict,
    codes_nL: Codes,
    positions: Sequence[int] | None,
    batch_size: int | None,
) -> Map:
    """(n, L, 4); of our own nets only what a substitution reaches is computed."""
    length = codes_nL.shape[1]
    if isinstance(module, TargetNet):
        return substitutions(
            module.encoder,
            torch.from_numpy(one_hot(codes_nL)),
            partial(module.score, length=length),
            module.index,
            both_strands=module.both_strands,
            positions=positions,
            batch_size=batch_size,
        )
    if positions is None:
        return ism(predict, codes_nL)
    asked_L = np.zeros(length, bool)
    for position in positions:
        if not 0 <= position < length:
            raise CislensError(f"position {position} is not in windows of {length} bp.")
        asked_L[position] = True
    return np.concatenate([_at_some(predict, codes_L, asked_L) for codes_L in codes_nL])


def _at_some(predict: Predict, codes_L: Codes, asked_L: npt.NDArray[np.bool_]) -> Map:
    """As `ism` (1, L, 4) of some positions: what it leaves as N, the others, is put back."""

    def restored(sequences: tuple[Codes, ...]) -> Map:
        return predict(tuple(np.where(asked_L, codes, codes_L) for codes in sequences))

    return ism(restored, np.where(asked_L, codes_L, N).astype(np.uint8)[None])
