"""Does an adapter do what a representation promises? Each check names the fault that it finds.

Run it on any representation before its numbers are believed: `check(representation)` gives a list
of findings, empty if all is well. What a representation cannot do is not checked: the text of
its tokens only if it has `tokenize`, the states only if it has `network` and `collate`, the
buffers only if it has `audit`.

Legend: B sequences, T tokens, D channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from cislens.genome.codes import Codes, N, decode, reverse_complement
from cislens.randomness import generator
from cislens.representations.contract import (
    Binned,
    Features,
    Representation,
    Tunable,
    Viewed,
)
from cislens.representations.huggingface.contract import Tokens

# Of the largest value: what batches of another shape may change in fp32.
TOLERANCE = 1e-4
# What a wrong adapter may end in, CislensError (a ValueError) included.
_CRASHES = (ValueError, RuntimeError, IndexError)
# About how many bases the bins are looked at.
_WHOLE = 60


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        check: which check found it.
        message: what was found, with the number.
    """

    check: str
    message: str


@runtime_checkable
class Tokenizing(Protocol):
    """A representation whose tokens can be looked at."""

    def tokenize(self, text: str) -> Tokens: ...


@runtime_checkable
class Audited(Protocol):
    """A representation that can hold its tensors against a fresh constructor's."""

    def audit(self) -> list[str]: ...


def check(
    representation: Representation,
    lengths: Sequence[int] = (60, 61, 47, 35),
    species: str | None = None,
    reference: Representation | None = None,
) -> list[Finding]:
    """The faults of a representation.

    Args:
        representation: any; it is asked for features of about twenty short sequences.
        lengths: of the sequences, in bp; at least one should not be a multiple of its token.
        species: passed on.
        reference: the same model loaded a second time, from the original files: every view is
            held against it, which is the only way to see layers in the wrong order.

    Returns:
        Findings in the order of the checks: coverage, spelling, case, n, shift, features (there
        are none, or not finite ones; then no more is checked), determinism, batch, strands,
        bins, padding, mask, left-pad, layers, buffers.
    """
    sequences = _sequences(lengths)
    found: list[Finding] = []
    if isinstance(representation, Tokenizing):
        found += _tokens(representation.tokenize, sequences)
    found += _features(representation, sequences, species)
    if any(finding.check == "features" for finding in found):
        return found
    if isinstance(representation, Binned):
        found += _bins(representation, species)
    if isinstance(representation, Tunable):
        found += _network(representation, sequences, species)
    if isinstance(representation, Viewed):
        found += _layers(representation, reference, sequences, species)
    if isinstance(representation, Audited):
        found += [Finding("buffers", problem) for problem in representation.audit()]
    return found


