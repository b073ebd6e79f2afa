"""Views of parent windows: cut anywhere, changed, turned and masked, with maps of their bases.

Two views of one window show the same base of the genome wherever their `place` is the same, in
whichever orientation each is read; that is what their vectors may be compared by.

Dimensions: V view, B window, R = V * B view of any window, L base pair of a view, P of a parent
window or a source.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.genome import codes as dna
from cislens.genome.codes import Codes
from cislens.genome.masking import WIDE_SPANS, Masked, mask_bases, mask_spans
from cislens.recipes import sequence_terms as recipes
from cislens.sequence.batch import SequenceBatch, Views
from cislens.sequence.edits import Ints, carry, complement, crop, substitute
from cislens.sequence.store import REPEAT, SequenceStore

_CODE = np.uint8(REPEAT - 1)


@dataclass(frozen=True)
class Windows:
    """B parent windows.

    Attributes:
        species_B, chrom_B, start_B: as in `SequenceBatch`.
        marked_BP: codes, plus REPEAT where soft-masked.
    """

    species_B: Ints
    chrom_B: Ints
    start_B: Ints
    marked_BP: Codes


@dataclass(frozen=True)
class _Sources:
    """What views are cut from: the windows, or what a haplotype makes of each.

    Attributes:
        marked_SP: as of `Windows`, filled up at the end.
        row_R: source of each view.
        size_R: bp of it.
        place_SP: base of the window, or -1; None if it is the same number.
    """

    marked_SP: Codes
    row_R: Ints
    size_R: Ints
    place_SP: npt.NDArray[np.int32] | None


def make_views(
    store: SequenceStore,
    species_B: Ints,
    chrom_B: Ints,
    start_B: Ints,
    settings: recipes.Views,
    masks: recipes.Masks | None,
    rng: np.random.Generator,
    kmer: int = 1,
) -> SequenceBatch:
    """The windows and their views, each view drawn on its own.

    Args:
        settings: no view is longer than the store's windows.
        masks: of the global views; None hides nothing.
        kmer: bases of a token of the reader; see `masking.mask_spans`.
    """
    windows = read_windows(store, species_B, chrom_B, start_B)
    whole = _views(store, windows, settings.count, settings.length, settings, rng)
    if masks is not None:
        whole = _hidden(whole, masks, rng, kmer)
    local = None
    if settings.local_count:
        number, length = settings.local_count, settings.local_length
        local = _views(store, windows, number, length, settings, rng)
    label_B = np.empty(len(species_B), np.int8)
    for name, rows in _by_species(store, species_B):
        label_B[rows] = store.labels(name, chrom_B[rows], start_B[rows] + store.window // 2)
    return SequenceBatch(
        whole=whole,
        local=local,
        parent_BP=windows.marked_BP & _CODE,
        repeat_B=(windows.marked_BP >= REPEAT).mean(1, dtype=np.float32),
        label_B=label_B,
        species_B=species_B,
        chrom_B=chrom_B,
        start_B=start_B,
    )


def read_windows(store: SequenceStore, species_B: Ints, chrom_B: Ints, start_B: Ints) -> Windows:
    """Parent windows from the store."""
    marked_BP = np.empty((len(species_B), store.window), np.uint8)
    for name, rows in _by_species(store, species_B):
        codes, repeat = store.cut(name, chrom_B[rows], start_B[rows], store.window)
        marked_BP[rows] = codes | repeat.astype(np.uint8) * np.uint8(REPEAT)
    return Windows(species_B, chrom_B, start_B, marked_BP)


def _by_species(store: SequenceStore, species_B: Ints) -> list[tuple[str, Ints]]:
    return [
        (store.species[each], np.flatnonzero(species_B == each)) for each in np.unique(species_B)
    ]


def _views(
    store: SequenceStore,
    windows: Windows,
    number: int,
    length: int,
    settings: recipes.View,
    rng: np.random.Generator,
) -> Views:
    """`number` views of each window; nothing of them is hidden."""
    windows_B = len(windows.species_B)
    rows = number * windows_B
    turned_R = (rng.random(rows) < 0.5) & settings.reverse_complement
    sources = _sources(store, windows, number, length, settings.haplotypes, rng)
    crops = crop(sources.size_R, length, turned_R, rng, settings.indels, settings.indel_length)
    flat_RL = crops.index_RL + (sources.row_R * sources.marked_SP.shape[1])[:, None]
    target_RL = sources.marked_SP.ravel()[flat_RL]
    repeat_RL = target_RL >= REPEAT
    target_RL &= _CODE
    place_RL = crops.index_RL
    if sources.place_SP is not None:
        place_RL = sources.place_SP.ravel()[flat_RL]
    place_RL.ravel()[crops.inserted] = -1
    complement(target_RL, turned_R)
    inserted = crops.inserted
    target_RL.ravel()[inserted] = rng.integers(0, 4, inserted.size, np.uint8)
    low, high = settings.substitutions
    if high > 0:
        substitute(target_RL, rng.uniform(low, high, rows), rng)
    shape = (number, windows_B, length)
    return Views(
        codes_VBL=target_RL.reshape(shape),
        hidden_VBL=np.zeros(shape, np.bool_),
        scored_VBL=np.zeros(shape, np.bool_),
        target_VBL=target_RL.reshape(shape),
        repeat_VBL=repeat_RL.reshape(shape),
        place_VBL=place_RL.reshape(shape),
        turned_VB=turned_R.reshape(shape[:2]),
    )


def _sources(
    store: SequenceStore,
    windows: Windows,
    number: int,
    shortest: int,
    haplotypes: bool,
    rng: np.random.Generator,
) -> _Sources:
    windows_B, length = windows.marked_BP.shape
    rows = number * windows_B
    window_R = np.tile(np.arange(windows_B), number)
    if not haplotypes:
        return _Sources(windows.marked_BP, window_R, np.full(rows, length), None)
    carried = _carried(store, windows, window_R, shortest, rng)
    size_R = np.array([len(marked) for marked, _ in carried])
    marked_SP = np.full((rows, size_R.max()), dna.N, np.uint8)
    place_SP = np.full(marked_SP.shape, -1, np.int32)
    for row, (marked, place) in enumerate(carried):
        marked_SP[row, : len(marked)] = marked
        place_SP[row, : len(place)] = place
    return _Sources(marked_SP, np.arange(rows), size_R, place_SP)


def _carried(
    store: SequenceStore,
    windows: Windows,
    window_R: Ints,
    shortest: int,
    rng: np.random.Generator,
) -> list[tuple[Codes, npt.NDArray[np.int32]]]:
    """Each view's window with the alleles of a haplotype drawn for it, if its species has any."""
    chance_R = rng.random(len(window_R))
    carried = []
    for window, chance in zip(window_R, chance_R, strict=True):
        name = store.species[windows.species_B[window]]
        haplotypes, alleles = store.haplotypes(name), []
        if haplotypes is not None:
            start = int(windows.start_B[window])
            chrom = store.chroms(name)[windows.chrom_B[window]]
            drawn = int(chance * haplotypes.count)
            found = haplotypes.alleles(chrom, start, start + store.window, drawn)
            alleles = [(first - start, count, alt) for first, count, alt in found]
        carried.append(carry(windows.marked_BP[window], alleles, shortest))
    return carried


