"""What the profile benchmarks share: data sets, and the same work by pyfaidx and pyBigWig."""

import gzip
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyBigWig
from pyfaidx import Fasta

from cislens.example import core_data, example_path
from cislens.genome.reference import Genome, open_genome
from cislens.signal.plan import SplitSpec
from cislens.signal.tracks import Track, TrackTable, track_table

_CODE = np.full(256, 4, np.uint8)
for _code, _letters in enumerate(("Aa", "Cc", "Gg", "TtUu")):
    _CODE[[ord(letter) for letter in _letters]] = _code
_COMPLEMENT = np.array([3, 2, 1, 0, 4], np.uint8)


@dataclass(frozen=True)
class DataSet:
    """Genomes and tracks, and the sizes of the store made of them."""

    name: str
    genomes: dict[str, Genome]
    tracks: TrackTable
    shape: dict[str, int] = field(
        default_factory=lambda: {"length": 4096, "bin_size": 32, "crop": 8, "margin": 8}
    )

    @property
    def split(self) -> SplitSpec:
        """By chromosome where a genome has three, the shortest held out; else by blocks."""
        shortest = {
            species: sorted(genome.chrom_sizes, key=genome.chrom_sizes.__getitem__)[1:3]
            for species, genome in self.genomes.items()
            if len(genome.chrom_sizes) > 2
        }
        return SplitSpec(
            valid={species: names[:1] for species, names in shortest.items()},
            test={species: names[1:] for species, names in shortest.items()},
        )


def data_sets() -> list[DataSet]:
    """The packaged data, and the development data where it is."""
    packaged = _data_set(
        "packaged",
        {
            "yeast": (example_path("yeast_mini"), "sacCer3_II_IV_XVI.fa.gz"),
            "human": (example_path("human_mini"), "hg19_chr20_40_44Mb.fa.gz"),
            "fly": (example_path("fly_mini"), "dm6_chr2L_4_7Mb.fa.gz"),
        },
        tracks="",
    )
    core = core_data()
    if core is None:
        return [packaged]
    folders = {
        "yeast": (core / "scerevisiae_sacCer3", "sacCer3.fa.gz"),
        "pombe": (core / "spombe_ASM294v2", "spombe_ASM294v2.fa.gz"),
    }
    return [packaged, _data_set("core", folders, tracks="tracks")]


def _data_set(name: str, folders: dict[str, tuple[Path, str]], tracks: str) -> DataSet:
    rows = []
    for species, (folder, _) in folders.items():
        for file in sorted((folder / tracks).glob("*.bw")):
            stem, _, strand = file.stem.rpartition("_")
            pair = {"plus": f"{stem}_minus", "minus": f"{stem}_plus"}.get(strand, "")
            sign = {"plus": "+", "minus": "-"}.get(strand, ".")
            scale = -1.0 if file.stem == "chipexo_HAP5_minus" else 1.0
            rows.append(
                Track(
                    file.stem, str(file), species, strand=sign, strand_pair=pair, scale=scale,
                    clip=32, clip_mode="soft",
                )
            )  # fmt: skip
    genomes = {
        species: open_genome(folder / fasta, species)
        for species, (folder, fasta) in folders.items()
    }
    return DataSet(name, genomes, track_table(rows))


class Peer:
    """One window at a time with pyfaidx and pyBigWig; handles stay open, numpy does the rest."""

    def __init__(self, data: DataSet, folder: Path) -> None:
        self.shape = data.shape
        self.fasta = {
            name: Fasta(str(plain_fasta(genome.path, folder / f"{data.name}.{name}.fa")))
            for name, genome in data.genomes.items()
        }
        self.tracks = {name: data.tracks.for_species(name).rows() for name in data.genomes}
        self.swap = {
            name: data.tracks.for_species(name).strand_permutation() for name in data.genomes
        }
        self.bigwigs = {
            name: [pyBigWig.open(track.file) for track in rows]
            for name, rows in self.tracks.items()
        }

    def sequence(self, species: str, chrom: str, start: int, end: int) -> npt.NDArray[np.uint8]:
        size = len(self.fasta[species][chrom])
        left, right = max(start, 0), min(end, size)
        text = str(self.fasta[species][chrom][left:right])
        found = np.full(end - start, 4, np.uint8)
        found[left - start : right - start] = _CODE[np.frombuffer(text.encode(), np.uint8)]
        return found

    def targets(self, species: str, chrom: str, start: int, end: int) -> npt.NDArray[np.float32]:
        """Bins (bins, T) of the transform for count tracks: zeros, crop, sum, scale, soft clip."""
        bin_size, cut = self.shape["bin_size"], self.shape["crop"] * self.shape["bin_size"]
        columns = []
        for track, bigwig in zip(self.tracks[species], self.bigwigs[species], strict=True):
            values = np.nan_to_num(bigwig.values(chrom, start, end, numpy=True))
            bins = values[cut : len(values) - cut].reshape(-1, bin_size).sum(axis=1) * track.scale
            c = np.float32(track.clip)
            root = np.sqrt(np.maximum(bins - c + 1, 1))
            columns.append(np.where(bins > c, c - 1 + root, bins))
        return np.stack(columns, axis=1).astype(np.float32)

    def augmented(
        self, species: str, chrom: str, start: int, end: int, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """A training example: shifted sequence, and both strands in turn."""
        shift = int(rng.integers(-3, 4))
        codes = self.sequence(species, chrom, start + shift, end + shift)
        bins = self.targets(species, chrom, start, end)
        if rng.random() < 0.5:
            codes, bins = _COMPLEMENT[codes[::-1]], bins[::-1][:, self.swap[species]]
        return codes, bins


def plain_fasta(source: Path, target: Path) -> Path:
    """An uncompressed copy: quicker for pyfaidx, which needs BioPython for bgzip."""
    if not target.exists():
        with gzip.open(source) as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    return target


def sample(windows: pl.DataFrame, count: int, seed: int = 0) -> list[tuple[Any, ...]]:
    """Some windows in random order, as a loader that shuffles meets them."""
    chosen = windows.sample(min(count, windows.height), seed=seed, shuffle=True)
    return chosen.select("chrom", "start", "end").rows()


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of `work` over `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def memory_copy_speed(megabytes: int = 128, repeats: int = 7) -> float:
    """Bytes a second that numpy copies between two arrays larger than the caches."""
    source = np.ones(megabytes << 20, np.uint8)
    target = np.zeros_like(source)
    return source.nbytes / median_seconds(lambda: np.copyto(target, source), repeats)
