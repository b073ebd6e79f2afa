"""Batches of a region store: loci drawn, augmented, masked, each with its surroundings.

Dimensions: B locus, L base pair, R region of a context, N region of the store, E open region of
a cell type.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.genome.codes import Codes, gc_content, reverse_complement
from cislens.genome.masking import Masked, mask_spans
from cislens.genome.sampling import cpg_observed_expected
from cislens.motifs.batch import Bools, Ints, RegionBatch, RegionContext
from cislens.motifs.contexts import Neighborhoods, hide
from cislens.motifs.negatives import Drawn, Layout, Pool, composition, strata
from cislens.motifs.store import RegionStore
from cislens.prefetch import Prefetched
from cislens.randomness import generator
from cislens.recipes.multimodal import MultimodalTerms

logger = logging.getLogger("cislens")

Part = Literal["train", "valid", "test"]

# Batches that are sorted by GC content together: each then spans about 1/32 of its distribution.
_CHUNK = 32
_LARGEST_GAP = 32
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Loci:
    """What is drawn for the rows of a batch.

    Attributes:
        row_B, cell_B: central region and cell type.
        shift_B: bp that the sequence is moved by.
        gap_B: bp between two segments.
        flip_B: read on the other strand.
        second_B: region whose second half follows the first half of `row_B`; None without pairs.
        other: regions of the same cell types that do not belong; None without matching.
    """

    row_B: Ints
    cell_B: Ints
    shift_B: Ints
    gap_B: Ints
    flip_B: Bools
    second_B: Ints | None
    other: Drawn | None


class RegionLoader(Prefetched[RegionBatch]):
    """Batches of one part of a store, each a pure function of (seed, epoch, step).

    An epoch of `train` has each region that is open in a training cell type once, whatever the
    number of cell types that share it, in one of them: drawn, those with fewer regions more
    often, so that cell types come about equally often. The last, smaller batch is left out.
    `valid` and `test` have each of their regions once, in the same cell type, with the same
    masks and negatives always, whatever the seed, and without augmentation.

    With matched negatives each batch holds loci of alike GC content.

    Args:
        store: regions, motifs and cell types.
        part: of the split of the regions; the cell types are those of training in each.
        terms: what the objective asks; nothing is made that no term asks for.
        shift: the sequence moves by up to so many bp, within the store's margin.
        reverse_complement: read half of the loci on the other strand, regions and all.
        kmer: bases of a token of the sequence encoder; see `masking.mask_spans`.

    Attributes:
        counted: negatives drawn so far: "match" and "next", "... near", "... beyond calipers".

    Raises:
        CislensError: if the part has nothing to draw from, or the shift exceeds the margin.
    """

    def __init__(
        self,
        store: RegionStore,
        part: Part,
        batch_size: int,
        seed: int = 0,
        *,
        terms: MultimodalTerms,
        shift: int = 3,
        reverse_complement: bool = True,
        kmer: int = 1,
    ) -> None:
        training = part == "train"
        _check(store, batch_size, shift, terms)
        self.store = store
        self.part = part
        self.batch_size = batch_size
        self.seed = seed if training else 0
        self.terms = terms
        self.shift = shift if training else 0
        self.reverse_complement = reverse_complement and training
        self.kmer = kmer
        self.counted: Counter[str] = Counter()
        self.neighborhoods = Neighborhoods(store)
        self._sampler = _Sampler(store, part)
        regions = store.regions
        self._gc_N = regions["gc"].to_numpy().astype(np.float64)
        self.layout = Layout(
            self.neighborhoods.position_N,
            regions["homology"].to_numpy().astype(np.int64),
            store.width + 2 * store.margin,
        )
        self._contexts, self._segments = self._pools()
        self._order: tuple[int, Ints, Ints] = (-1, np.empty(0, np.int64), np.empty(0, np.int64))

    def __len__(self) -> int:
        """Batches in an epoch."""
        regions = len(self._sampler.region_P)
        if self.part == "train" and regions >= self.batch_size:
            return regions // self.batch_size
        return -(-regions // self.batch_size)

    def batch(self, epoch: int, step: int) -> RegionBatch:
        """One batch.

        Raises:
            IndexError: if the epoch has no such step.
        """
        loci = self.loci(epoch, step)
        target_BL = self.sequences(loci)
        masked = self._mask(target_BL, self._generator("masks", epoch, step))
        rng = self._generator("contexts", epoch, step)
        context = self._context(loci.row_B, loci, rng)
        other = None if loci.other is None else self._context(loci.other.row_B, loci, rng)
        next_B = None if loci.second_B is None else (loci.second_B != loci.row_B).astype(np.int64)
        flip_B = loci.flip_B
        target_BL[flip_B] = reverse_complement(target_BL[flip_B])
        masked.codes_BL[flip_B] = reverse_complement(masked.codes_BL[flip_B])
        for bases_BL in (masked.hidden_BL, masked.scored_BL):
            bases_BL[flip_B] = bases_BL[flip_B, ::-1]
        return RegionBatch(
            row_B=loci.row_B,
            cell_B=loci.cell_B,
            target_BL=target_BL,
            codes_BL=masked.codes_BL,
            hidden_BL=masked.hidden_BL,
            scored_BL=masked.scored_BL,
            next_B=next_B,
            context=context,
            other=other,
            apart_BB=self.layout.apart(loci.row_B),
            gc_B=gc_content(target_BL).astype(np.float32),
        )

    def loci(self, epoch: int, step: int) -> Loci:
        """What batch `step` is made of.

        Raises:
            IndexError: if the epoch has no such step.
        """
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of an epoch of {len(self)}")
        row_E, cell_E = self._epoch_order(epoch)
        here = slice(step * self.batch_size, (step + 1) * self.batch_size)
        row_B, cell_B = row_E[here], cell_E[here]
        size = len(row_B)
        rng = self._generator("loci", epoch, step)
        shift_B = rng.integers(-self.shift, self.shift + 1, size)
        gap_B = rng.integers(0, min(_LARGEST_GAP, 2 * self.store.margin) + 1, size)
        flip_B = (rng.random(size) < 0.5) & self.reverse_complement
        other = second_B = None
        if self._contexts is not None:
            other = self._drawn("match", self._contexts, row_B, cell_B, rng)
        if self._segments is not None:
            elsewhere = self._drawn("next", self._segments, row_B, np.zeros_like(row_B), rng)
            second_B = np.where(rng.permutation(size) % 2 == 1, elsewhere.row_B, row_B)
        return Loci(row_B, cell_B, shift_B, gap_B, flip_B, second_B, other)

    def _generator(self, what: str, epoch: int, step: int) -> np.random.Generator:
        return generator(self.seed, what, epoch if self.part == "train" else 0, step)

    def _epoch_order(self, epoch: int) -> tuple[Ints, Ints]:
        """Rows and cell types of an epoch, in the order of its batches."""
        if self.part != "train":
            epoch = 0
        held, row_E, cell_E = self._order
        if held != epoch:
            rng = generator(self.seed, "order", epoch)
            row_E, cell_E = self._sampler.draw(rng)
            if self.part == "train":
                chosen = rng.permutation(len(row_E))[: len(self) * self.batch_size]
                row_E, cell_E = row_E[chosen], cell_E[chosen]
            if self.terms.negatives == "matched":
                gc_E = self._gc_N[row_E]
                order = strata(gc_E, self.batch_size, _CHUNK, self.seed, epoch)
                row_E, cell_E = row_E[order], cell_E[order]
            self._order = (epoch, row_E, cell_E)
        return row_E, cell_E

    def _drawn(
        self, what: str, pool: Pool, row_B: Ints, group_B: Ints, rng: np.random.Generator
    ) -> Drawn:
        if self.terms.negatives == "random":
            drawn = pool.random(row_B, group_B, rng)
        else:
            drawn = pool.matched(row_B, group_B, rng, near=what == "match")
        self.counted[what] += len(row_B)
        self.counted[f"{what} near"] += int(drawn.near_B.sum())
        self.counted[f"{what} beyond calipers"] += int((~drawn.matched_B).sum())
        return drawn

    def sequences(self, loci: Loci) -> Codes:
        """Sequences (B, L) of the forward strand: of regions, or of pairs of segments."""
        store = self.store
        window = store.sequence(loci.row_B)
        if loci.second_B is None:
            return _cut(window, store.margin + loci.shift_B, store.width)
        half = store.width // 2
        first_B = np.clip(
            store.margin + loci.shift_B - loci.gap_B // 2, 0, 2 * store.margin - loci.gap_B
        )
        left = _cut(window, first_B, half)
        right = _cut(store.sequence(loci.second_B), first_B + half + loci.gap_B, half)
        return np.concatenate([left, right], axis=1)

    def _mask(self, target_BL: Codes, rng: np.random.Generator) -> Masked:
        if not self.terms.masked:
            nothing = np.zeros(target_BL.shape, np.bool_)
            return Masked(target_BL.copy(), nothing, nothing.copy())
        # Tokens never reach across the border of two segments.
        segments = target_BL.reshape(-1, target_BL.shape[1] // (2 if self.terms.next else 1))
        masked = mask_spans(segments, self.terms.mask_rate, rng, self.kmer)
        return Masked(
            masked.codes_BL.reshape(target_BL.shape),
            masked.hidden_BL.reshape(target_BL.shape),
            masked.scored_BL.reshape(target_BL.shape),
        )

    def _context(self, row_B: Ints, loci: Loci, rng: np.random.Generator) -> RegionContext:
        around = self.neighborhoods.around(row_B, loci.cell_B, self.terms.context, rng)
        if self.terms.regions:
            around = hide(around, self.terms.region_rate, rng)
        around = around.turned(loci.flip_B)
        return self.neighborhoods.context(around, loci.cell_B, loci.flip_B)

    def _pools(self) -> tuple[Pool | None, Pool | None]:
        """Where contexts and second segments that do not belong are drawn from."""
        layout, drawn = self.layout, self._sampler
        contexts = segments = None
        if self.terms.match:
            looks_N3 = composition(self.store)
            contexts = Pool(layout, drawn.row_E, drawn.cell_E, drawn.chance_E, looks_N3)
        if self.terms.next:
            rows, looks_N3 = drawn.region_P, composition(self.store)
            if self.terms.negatives == "matched":
                # The segment takes the place of a second half, so it must look like that half.
                looks_N3[rows, :2] = _second_halves(self.store, rows)
            same = np.zeros_like(rows)
            segments = Pool(layout, rows, same, np.ones(len(rows)), looks_N3)
        return contexts, segments


class _Sampler:
    """Draws for each region of a part one of the training cell types in which it is open.

    Attributes:
        row_E, cell_E: open regions of the part in the training cell types, by region.
        chance_E: of the cell type, given the region.
        region_P: the regions, each once.
    """

    def __init__(self, store: RegionStore, part: str) -> None:
        here_N = store.regions["split"].to_numpy() == part
        cells = np.flatnonzero(store.cells["split"].to_numpy() == "train")
        open_EC = store.is_open[:, cells] & here_N[:, None]
        sizes = open_EC.sum(0)
        lonely = cells[sizes == 1]
        if lonely.size:
            names = store.cells["cell_id"].gather(lonely).to_list()
            logger.warning("a single %s region is open in %s: left out", part, ", ".join(names))
            open_EC[:, sizes == 1] = False
        row_E, column_E = np.nonzero(open_EC)
        if not row_E.size:
            raise CislensError(
                f"region store {store.path} has no two regions of split {part!r} that are open in "
                "one training cell type; choose other splits, or add peaks."
            )
        self.row_E, self.cell_E = row_E, cells[column_E]
        self.region_P, self._first_P = np.unique(row_E, return_index=True)
        weight_E = 1.0 / sizes[column_E]
        total_P = np.add.reduceat(weight_E, self._first_P)
        count_P = np.diff(np.append(self._first_P, len(row_E)))
        self.chance_E: npt.NDArray[np.float64] = weight_E / np.repeat(total_P, count_P)
        self._total_E = np.cumsum(self.chance_E)
        self._last_P = self._first_P + count_P - 1

    def draw(self, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Row and cell type of each region."""
        before_P = self._total_E[self._first_P] - self.chance_E[self._first_P]
        drawn = np.searchsorted(self._total_E, before_P + rng.random(len(before_P)), "right")
        chosen = np.clip(drawn, self._first_P, self._last_P)
        return self.region_P, self.cell_E[chosen]