def _sequences(lengths: Sequence[int]) -> list[Codes]:
    """Random sequences, and for the first length one with a single N and one with a run of N."""
    rng = generator("conformance", *lengths)
    made = [rng.integers(0, 4, length).astype(np.uint8) for length in lengths]
    for run in (1, 3):
        gap = made[0].copy()
        gap[len(gap) // 3 : len(gap) // 3 + run] = N
        made.append(gap)
    return made


def _tokens(tokenize: Callable[[str], Tokens], sequences: Sequence[Codes]) -> list[Finding]:
    found = []
    for codes in sequences:
        text = decode(codes)
        check = "n" if "N" in text else "coverage"
        found += _spans(check, "spelling", tokenize(text), text)
        # Shifted by one base every word may be another one, yet all bases must be covered.
        found += _spans("shift", "shift", tokenize(text[1:]), text[1:])
        upper, lower = tokenize(text).ids, tokenize(text.lower()).ids
        if len(upper) != len(lower) or (upper != lower).any():
            found.append(Finding("case", f"{text[:20]}... in lower case gives other tokens."))
    return list(dict.fromkeys(found))


def _spans(coverage: str, spelling: str, tokens: Tokens, text: str) -> list[Finding]:
    """Tokens that leave bases out, cover them twice, or are not what the sequence says there."""
    found = []
    starts, ends = tokens.spans[:, 0], tokens.spans[:, 1]
    gapless = len(starts) > 0 and starts[0] == 0 and ends[-1] == len(text)
    if not gapless or (starts[1:] != ends[:-1]).any() or (ends <= starts).any():
        found.append(
            Finding(coverage, f"the spans of {len(text)} bp do not cover it once, in order.")
        )
    if "".join(tokens.texts) != text:
        found.append(Finding(spelling, f"the tokens of {len(text)} bp do not spell it."))
    for (start, end), word in zip(tokens.spans, tokens.texts, strict=True):
        if text[start:end] != word:
            message = f"token {word} has the span {start}-{end}, where {text[start:end]!r} stands."
            found.append(Finding(coverage, message))
            break
    return found


def _features(
    representation: Representation, sequences: Sequence[Codes], species: str | None
) -> list[Finding]:
    found = []
    try:
        together = representation.embed(sequences, species, stranded=True)
        again = representation.embed(sequences, species, stranded=True)
        reverse = [reverse_complement(codes) for codes in sequences]
        backward = representation.embed(reverse, species, stranded=True)
        both = representation.embed(sequences, species)
        flipped = representation.embed(reverse, species)
    except _CRASHES as error:
        return [Finding("features", f"no features: {error}")]
    alone = np.concatenate([representation.embed([c], species, stranded=True) for c in sequences])
    if not np.isfinite(together).all():
        found.append(Finding("features", "features are not finite."))
    found += _differ("determinism", together, again, "the same sequences twice", 0.0)
    found += _differ("batch", together, alone, "a sequence alone and with others", TOLERANCE)
    found += _differ("strands", both, flipped, "both strands of a sequence", TOLERANCE)
    if representation.kind in ("trained", "random"):  # a baseline may merge strands otherwise
        mean = (together + backward) / np.float32(2)
        what = "unstranded features and the strands' mean"
        found += _differ("strands", both, mean, what, TOLERANCE)
    return found


def _bins(representation: Binned, species: str | None) -> list[Finding]:
    """Bins of whole size lie at the same bases whichever strand was given."""
    size = representation.bin_size
    length = size * max(2, -(-_WHOLE // size))
    codes = generator("conformance", "bins").integers(0, 4, length).astype(np.uint8)
    try:
        forward = representation.embed_bins([codes], species)
        backward = representation.embed_bins([reverse_complement(codes)], species)[:, ::-1]
    except _CRASHES as error:
        return [Finding("bins", f"no bins: {error}")]
    if forward.shape[:2] != (1, length // size):
        message = f"{length} bp in bins of {size} give {forward.shape[1]} bins."
        return [Finding("bins", message)]
    return _differ("bins", forward, backward, "the same bins of both strands", TOLERANCE)


def _network(
    representation: Tunable, sequences: Sequence[Codes], species: str | None
) -> list[Finding]:
    """The same sequences padded and alone, token by token; and what the weights count."""
    network = representation.network().eval()
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    short, long = sequences[order[0]], sequences[order[-1]]
    found = []
    with torch.no_grad():
        alone, own = (part[0] for part in network(representation.collate([short], species)))
        values, weight = (
            part[0] for part in network(representation.collate([short, long], species))
        )
    counted = float(weight.sum())
    if not np.isclose(counted, len(short)):
        message = f"{len(short)} bp count {counted:g} beside a sequence of {len(long)} bp."
        found.append(Finding("padding", f"padding is counted: {message}"))
    first, start = int(own.nonzero()[0]), int(weight.nonzero()[0])
    if own.sum() != weight.sum() or (own > 0).sum() != (weight > 0).sum():
        return found
    name = "mask" if first == start else "left-pad"
    why = "padding changes the states of the bases beside it"
    found += _differ(
        name,
        values[weight > 0].cpu().numpy(),
        alone[own > 0].cpu().numpy(),
        why,
        TOLERANCE,
        prefix=False,
    )
    return found


def _layers(
    representation: Viewed,
    reference: Representation | None,
    sequences: Sequence[Codes],
    species: str | None,
) -> list[Finding]:
    views = representation.views
    found = []
    ours = representation.embed_views(sequences, species, True, views)
    by_pooling: dict[str, list[str]] = {}
    for view in views:
        by_pooling.setdefault(view.rpartition(".")[2], []).append(view)
    for pooling, names in by_pooling.items():
        for one, other in pairwise(names):
            if pooling != "cls" and _off(ours[one], ours[other]) <= TOLERANCE:
                found.append(Finding("layers", f"{one} and {other} are the same."))
    if not isinstance(reference, Viewed):
        return found
    theirs = reference.embed_views(sequences, species, True, views)
    for view in views:
        if _off(ours[view], theirs[view]) > TOLERANCE:
            same = [name for name in views if _off(ours[view], theirs[name]) <= TOLERANCE]
            what = f"is {same[0]} of the reference" if same else "is none of the reference's views"
            found.append(Finding("layers", f"{view} {what}."))
    return found


def _differ(
    check: str, one: Features, other: Features, what: str, allowed: float, prefix: bool = True
) -> list[Finding]:
    off = _off(one, other)
    if off <= allowed:
        return []
    said = f"features of {what} differ" if prefix else what
    return [Finding(check, f"{said}: by {off:.2g} of the largest value, allowed {allowed:g}.")]


def _off(one: Features, other: Features) -> float:
    """The largest difference as a share of the largest value."""
    if one.shape != other.shape:
        return float("inf")
    scale = max(float(np.abs(one).max()), float(np.abs(other).max()), 1e-12)
    off = float(np.abs(one - other).max()) / scale
    return off if np.isfinite(off) else float("inf")
