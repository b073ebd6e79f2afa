"""What a trained model says of variants: scores of tracks, of embeddings and of likelihoods.

Each distinct reference window is read once for all its variants, and of an allele that replaces
one base only what that base reaches is computed anew, where the encoder can.

Dimensions: n variant, N bin, T track.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import polars as pl
import torch

from cislens.effects.averaging import read_averaging
from cislens.effects.devices import running
from cislens.effects.track_model import TrackModel
from cislens.effects.variants.clean import clean_variants, named_as_genome
from cislens.effects.variants.genes import Starts
from cislens.effects.variants.language import LENGTH, Subject, as_subject, masked_ratios
from cislens.effects.variants.measures import (
    ALL,
    CENTER,
    DISTANCES,
    LLR,
    TSS,
    Mask,
    Values,
    names_by_track,
    track_measures,
    vector_measures,
)
from cislens.effects.variants.pairs import Group, Pairs, groups, read_pairs
from cislens.effects.variants.result import VariantScores
from cislens.effects.variants.tracks import Reader
from cislens.effects.variants.windows import Alleles, Ints, layout, overlapping
from cislens.errors import CislensError, nearest
from cislens.genome.reference import Genome, open_genome
from cislens.progress import track as progress
from cislens.signal.query import chosen_tracks, matching_tracks
from cislens.signal.tracks import TrackTable

_BASES_PER_PASS = 1 << 17


@dataclass(frozen=True)
class Scoring:
    """What is asked about variants.

    Attributes:
        species: may be left out if the model has one.
        tracks: a query for some of the species' tracks, see `signal.query`; all if None.
        scores: names of those wanted; all that the model has if None.
        center: bp around a variant for the scores `_center`; none of them if None.
        genes: as `annotation.read_genes` gives them, for the scores `_tss`; none if None.
        tss_reach: bp to either side of a transcription start that count as its own.
        average: views that are averaged, see `averaging.read_averaging`.
        length: bases of a window, for a model of sequence alone (512 if None).
        step: see `windows.layout`.
        device: see `devices.resolve_device`.
        batch_size: windows of one pass; as many as 131,072 bp are if None.
    """

    species: str | None = None
    tracks: str | None = None
    scores: Sequence[str] | None = None
    center: int | None = None
    genes: pl.DataFrame | None = None
    tss_reach: int = 256
    average: str = "rc"
    length: int | None = None
    step: int | None = None
    device: str = "auto"
    batch_size: int | None = None


def score_variants(
    model: TrackModel | str | os.PathLike[str],
    genome: Genome | str | os.PathLike[str],
    variants: pl.DataFrame,
    *,
    species: str | None = None,
    tracks: str | None = None,
    scores: Sequence[str] | None = None,
    center: int | None = None,
    genes: pl.DataFrame | None = None,
    tss_reach: int = 256,
    average: str = "rc",
    length: int | None = None,
    step: int | None = None,
    device: str = "auto",
    batch_size: int | None = None,
) -> VariantScores:
    """Score variants by a model, in fp32.

    Args:
        genome: what they are variants of; a FASTA or 2bit file.
        variants: see `VariantScorer.score`, also under other names of chromosomes (`1` for
            `chr1`), which become the genome's; the other arguments are those of `Scoring`.

    Raises:
        CislensError: as `VariantScorer`, its `score`, and `match_names`.
    """
    reference = genome if isinstance(genome, Genome) else open_genome(Path(genome))
    scoring = Scoring(
        species, tracks, scores, center, genes, tss_reach, average, length, step, device,
        batch_size,
    )  # fmt: skip
    with VariantScorer(model, reference, scoring) as scorer:
        return scorer.score(named_as_genome(variants, reference), show=True)


class VariantScorer:
    """A model made ready for variants of one genome; a context, which runs it and restores it.

    Scores of tracks (n, T), of the signal summed over bins, alternate against reference, in the
    unit of the rates (scale and soft clip undone): `log_fold`, log((1 + alt) / (1 + ref)), and
    `difference`, over all bins; `_center`, over those that overlap `center` bp around the
    variant's first base; `_tss`, over those that overlap `tss_reach` bp to either side of the
    nearest transcription start in the window. `profile_l2` is the root of the sum of squares of
    all bins' differences. Scalars (n,): distances of the embeddings of the bins, and `llr`, the
    log-likelihood ratio of the hidden base, for substitutions of one base.

    Args:
        model: of tracks, or the folder of any trained model.

    Attributes:
        names: of all scores that are given, those of tracks first.
        tracks: what is predicted, None for a model of sequence alone.

    Raises:
        CislensError: for what the model does not have: species, tracks, scores.
    """

    def __init__(
        self,
        model: TrackModel | str | os.PathLike[str],
        genome: Genome,
        scoring: Scoring = Scoring(),
    ) -> None:
        self.genome, self.scoring = genome, scoring
        self.subject = as_subject(model)
        self.averaging = read_averaging(scoring.average)
        trained = self.subject.tracks
        _require_sense(scoring, self.subject.name, trained is not None)
        self.species = (
            _known(scoring.species, self.subject) if trained is None
            else trained.species(scoring.species)
        )  # fmt: skip
        self.tracks, self._columns, self._pair = _chosen(trained, self.species, scoring.tracks)
        self.layout = layout(
            (scoring.length or LENGTH) if trained is None else trained.card.length,
            self.subject.encoder.bin_size,
            0 if trained is None else trained.net.config.crop,
            scoring.step,
        )
        self.starts = None if scoring.genes is None else Starts.of(scoring.genes, genome)
        self.batch_size = scoring.batch_size or max(1, _BASES_PER_PASS // self.layout.length)
        self.names = self._names(scoring.scores)
        self._stack = ExitStack()
        self._reader: Reader | None = None

    def __enter__(self) -> Self:
        return self.start(self.scoring.device)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, device: str) -> Self:
        """Run on a device until it is closed; where it runs already, it goes on."""
        if self._reader is None:
            place = self._stack.enter_context(running(self.subject.module, device))
            self._reader = self._ready(place)
        return self

    def close(self) -> None:
        """Put the model back where it was."""
        self._reader = None
        self._stack.close()

    @property
    def names_by_track(self) -> tuple[str, ...]:
        """The scores (n, T) among `names`."""
        known = names_by_track(center=True, tss=True)
        return tuple(name for name in self.names if name in known)

    @property
    def scalars(self) -> tuple[str, ...]:
        """The scores (n,) among `names`."""
        return tuple(name for name in self.names if name not in self.names_by_track)

    @torch.inference_mode()
    def score(self, variants: pl.DataFrame, show: bool = False) -> VariantScores:
        """Scores of variants, in their order.

        Args:
            variants: `chrom, pos` (1-based), `ref, alt` under the genome's names, in any order.
                Alleles are one base or more of A, C, G, T, N.
            show: draw a bar.

        Raises:
            CislensError: for another kind of allele, or a `ref` that is not what the genome has.
        """
        assert self._reader is not None, "used outside its context"
        variants = clean_variants(variants, self.genome)
        alleles = Alleles.of(variants)
        start_n = self.layout.starts(alleles.first_n)
        n, wide = variants.height, 0 if self.tracks is None else len(self.tracks)
        by_track = {k: np.full((n, wide), np.nan, np.float32) for k in self.names_by_track}
        scalars = {k: np.full(n, np.nan, np.float32) for k in self.scalars}
        masks, near = self._masks(alleles, start_n)
        if by_track or any(name != LLR for name in scalars):
            parts = groups(alleles, start_n, self.genome, self.batch_size) if n else []
            for group in progress(parts, "score variants") if show else parts:
                for pairs in self._pairs(alleles, group):
                    self._measure(pairs, masks, by_track, scalars)
        if LLR in scalars:
            assert self.subject.language is not None
            scalars[LLR] = masked_ratios(
                self.subject.language, self.genome, alleles, self.layout.length, self.species,
                self.averaging.reverse_complement,
            )  # fmt: skip
        return VariantScores(variants.with_columns(near), self.tracks, by_track, scalars)

    def _names(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        available: list[str] = []
        if self.tracks is not None:
            available += names_by_track(self.scoring.center is not None, self.starts is not None)
        available += [f"embedding_{name}" for name in DISTANCES]
        available += [LLR] if self.subject.language is not None else []
        for name in wanted or ():
            if name not in available:
                raise CislensError(
                    f"{self.subject.name} gives no score {name!r} here: those of tracks need a "
                    f"model of tracks, `_center` a center, `_tss` genes, and {LLR} a model of "
                    f"hidden bases. {nearest(name, available)}"
                )
        return tuple(name for name in available if wanted is None or name in wanted)

    def _ready(self, place: torch.device) -> Reader:
        subject = self.subject
        return Reader(
            subject.encoder,
            None if subject.tracks is None or not self.names_by_track else subject.tracks.net,
            self.species,
            () if self.tracks is None else tuple(self.tracks.rows()),
            self._columns,
            self._pair,
            self.averaging,
            self.layout,
            any(name.startswith("embedding_") for name in self.names),
            place,
        )

    def _masks(
        self, alleles: Alleles, start_n: Ints
    ) -> tuple[dict[str, Mask | None], list[pl.Series]]:
        """Bins of each place that is summed over, and what is told of the genes."""
        first_n, layout = alleles.first_n, self.layout
        masks: dict[str, Mask | None] = {ALL: None}
        center = self.scoring.center
        if center is not None:
            begin_n = first_n - center // 2
            masks[CENTER] = overlapping(begin_n, begin_n + center, start_n, layout)
        if self.starts is None:
            return masks, []
        row_n, tss_n = self.starts.nearest(alleles.chroms, first_n, start_n, layout)
        reach = self.scoring.tss_reach
        inside = overlapping(tss_n - reach, tss_n + reach + 1, start_n, layout)
        masks[TSS] = inside & (row_n >= 0)[:, None]
        return masks, self.starts.columns(row_n, tss_n, first_n)

    def _pairs(self, alleles: Alleles, group: Group) -> Iterator[Pairs]:
        assert self._reader is not None
        return read_pairs(self._reader, self.genome, alleles, group, self.batch_size)

    def _measure(
        self,
        pairs: Pairs,
        masks: Mapping[str, Mask | None],
        by_track: Mapping[str, Values],
        scalars: Mapping[str, Values],
    ) -> None:
        """Put the scores of some variants where they belong."""
        rows, ref, alt = pairs.rows, pairs.reference, pairs.alternate
        if by_track:
            here = {key: None if mask is None else mask[rows] for key, mask in masks.items()}
            for name, values in track_measures(ref.rates_BNT, alt.rates_BNT, here).items():
                if name in by_track:
                    by_track[name][rows] = values
        if any(name != LLR for name in scalars):
            for name, values in vector_measures(ref.vectors_BND, alt.vectors_BND).items():
                if name in scalars:
                    scalars[name][rows] = values


def _chosen(
    trained: TrackModel | None, species: str | None, query: str | None
) -> tuple[TrackTable | None, Ints, Ints]:
    """Tracks wanted, their places among the model's, and the pair of each of the model's."""
    if trained is None:
        return None, np.zeros(0, np.int64), np.zeros(0, np.int64)
    table = trained.tracks(str(species))
    columns = matching_tracks(table, query)
    return chosen_tracks(table, columns), columns, table.strand_permutation()


def _known(species: str | None, subject: Subject) -> str | None:
    """The species as an encoder is told it; one that is trained for some knows no others."""
    known = subject.encoder.species
    if species is not None and known and species not in known:
        raise CislensError(
            f"{subject.name} knows no species {species!r}. {nearest(species, known)}"
        )
    return species


def _require_sense(scoring: Scoring, name: str, tracks: bool) -> None:
    for what in ("center", "length", "batch_size", "tss_reach"):
        value = getattr(scoring, what)
        if value is not None and value < 1:
            raise CislensError(f"{what} is {value}; it must be a positive number.")
    if tracks and scoring.length is not None:
        raise CislensError(
            f"{name} is a model of tracks and knows the length of its windows; give no length."
        )
    given = [what for what in ("tracks", "center", "genes") if getattr(scoring, what) is not None]
    if not tracks and given:
        raise CislensError(f"{name} predicts no tracks, so that {given[0]} means nothing here.")
