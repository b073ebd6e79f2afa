"""In-silico mutagenesis: what every substitution in a window does to a score.

`ism` asks any function of sequences; `mutagenesis` and `substitutions` ask our own nets and compute
of each mutant only what the substitution reaches (`Encoder.local`).

Dimensions: n sequence, B and M window, L base, T output or track, N bin, D channel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.effects.devices import running
from cislens.errors import CislensError
from cislens.genome.codes import Codes, N
from cislens.models.contract import UNKNOWN, Embedding, Encoder, LocalEncoder
from cislens.models.profile import ProfileModel, SpeciesView

# A function of sequences takes codes and gives (n,) or (n, T).
Predict = Callable[[tuple[Codes, ...]], npt.NDArray[np.float32]]
Map = npt.NDArray[np.float32]

# Of windows and, with both strands, of their reverse complements: a score (M,).
EmbeddingScore = Callable[[Embedding, Embedding | None], Tensor]

# Bins of the mutants at once, and the fewest and most of these: activations stay in the caches.
_BINS_AT_ONCE, _FEWEST, _MOST = 1 << 13, 16, 128
_BASES_AT_ONCE = 1 << 18
_REFERENCE_BASES = 1 << 15


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
        own = column(predict, part, output)
        scores = column(predict, mutated, output).reshape(-1, 3)
        four = np.empty((len(row), 4))
        here = np.arange(len(row))
        four[here, part[row, position]] = own[row]
        four[here[:, None], base] = scores
        found[start + row, position] = four - four.mean(1, keepdims=True)
    return found


def column(predict: Predict, codes_nL: Codes, output: int) -> npt.NDArray[np.float64]:
    """One output (n,) of a function of sequences, in batches of a bounded number of bases."""
    if not len(codes_nL):
        return np.zeros(0)
    step = max(1, _BASES_AT_ONCE // codes_nL.shape[1])
    parts = []
    for start in range(0, len(codes_nL), step):
        part = codes_nL[start : start + step]
        parts.append(np.asarray(predict(tuple(part)), np.float64).reshape(len(part), -1)[:, output])
    return np.concatenate(parts)


def mutagenesis(
    net: ProfileModel | SpeciesView,
    x_n4L: Tensor,
    score: Callable[[Tensor], Tensor],
    species: str | None = None,
    *,
    crop: bool = False,
    both_strands: bool = False,
    strand_pair: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> Map:
    """As `ism`, of a score of a model's predicted rates: (n, L, 4), mean-centered, 0 at N.

    Args:
        net: a model, or the view of one species of it.
        x_n4L: one-hot A, C, G, T; N is all zeros.
        score: (M,) of rates (M, T, N); of both strands averaged if these are asked for.
        species: whose tracks; may be left out for a view or a model of one species.
        crop: the score sees the central bins only.
        both_strands: average the rates with those of the reverse complement.
        strand_pair: the track that each track becomes on the other strand; itself if None.
        positions: of the bases to replace; the rest stays 0. All if None.
        batch_size: mutants at once; by the number of bins if None.

    Raises:
        CislensError: for sequences of another shape, positions beyond their end, or a species
            that the model does not have.
    """
    model = net.model if isinstance(net, SpeciesView) else net
    named = net.species if isinstance(net, SpeciesView) and species is None else species
    index = int(model.species_indices(torch.empty(1), named)[0])

    def of_embedding(along: Embedding, against: Embedding | None) -> Tensor:
        rates_MTN = model.rates_of(along, named, crop)
        if against is not None:
            turned_MTN = model.rates_of(against, named, crop).flip(2)
            if strand_pair is not None:
                turned_MTN = turned_MTN[:, list(strand_pair)]
            rates_MTN = (rates_MTN + turned_MTN) / 2
        return score(rates_MTN)

    with running(model):
        return substitutions(
            model.encoder,
            x_n4L,
            of_embedding,
            index,
            both_strands=both_strands,
            positions=positions,
            batch_size=batch_size,
        )


def substitutions(
    encoder: Encoder,
    x_n4L: Tensor,
    score: EmbeddingScore,
    species: int = UNKNOWN,
    *,
    both_strands: bool = False,
    positions: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> Map:
    """As `mutagenesis`, of a score of what an encoder gives.

    Args:
        score: (M,) of the embeddings of M windows, padded with N to whole bins, and with both
            strands of those of the reverse complements, whose bins are in their own order.
        species: index into the encoder's species.

    Raises:
        CislensError: for sequences of another shape, or positions beyond their end.
    """
    if x_n4L.ndim != 3 or x_n4L.shape[1] != 4 or not x_n4L.shape[2]:
        raise CislensError(f"sequences of shape {tuple(x_n4L.shape)}; expected (n, 4, L), L > 0.")
    count, _, length = x_n4L.shape
    asked_L = _asked(positions, length)
    found = np.zeros((count, length, 4), np.float32)
    at_once = max(1, _REFERENCE_BASES // length)
    bins = -(-length // encoder.bin_size)
    batch_size = batch_size or min(_MOST, max(_FEWEST, _BINS_AT_ONCE // bins))
    dtype = next(encoder.parameters()).dtype
    with running(encoder) as device, torch.inference_mode():
        for start in range(0, count, at_once):
            x_B4L = x_n4L[start : start + at_once].to(device, dtype)
            windows = _Windows.of(encoder, x_B4L, species, both_strands)
            row_M, position_M = (x_B4L.ne(0).any(1) & asked_L.to(device)).nonzero().T
            if not len(row_M):
                continue
            own = score(*windows.references()).double().cpu().numpy()
            four = np.repeat(own[row_M.cpu().numpy()][:, None], 4, axis=1)
            at, base = _others(x_B4L.argmax(1)[row_M, position_M])
            for part in torch.arange(len(at), device=device).split(batch_size):  # type: ignore[no-untyped-call]
                mutant = at[part]
                pair = windows.mutants(row_M[mutant], position_M[mutant], base[part])
                scores = score(*pair).double().cpu().numpy()
                four[mutant.cpu().numpy(), base[part].cpu().numpy()] = scores
            where = start + row_M.cpu().numpy(), position_M.cpu().numpy()
            found[where] = four - four.mean(1, keepdims=True)
    return found


def _asked(positions: Sequence[int] | None, length: int) -> Tensor:
    asked_L = torch.full((length,), positions is None)
    for position in () if positions is None else positions:
        if not 0 <= position < length:
            raise CislensError(f"position {position} is not in windows of {length} bp.")
        asked_L[position] = True
    return asked_L


def _others(own_M: Tensor) -> tuple[Tensor, Tensor]:
    """Of every place its index, three times, and the three bases that are not there."""
    index = torch.arange(len(own_M), device=own_M.device).repeat_interleave(3)
    step = torch.arange(1, 4, device=own_M.device)
    return index, ((own_M[:, None] + step) % 4).flatten()


@dataclass(frozen=True)
class _Strand:
    """Reference windows of one strand and what embeds them with one base replaced."""

    encoder: Encoder
    x_B4L: Tensor
    species_B: Tensor
    local: LocalEncoder | None

    @classmethod
    def of(cls, encoder: Encoder, x_B4L: Tensor, species: int) -> "_Strand":
        species_B = torch.full((len(x_B4L),), species, dtype=torch.int64, device=x_B4L.device)
        return cls(encoder, x_B4L, species_B, encoder.local(x_B4L, species_B))

    def reference(self) -> Embedding:
        if self.local is not None:
            return self.local.reference()
        found: Embedding = self.encoder(self.x_B4L, self.species_B)
        return found

    def mutants(self, row_M: Tensor, position_M: Tensor, base_M: Tensor) -> Embedding:
        if self.local is not None:
            return self.local.embeddings(row_M, position_M, base_M)
        x_M4L = self.x_B4L[row_M]
        mutant = torch.arange(len(row_M), device=row_M.device)
        x_M4L[mutant, :, position_M] = 0
        x_M4L[mutant, base_M, position_M] = 1
        found: Embedding = self.encoder(x_M4L, self.species_B[row_M])
        return found


@dataclass(frozen=True)
class _Windows:
    """Both strands of reference windows, or one."""

    along: _Strand
    against: _Strand | None

    @classmethod
    def of(cls, encoder: Encoder, x_B4L: Tensor, species: int, both_strands: bool) -> "_Windows":
        # Whole bins, so that those of both strands lie on the same bases.
        x_B4L = F.pad(x_B4L, (0, -x_B4L.shape[2] % encoder.bin_size))
        along = _Strand.of(encoder, x_B4L, species)
        # A, C, G, T in reverse order are their complements.
        against = _Strand.of(encoder, x_B4L.flip(1, 2), species) if both_strands else None
        return cls(along, against)

    def references(self) -> tuple[Embedding, Embedding | None]:
        return self.along.reference(), None if self.against is None else self.against.reference()

    def mutants(
        self, row_M: Tensor, position_M: Tensor, base_M: Tensor
    ) -> tuple[Embedding, Embedding | None]:
        along = self.along.mutants(row_M, position_M, base_M)
        if self.against is None:
            return along, None
        last = self.along.x_B4L.shape[2] - 1
        return along, self.against.mutants(row_M, last - position_M, 3 - base_M)
