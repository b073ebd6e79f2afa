"""Files of one genome as a view: values of a few places in the page, or addresses of whole files.

A page that is opened from a file can read no other and holds what it shows (`Sources.embedded`); a
browser that reads from a server gets the files themselves (`Sources.served`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.genome.chromosomes import match_names
from cislens.genome.codes import decode
from cislens.genome.reference import Genome
from cislens.genome.sources import index_files
from cislens.genome.transcripts import read_transcripts
from cislens.report.browser import (
    Place,
    Stretch,
    View,
    bed12,
    features,
    genes,
    sequence_reference,
    signal,
)
from cislens.signal.bigwig import open_bigwig, read_windows

# A stretch has at most this many bins in a page; more cannot be told apart on a screen.
_BINS = 8192


@dataclass(frozen=True)
class SignalFile:
    """A bigWig: measured, predicted or attribution; files of one `scale` share an axis.

    `step` is the width of its bins in bp, which begin at multiples of it; 1 if it has none. A base
    without a value counts as `uncovered` in the mean of its bin; NaN: it does not count.
    """

    path: Path
    name: str
    kind: str
    scale: str
    step: int = 1
    uncovered: float = float("nan")


@dataclass(frozen=True)
class Sources:
    """What there is to show of one genome.

    Attributes:
        genome: the reference.
        signals: bigWigs.
        places: chrom, start, end, and why.
        genes: an annotation file, or None.
        variants: chrom, start, end, name, score, color, track; or None.
    """

    genome: Genome
    signals: Sequence[SignalFile]
    places: Sequence[Place]
    genes: Path | None = None
    variants: pl.DataFrame | None = None

    def embedded(self) -> View:
        """The view that holds the bases, genes and bins of its places.

        Predicted tracks, and measured ones beside them, are shown in the prediction's own bins;
        others base by base. Of a place with more than 8192 bins several are joined.
        """
        reference = sequence_reference(
            self.genome.name,
            [
                (p.chrom, p.start, decode(self.genome.fetch(p.chrom, p.start, p.end)))
                for p in self.places
            ],
            self.genome.chrom_sizes,
        )
        signals = [
            signal(file.name, file.kind, file.scale, self._stretches(file)) for file in self.signals
        ]
        return View(
            self.genome.name, reference, self.places, [*self._intervals(self.places), *signals]
        )

    def served(self, address: Callable[[Path], str], text: Callable[[str, str], str]) -> View:
        """The view that reads whole files.

        Args:
            address: where the server offers a file.
            text: where it offers a text under a name.
        """
        path = self.genome.path
        reference = {"id": self.genome.name, "name": self.genome.name}
        if indexes := index_files(path):
            names = ("fastaURL", "indexURL", "compressedIndexURL")
            reference |= {
                name: address(file) for name, file in zip(names, [path, *indexes], strict=False)
            }
        else:
            reference["twoBitURL"] = address(path)
        signals = [
            signal(file.name, file.kind, file.scale, url=address(file.path))
            for file in self.signals
        ]
        intervals = self._intervals(None, lambda rows: text("genes.bed", bed12(rows)))
        return View(self.genome.name, reference, self.places, [*intervals, *signals])

    def _intervals(
        self,
        places: Sequence[Place] | None,
        address: Callable[[pl.DataFrame], str] | None = None,
    ) -> list[dict[str, Any]]:
        """Tracks of genes and variants; those that touch the places, or all."""
        found = []
        if self.genes is not None:
            rows = _inside(renamed(read_transcripts(self.genes), self.genome, self.genes), places)
            found.append(genes(rows, None if address is None else address(rows)))
        if self.variants is not None:
            rows = _inside(self.variants, places).with_columns(pl.col("score").round_sig_figs(4))
            name = "variants, blue: gain, red: loss"
            found.append(features(name, rows.sort("chrom", "start")))
        return found

    def _stretches(self, file: SignalFile) -> list[Stretch]:
        reader = open_bigwig(file.path)
        held = match_names(
            self.genome.chrom_sizes, reader.chrom_sizes, f"{self.genome.path} and {file.path}"
        ).mapping
        found = []
        for place in self.places:
            first = place.start - place.start % file.step
            name = held.get(place.chrom, place.chrom)
            values = read_windows(reader, name, [first], place.end - first, missing=file.uncovered)[
                0
            ]
            found.append(_binned(place.chrom, first, values, file.step))
        return found


def renamed(rows: pl.DataFrame, genome: Genome, path: Path) -> pl.DataFrame:
    """Rows under the genome's names; those on chromosomes that it lacks are left out."""
    names = match_names(
        rows["chrom"].unique(maintain_order=True).to_list(), genome.chrom_sizes, str(path)
    )
    return names.rename(rows.filter(pl.col("chrom").is_in(list(names.mapping))))


def _inside(rows: pl.DataFrame, places: Sequence[Place] | None) -> pl.DataFrame:
    if places is None:
        return rows
    near = [
        (pl.col("chrom") == p.chrom) & (pl.col("start") < p.end) & (pl.col("end") > p.start)
        for p in places
    ]
    return rows.filter(pl.any_horizontal(near)) if near else rows.clear()


def _binned(chrom: str, start: int, values: npt.NDArray[np.float32], step: int) -> Stretch:
    """Means of the bases that count of bins of `step` bp, or of so many as make few enough bins."""
    step *= -(-len(values) // (step * _BINS))
    if step > 1:
        bins = np.pad(values, (0, -len(values) % step), constant_values=np.nan).reshape(-1, step)
        known = np.isfinite(bins).sum(axis=1)
        whole = np.full(len(bins), np.nan)
        values = np.divide(np.nansum(bins, axis=1), known, out=whole, where=known > 0)
    return Stretch(chrom, start, step, values)
