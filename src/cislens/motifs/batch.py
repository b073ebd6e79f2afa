"""Batches of a region store: loci of cell types, each with its sequence and its surroundings.

Dimensions: B locus, L base pair, R region of a context, T motif.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.genome.codes import Codes

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RegionContext:
    """The open regions of a cell type around a region: the matrix, its channels kept apart.

    Attributes:
        row_BR: rows of the regions in the store, -1 for padding; in genomic order, or against it
            where the locus is read on the other strand.
        motif_BRT: occupancy of each motif beside what base composition explains, in standard
            deviations; 0 where it could not be measured.
        access_BR: accessibility in the cell type, in standard deviations.
        expression_BT: of each motif's factor in the cell type, in standard deviations; None
            without the channel.
        offset_BR: bp from the center of the central region, negative upstream.
        pad_BR: no region.
        center_B: column of the central region.
        hidden_BR: regions all of whose channels are hidden from the model.
        access_hidden_BR: regions whose accessibility is hidden; includes `hidden_BR`.
        gc_B: share of G and C of the central region.
    """

    row_BR: Ints
    motif_BRT: Floats
    access_BR: Floats
    expression_BT: Floats | None
    offset_BR: Floats
    pad_BR: Bools
    center_B: Ints
    hidden_BR: Bools
    access_hidden_BR: Bools
    gc_B: Floats


@dataclass(frozen=True)
class RegionBatch:
    """Loci of one step.

    Attributes:
        row_B, cell_B: rows of the central region and of the cell type in the store.
        target_BL: the sequence of the central region (with `next_B`: of two segments of L / 2 bp,
            one after the other).
        codes_BL: the same with bases at scored places replaced; what the encoder is shown.
        hidden_BL: bases that the encoder must not see at all.
        scored_BL: bases to be told; hidden, replaced or left as they are, never N.
        next_B: whether the second half of the sequence follows the first: 0 adjacent, 1 elsewhere;
            None where nobody asks.
        context: of the locus, in its cell type.
        other: a context that does not belong to the sequence, for matching; None if nobody asks.
        apart_BB: pairs (sequence, context) of the batch that may count as not belonging together:
            False on the diagonal, for the same or an overlapping or close region, the same region
            in another cell type, and homologs.
        gc_B: share of G and C of each sequence.
    """

    row_B: Ints
    cell_B: Ints
    target_BL: Codes
    codes_BL: Codes
    hidden_BL: Bools
    scored_BL: Bools
    next_B: Ints | None
    context: RegionContext
    other: RegionContext | None
    apart_BB: Bools
    gc_B: Floats
