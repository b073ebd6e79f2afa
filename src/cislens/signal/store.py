"""Profile stores on disk: windows of sequence and of binned tracks, ready to train on."""

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.files import read_parquet, undamaged
from cislens.genome.codes import Codes
from cislens.remote import Address, Remote, place, scratch
from cislens.signal.checks import RowChecks, read_checks
from cislens.signal.groups import AUDIT_FILE, group_audit
from cislens.signal.layout import SCHEMA_VERSIONS, Shape, Values, array_layouts, schema_version
from cislens.signal.manifests import (
    MANIFEST,
    checked_manifest,
    interval_names,
    species_folder,
    verify_files,
)
from cislens.signal.quantization import dequantize
from cislens.signal.query import chosen_tracks
from cislens.signal.remote import RemoteRows
from cislens.signal.selection import ArrayPart, Index, require_known, rows_on, tracks_of, whole_of
from cislens.signal.shards import ArrayLayout, RowArray
from cislens.signal.tracks import TrackTable

FORMAT = "cislens profile store"

Rows = Sequence[int] | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class _Species:
    windows: pl.DataFrame
    tracks: TrackTable
    sequence: RowArray | ArrayPart
    targets: RowArray | ArrayPart
    chrom_sizes: dict[str, int]

    def part(self, rows_N: Index, columns_T: Index) -> "_Species":
        """Some of the windows and some of the tracks."""
        return replace(
            self,
            windows=self.windows[rows_N],
            tracks=chosen_tracks(self.tracks, columns_T),
            sequence=ArrayPart(self.sequence, rows_N),
            targets=ArrayPart(self.targets, rows_N, columns_T),
        )


