"""Building a sequence store: streaming, the same bytes whoever does it.

A unit of work is the bases of one species. Tables follow when all species are there, then the
manifest. How units are shared, marked and resumed is in `cislens.signal.resuming`.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cislens
from cislens.engines import Engine, LocalEngine
from cislens.files import atomic_path, write_atomic
from cislens.genome.codes import N
from cislens.genome.reference import Genome
from cislens.recipes.sequence import SequenceRecipe
from cislens.remote import local
from cislens.sequence.bases import write_piece_checks
from cislens.sequence.plan import SequencePlan, SpeciesPlan, inputs, plan_sequences, settings
from cislens.sequence.store import (
    BASES,
    CARRIED,
    FORMAT,
    PROBE,
    REPEAT,
    SCHEMA_VERSION,
    STARTS,
    TILES,
    VARIANTS,
    SequenceStore,
    bases_file,
)
from cislens.signal.checks import Known
from cislens.signal.manifests import MANIFEST, file_entries, manifest_text, species_folder
from cislens.signal.resuming import DoUnit, UnitsLeft, accepted, build
from cislens.signal.sharing import WHOLE, Part

_PIECE = 1 << 22  # bp read and written at a time


def build_sequences(
    recipe: SequenceRecipe, out: str | os.PathLike[str], engine: Engine | None = None
) -> SequenceStore:
    """Plan and build the store of a recipe; one that is finished is opened instead, unplanned.

    Raises:
        CislensError: as `finished_store`, `plan_sequences` and `build_planned`.
    """
    store = finished_store(recipe, out)
    engine = engine or LocalEngine()
    return store or build_planned(out, plan_sequences(recipe, engine.workers), engine)


def finished_store(recipe: SequenceRecipe, out: str | os.PathLike[str]) -> SequenceStore | None:
    """The store at `out` if it is of this recipe, with files of the same content; None if there
    is nothing.

    Raises:
        CislensError: if `out` is something else.
    """
    out = local(out, "a sequence store")
    if not out.exists():
        return None
    store = SequenceStore.open(out)
    mine = [settings(recipe), inputs(recipe)]
    theirs = [store.manifest["settings"], store.manifest["inputs"]]
    same = json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True)
    return accepted(store, same, "sequence")


def build_planned(
    out: str | os.PathLike[str], plan: SequencePlan, engine: Engine | None = None
) -> SequenceStore:
    """Build what was planned; a store of the same plan that exists already is opened instead.

    Of a genome 4 Mb are in memory at a time.

    Raises:
        CislensError: as `resuming.build`, or if `out` is something else.
    """
    build_part(out, plan, engine)
    return SequenceStore.open(out)


def build_part(
    out: str | os.PathLike[str],
    plan: SequencePlan,
    engine: Engine | None = None,
    part: Part = WHOLE,
) -> UnitsLeft | None:
    """Build a share of what was planned; what is left to others, None if the store is whole.

    Raises:
        CislensError: as `build_planned`.
    """
    out = local(out, "a sequence store")
    if out.exists():
        store = SequenceStore.open(out)
        accepted(store, store.manifest["plan_digest"] == plan.digest, "sequence")
        return None
    return build(out, SequenceBuilder(plan), engine, part)


@dataclass(frozen=True)
class SequenceBuilder:
    """How a planned sequence store is made; see `cislens.signal.resuming.Builder`."""

    plan: SequencePlan
    doing: str = "writing genomes"

    @property
    def digest(self) -> str:
        return self.plan.digest

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.plan.settings

    def units(self) -> Sequence[str]:
        return list(self.plan.species)

    def unit_bytes(self, unit: str) -> int:
        return self.plan.species[unit].bytes

    def begin(self, store: Path) -> None:
        """Nothing: all there is belongs to a species, or needs every one."""

    def worker(self, store: Path) -> DoUnit:
        return lambda unit: _write(store, unit, self.plan.species[unit])

    def finish(self, store: Path, markers: Mapping[str, Mapping[str, Any]]) -> None:
        """Tables, and last the manifest."""
        _finish(store, self.plan, markers)


def _write(store: Path, name: str, part: SpeciesPlan) -> dict[str, Known]:
    """Write the arrays of a species; returns what is known of the file of its bases."""
    import zarr

    folder = species_folder(store, name)
    zarr.create_array(
        folder / BASES, shape=(part.bases,), dtype="uint8", chunks=(part.bases,),
        compressors=None, filters=None, fill_value=N, overwrite=True,
    )  # fmt: skip
    digest = hashlib.sha256()
    with atomic_path(bases_file(folder)) as aside, aside.open("wb") as handle:
        for chrom, size in part.genome.chrom_sizes.items():
            for start in range(0, size, _PIECE):
                data = _marked(part.genome, chrom, start, min(start + _PIECE, size))
                handle.write(data)
                digest.update(data)
    write_piece_checks(folder / BASES, bases_file(folder))
    if part.probe is not None:
        part.probe.table().write_parquet(folder / PROBE)
    if part.haplotypes is not None:
        part.haplotypes.variants.write_parquet(folder / VARIANTS)
        np.save(folder / CARRIED, part.haplotypes.carried_VW)
    file = str(bases_file(folder).relative_to(store))
    return {file: {"bytes": part.bases, "sha256": digest.hexdigest()}}


def _marked(genome: Genome, chrom: str, start: int, end: int) -> bytes:
    """Codes of [start, end), soft-masked bases marked."""
    codes = genome.fetch(chrom, start, end)
    codes[genome.soft_mask(chrom, start, end)] |= REPEAT
    return codes.tobytes()


def _finish(store: Path, plan: SequencePlan, markers: Mapping[str, Mapping[str, Any]]) -> None:
    plan.starts.write_parquet(store / STARTS)
    plan.tiles.write_parquet(store / TILES)
    known: dict[str, Known] = {}
    for marker in markers.values():
        known |= marker
    manifest = _manifest(plan, file_entries(store, known))
    write_atomic(store / MANIFEST, manifest_text(manifest))


def _manifest(plan: SequencePlan, files: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "cislens": cislens.__version__,
        "plan_digest": plan.digest,
        "settings": plan.settings,
        "species": {
            name: {
                "assembly": part.genome.name,
                "chrom_sizes": part.genome.chrom_sizes,
                "haplotypes": None
                if part.haplotypes is None
                else {"haplotypes": part.haplotypes.count},
            }
            for name, part in plan.species.items()
        },
        "described": plan.describe(),
        "inputs": plan.inputs,
        "files": files,
    }
