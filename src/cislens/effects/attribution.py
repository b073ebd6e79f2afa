"""Which bases a prediction rests on.

Networks are plain modules: x (B, 4, L) gives (B, T), or (B, T, N), of which an output's bins are
summed. Functions of sequences (`Predict`) take codes and give (n,) or (n, T).

Dimensions: B and n sequence, L base, D channel, N bin, T output.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.genome.codes import Codes, N, one_hot, reverse_complement
from cislens.genome.shuffling import dinucleotide_shuffle
from cislens.randomness import generator
from cislens.representations.contract import MaskedLikelihood

Predict = Callable[[tuple[Codes, ...]], npt.NDArray[np.float32]]
Map = npt.NDArray[np.float32]

BACKGROUNDS = 300
_BASES_AT_ONCE = 1 << 18


class BothStrands(nn.Module):
    """The mean of a network's outputs for a sequence and its reverse complement, (B, T)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x_B4L: Tensor) -> Tensor:
        # Channels are A, C, G, T: turning both axes around is the reverse complement.
        forward, backward = self.module(x_B4L), self.module(x_B4L.flip(1, 2))
        both: Tensor = (_summed(forward) + _summed(backward)) / 2
        return both


def saliency(module: nn.Module, codes_nL: Codes, output: int = 0, batch_size: int = 64) -> Map:
    """Gradient-corrected saliency (n, L): A[i] = sum_c x[i,c] (G[i,c] - mean_c G[i,c]).

    The gradient's mean over the four channels is noise of directions off the simplex of one-hot
    sequences (Majdandzic et al. 2023, Genome Biology 24:109). N gets 0.
    """
    parts = []
    for rows, gradient_B4L in corrected_gradients(module, codes_nL, output, batch_size):
        parts.append((gradient_B4L * one_hot(codes_nL[rows])).sum(1))
    return np.concatenate(parts)


