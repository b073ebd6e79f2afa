"""Language models that say how likely bases are.

Legend: P pieces, T tokens, D channels, V symbols of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cislens.errors import CislensError
from cislens.genome.codes import Codes, decode
from cislens.representations.contract import Features
from cislens.representations.huggingface.contract import Tokens
from cislens.representations.huggingface.embedding import LanguageModelEmbedding
from cislens.representations.huggingface.windows import Piece, batches_of, collated, pieces_of


class MaskedEmbedding(LanguageModelEmbedding):
    """A masked language model whose tokens are single bases or words of k bases."""

    def base_log_probabilities(
        self, sequences: Sequence[Codes], positions: Sequence[int], species: str | None
    ) -> Features:
        """(n, 4) log probability of A, C, G, T at one masked 0-based position of each sequence.

        The four add up to 1. With words of k bases the whole word is hidden, and the four words
        that differ at the position are compared; this is averaged (log probabilities) over the k
        phases that a word can cover the position in, got by leaving out up to k - 1 bases on the
        left. Sequences that do not fit the model are cropped around the position.

        Raises:
            CislensError: if a position lies outside its sequence.
        """
        jobs: list[tuple[Piece, int, list[int]]] = []
        for row, (codes, position) in enumerate(zip(sequences, positions, strict=True)):
            if not 0 <= position < len(codes):
                raise CislensError(
                    f"{self.name}: position {position} of sequence {row} lies outside its "
                    f"{len(codes)} bp."
                )
            jobs += self._jobs(row, decode(codes), position)
        total = np.zeros((len(sequences), 4), dtype=np.float64)
        count = np.zeros(len(sequences))
        found = _log_probabilities(self, [piece for piece, _, _ in jobs], [at for _, at, _ in jobs])
        for (piece, _, four), log_p_V in zip(jobs, found, strict=True):
            total[piece.row] += _normalized(log_p_V[four].double().numpy())
            count[piece.row] += 1
        return _normalized(total / count[:, None]).astype(np.float32)

    def _jobs(self, row: int, text: str, position: int) -> list[tuple[Piece, int, list[int]]]:
        """Windows with the hidden token, where it is, and the ids of the four bases' tokens."""
        size = self.tokenizer.token_size
        jobs: dict[int, tuple[Piece, int, list[int]]] = {}
        for phase in range(size):
            cut = (position - phase) % size
            if cut > position:
                continue
            tokens = self.tokenize(text[cut:])
            at = int(np.searchsorted(tokens.spans[:, 1], position - cut, side="right"))
            start = int(tokens.spans[at, 0]) + cut
            offset = position - start
            word = tokens.texts[at]
            four = [self.tokenizer.id_of(word[:offset] + b + word[offset + 1 :]) for b in "ACGT"]
            known = [index for index in four if index is not None]
            if start not in jobs and len(known) == 4:
                jobs[start] = (*_around(self, row, tokens, at), known)
        return list(jobs.values())


class CausalEmbedding(LanguageModelEmbedding):
    """A language model of single bases that reads from left to right."""

    def log_likelihood(self, sequences: Sequence[Codes], species: str | None) -> Features:
        """(n,) sum of log p of each base given those before it.

        The first base has nothing before it and is not counted; neither is N. Probabilities are
        among A, C, G, T. Sequences that do not fit the model are read in overlapping windows.
        """
        four = [self._known(base) for base in "ACGT"]
        out = np.zeros(len(sequences), dtype=np.float64)
        for pieces, batch, states in self._run(sequences):
            logits_PTV = self.model.logits(states[-1][:, :-1].flatten(0, 1))
            log_p = logits_PTV[:, four].log_softmax(-1).view(len(pieces), -1, 4)
            for base, index in enumerate(four):
                hit_PT = (batch.ids_BT[:, 1:] == index) & (batch.weight_BT[:, 1:] > 0)
                value_P = (log_p[..., base] * hit_PT).double().sum(1)
                np.add.at(out, [piece.row for piece in pieces], value_P.cpu().numpy())
        return out.astype(np.float32)

    def _known(self, base: str) -> int:
        index = self.tokenizer.id_of(base)
        assert index is not None
        return index


class PseudoEmbedding(LanguageModelEmbedding):
    """A masked language model of byte-pair words.

    One changed base changes which words a sequence is cut into, so there is no probability of a
    base; what can be compared is the pseudo-log-likelihood of whole windows.
    """

    def log_likelihood(self, sequences: Sequence[Codes], species: str | None) -> Features:
        """(n,) sum over tokens but N of log p of the token with it alone hidden.

        One pass of the model per token: a window of 1,000 bp is about 200 passes.
        """
        pieces: list[Piece] = []
        places: list[int] = []
        truth: list[int] = []
        for row, codes in enumerate(sequences):
            tokens = self.tokenize(decode(codes))
            for at, index in enumerate(tokens.ids):
                if tokens.texts[at] == "N":
                    continue
                piece, place = _around(self, row, tokens, at)
                pieces.append(piece)
                places.append(place)
                truth.append(int(index))
        out = np.zeros(len(sequences), dtype=np.float64)
        found = _log_probabilities(self, pieces, places)
        for piece, index, log_p_V in zip(pieces, truth, found, strict=True):
            out[piece.row] += float(log_p_V[index])
        return out.astype(np.float32)


def _around(
    embedding: LanguageModelEmbedding, row: int, tokens: Tokens, at: int
) -> tuple[Piece, int]:
    """The window around one token with that token hidden, and its place in the window."""
    tokenizer = embedding.tokenizer
    if tokenizer.mask_id is None:
        raise CislensError(f"{embedding.name} has no mask token, so no base can be hidden.")
    room = embedding.max_tokens - len(tokenizer.prefix) - len(tokenizer.suffix)
    start = max(0, min(at - room // 2, len(tokens.ids) - room))
    part = slice(start, start + room)
    shown = Tokens(tokens.ids[part], tokens.spans[part], tokens.texts[part])
    (piece,) = pieces_of(row, shown, tokenizer, embedding.max_tokens)
    place = len(tokenizer.prefix) + at - start
    hidden = piece.ids.copy()
    hidden[place] = tokenizer.mask_id
    return replace(piece, ids=hidden), place


def _log_probabilities(
    embedding: LanguageModelEmbedding, pieces: list[Piece], places: list[int]
) -> list[Tensor]:
    """Log probabilities (V,) of the vocabulary at one place of each piece."""
    order = {id(piece): i for i, piece in enumerate(pieces)}
    out: list[Tensor] = [torch.empty(0)] * len(pieces)
    model = embedding.model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        for group in batches_of(pieces):
            batch = collated(group, embedding.tokenizer.pad_id, device)
            numbers = [order[id(piece)] for piece in group]
            at = torch.tensor([places[i] for i in numbers], device=device)
            last = model.states(batch.ids_BT, batch.mask_BT)[-1]
            picked_PD = last[torch.arange(len(group), device=device), at]
            scores_PV = model.logits(picked_PD).float().log_softmax(-1).cpu()
            for i, scores_V in zip(numbers, scores_PV, strict=True):
                out[i] = scores_V
    return out


def _normalized(log_p: np.ndarray) -> np.ndarray:
    """Log probabilities shifted so that the last axis adds up to 1."""
    peak = log_p.max(-1, keepdims=True)
    total: np.ndarray = peak + np.log(np.exp(log_p - peak).sum(-1, keepdims=True))
    return np.asarray(log_p - total)