class ProfileStore:
    """A finished store; `ProfileStore.open(path)`.

    Attributes:
        species: names, in the order that batches number them.
        length, bin_size, margin: bp. crop: bins without target at either side.
        values: what a bin is stored as.
        digest: sha256 of the manifest, which holds the digest of every other file.
        manifest: what was built from what; see docs/formats.md.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        params = manifest["params"]
        self.shape = Shape(*(params[name] for name in ("length", "bin_size", "crop", "margin")))
        self.values: Values = params.get("values", "float16")
        if schema_version(self.values) != manifest["schema_version"]:
            raise CislensError(
                f"{path / MANIFEST} is damaged: bins of {self.values!r} are not those of its "
                f"schema version {manifest['schema_version']}; build the store again."
            )
        self.species: tuple[str, ...] = tuple(manifest["species"])
        self._parts = {name: self._open_species(name) for name in self.species}

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        tracks: str | Sequence[str] | None = None,
        chroms: Sequence[str] | None = None,
        species: Sequence[str] | None = None,
    ) -> "ProfileStore":
        """Open a store, or a part of it, after checking its version, tables and sizes of files.

        A part has only the windows, tracks and species that are asked for, and rows of other
        windows are never read. Its digest is that of the whole store.

        Args:
            tracks: a query (`cislens.signal.query`), or ids. All by default, as of the others.
            chroms: chromosomes, of whichever species have them.
            species: names, in any order.

        Raises:
            CislensError: if the build did not finish, a file is missing or of another size, the
                folder is no profile store, a newer cislens wrote it, or what is asked for is not
                there or is one strand without the other.
        """
        path = place(path)
        with undamaged("profile store", path):
            manifest, digest = checked_manifest(path, "profile", *SCHEMA_VERSIONS)
            store = cls(path, manifest, digest)
        whole = tracks is None and chroms is None and species is None
        return store if whole else store.part(tracks=tracks, chroms=chroms, species=species)

    def part(
        self,
        *,
        tracks: str | Sequence[str] | None = None,
        chroms: Sequence[str] | None = None,
        species: Sequence[str] | None = None,
    ) -> "ProfileStore":
        """A part of the store as `open` gives it; nothing is read for it.

        Raises:
            CislensError: if what is asked for is not there or is one strand without the other.
        """
        if species is not None:
            require_known(species, self.species, "species", self.path)
        parts = {
            name: part for name, part in self._parts.items() if species is None or name in species
        }
        if chroms is not None:
            known = [chrom for part in parts.values() for chrom in part.windows["chrom"].unique()]
            require_known(chroms, known, "window on chromosome", self.path)
        tables = {name: part.tracks for name, part in parts.items()}
        columns = (
            {name: np.arange(len(table)) for name, table in tables.items()}
            if tracks is None
            else tracks_of(tables, tracks, self.path)
        )
        found = copy.copy(self)
        found._parts = {}
        for name, columns_T in columns.items():
            windows = parts[name].windows
            rows_N = np.arange(windows.height) if chroms is None else rows_on(windows, chroms)
            if rows_N.size:
                found._parts[name] = parts[name].part(rows_N, columns_T)
        if not found._parts:
            raise CislensError(
                f"profile store {self.path}: {', '.join(columns)} with the tracks that are asked "
                f"for has no window on {', '.join(chroms or ())}; choose other tracks or "
                "chromosomes."
            )
        found.species = tuple(found._parts)
        return found

    @property
    def length(self) -> int:
        return self.shape.length

    @property
    def bin_size(self) -> int:
        return self.shape.bin_size

    @property
    def crop(self) -> int:
        return self.shape.crop

    @property
    def margin(self) -> int:
        return self.shape.margin

    @property
    def bins(self) -> int:
        """Bins with a target: length // bin_size - 2 * crop."""
        return self.shape.bins

    @property
    def data_bytes(self) -> int:
        """Bytes of all sequences and targets, which `load` reads into memory."""
        return sum(
            array.layout.rows * array.layout.row_bytes
            for part in self._parts.values()
            for array in (part.sequence, part.targets)
        )

    def load(self) -> None:
        """Read all arrays into memory; reads give the same values as before, sooner."""
        for part in self._parts.values():
            part.sequence.load()
            part.targets.load()

    def verify(self) -> None:
        """Read every file and compare it with the digest that the manifest has of it.

        Raises:
            CislensError: naming the first damaged file, and the windows that are damaged in it.
        """
        arrays = {
            f"species/{name}/{array.folder.name}": array
            for name, part in self._parts.items()
            for array in map(whole_of, (part.sequence, part.targets))
        }
        verify_files(self.path, self.manifest, arrays)

    def windows(self, species: str) -> pl.DataFrame:
        """`chrom, start, end, block, split` by row; the interval without margin."""
        return self._part(species).windows

    def tracks(self, species: str) -> TrackTable:
        """The tracks in the order of the targets' last axis."""
        return self._part(species).tracks

    def chrom_sizes(self, species: str) -> dict[str, int]:
        """Chromosome lengths of the genome the windows come from."""
        return dict(self._part(species).chrom_sizes)

    def placed(self, species: str) -> bool:
        """Whether the windows' coordinates are those of a genome; see `require_placed`."""
        self._part(species)
        return bool(self.manifest["species"][species].get("placed", True))

    def require_placed(self, species: str, purpose: str) -> None:
        """Refuse windows whose place in the genome is not known.

        Raises:
            CislensError: if they were imported without coordinates; `purpose` says what for.
        """
        if not self.placed(species):
            raise CislensError(
                f"the windows of {species!r} in {self.path} have no place in a genome, which "
                f"{purpose} needs: their records came without sequences.bed. Import them again "
                "with that file."
            )

    def sequence(self, species: str, rows: Rows) -> Codes:
        """Codes (n, length + 2 * margin) uint8; column `margin` is the window's first base."""
        return self._part(species).sequence.gather(rows)

    def targets(self, species: str, rows: Rows) -> npt.NDArray[np.float16]:
        """Targets (n, bins, T) float16, transformed as the track table says."""
        bins = self._part(species).targets.gather(rows)
        return dequantize(bins) if self.values == "uint8" else bins

    def arrays(self, species: str) -> tuple[RowArray | ArrayPart, RowArray | ArrayPart]:
        """The sequence and target arrays as stored, for reading row by row."""
        part = self._part(species)
        return part.sequence, part.targets

    def _part(self, species: str) -> _Species:
        if species not in self._parts:
            raise CislensError(
                f"profile store {self.path} has no species {species!r}. "
                f"{nearest(species, self._parts)}"
            )
        return self._parts[species]

    def _open_species(self, name: str) -> _Species:
        with _tables(self.path, name) as folder:
            return self._read_species(name, folder)

    def _read_species(self, name: str, folder: Path) -> _Species:
        entry = self.manifest["species"][name]
        windows = read_parquet(folder / "windows.parquet", "windows of the store")
        tracks = TrackTable(read_parquet(folder / "tracks.parquet", "tracks of the store"))
        if windows.height != entry["windows"] or len(tracks) != entry["tracks"]:
            raise CislensError(
                f"profile store {self.path} is damaged: the tables of {name!r} have "
                f"{windows.height} windows and {len(tracks)} tracks, its manifest says "
                f"{entry['windows']} and {entry['tracks']}; build it again."
            )
        layouts = array_layouts(
            self.shape,
            windows.height,
            len(tracks),
            self.manifest["params"]["shard_rows"],
            self.values,
        )
        named = interval_names(windows)
        arrays = {
            key: _rows(self.path, name, layout, read_checks(folder / key, layout.rows, named), key)
            for key, layout in layouts.items()
        }
        return _Species(
            windows, tracks, arrays["sequence"], arrays["targets"], dict(entry["chrom_sizes"])
        )


@contextmanager
def _tables(store: Path, species: str) -> Iterator[Path]:
    """The folder with the tables and checksums of a species; copied from an address."""
    folder = species_folder(store, species)
    if not isinstance(store, Address):
        yield folder
        return
    remote = Remote(store)
    name = f"species/{species}"
    with scratch() as copied:
        for file in sorted(remote.sizes(name)):
            if "/" not in (rest := file.removeprefix(f"{name}/")):
                (copied / rest).write_bytes(remote.read(file))
        yield copied


def _rows(
    store: Path, species: str, layout: ArrayLayout, checks: RowChecks | None, array: str
) -> RowArray:
    if isinstance(store, Address):
        return RemoteRows(Remote(store), f"species/{species}/{array}", layout, checks)
    return RowArray(species_folder(store, species) / array, layout, checks)


def write_tables(folder: Path, tracks: TrackTable, windows: pl.DataFrame) -> None:
    """The tables of one species: its tracks, how each got its group, and its windows."""
    names = pl.Series("file", [Path(file).name for file in tracks.frame["file"]], dtype=pl.String)
    tracks.frame.with_columns(names).write_parquet(folder / "tracks.parquet")
    group_audit(tracks).write_csv(folder / AUDIT_FILE, separator="\t", quote_style="never")
    windows.write_parquet(folder / "windows.parquet")
