"""Building a sequence store: streaming, the same bytes for any number of workers.

The store grows in `<out>.partial/store`. When the bases of a species are on disk, a marker in
`<out>.partial/done` says so. Tables follow when all species are there, then the manifest, and the
store is renamed to `<out>`.
"""

import hashlib
import json
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import cislens
from cislens.errors import CislensError
from cislens.files import atomic_path, write_atomic
from cislens.genome.codes import N
from cislens.genome.reference import Genome
from cislens.progress import track
from cislens.recipes.sequence import SequenceRecipe
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
from cislens.signal.resuming import accepted, begin, building, keeps
from cislens.signal.store import (
    MANIFEST,
    file_entries,
    manifest_text,
    species_folder,
)

logger = logging.getLogger("cislens")

_PIECE = 1 << 22  # bp read and written at a time


def build_sequences(
    recipe: SequenceRecipe, out: str | os.PathLike[str], workers: int = 1
) -> SequenceStore:
    """Plan and build the store of a recipe; one that is finished is opened instead, unplanned.

    Raises:
        CislensError: as `finished_store`, `plan_sequences` and `build_planned`.
    """
    store = finished_store(recipe, out)
    return store or build_planned(out, plan_sequences(recipe, workers), workers=workers)


def finished_store(recipe: SequenceRecipe, out: str | os.PathLike[str]) -> SequenceStore | None:
    """The store at `out` if it is of this recipe, with files of the same content; None if there
    is nothing.

    Raises:
        CislensError: if `out` is something else.
    """
    out = Path(out)
    if not out.exists():
        return None
    store = SequenceStore.open(out)
    mine = [settings(recipe), inputs(recipe)]
    theirs = [store.manifest["settings"], store.manifest["inputs"]]
    same = json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True)
    return accepted(store, same, "sequence")


def build_planned(
    out: str | os.PathLike[str], plan: SequencePlan, *, workers: int = 1
) -> SequenceStore:
    """Build what was planned; a store of the same plan that exists already is opened instead.

    A build that was interrupted goes on with the species that are not done when it is started
    again with the same plan. Of a genome 4 Mb are in memory at a time.

    Raises:
        CislensError: if `out` is something else, another build of it is running, or the disk is
            full.
    """
    out = Path(out)
    if out.exists():
        store = SequenceStore.open(out)
        return accepted(store, store.manifest["plan_digest"] == plan.digest, "sequence")
    with building(out, plan.total_bytes) as partial:
        if not keeps(partial, plan.digest):
            begin(partial, plan.digest, plan.settings)
        _require_space(out, partial, plan)
        _write_species(partial, plan, workers)
        _finish(partial, plan)
    return SequenceStore.open(out)


def _write_species(partial: Path, plan: SequencePlan, workers: int) -> None:
    todo = [name for name in plan.species if not _marker(partial, name).exists()]
    with ThreadPoolExecutor(workers) as executor:
        jobs = [executor.submit(_write, partial, name, plan.species[name]) for name in todo]
        try:
            for job in track(jobs, "writing genomes", total=len(jobs)):
                job.result()
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def _write(partial: Path, name: str, part: SpeciesPlan) -> None:
    """Write the arrays of a species, then the marker with the digest of its bases."""
    import zarr

    folder = species_folder(partial / "store", name)
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
    if part.probe is not None:
        part.probe.table().write_parquet(folder / PROBE)
    if part.haplotypes is not None:
        part.haplotypes.variants.write_parquet(folder / VARIANTS)
        np.save(folder / CARRIED, part.haplotypes.carried_VW)
    file = str(bases_file(folder).relative_to(partial / "store"))
    write_atomic(_marker(partial, name), json.dumps({file: digest.hexdigest()}))


def _marked(genome: Genome, chrom: str, start: int, end: int) -> bytes:
    """Codes of [start, end), soft-masked bases marked."""
    codes = genome.fetch(chrom, start, end)
    codes[genome.soft_mask(chrom, start, end)] |= REPEAT
    return codes.tobytes()


def _finish(partial: Path, plan: SequencePlan) -> None:
    """Tables, and last the manifest: the store is whole when it exists."""
    store = partial / "store"
    plan.starts.write_parquet(store / STARTS)
    plan.tiles.write_parquet(store / TILES)
    digests: dict[str, str] = {}
    for name in plan.species:
        digests |= json.loads(_marker(partial, name).read_text())
    manifest = _manifest(plan, file_entries(store, digests))
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


def _marker(partial: Path, species: str) -> Path:
    return partial / "done" / f"{species}.json"


def _require_space(out: Path, partial: Path, plan: SequencePlan) -> None:
    needed = sum(
        part.bytes for name, part in plan.species.items() if not _marker(partial, name).exists()
    )
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise CislensError(
            f"{out} needs {needed:,} more bytes, {free:,} are free on its disk; free some space or "
            "choose another path."
        )
