"""What a recipe of regions names, and what of it decides the bytes of a store."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cislens.example import located
from cislens.files import file_digest, require_file
from cislens.genome.reference import Genome, open_genome
from cislens.motifs.library import MotifLibrary, read_library
from cislens.motifs.scan import scanner_name
from cislens.motifs.store import SCHEMA_VERSION, RegionStore
from cislens.recipes.regions import RegionRecipe
from cislens.untrusted import plain_bytes

_PACKAGED = ("example:", "core:")


def is_of(store: RegionStore, recipe: RegionRecipe) -> bool:
    """Whether a store is of a recipe's settings, files and motifs, told by their digests alone.

    Nothing is planned, which takes minutes where there are many regions.
    """
    genome, library = opened(recipe)
    manifest = store.manifest
    mine = [settings(recipe, library), inputs(recipe, genome), library.digest]
    theirs = [manifest["settings"], manifest["inputs"], manifest["motifs"]["digest"]]
    return json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True)


def opened(recipe: RegionRecipe) -> tuple[Genome, MotifLibrary]:
    """The genome and the motifs of a recipe.

    Raises:
        CislensError: as `open_genome` and `read_library`.
    """
    genome = open_genome(recipe.genome, recipe.assembly or None)
    return genome, read_library(_motif_source(recipe.motifs))


def inputs(recipe: RegionRecipe, genome: Genome) -> dict[str, Any]:
    """Name and sha256 of every file that the recipe names but that of the motifs.

    Of tables it is that of their lines in order, unpacked: the order of rows decides nothing.

    Raises:
        MissingFileError: if one is not there.
    """
    files = {"genome": {"name": genome.path.name, "sha256": genome.digest}}
    for role, path in _files(recipe):
        path = require_file(path, role)
        binary = role.endswith(("fragments", "signal"))  # or too long to be sorted
        digest = file_digest(path) if binary else rows_digest(path)
        files[role] = {"name": path.name, "sha256": digest}
    return files


def rows_digest(path: Path) -> str:
    """sha256 of the sorted lines of a text file, plain or gzip.

    Raises:
        CislensError: if it cannot be unpacked.
    """
    return hashlib.sha256(b"\n".join(sorted(plain_bytes(path).splitlines()))).hexdigest()


def settings(recipe: RegionRecipe, library: MotifLibrary) -> dict[str, Any]:
    """The recipe without its paths, and the versions of what decides the bytes."""
    given = recipe.model_dump(
        mode="json", exclude={"genome", "cells", "counts", "regions", "expression", "blacklist"}
    )
    given["motifs"] = library.source
    given["cells"] = {
        name: cell.model_dump(mode="json", exclude={"peaks", "fragments", "signal"})
        for name, cell in recipe.cells.items()
    }
    return {"schema_version": SCHEMA_VERSION, "scanner": scanner_name(), **given}


def _motif_source(spec: str) -> str:
    """A library's name as it is; of packaged data and the data folder the path."""
    return str(located(spec, Path())) if spec.startswith(_PACKAGED) else spec


def _files(recipe: RegionRecipe) -> Iterator[tuple[str, Path]]:
    """Every file but the genome and the motifs, with its role."""
    for role in ("counts", "regions", "expression", "blacklist"):
        path = getattr(recipe, role)
        if path is not None:
            yield role, path
    for name, cell in recipe.cells.items():
        peaks = cell.peaks if isinstance(cell.peaks, list) else [cell.peaks]
        for number, path in enumerate(peaks):
            if path is not None:
                yield f"{name}: peaks {number + 1}" if len(peaks) > 1 else f"{name}: peaks", path
        for role in ("fragments", "signal"):
            path = getattr(cell, role)
            if path is not None:
                yield f"{name}: {role}", path