def corrected_gradients(
    module: nn.Module, codes_nL: Codes, output: int = 0, batch_size: int = 64
) -> Iterator[tuple[slice, Map]]:
    """The gradient less its mean over channels, (B, 4, L), for one batch of rows after another.

    In evaluation mode, which is undone; the parameters' own gradients are left alone.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with _evaluating(module):
        for start in range(0, len(codes_nL), batch_size):
            rows = slice(start, start + batch_size)
            x_B4L = torch.from_numpy(one_hot(codes_nL[rows])).to(device).requires_grad_(True)
            with torch.enable_grad():
                score = _summed(module(x_B4L))[:, output].sum()
                (gradient_B4L,) = torch.autograd.grad(score, x_B4L)
            gradient_B4L = gradient_B4L - gradient_B4L.mean(1, keepdim=True)
            yield rows, gradient_B4L.float().cpu().numpy()


def ism(predict: Predict, codes_nL: Codes, output: int = 0) -> Map:
    """In-silico mutagenesis (n, L, 4): the score with each base at each position, mean-centered.

    All three substitutions are scored; each position's four scores are then centered on their
    mean, so the value at the base that is there is what it adds over an average base. 0 at N.
    """
    length = codes_nL.shape[1]
    found = np.zeros((len(codes_nL), length, 4), np.float32)
    at_once = max(1, _BASES_AT_ONCE // length // (3 * length))
    for start in range(0, len(codes_nL), at_once):
        part = codes_nL[start : start + at_once]
        row, position = np.nonzero(part != N)
        mutated = np.repeat(part[row], 3, axis=0)
        base = (part[row, position][:, None] + np.arange(1, 4)) % 4
        mutated[np.arange(len(mutated)), np.repeat(position, 3)] = base.ravel()
        own = _column(predict, part, output)
        scores = _column(predict, mutated, output).reshape(-1, 3)
        four = np.empty((len(row), 4))
        here = np.arange(len(row))
        four[here, part[row, position]] = own[row]
        four[here[:, None], base] = scores
        found[start + row, position] = four - four.mean(1, keepdims=True)
    return found


def at_sequence(values_nL4: Map, codes_nL: Codes) -> Map:
    """The value (n, L) at the base that each position has; 0 at N."""
    picked = np.take_along_axis(values_nL4, np.minimum(codes_nL, 3)[..., None].astype(int), axis=2)
    return np.where(codes_nL == N, np.float32(0), picked[..., 0])


def entropy_map(
    model: MaskedLikelihood, codes_nL: Codes, species: str | None, stranded: bool = False
) -> Map:
    """How sure a masked language model is of each position, (n, L): max_j H_j - H_i.

    H_i is the entropy (nats) of the model's four probabilities at position i, masked; the mean of
    both strands unless stranded. 0 where the model is least sure; N gets 0.
    """
    found = np.empty(codes_nL.shape, np.float32)
    for row, codes in enumerate(codes_nL):
        entropy = _entropies(model, codes, species)
        if not stranded:
            entropy = (entropy + _entropies(model, reverse_complement(codes), species)[::-1]) / 2
        called = codes != N
        worst = entropy[called].max() if called.any() else 0.0
        found[row] = np.where(called, worst - entropy, 0.0)
    return found


def embedding_gradient(head: nn.Module, values_BND: Tensor, bin_size: int, length: int) -> Map:
    """The norm of a head's gradient at each bin's vector, copied to its bases, (B, L).

    Args:
        head: (B, N, D) -> (B, T); its first output is explained.
        length: bases of the sequence; those of a last, incomplete bin are left out.
    """
    with _evaluating(head), torch.enable_grad():
        values = values_BND.detach().clone().requires_grad_(True)
        (gradient_BND,) = torch.autograd.grad(_summed(head(values))[:, 0].sum(), values)
    norm_BN: Map = gradient_BND.norm(dim=2).float().cpu().numpy()
    return np.repeat(norm_BN, bin_size, axis=1)[:, :length]


@dataclass(frozen=True)
class Importance:
    """What a motif does to a score, on average over backgrounds.

    Attributes:
        effect: mean change of the score when the motif is put into a background.
        sham: the same for the motif's bases in another order.
        p_value: two-sided Mann-Whitney test of both sets of changes.
    """

    effect: float
    sham: float
    p_value: float


def global_importance(
    predict: Predict,
    motif: Codes,
    sequences: Sequence[Codes],
    *,
    seed: int,
    backgrounds: int = BACKGROUNDS,
    output: int = 0,
) -> Importance:
    """The effect of a motif on dinucleotide-shuffled backgrounds (Koo et al. 2021, PLoS Comput
    Biol 17:e1008925), beside that of a sham: its own bases, shuffled.

    The motif replaces the bases at the center. Each background gets its own sham.

    Args:
        motif: codes (W,).
        sequences: of one length, shuffled in turn to make the backgrounds.

    Raises:
        CislensError: if the motif is longer than the sequences, or all orders of it are equal.
    """
    length = len(sequences[0])
    if len(motif) > length:
        raise CislensError(f"a motif of {len(motif)} bp does not fit {length} bp sequences.")
    if len(np.unique(motif)) < 2:
        raise CislensError("a motif of one base repeated has no sham; every order is the same.")
    rng = generator(seed, "global_importance")
    chosen = np.stack([sequences[i % len(sequences)] for i in range(backgrounds)])
    plain = dinucleotide_shuffle(chosen, rng)
    place = slice((length - len(motif)) // 2, (length - len(motif)) // 2 + len(motif))
    planted, sham = plain.copy(), plain.copy()
    planted[:, place] = motif
    for row in sham:
        row[place] = _other_order(motif, rng)
    before = _column(predict, plain, output)
    change, sham_change = (_column(predict, x, output) - before for x in (planted, sham))
    test = stats.mannwhitneyu(change, sham_change)
    return Importance(float(change.mean()), float(sham_change.mean()), float(test.pvalue))


def _other_order(motif: Codes, rng: np.random.Generator) -> Codes:
    while True:
        shuffled: Codes = rng.permutation(motif)
        if not np.array_equal(shuffled, motif):
            return shuffled


def _entropies(
    model: MaskedLikelihood, codes: Codes, species: str | None
) -> npt.NDArray[np.float64]:
    log_p = model.base_log_probabilities([codes] * len(codes), [*range(len(codes))], species)
    log_p = log_p.astype(np.float64)
    entropy: npt.NDArray[np.float64] = -(np.exp(log_p) * log_p).sum(1)
    return entropy


def _column(predict: Predict, codes_nL: Codes, output: int) -> npt.NDArray[np.float64]:
    """One output (n,) of a function of sequences, in batches of a bounded number of bases."""
    step = max(1, _BASES_AT_ONCE // codes_nL.shape[1])
    parts = []
    for start in range(0, len(codes_nL), step):
        part = codes_nL[start : start + step]
        parts.append(np.asarray(predict(tuple(part)), np.float64).reshape(len(part), -1)[:, output])
    return np.concatenate(parts)


def _summed(scores: Tensor) -> Tensor:
    """(B, T) from (B,), (B, T) or (B, T, N)."""
    if scores.ndim == 1:
        return scores[:, None]
    return scores.sum(2) if scores.ndim == 3 else scores


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
