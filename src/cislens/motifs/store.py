"""Region stores on disk: regions, motifs and cell types, with channels ready to train on.

Dimensions: n row asked for, R region, L base pair, T motif, C cell type.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.files import read_parquet, undamaged
from cislens.genome.codes import Codes
from cislens.motifs.channels import (
    Bools,
    Constants,
    Singles,
    covariates,
    log_valid_share,
    motif_channel,
)
from cislens.remote import local
from cislens.signal.checks import read_checks
from cislens.signal.manifests import checked_manifest, interval_names, verify_files
from cislens.signal.shards import ArrayLayout, RowArray
from cislens.signal.store import Rows
from cislens.untrusted import npy_array

FORMAT = "cislens region store"
SCHEMA_VERSION = 1
CONSTANTS, EXPRESSION = "constants.npz", "expression.npy"
SEQUENCE, OCCUPANCY, ACCESS, OPEN = "sequence", "occupancy", "access", "open"
TABLES = ("regions", "motifs", "cells")
_RUN = 16  # regions in a stretch, where whole chromosomes were dealt to the parts


@dataclass(frozen=True)
class Sizes:
    """What decides the shape of a store's arrays; `width` and `margin` in bp."""

    regions: int
    motifs: int
    cells: int
    width: int
    margin: int
    shard_rows: int

    def layouts(self) -> dict[str, ArrayLayout]:
        """The arrays by name, a region a row."""
        shapes = {
            SEQUENCE: (self.width + 2 * self.margin, "uint8"),
            OCCUPANCY: (self.motifs, "float16"),
            ACCESS: (self.cells, "float32"),
            OPEN: (self.cells, "bool"),
        }
        return {
            name: ArrayLayout(self.regions, (columns,), dtype, self.shard_rows)
            for name, (columns, dtype) in shapes.items()
        }


