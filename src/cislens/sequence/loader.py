"""Batches of a sequence store: windows drawn from its genomes, each as several views.

Dimensions: B window.
"""

from dataclasses import fields
from typing import Any, Literal

import numpy as np

from cislens.errors import CislensError
from cislens.prefetch import Prefetched
from cislens.randomness import generator
from cislens.recipes.sequence_terms import Masks
from cislens.recipes.sequence_terms import Views as ViewSettings
from cislens.sequence.batch import SequenceBatch, Views
from cislens.sequence.sampler import WindowSampler
from cislens.sequence.store import SequenceStore
from cislens.sequence.views import make_views

Part = Literal["train", "valid", "test"]

_BLOCK = 32


class SequenceLoader(Prefetched[SequenceBatch]):
    """Batches of one part of a store, each a pure function of (seed, epoch, step).

    The windows of `train` are drawn on their own, every start as likely as any other; an epoch
    has as many as cover the part once, and at least one batch. `valid` and `test` have the same
    `held_out` windows always, spread evenly over the part, with the same crops and masks whatever
    the seed and the batch size, and with no base changed.

    Args:
        store: of the windows.
        part: of its split.
        views: how they are cut. For views to be completed and nothing else:
            `Views(**view.model_dump(), count=1, local_count=0)`.
        masks: of the global views.
        held_out: windows of `valid` and `test`.
        kmer: bases of a token of the reader; see `masking.mask_spans`.

    Raises:
        CislensError: if the part has no windows, a view is longer than the store's windows, or
            views ask for haplotypes that the store does not have.
    """

    def __init__(
        self,
        store: SequenceStore,
        part: Part,
        batch_size: int,
        seed: int = 0,
        *,
        views: ViewSettings,
        masks: Masks,
        held_out: int = 1024,
        kmer: int = 1,
    ) -> None:
        _check(store, batch_size, views)
        self.store = store
        self.part = part
        self.batch_size = batch_size
        self.seed = seed
        self.masks = masks
        self.kmer = kmer
        self.sampler = WindowSampler(store, part)
        self._fixed = None
        if part == "train":
            self.views = views
        else:
            self._fixed = self.sampler.fixed(held_out)
            unchanged = {"substitutions": (0.0, 0.0), "indels": 0, "haplotypes": False}
            self.views = views.model_copy(update=unchanged)

    def __len__(self) -> int:
        """Batches in an epoch."""
        if self._fixed is not None:
            return -(-len(self._fixed[0]) // self.batch_size)
        return max(1, self.sampler.bases // (self.store.window * self.batch_size))

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        """One batch.

        Raises:
            IndexError: if the epoch has no such step.
        """
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of an epoch of {len(self)}")
        if self._fixed is None:
            rng = generator(self.seed, "views", epoch, step)
            windows = self.sampler.draw(rng, self.batch_size)
            return make_views(self.store, *windows, self.views, self.masks, rng, self.kmer)
        first = step * self.batch_size
        last = min(first + self.batch_size, len(self._fixed[0]))
        blocks = range(first // _BLOCK, -(-last // _BLOCK))
        begin = blocks.start * _BLOCK
        return _joined([self._held_out(block) for block in blocks], first - begin, last - begin)

    def _held_out(self, block: int) -> SequenceBatch:
        """Windows that are made together, so that the batch size does not change them."""
        assert self._fixed is not None
        here = slice(block * _BLOCK, (block + 1) * _BLOCK)
        species_B, chrom_B, start_B = (numbers[here] for numbers in self._fixed)
        rng = generator(0, "held out", block)
        return make_views(
            self.store, species_B, chrom_B, start_B, self.views, self.masks, rng, self.kmer
        )


def _joined(batches: list[SequenceBatch], first: int, last: int) -> SequenceBatch:
    """Windows `first` to `last` of several batches in a row."""

    def join(parts: list[Any], windows: int) -> Any:
        if isinstance(parts[0], Views):
            # B is the second axis of views.
            names = [each.name for each in fields(Views)]
            return Views(**{name: join([getattr(p, name) for p in parts], 1) for name in names})
        if parts[0] is None:
            return None
        return np.take(np.concatenate(parts, windows), np.arange(first, last), windows)

    names = [each.name for each in fields(SequenceBatch)]
    return SequenceBatch(
        **{name: join([getattr(batch, name) for batch in batches], 0) for name in names}
    )


def _check(store: SequenceStore, batch_size: int, views: ViewSettings) -> None:
    if batch_size < 1:
        raise CislensError(f"batch_size is {batch_size}, expected at least 1.")
    longest = max(views.length, views.local_length if views.local_count else 0)
    if longest > store.window:
        raise CislensError(
            f"views of {longest} bp cannot be cut from the windows of {store.window} bp of "
            f"{store.path}; choose shorter views, or build with a larger `window`."
        )
    if views.haplotypes and not any(store.haplotypes(name) for name in store.species):
        raise CislensError(
            f"{store.path} has no haplotypes, which `haplotypes: true` asks for; build it with "
            "`haplotypes`, or leave them out."
        )
