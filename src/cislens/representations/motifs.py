"""How strongly each motif of a library occurs in a sequence: the baseline that knows the motifs.

Legend: n sequences, M motifs.
"""

from collections.abc import Sequence

import numpy as np

from cislens.genome.codes import Codes, N
from cislens.motifs.library import MotifLibrary
from cislens.representations.contract import Features, Kind


class MotifOccupancy:
    """Log-sum-exp of each motif's score over all placements on both strands, as `motifs.scan`.

    The same for a sequence and its reverse complement. A motif that fits nowhere, because the
    sequence is too short or unknown, counts as no better than background (0). D is M.

    Args:
        library: its motifs; the extra `multimodal` scans them.
    """

    kind: Kind = "composition"
    name = "motifs"
    parameters = 0

    def __init__(self, library: MotifLibrary) -> None:
        from cislens.motifs.scan import scanner_name

        self.library = library
        self.digest = f"motifs/1/{scanner_name()}/{library.digest}"

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        from cislens.motifs.scan import occupancy

        longest = max(len(codes) for codes in sequences)
        padded = np.full((len(sequences), longest), N, dtype=np.uint8)
        for row, codes in zip(padded, sequences, strict=True):
            row[: len(codes)] = codes
        found: Features = np.nan_to_num(occupancy(padded, self.library.motifs), nan=0.0)
        return found
