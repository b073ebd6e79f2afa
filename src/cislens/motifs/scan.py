"""How strongly, or how often, each motif occurs in each region.

Dimensions: R region, L base, M motif, W column of a motif, V matrix scanned with (lane).
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from types import ModuleType

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.genome.codes import Codes
from cislens.motifs.sites import Motif, least_score, score_table

UNIFORM = (0.25, 0.25, 0.25, 0.25)
_SMOOTH = 0.01  # share of the background in each column, so that no base is impossible
# Ratios are divided by the best word's and times e^75: sums of very many of them then stay below
# what float32 can hold, and all but the poorest above what it cannot tell from nothing.
_LIFT = 75.0
_POOR = 1e-28  # of smaller sums a part may be lost
_NEVER = -1e6  # in steps of a score; sums of it are far from any threshold
_OTHER_STRAND = [3, 2, 1, 0, 4]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def occupancy(
    codes_RL: Codes, motifs: Sequence[Motif], background: Sequence[float] = UNIFORM
) -> Floats:
    """Occupancy (R, M) of motifs in regions, without a threshold, in nats.

    The logarithm of the mean, over all placements on both strands that touch no N, of the ratio
    between the probabilities of the placed word in the motif and in the background. It is the
    same for the other strand of the region. NaN where no placement is valid.

    Args:
        codes_RL: regions as codes; shorter ones are filled up with N.
        background: probabilities of A, C, G, T, the same on both strands.

    Raises:
        CislensError: for a background that differs between strands, or without numba.
    """
    if not motifs:
        return np.empty((len(codes_RL), 0), np.float32)
    # Of the columns of all motifs at once: one by one takes longer than a scan of 100 kb.
    starts = np.cumsum([0, *(len(motif) for motif in motifs[:-1])])
    odds_W4 = _log_odds(np.concatenate([m.probabilities_W4 for m in motifs]), background)
    best = np.add.reduceat(odds_W4.max(1), starts)
    ratios_W5 = np.zeros((len(odds_W4), 5))
    ratios_W5[:, :4] = np.exp(odds_W4 - odds_W4.max(1, keepdims=True))
    odds = np.split(odds_W4, starts[1:])
    ratios = np.split(ratios_W5, starts[1:])
    valid_RM = placements(codes_RL, motifs)
    result_RM = np.empty((len(codes_RL), len(motifs)), np.float32)
    for rows, sums_RM in _scan(codes_RL, ratios, np.zeros(len(motifs)), products=True):
        with np.errstate(divide="ignore"):
            result_RM[:, rows] = np.log(sums_RM) + (best[rows] - _LIFT).astype(np.float32)
        poor_RM = (sums_RM < _POOR) & (valid_RM[:, rows] > 0)
        for region, at in zip(*np.nonzero(poor_RM), strict=True):
            motif_W4 = odds[rows[at]]
            strands_VW4 = np.stack([motif_W4, motif_W4[::-1, ::-1]])
            result_RM[region, rows[at]] = _kernels().log_sum(codes_RL[region], strands_VW4)
    result_RM -= np.log(np.maximum(valid_RM, 1), dtype=np.float32)
    result_RM[valid_RM == 0] = np.nan
    return result_RM


def hits(codes_RL: Codes, motifs: Sequence[Motif], p_value: float = 1e-4) -> Floats:
    """How many placements (R, M) on either strand score as only `p_value` of random words do.

    Scores and their exact distribution are those of `sites.scan`. Of a motif whose best word is
    commoner than `p_value`, the best words are counted. NaN where no placement is valid.

    Args:
        codes_RL: regions as codes; shorter ones are filled up with N.

    Raises:
        CislensError: without numba.
    """
    scores = [np.maximum(score_table(motif), _NEVER) for motif in motifs]
    least = [_least(np.float64(m.probabilities_W4).tobytes(), p_value) for m in motifs]
    result_RM = np.empty((len(codes_RL), len(motifs)), np.float32)
    for rows, counts_RM in _scan(codes_RL, scores, np.array(least), products=False):
        result_RM[:, rows] = counts_RM
    result_RM[placements(codes_RL, motifs) == 0] = np.nan
    return result_RM


def placements(codes_RL: Codes, motifs: Sequence[Motif]) -> Ints:
    """How many placements (R, M) of each motif touch no N, both strands together."""
    widths, which = np.unique([len(motif) for motif in motifs], return_inverse=True)
    counts_RW: Ints = _kernels().count_placements(codes_RL, widths.astype(np.int64))
    return 2 * counts_RW[:, which]


def log_odds(motif: Motif, background: Sequence[float] = UNIFORM) -> Doubles:
    """Log odds (W, 4) of a motif against the background, in nats; a hundredth is background.

    Raises:
        CislensError: for a background that is not four probabilities, the same on both strands.
    """
    return _log_odds(motif.probabilities_W4, background)


def scanner_name() -> str:
    """What scans, and its version, for manifests."""
    return f"cislens {version('cislens')}"


def _scan(
    codes_RL: Codes, scores: Sequence[Doubles], least_M: Doubles, products: bool
) -> Iterator[tuple[Ints, Floats]]:
    """Sums over both strands (R, m), with the rows of the m motifs, alike in width, they are of.

    `scores` are (W, 5), of A, C, G, T and N. With `products`, sums of e^75 times the product of
    the entries of a placement; else numbers of placements whose entries sum to `least_M`.
    """
    kernels = _kernels()
    if not scores:
        return
    widths = np.array([len(score_W5) for score_W5 in scores], np.int64)
    order = np.argsort(widths, kind="stable")
    most = -(-int(widths.max()) // kernels.WORD)
    words_RP = kernels.word_numbers(codes_RL, most * kernels.WORD)
    each = kernels.LANES // 2
    for first in range(0, len(order), each):
        rows = order[first : first + each]
        low, high = int(widths[rows[0]]), int(widths[rows[-1]])
        scores_W5V = np.full((high, 5, kernels.LANES), 1.0 if products else 0.0)
        for at, row in enumerate(rows):
            score_W5 = scores[row]
            scores_W5V[: len(score_W5), :, 2 * at] = score_W5
            scores_W5V[: len(score_W5), :, 2 * at + 1] = score_W5[::-1, _OTHER_STRAND]
        if products:
            scores_W5V[0] *= np.exp(_LIFT)
        pieces = -(-high // kernels.WORD)
        table_CKV = _aligned((pieces, kernels.WORDS, kernels.LANES))
        kernels.fill_table(scores_W5V, products, table_CKV)
        least_V = np.zeros(kernels.LANES, np.float32)
        least_V[: 2 * len(rows)] = np.repeat(least_M[rows], 2)
        count = max(0, codes_RL.shape[1] - low + 1)
        found_RM = kernels.scanner(pieces, products)(table_CKV, words_RP, count, least_V)
        yield rows, found_RM[:, : len(rows)]


def _log_odds(probabilities_W4: Doubles, background: Sequence[float]) -> Doubles:
    share = np.asarray(background, np.float64)
    fits = share.shape == (4,) and share.min() > 0 and abs(share.sum() - 1) < 1e-6
    if not fits or np.abs(share - share[::-1]).max() > 1e-9:
        raise CislensError(
            f"background {list(background)} is not four probabilities of A, C, G, T with A = T "
            "and C = G; the two strands of a region would differ. Give the mean of both strands."
        )
    smooth_W4 = (1 - _SMOOTH) * probabilities_W4 + _SMOOTH * share
    return np.asarray(np.log(smooth_W4 / share))


def _aligned(shape: tuple[int, ...]) -> Floats:
    """An array that starts at a cache line, so that no vector load spans two."""
    raw = np.empty(int(np.prod(shape)) + 16, np.float32)
    skip = -(raw.ctypes.data // 4) % 16
    return raw[skip : skip + raw.size - 16].reshape(shape)


@lru_cache(maxsize=1 << 14)
def _least(probabilities: bytes, p_value: float) -> int:
    return least_score(Motif("", np.frombuffer(probabilities).reshape(-1, 4)), p_value)


def _kernels() -> ModuleType:
    try:
        from cislens.motifs import kernels
    except ImportError as error:
        raise CislensError(
            "scanning with motifs needs numba; pip install 'cislens[multimodal]'."
        ) from error
    return kernels
