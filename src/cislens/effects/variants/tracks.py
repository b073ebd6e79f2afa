"""A model of tracks, or an encoder, read on windows over both strands and shifts.

Dimensions: B and M window, W base pair with margin, L base pair, N compared bin, T track,
D embedding channel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cislens.effects.averaging import Averaging
from cislens.effects.variants.windows import Ints, Layout
from cislens.genome.codes import Codes, one_hot
from cislens.models.contract import UNKNOWN, Embedding, Encoder, LocalEncoder
from cislens.models.profile import ProfileModel
from cislens.signal.tracks import Track
from cislens.signal.transforms import untransform

Values = npt.NDArray[np.float32]
# Rates (B, T, N) and vectors (B, N, D) of one view, each if wanted, and whether it is turned.
View = tuple[Tensor | None, Tensor | None, bool]


@dataclass(frozen=True)
class Signals:
    """What a model makes of windows.

    Attributes:
        rates_BNT: of the compared bins, scale and soft clip undone; T is 0 without a model of
            tracks.
        vectors_BND: the embedding of these bins, 0 where no base is called; D is 0 if it was not
            asked for.
    """

    rates_BNT: Values
    vectors_BND: Values

    def rows(self, rows: Ints) -> "Signals":
        """Some of the windows."""
        return Signals(self.rates_BNT[rows], self.vectors_BND[rows])


@dataclass(frozen=True)
class Reader:
    """How windows are read; the model is in evaluation mode where `device` is.

    Attributes:
        encoder: of the model.
        net: the model of tracks, if it is one.
        species: the name that the encoder is told.
        tracks: those that are wanted, typed rows.
        columns: where they lie among the model's tracks of the species.
        pair: the track that each of the model's tracks becomes on the other strand.
        vectors: whether the embedding is wanted.
    """

    encoder: Encoder
    net: ProfileModel | None
    species: str | None
    tracks: Sequence[Track]
    columns: Ints
    pair: Ints
    averaging: Averaging
    layout: Layout
    vectors: bool
    device: torch.device

    @torch.inference_mode()
    def whole(self, codes_BW: Codes) -> Signals:
        """Signals of windows with the averaging's margin at either side."""
        parts: list[View] = []
        for x_B4L, _, reverse in self._views(codes_BW):
            if self.net is not None and not self.vectors:
                assert self.species is not None
                rates_BTN: Tensor = self.net(x_B4L, self.species, crop=True)
                parts.append((rates_BTN, None, reverse))
            else:
                parts.append(self.read(self.encoder(x_B4L, self._species(len(x_B4L))), reverse))
        return self.mean(parts)

    @torch.inference_mode()
    def shared(self, codes_BW: Codes) -> "Shared | None":
        """Reference windows of which substitutions are read locally; None if there is no gain."""
        views = []
        for x_B4L, first, reverse in self._views(codes_BW):
            local = self.encoder.local(x_B4L, self._species(len(x_B4L)))
            if local is None:
                return None
            views.append((local, first - self.averaging.margin, reverse))
        return Shared(self, tuple(views))

    def _views(self, codes_BW: Codes) -> Iterator[tuple[Tensor, int, bool]]:
        """One-hot windows, the first base of each in the given ones, and whether turned around."""
        for shift in self.averaging.shifts:
            first = self.averaging.margin + shift
            window = codes_BW[:, first : first + self.layout.length]
            x_B4L = torch.from_numpy(one_hot(window)).to(self.device)
            yield x_B4L, first, False
            if self.averaging.reverse_complement:
                # Channels are A, C, G, T: turning them around is the complement.
                yield x_B4L.flip(1, 2), first, True

    def _species(self, windows: int) -> Tensor:
        known = self.encoder.species if self.net is None else self.net.species
        index = known.index(self.species) if self.species in known else UNKNOWN
        return torch.full((windows,), index, dtype=torch.int64, device=self.device)

    def read(self, embedding: Embedding, reverse: bool) -> View:
        """Rates and vectors of the compared bins of one view, as the view has them."""
        rates = vectors = None
        if self.net is not None:
            assert self.species is not None
            rates = self.net.rates_of(embedding, self.species, crop=True)
        if self.vectors:
            crop, bins = self.layout.crop, embedding.values_BND.shape[1]
            kept = embedding.values_BND.where(embedding.valid_BN[..., None], 0.0)
            vectors = kept[:, crop : bins - crop]
        return rates, vectors, reverse

    def mean(self, parts: Sequence[View]) -> Signals:
        """The mean over views, turned back first; it is taken before clip and scale are undone."""
        rates: Tensor | None = None
        vectors: Tensor | None = None
        pair = torch.as_tensor(self.pair, device=self.device)
        for rates_BTN, vectors_BND, reverse in parts:
            if rates_BTN is not None:
                turned = rates_BTN.float()
                turned = turned[:, pair].flip(2) if reverse else turned
                rates = turned if rates is None else rates + turned
            if vectors_BND is not None:
                turned = vectors_BND.float()
                turned = turned.flip(1) if reverse else turned
                vectors = turned if vectors is None else vectors + turned
        shape = (len(next(x for x in parts[0][:2] if x is not None)), self.layout.central, 0)
        found = np.zeros(shape, np.float32)
        return Signals(
            found if rates is None else self._own_unit(rates / len(parts)),
            found if vectors is None else (vectors / len(parts)).cpu().numpy(),
        )

    def _own_unit(self, rates_BTN: Tensor) -> Values:
        wanted = rates_BTN[:, torch.as_tensor(self.columns, device=self.device)]
        rates_BNT = np.ascontiguousarray(wanted.transpose(1, 2).cpu().numpy())
        for index, track in enumerate(self.tracks):
            rates_BNT[..., index] = untransform(rates_BNT[..., index], track)
        return rates_BNT


class Shared:
    """Reference windows whose substitutions are read by what they reach.

    Attributes:
        reference: signals of the windows themselves.
    """

    def __init__(self, reader: Reader, views: Sequence[tuple[LocalEncoder, int, bool]]) -> None:
        self.reader, self.views = reader, views
        parts = [reader.read(local.reference(), reverse) for local, _, reverse in views]
        self.reference = reader.mean(parts)

    @torch.inference_mode()
    def substituted(self, row_M: Ints, position_M: Ints, base_M: Codes | Ints) -> Signals:
        """Signals of windows with one base replaced, `position_M` counted from their own start."""
        reader, parts = self.reader, []
        for local, shift, reverse in self.views:
            at_M, put_M = position_M - shift, base_M.astype(np.int64)
            if reverse:
                at_M, put_M = reader.layout.length - 1 - at_M, 3 - put_M
            inputs = (torch.as_tensor(v, device=reader.device) for v in (row_M, at_M, put_M))
            parts.append(reader.read(local.embeddings(*inputs), reverse))
        return reader.mean(parts)
