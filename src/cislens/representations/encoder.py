"""Features of an encoder at any layer and pooling, and the same encoder with random weights.

Legend: B sequences, L bases, N bins, D channels.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cislens.errors import CislensError, nearest
from cislens.genome.codes import Codes, N, one_hot, reverse_complement
from cislens.models.contract import Embedding, Encoder
from cislens.representations.contract import Features, Kind
from cislens.representations.controls import random_first_layer, random_twin, shuffled
from cislens.representations.pooling import POOLINGS, SUMMARY, pool
from cislens.representations.tuning import EncoderNetwork, lora_targets

_BASES_PER_BATCH = 32_768
_DEPTHS = (0.25, 0.5, 0.75, 1.0)

Batch = tuple[Tensor, Tensor]
Control = Literal["shuffle", "embed"]


class EncoderEmbedding:
    """Features of an encoder in fp32: by default the summary, or else the mean, of its last layer.

    Only informative bins count, those that hold a called base. Only sequences of equal length
    share a batch, so that no sequence's features depend on its neighbors.
    Unstranded: the mean of both strands.

    Views are layer.pooling: the layers are `embed` (what the transformer is given), the blocks
    at 25, 50, 75 and 100 % of the depth, and `out`; see `pooling.pool` for the poolings.

    Args:
        encoder: any encoder; it is used in evaluation mode on the device where it lies.
        name: how tables call it.
    """

    def __init__(self, encoder: Encoder, name: str, kind: Kind = "trained") -> None:
        self.encoder = encoder
        self.name = name
        self.kind = kind

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.encoder.parameters())

    @cached_property
    def digest(self) -> str:
        """sha256 of the encoder's class, configuration, weights and buffers."""
        digest = hashlib.sha256(type(self.encoder).__name__.encode())
        described = getattr(getattr(self.encoder, "config", None), "model_dump_json", None)
        if described is not None:  # it may say what no weight does
            digest.update(described().encode())
        _add_weights(digest, self.encoder)
        return digest.hexdigest()

    @property
    def device(self) -> str:
        """Where the encoder lies: cpu, or the name of the GPU."""
        device = next(self.encoder.parameters()).device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    @property
    def views(self) -> tuple[str, ...]:
        """Every layer with every pooling; the last is what `embed` gives.

        That is `out.summary` for an encoder that makes a summary, and `out.mean` for others.
        """
        *inner, last = self.encoder.layers
        blocks = [layer for layer in inner if layer.startswith("L")]
        depths = {blocks[math.ceil(share * len(blocks)) - 1] for share in _DEPTHS if blocks}
        layers = [layer for layer in inner if layer not in blocks or layer in depths]
        views = [f"{layer}.{how}" for layer in (*layers, last) for how in self._poolings]
        # Before the first block it is the same vector for every sequence.
        return tuple(view for view in views if view != f"embed.{SUMMARY}")

    @property
    def bin_size(self) -> int:
        """Base pairs of a bin of `embed_bins`."""
        return self.encoder.bin_size

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        """Features (n, D) with D the encoder's `dim`; a species unknown to the encoder is -1.

        Raises:
            CislensError: if a sequence holds no called base, or features are not finite.
        """
        view = self.views[-1]
        return self.embed_views(sequences, species, stranded, (view,))[view]

    def embed_views(
        self,
        sequences: Sequence[Codes],
        species: str | None,
        stranded: bool,
        views: Sequence[str],
    ) -> dict[str, Features]:
        """Features (n, D) of each view, all of one pass over each strand.

        Any layer of the encoder may be asked for, also one that is not among `views`.

        Raises:
            CislensError: as `embed`, or for a view that there is not.
        """
        asked = {view: self._parts(view) for view in views}

        def features(codes: Codes) -> list[Features]:
            wanted = {layer for layer, _ in asked.values()}
            found = self._layers(codes, species, wanted)
            pooled = [pool(found[layer], how, codes.shape[1]) for layer, how in asked.values()]
            return [values.cpu().numpy() for values in pooled]

        def flipped(codes: Codes) -> list[Features]:
            return features(reverse_complement(codes))

        found = self._over(sequences, features, None if stranded else flipped)
        return dict(zip(asked, found, strict=True))

    def embed_bins(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        """The last layer (n, N, D), zero in bins without a called base.

        Raises:
            CislensError: as `embed`, or if lengths differ.
        """
        lengths = sorted({len(codes) for codes in sequences})
        if len(lengths) > 1:
            raise CislensError(
                f"{self.name}: bins need sequences of one length, found {lengths[0]} to "
                f"{lengths[-1]} bp; crop them."
            )

        def bins(codes: Codes) -> list[Features]:
            last = self.encoder.layers[-1]
            embedding = self._layers(codes, species, {last})[last]
            return [embedding.values_BND.where(embedding.valid_BN[..., None], 0).cpu().numpy()]

        def flipped(codes: Codes) -> list[Features]:
            # Filled up to whole bins first, so that the bins of both strands are the same ones.
            whole = np.pad(codes, ((0, 0), (0, -codes.shape[1] % self.bin_size)), constant_values=N)
            return [bins(reverse_complement(whole))[0][:, ::-1]]

        return self._over(sequences, bins, None if stranded else flipped)[0]

    def twin(self, draw: int) -> "EncoderEmbedding":
        """This representation with the encoder's `random_twin`."""
        return EncoderEmbedding(random_twin(self.encoder, draw), f"{self.name}-random", "random")

    def control(self, how: Control, draw: int) -> "EncoderEmbedding":
        """This representation with every tensor permuted, or with a random first layer."""
        if how == "shuffle":
            return EncoderEmbedding(shuffled(self.encoder, draw), f"{self.name}-shuffled", "random")
        return EncoderEmbedding(
            random_first_layer(self.encoder, draw), f"{self.name}-random-embed", "random"
        )

    @property
    def lora_targets(self) -> tuple[str, ...]:
        """Endings of the names of the linear layers in attention and feed-forward."""
        return lora_targets(self.encoder)

    def network(self) -> nn.Module:
        """A trainable copy; see `EncoderNetwork`."""
        return EncoderNetwork(self.encoder)

    def collate(self, sequences: Sequence[Codes], species: str | None) -> Batch:
        """One-hot (B, 4, L), shorter sequences filled up with N, and the species (B,)."""
        longest = max(len(codes) for codes in sequences)
        codes = np.full((len(sequences), longest), N, dtype=np.uint8)
        for row, sequence in enumerate(sequences):
            codes[row, : len(sequence)] = sequence
        return encoder_inputs(self.encoder, codes, species)

    @property
    def _poolings(self) -> tuple[str, ...]:
        return (*POOLINGS, SUMMARY) if self.encoder.summarizes else POOLINGS

    def _parts(self, view: str) -> tuple[str, str]:
        layer, _, pooling = view.rpartition(".")
        if layer not in self.encoder.layers or pooling not in self._poolings:
            raise CislensError(
                f"{self.name} has no view {view!r}, which is layer.pooling. "
                f"{nearest(view, self.views)}"
            )
        return layer, pooling

    def _layers(self, codes: Codes, species: str | None, wanted: set[str]) -> dict[str, Embedding]:
        """The embeddings of some layers; no layer after the last of them is computed."""
        if wanted == {self.encoder.layers[-1]}:
            return {
                self.encoder.layers[-1]: self.encoder(*encoder_inputs(self.encoder, codes, species))
            }
        found: dict[str, Embedding] = {}
        hidden = self.encoder.hidden(*encoder_inputs(self.encoder, codes, species))
        for layer, embedding in zip(self.encoder.layers, hidden, strict=False):
            if layer in wanted:
                found[layer] = embedding
            if len(found) == len(wanted):
                break
        return found

    def _over(
        self,
        sequences: Sequence[Codes],
        forward: Callable[[Codes], list[Features]],
        backward: Callable[[Codes], list[Features]] | None,
    ) -> list[Features]:
        """What `forward` gives for stacked codes, put back in order; averaged with `backward`."""
        self._refuse_uncalled(sequences)
        out: list[Features] = []
        self.encoder.eval()
        with torch.inference_mode():
            for rows in length_batches(sequences):
                codes = np.stack([sequences[row] for row in rows])
                parts = forward(codes)
                if backward is not None:
                    for part, other in zip(parts, backward(codes), strict=True):
                        part += other
                        part /= 2
                out = out or [np.empty((len(sequences), *p.shape[1:]), np.float32) for p in parts]
                for whole, part in zip(out, parts, strict=True):
                    whole[rows] = part
        if not all(np.isfinite(values).all() for values in out):
            raise CislensError(f"{self.name}: features are not finite; the weights may be damaged.")
        return out

    def _refuse_uncalled(self, sequences: Sequence[Codes]) -> None:
        if not len(sequences):
            raise CislensError(f"{self.name}: there is no sequence to embed.")
        empty = [i for i, codes in enumerate(sequences) if not (codes != N).any()]
        if empty:
            raise CislensError(
                f"{self.name}: sequence {empty[0]} holds no called base (only N); leave it out."
            )


def with_weights(digest: str, module: nn.Module) -> str:
    """A digest that changes with another one and with a module's weights and buffers."""
    whole = hashlib.sha256(digest.encode())
    _add_weights(whole, module)
    return whole.hexdigest()


def _add_weights(digest: "hashlib._Hash", module: nn.Module) -> None:
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        # Viewed as bytes, because numpy knows no bfloat16.
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def length_batches(sequences: Sequence[Codes]) -> Iterator[list[int]]:
    """Rows of sequences of equal length, from short to long, a bounded number of bases each."""
    rows: list[int] = []
    for row in sorted(range(len(sequences)), key=lambda row: len(sequences[row])):
        length = len(sequences[row])
        if rows and (
            length != len(sequences[rows[0]]) or length * (len(rows) + 1) > _BASES_PER_BATCH
        ):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def encoder_inputs(encoder: Encoder, codes: Codes, species: str | None) -> Batch:
    """One-hot (B, 4, L) and species (B,) on the encoder's device; an unknown species is -1."""
    device = next(encoder.parameters()).device
    # A species the encoder was not trained on is embedded as an unknown one.
    index = encoder.species.index(species) if species in encoder.species else -1
    x_B4L = torch.from_numpy(one_hot(codes)).to(device)
    return x_B4L, torch.full((len(codes),), index, dtype=torch.int64, device=device)