def _hidden(views: Views, masks: recipes.Masks, rng: np.random.Generator, kmer: int) -> Views:
    """The views with bases to be told."""
    shape = views.target_VBL.shape
    target_RL = views.target_VBL.reshape(-1, shape[-1])
    rows = len(target_RL)
    wide_R = np.full(rows, masks.kind == "spans")
    if masks.kind == "mixed":
        # Half of the views, and of an odd number the middle one as likely as not.
        wide_R = (rng.permutation(rows) + rng.integers(2)) % 2 == 1
    codes_RL = np.empty_like(target_RL)
    hidden_RL, scored_RL = np.empty(target_RL.shape, np.bool_), np.empty(target_RL.shape, np.bool_)
    for wide in (False, True):
        chosen = np.flatnonzero(wide_R == wide)
        if chosen.size:
            masked = _masked(target_RL[chosen], wide, masks, rng, kmer)
            codes_RL[chosen] = masked.codes_BL
            hidden_RL[chosen], scored_RL[chosen] = masked.hidden_BL, masked.scored_BL
    # There is nothing to hide where no base is called, and N must not look like a hidden base.
    hidden_RL &= target_RL != dna.N
    return Views(
        codes_VBL=codes_RL.reshape(shape),
        hidden_VBL=hidden_RL.reshape(shape),
        scored_VBL=scored_RL.reshape(shape),
        target_VBL=views.target_VBL,
        repeat_VBL=views.repeat_VBL,
        place_VBL=views.place_VBL,
        turned_VB=views.turned_VB,
    )


def _masked(
    target_RL: Codes, wide: bool, masks: recipes.Masks, rng: np.random.Generator, kmer: int
) -> Masked:
    if wide:
        return mask_spans(target_RL, masks.span_rate, rng, kmer, WIDE_SPANS)
    return mask_bases(target_RL, masks.base_rate, rng, kmer)