def _check(store: RegionStore, batch_size: int, shift: int, terms: MultimodalTerms) -> None:
    if not 0 <= shift <= store.margin:
        raise CislensError(
            f"shift {shift} is not within the margin of {store.margin} bp that {store.path} was "
            "built with; choose a smaller shift or build with a larger margin."
        )
    if batch_size < 1:
        raise CislensError(f"batch_size is {batch_size}, expected at least 1.")
    if terms.next and store.width % 2:
        raise CislensError(
            f"{store.path} has regions of {store.width} bp, an odd number, which cannot be parted "
            "into two segments; set `next: 0` or build with an even width."
        )


def _cut(window: Codes, start_B: Ints, length: int) -> Codes:
    """`length` bp of each row from a start of its own."""
    pieces = np.lib.stride_tricks.sliding_window_view(window, length, axis=1)
    cut: Codes = pieces[np.arange(len(window)), start_B]
    return cut


def _second_halves(store: RegionStore, rows: Ints) -> npt.NDArray[np.float64]:
    """GC content and CpG observed/expected of the second halves of regions."""
    half = store.width // 2
    first = store.margin + half
    found = np.empty((len(rows), 2))
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        codes = store.sequence(rows[part])[:, first : first + half]
        found[part, 0] = gc_content(codes)
        found[part, 1] = cpg_observed_expected(codes)
    return found