class RegionStore:
    """A finished store; `RegionStore.open(path)`. Rows are regions in genomic order.

    Attributes:
        regions: `region_id, chrom, start, end, split, block, gc, cpg, repeat_fraction, called,
            homology, cells`; see docs/formats.md.
        motifs: `motif_id, name, width, members, factors, leaf, expressed`, by column of the motif
            channel.
        cells: `cell_id, split, regions`, by column of the accessibility channel.
        constants: of the channels, from the training part alone.
        digest: sha256 of the manifest, which holds the digest of every other file.
        constants_digest: sha256 over the constants, motifs and the split; what a model keeps.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        self.sizes = Sizes(**manifest["sizes"])
        self.regions, self.motifs, self.cells = (
            read_parquet(path / f"{name}.parquet", f"{name} of the store") for name in TABLES
        )
        self.constants = Constants.read(path / CONSTANTS)
        named = interval_names(self.regions)
        self._arrays = {
            name: RowArray(path / name, layout, read_checks(path / name, layout.rows, named))
            for name, layout in self.sizes.layouts().items()
        }
        self._check()
        self._covariates = covariates(self.regions["gc"], self.regions["cpg"])
        self._uncalled = (self.regions["called"] < self.width).to_numpy()
        self._motif_widths = np.array(self.motifs["width"], np.int64)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RegionStore":
        """Open a store after checking its version, keys, constants and the size of every file.

        Raises:
            CislensError: if the build did not finish, a file is missing or of another size, the
                folder is no region store, or another version of cislens wrote it.
        """
        path = local(path, "a region store")
        with undamaged("region store", path):
            manifest, digest = checked_manifest(path, "region", SCHEMA_VERSION)
            return cls(path, manifest, digest)

    @property
    def width(self) -> int:
        """bp of a region."""
        return self.sizes.width

    @property
    def margin(self) -> int:
        """bp of sequence kept at either side of a region."""
        return self.sizes.margin

    @property
    def assembly(self) -> str:
        return str(self.manifest["assembly"])

    @property
    def species(self) -> str:
        """As tasks call it; the assembly where the recipe names none."""
        return str(self.manifest["settings"].get("species") or self.assembly)

    @property
    def chrom_sizes(self) -> dict[str, int]:
        """Chromosome lengths of the genome, in its order."""
        return dict(self.manifest["chrom_sizes"])

    @property
    def constants_digest(self) -> str:
        return str(self.manifest["constants_digest"])

    @property
    def motif_ids(self) -> tuple[str, ...]:
        return tuple(self.motifs["motif_id"])

    def sequence(self, rows: Rows) -> Codes:
        """Codes (n, width + 2 * margin) uint8; column `margin` is the region's first base."""
        return self._arrays[SEQUENCE].gather(rows)

    def central(self, rows: Rows) -> Codes:
        """Codes (n, width) of the regions alone."""
        return self.sequence(rows)[:, self.margin : self.margin + self.width]

    def raw(self, rows: Rows) -> npt.NDArray[np.float16]:
        """Occupancies or hits (n, T) float16 as scanned; NaN where no placement is free of N."""
        return self._arrays[OCCUPANCY].gather(rows)

    def motif_values(self, rows: Rows) -> Singles:
        """The motif channel (n, T): `raw` beside what composition explains, in deviations."""
        index = np.asarray(rows, np.int64)
        share = None
        uncalled = self._uncalled[index]
        if uncalled.any():
            share = np.zeros((len(index), self.sizes.motifs))
            inside = slice(self.margin, self.margin + self.width)
            codes = self.sequence(index[uncalled])[:, inside]
            share[uncalled] = log_valid_share(codes, self._motif_widths)
        return motif_channel(self.raw(index), self._covariates[index], share, self.constants)

    @cached_property
    def access(self) -> Singles:
        """Accessibility (R, C) in standard deviations of training regions and cell types."""
        return self._whole(ACCESS)

    @cached_property
    def is_open(self) -> Bools:
        """Whether each region is open in each cell type (R, C)."""
        return self._whole(OPEN)

    @cached_property
    def expression(self) -> Singles | None:
        """Expression (T, C) of each motif's factors, in deviations; None if none was given."""
        path = self.path / EXPRESSION
        # Mapped first: a file that is shorter than its head says is refused before memory is taken.
        return np.array(npy_array(path, "expression of the store")) if path.exists() else None

    def stretches(self) -> npt.NDArray[np.int64]:
        """Number of the stretch of the genome that each region lies in.

        The blocks that the split dealt. Where it dealt whole chromosomes, of which a part has few,
        runs of regions on one.
        """
        block_R = self.regions["block"].to_numpy().astype(np.int64)
        if self.manifest.get("regions", {}).get("block_bp") is not None:
            return block_R
        first_R = np.searchsorted(block_R, block_R, "left")  # regions of a chromosome lie together
        run_R = (np.arange(len(block_R)) - first_R) // _RUN
        stretches: npt.NDArray[np.int64] = block_R * (len(block_R) // _RUN + 1) + run_R
        return stretches

    def load(self) -> None:
        """Read sequences and occupancies into memory; reads give the same values, sooner."""
        for name in (SEQUENCE, OCCUPANCY):
            self._arrays[name].load()

    def verify(self) -> None:
        """Read every file and compare it with the digest that the manifest has of it.

        Raises:
            CislensError: naming the first damaged file, and the regions that are damaged in it.
        """
        verify_files(self.path, self.manifest, self._arrays)

    def require_same(self, constants_digest: str, motif_ids: Sequence[str]) -> None:
        """Refuse a model that was trained with other motifs, constants or another split.

        Raises:
            CislensError: that says what differs.
        """
        if tuple(motif_ids) != self.motif_ids:
            foreign = sorted(set(motif_ids) ^ set(self.motif_ids))
            what = f"{foreign[0]} is only in one of them" if foreign else "their order differs"
            raise CislensError(
                f"the model reads {len(motif_ids)} motifs and region store {self.path} has "
                f"{len(self.motif_ids)}: {what}. Use the store it was trained on."
            )
        if constants_digest != self.constants_digest:
            raise CislensError(
                f"region store {self.path} has other constants or another split than the one the "
                f"model was trained on ({self.constants_digest[:12]}, not "
                f"{constants_digest[:12]}): values would be on other scales, and regions that it "
                "was trained on could count as unseen. Use the store it was trained on."
            )

    def _whole(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[name].gather(np.arange(self.sizes.regions))

    def _check(self) -> None:
        """The tables are as long as the arrays, and the constants are of this very split."""
        found = (self.regions.height, self.motifs.height, self.cells.height)
        if found != (self.sizes.regions, self.sizes.motifs, self.sizes.cells):
            raise CislensError(
                f"region store {self.path} is damaged: its tables have {found[0]} regions, "
                f"{found[1]} motifs and {found[2]} cell types, its manifest says "
                f"{self.sizes.regions}, {self.sizes.motifs} and {self.sizes.cells}."
            )
        digest = self.constants.digest(self.motif_ids, self.regions, self.cells)
        if digest != self.constants_digest:
            raise CislensError(
                f"the constants of region store {self.path} are of another split or other motifs "
                "than its tables say; build the store again."
            )
