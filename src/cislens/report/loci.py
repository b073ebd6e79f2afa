"""Loci for the report: held-out windows of a profile store, measured and predicted."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.effects.tracks import predict_tracks
from cislens.errors import CislensError
from cislens.genome.codes import Codes, N, decode
from cislens.genome.reference import Genome
from cislens.models.profile import ProfileModel
from cislens.report.inputs import Locus, LocusTrack
from cislens.signal.store import ProfileStore
from cislens.signal.transforms import untransform

# Rank of the windows that are shown, from none of the others varying more to the typical one.
_RANKS = (1.0, 0.9, 0.75, 0.5)
# A window is shown with its neighbors in the test part, up to about this many bins.
_BINS = 256


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
    whose tracks vary most, then those at the 90th, 75th and 50th percentile, each with the test
    windows that join it. Values are means per base in the unit of the tracks' files, predictions
    averaged over both strands.

    Args:
        genome: the species' genome.
        count: how many at most, up to four; fewer where loci would overlap.
        annotations: chrom, start, end, and where known name and strand.
        annotated_as: what they are, for the figure's caption.

    Raises:
        CislensError: if the store has no test window of the species, or its windows do not lie
            on the genome's grid of bins.
    """
    store.require_placed(species, "the drawing of loci")
    windows = store.windows(species).with_row_index("row").filter(pl.col("split") == "test")
    windows = windows.sort("chrom", "start")
    if windows.is_empty():
        raise CislensError(f"{store.path} has no test window of {species}; split it again.")
    return _loci_of(model, genome, store, species, windows, count, annotations, annotated_as)


def validation_loci(model: ProfileModel, store: ProfileStore, species: str) -> list[Locus]:
    """The validation window of one species whose tracks vary most, with those that join it.

    As `held_out_loci`, but of windows that training watches, and from the store alone: it holds
    the bases under its windows. Empty where no such window lies in a genome, on its grid of bins.
    """
    windows = store.windows(species).with_row_index("row").filter(pl.col("split") == "valid")
    windows = windows.sort("chrom", "start")
    on_grid = (windows["start"] % store.bin_size == 0).all()
    if windows.is_empty() or not store.placed(species) or not on_grid:
        return []
    genome = StoredGenome(store, species, windows)
    return _loci_of(model, genome, store, species, windows, 1)


def learned_part(store: ProfileStore, species: str, model: ProfileModel) -> ProfileStore:
    """The store with those of the species' tracks that the model has learned."""
    learned = set(model.config.tracks.get(species, ()))
    ids = [name for name in store.tracks(species).frame["id"] if name in learned]
    return store.part(tracks=ids, species=[species]) if ids else store


def _loci_of(
    model: ProfileModel,
    genome: Genome,
    store: ProfileStore,
    species: str,
    windows: pl.DataFrame,
    count: int,
    annotations: pl.DataFrame | None = None,
    annotated_as: str = "genes",
) -> list[Locus]:
    measured_WNT = store.targets(species, windows["row"].to_numpy()).astype(np.float32)
    tracks = store.tracks(species)
    loci = []
    for places in _chosen(windows, measured_WNT, store.bin_size, count):
        chrom = windows["chrom"][places.start]
        first = windows["start"][places.start] + store.crop * store.bin_size
        if first % store.bin_size:
            raise CislensError(
                f"{store.path}: the window {chrom}:{windows['start'][places.start]} does not lie "
                f"on the grid of {store.bin_size} bp bins; build the store with a stride that is "
                "a multiple of the bin size."
            )
        measured_NT = measured_WNT[places].reshape(-1, len(tracks))
        region = {"chrom": chrom, "start": first, "end": first + len(measured_NT) * store.bin_size}
        predicted = predict_tracks(
            model, genome, pl.DataFrame([region]), species, tracks, length=store.length,
            average_strands=True,
        )  # fmt: skip
        columns = {row.id: column for column, row in enumerate(predicted.tracks.rows())}
        shown = [
            LocusTrack(
                row.description or row.id,
                untransform(measured_NT[:, column], row, bin_size=store.bin_size),
                predicted.values_RT[:, columns[row.id]],
            )
            for column, row in enumerate(tracks.rows())
        ]
        bases = decode(genome.fetch(chrom, first, region["end"]))
        loci.append(
            Locus(
                species, chrom, first, store.bin_size, shown, annotations, annotated_as,
                sequence=bases, chrom_size=genome.size(chrom),
            )
        )  # fmt: skip
    return loci


class StoredGenome(Genome):
    """What some windows of a store tell of their genome; N elsewhere.

    Args:
        windows: of the species, sorted, with the `row` of each.
    """

    def __init__(self, store: ProfileStore, species: str, windows: pl.DataFrame) -> None:
        self.path, self.name = store.path, species
        self.chrom_sizes = store.chrom_sizes(species)
        self._store, self._windows = store, windows

    def fetch(self, chrom: str, start: int, end: int) -> Codes:
        """Codes (end - start,) of one interval."""
        found = np.full(end - start, N, np.uint8)
        margin = self._store.margin
        near = self._windows.filter(
            pl.col("chrom") == chrom,
            pl.col("start") - margin < end,
            pl.col("end") + margin > start,
        )
        for row, first in near.select("row", "start").iter_rows():
            codes = self._store.sequence(self.name, np.array([row]))[0]
            at = first - margin - start
            left, right = max(at, 0), min(at + len(codes), len(found))
            found[left:right] = codes[left - at : right - at]
        return found

    def windows(
        self,
        chroms: Sequence[str] | pl.Series,
        starts: Sequence[int] | npt.NDArray[np.int64] | pl.Series,
        width: int,
    ) -> Codes:
        """Codes (n, width) of n windows."""
        return np.array(
            [
                self.fetch(str(chrom), int(start), int(start) + width)
                for chrom, start in zip(chroms, starts, strict=True)
            ]
        )


def _chosen(
    windows: pl.DataFrame, measured_WNT: npt.NDArray[np.float32], bin_size: int, count: int
) -> list[slice]:
    """Windows at fixed ranks of their variation, each with neighbors; none is in two of them.

    Each track weighs the same. Neighbors are windows whose bins join without gap or overlap.
    """
    spread_WT = measured_WNT.std(axis=1)
    order = np.argsort((spread_WT / (spread_WT.mean(axis=0) + 1e-9)).mean(axis=1), kind="stable")
    step = windows["start"].diff().fill_null(-1).to_numpy()
    joined = (windows["chrom"] == windows["chrom"].shift()).fill_null(value=False).to_numpy()
    joined = joined & (step == measured_WNT.shape[1] * bin_size)
    found: list[slice] = []
    for rank in _RANKS[:count]:
        place = int(order[round(rank * (len(order) - 1))])
        near = _neighbors(joined, place, max(1, round(_BINS / measured_WNT.shape[1])))
        if not any(near.start < other.stop and other.start < near.stop for other in found):
            found.append(near)
    return found


def _neighbors(joined: npt.NDArray[np.bool_], place: int, most: int) -> slice:
    """Up to `most` windows in a row around one; `joined[i]` if window i follows i - 1."""
    start, stop = place, place + 1
    while stop - start < most:
        before, after = bool(joined[start]), stop < len(joined) and bool(joined[stop])
        if after and (stop - place <= place - start or not before):
            stop += 1
        elif before:
            start -= 1
        else:
            break
    return slice(start, stop)
