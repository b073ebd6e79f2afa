"""Loci for the report: held-out windows of a profile store, measured and predicted."""

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.effects.tracks import predict_tracks
from cislens.errors import CislensError
from cislens.genome.reference import Genome
from cislens.models.profile import ProfileModel
from cislens.report.inputs import Locus, LocusTrack
from cislens.signal.store import ProfileStore
from cislens.signal.transforms import untransform

# Rank of the windows that are shown, from none of the others varying more to the typical one.
_RANKS = (1.0, 0.9, 0.75, 0.5)


def held_out_loci(
    model: ProfileModel,
    genome: Genome,
    store: ProfileStore,
    species: str,
    count: int = 2,
    annotations: pl.DataFrame | None = None,
    annotated_as: str = "genes",
) -> list[Locus]:
    """Test windows of one species with what was measured in them and what the model predicts.

    They are chosen by the measured signal alone, never by how well it is predicted: the window
    whose tracks vary most, then those at the 90th, 75th and 50th percentile. Values are means
    per base in the unit of the tracks' files, strands averaged.

    Args:
        genome: the species' genome.
        count: how many, at most four.
        annotations: chrom, start, end, and where known name and strand.
        annotated_as: what they are, for the figure's caption.

    Raises:
        CislensError: if the store has no test window of the species.
    """
    windows = store.windows(species).with_row_index("row").filter(pl.col("split") == "test")
    if windows.is_empty():
        raise CislensError(f"{store.path} has no test window of {species}; split it again.")
    measured_WNT = store.targets(species, windows["row"].to_numpy()).astype(np.float32)
    tracks = store.tracks(species)
    loci = []
    for place in _chosen(measured_WNT, min(count, len(_RANKS))):
        chrom, start, end = windows.select("chrom", "start", "end").row(int(place))
        margin = store.crop * store.bin_size
        region = pl.DataFrame({"chrom": [chrom], "start": [start + margin], "end": [end - margin]})
        predicted = predict_tracks(
            model, genome, region, species, tracks, length=store.length, average_strands=True
        )
        shown = {row.id: column for column, row in enumerate(predicted.tracks.rows())}
        pairs = [
            LocusTrack(
                row.description or row.id,
                untransform(measured_WNT[place, :, column], row, bin_size=store.bin_size),
                predicted.values_RT[:, shown[row.id]],
            )
            for column, row in enumerate(tracks.rows())
        ]
        first = start + margin
        loci.append(Locus(species, chrom, first, store.bin_size, pairs, annotations, annotated_as))
    return loci


def _chosen(measured_WNT: npt.NDArray[np.float32], count: int) -> list[int]:
    """Windows at fixed ranks of their variation, each track weighing the same."""
    spread_WT = measured_WNT.std(axis=1)
    order = np.argsort((spread_WT / (spread_WT.mean(axis=0) + 1e-9)).mean(axis=1), kind="stable")
    places = [order[round(rank * (len(order) - 1))] for rank in _RANKS[:count]]
    return [int(place) for place in dict.fromkeys(places)]
