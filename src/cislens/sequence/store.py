"""Sequence stores on disk: genomes, and where in them windows may be cut.

Dimensions: B window, L base pair.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

from cislens.errors import CislensError, nearest
from cislens.files import read_parquet, undamaged
from cislens.genome.codes import Codes, N
from cislens.genome.haplotypes import Haplotypes
from cislens.remote import local
from cislens.sequence.bases import Bases
from cislens.sequence.batch import Bools
from cislens.sequence.probe import NOT_ASKED, Probe
from cislens.signal.manifests import MANIFEST, checked_manifest, species_folder, verify_files
from cislens.untrusted import npy_array

FORMAT = "cislens sequence store"
SCHEMA_VERSION = 1
STARTS, TILES, PROBE = "starts.parquet", "tiles.parquet", "probe.parquet"
BASES = "bases"  # a folder of each species
VARIANTS, CARRIED = "haplotypes.parquet", "haplotypes.npy"
REPEAT = 8  # is added to the code of a soft-masked base
_CODE = np.uint8(7)  # the bits of a code

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Species:
    chrom_sizes: dict[str, int]
    bases: Bases
    probe: Probe | None
    haplotypes: Haplotypes | None
    views: dict[int, Codes] = field(default_factory=dict)

    def every(self, length: int) -> Codes:
        """Every stretch of `length` bases as a view; making it costs more than using it."""
        if length not in self.views:
            self.views[length] = sliding_window_view(self.bases.data, length)
        return self.views[length]


class SequenceStore:
    """A finished store; `SequenceStore.open(path)`.

    Attributes:
        path: its folder.
        manifest: what was built from what; see docs/formats.md.
        digest: sha256 of the manifest, which holds the digest of every other file.
        species: names, in the order that batches number them.
        window: bp of a parent window.
        starts: `species, chrom, first, last, split, block`: runs of 0-based starts [first, last)
            of windows that lie wholly in one part and have few enough N and repeats; the block is
            that of a window's first base.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        self.window = int(manifest["settings"]["window"])
        self.species: tuple[str, ...] = tuple(manifest["species"])
        self.starts = read_parquet(path / STARTS, "starts of the store")
        self._tiles = read_parquet(path / TILES, "tiles of the store")
        self._parts = {name: self._open_species(name) for name in self.species}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "SequenceStore":
        """Open a store after checking its version and the size of every file.

        Raises:
            CislensError: if the build did not finish, a file is missing or of another size, the
                folder is no sequence store, or another version of cislens wrote it.
        """
        path = local(path, "a sequence store")
        if path.exists() and not (path / MANIFEST).is_file():
            raise CislensError(
                f"{path} has no {MANIFEST}: it is not a sequence store, or one that was not "
                "finished; build it with `cislens data sequence`."
            )
        with undamaged("sequence store", path):
            manifest, digest = checked_manifest(path, "sequence", SCHEMA_VERSION)
            return cls(path, manifest, digest)

    def chroms(self, species: str) -> tuple[str, ...]:
        """All chromosomes of the genome, in the order that batches number them."""
        return tuple(self._part(species).chrom_sizes)

    def chrom_sizes(self, species: str) -> dict[str, int]:
        """Chromosome lengths of the genome, in its order."""
        return dict(self._part(species).chrom_sizes)

    def assembly(self, species: str) -> str:
        """What the genome is called."""
        self._part(species)
        return str(self.manifest["species"][species]["assembly"])

    def haplotypes(self, species: str) -> Haplotypes | None:
        """The haplotypes whose alleles views may carry; None without any."""
        return self._part(species).haplotypes

    def windows(self, species: str) -> pl.DataFrame:
        """`chrom, start, end, split, block`: the tiles in which windows lie, by part."""
        self._part(species)
        return self._tiles.filter(pl.col("species") == species).drop("species")

    def verify(self) -> None:
        """Read every file and compare it with the digest that the manifest has of it.

        Raises:
            CislensError: naming the first damaged file, and of bases the damaged stretches.
        """
        arrays = {f"species/{name}/{BASES}": part.bases for name, part in self._parts.items()}
        verify_files(self.path, self.manifest, arrays)

    def describe(self) -> dict[str, Any]:
        """What the plan told when the store was planned."""
        return dict(self.manifest["described"])

    def cut(
        self,
        species: str,
        chrom_B: npt.NDArray[np.integer[Any]],
        start_B: npt.NDArray[np.integer[Any]],
        length: int,
    ) -> tuple[Codes, Bools]:
        """Bases of windows of one length.

        Args:
            chrom_B: indices into `chroms(species)`.
            start_B: 0-based; windows may reach over a chromosome's ends, where N is read.

        Returns:
            Codes (B, length) uint8, and whether each base is soft-masked (B, length).

        Raises:
            CislensError: if what is read is not what was written.
        """
        marked_BL = self._marked(species, np.asarray(chrom_B), np.asarray(start_B), length)
        return marked_BL & _CODE, marked_BL >= REPEAT

    def labels(
        self,
        species: str,
        chrom_B: npt.NDArray[np.integer[Any]],
        center_B: npt.NDArray[np.integer[Any]],
    ) -> npt.NDArray[np.int8]:
        """1 where a center lies within half a window of a middle of the probe, else 0.

        -1 for a species without a probe.
        """
        probe = self._part(species).probe
        if probe is None:
            return np.full(len(center_B), NOT_ASKED, np.int8)
        return probe.near(np.asarray(chrom_B), np.asarray(center_B), self.window // 2)

    def _marked(self, species: str, chrom_B: Ints, start_B: Ints, length: int) -> Codes:
        part = self._part(species)
        size_B, begin_B = part.bases.sizes[chrom_B], part.bases.begins[chrom_B]
        inside_B = (start_B >= 0) & (start_B + length <= size_B)
        left_B = begin_B + np.clip(start_B, 0, size_B)
        right_B = begin_B + np.clip(start_B + length, 0, size_B)
        some_B = left_B < right_B
        part.bases.require(left_B[some_B], right_B[some_B])
        if inside_B.all() and len(inside_B):
            whole_BL: Codes = part.every(length)[begin_B + start_B]
            return whole_BL
        found_BL = np.full((len(start_B), length), N, np.uint8)
        if inside_B.any():
            found_BL[inside_B] = part.every(length)[(begin_B + start_B)[inside_B]]
        for row in np.flatnonzero(~inside_B & some_B).tolist():
            left, right = int(left_B[row]), int(right_B[row])
            first = left - int(begin_B[row] + start_B[row])
            found_BL[row, first : first + right - left] = part.bases.data[left:right]
        return found_BL

    def _part(self, species: str) -> _Species:
        if species not in self._parts:
            raise CislensError(
                f"sequence store {self.path} has no species {species!r}. "
                f"{nearest(species, self._parts)}"
            )
        return self._parts[species]

    def _open_species(self, name: str) -> _Species:
        folder = species_folder(self.path, name)
        entry = self.manifest["species"][name]
        file = bases_file(folder)
        total = sum(entry["chrom_sizes"].values())
        if file.stat().st_size != total:
            raise CislensError(
                f"sequence store {self.path} is damaged: {file} has {file.stat().st_size:,} bytes "
                f"and the chromosomes of {name!r} {total:,} bp; build it again."
            )
        carried = entry["haplotypes"]
        return _Species(
            chrom_sizes=dict(entry["chrom_sizes"]),
            bases=Bases(folder / BASES, file, entry["chrom_sizes"]),
            probe=Probe.read(folder / PROBE) if (folder / PROBE).exists() else None,
            haplotypes=Haplotypes(
                read_parquet(folder / VARIANTS, "variants of the store"),
                npy_array(folder / CARRIED, "haplotypes of the store"),
                int(carried["haplotypes"]),
            )
            if carried
            else None,
        )


def bases_file(folder: Path) -> Path:
    """The one chunk of a species' bases."""
    return folder / BASES / "c" / "0"
