"""Building a region store: in parallel, resumable, the same bytes for any number of workers.

The store grows in `<out>.partial/store`. A unit of work is one shard of regions; when its arrays
are on disk, a marker in `<out>.partial/done` says so. Constants follow when all shards are there,
then the manifest, and the store is renamed to `<out>`.

Dimensions: R region, L base pair, T motif.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import cislens
from cislens.errors import CislensError
from cislens.files import write_atomic
from cislens.genome.codes import Codes
from cislens.genome.splits import TRAIN
from cislens.motifs.channels import Constants, MotifRegression, covariates, log_valid_share
from cislens.motifs.parts import region_codes
from cislens.motifs.plan import RegionPlan, plan_regions
from cislens.motifs.scan import hits, occupancy, scanner_name
from cislens.motifs.sites import Motif
from cislens.motifs.sources import is_of
from cislens.motifs.store import (
    ACCESS,
    CONSTANTS,
    EXPRESSION,
    FORMAT,
    OCCUPANCY,
    OPEN,
    SCHEMA_VERSION,
    SEQUENCE,
    RegionStore,
)
from cislens.progress import track
from cislens.recipes.regions import RegionRecipe
from cislens.signal.checks import Written, write_checks
from cislens.signal.resuming import accepted, begin, building, keeps
from cislens.signal.shards import RowArray, create_array, write_shard
from cislens.signal.store import MANIFEST, file_entries, manifest_text

logger = logging.getLogger("cislens")


# Regions (R, L) to occupancies (R, M), and what makes that of M motifs, once for a whole build.
Scan = Callable[[Codes], npt.NDArray[np.float32]]
ScanOf = Callable[[Sequence[Motif]], Scan]


def scan_of(motifs: Sequence[Motif]) -> Scan:
    """Occupancies as `scan.occupancy` computes them."""
    return lambda codes_RL: occupancy(codes_RL, motifs)


def build_regions(
    recipe: RegionRecipe,
    out: str | os.PathLike[str],
    workers: int = 1,
    scan: ScanOf = scan_of,
) -> RegionStore:
    """Plan and build the store of a recipe; one that is finished is opened instead, unplanned.

    Args:
        scan: makes what computes occupancies; one for another device may differ in the last bit
            of a value.

    Raises:
        CislensError: as `finished_store`, `plan_regions` and `build_planned`.
    """
    store = finished_store(recipe, out)
    return store or build_planned(out, plan_regions(recipe), workers=workers, scan=scan)


def finished_store(recipe: RegionRecipe, out: str | os.PathLike[str]) -> RegionStore | None:
    """The store at `out` if it is of this recipe, with files of the same content; None if there
    is nothing.

    Raises:
        CislensError: if `out` is something else.
    """
    out = Path(out)
    if not out.exists():
        return None
    store = RegionStore.open(out)
    return accepted(store, is_of(store, recipe), "region")


def build_planned(
    out: str | os.PathLike[str], plan: RegionPlan, *, workers: int = 1, scan: ScanOf = scan_of
) -> RegionStore:
    """Build what was planned; a store of the same plan that exists already is opened instead.

    A build that was interrupted goes on where it stopped when it is started again with the same
    plan. The bytes do not depend on `workers`, on interruptions, or on the order of rows in the
    inputs. Memory does not grow with regions x motifs.

    Raises:
        CislensError: if `out` is something else, another build of it is running, a motif has one
            value in all training regions, or the disk is full.
    """
    out = Path(out)
    if out.exists():
        store = RegionStore.open(out)
        return accepted(store, store.manifest["plan_digest"] == plan.digest, "region")
    with building(out, plan.total_bytes) as partial:
        _prepare(partial, plan)
        _require_space(out, partial, plan)
        _scan_shards(partial, plan, workers, scan)
        _finish(partial, plan)
    return RegionStore.open(out)


def _prepare(partial: Path, plan: RegionPlan) -> None:
    """Keep what an earlier run of this plan left, or start anew."""
    if keeps(partial, plan.digest):
        done = len(list((partial / "done").glob("*.json")))
        logger.info("resuming %s: %d shards are done", partial, done)
        return
    for name, layout in plan.sizes.layouts().items():
        create_array(partial / "store" / name, layout)
    begin(partial, plan.digest, plan.settings)


def _scan_shards(partial: Path, plan: RegionPlan, workers: int, scan_of: ScanOf) -> None:
    """Threads do it: the scan leaves the interpreter's lock."""
    todo = _unfinished(partial, plan)
    scan = scan_of([row.motif for row in plan.rows])
    with ThreadPoolExecutor(workers) as executor:
        futures = [executor.submit(_build_shard, partial, plan, shard, scan) for shard in todo]
        try:
            for future in track(as_completed(futures), "scanning motifs", total=len(futures)):
                future.result()
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def _unfinished(partial: Path, plan: RegionPlan) -> list[int]:
    shards = range(plan.sizes.layouts()[SEQUENCE].shards)
    return [shard for shard in shards if not _marker(partial, shard).exists()]


def _build_shard(partial: Path, plan: RegionPlan, shard: int, scan: Scan) -> None:
    """Write all arrays of a shard, then the marker with their digests."""
    layouts = plan.sizes.layouts()
    first, last = layouts[SEQUENCE].span(shard)
    codes_RL = region_codes(plan.genome, plan.regions[first:last], plan.recipe.margin)
    arrays: dict[str, npt.NDArray[Any]] = {
        SEQUENCE: codes_RL,
        OCCUPANCY: _values(plan, _inner(codes_RL, plan.recipe.margin), scan),
        ACCESS: plan.access_RC[first:last],
        OPEN: plan.open_RC[first:last],
    }
    store = partial / "store"
    written = {
        str(layouts[name].shard_file(Path(name), shard)): write_shard(
            store / name, layouts[name], shard, rows
        )
        for name, rows in arrays.items()
    }
    write_atomic(_marker(partial, shard), json.dumps(written))


def _values(plan: RegionPlan, codes_RL: Codes, scan: Scan) -> npt.NDArray[np.float16]:
    if plan.recipe.value == "hits":
        motifs = [row.motif for row in plan.rows]
        return hits(codes_RL, motifs, plan.recipe.p_value).astype(np.float16)
    return scan(codes_RL).astype(np.float16)


def _constants(partial: Path, plan: RegionPlan) -> Constants:
    """Regress the scanned values of the training regions, a shard at a time."""
    layouts = plan.sizes.layouts()
    scanned, sequence = (
        RowArray(partial / "store" / name, layouts[name]) for name in (OCCUPANCY, SEQUENCE)
    )
    train_R = (plan.regions["split"] == TRAIN).to_numpy()
    covariates_RF = covariates(plan.regions["gc"], plan.regions["cpg"])
    widths_T = np.array(plan.motifs["width"], np.int64)
    regression = MotifRegression(len(widths_T))
    for shard in range(layouts[OCCUPANCY].shards):
        first, last = layouts[OCCUPANCY].span(shard)
        rows = first + np.flatnonzero(train_R[first:last])
        codes_RL = _inner(sequence.gather(rows), plan.recipe.margin)
        share_RT = log_valid_share(codes_RL, widths_T)
        regression.add(scanned.gather(rows), covariates_RF[rows], share_RT)
    beta_TF, sd_T = regression.solve(plan.motifs["motif_id"].to_list(), plan.recipe.value)
    return Constants(beta_TF, sd_T, plan.reference_Q, plan.access_2, plan.expression_2)


def _finish(partial: Path, plan: RegionPlan) -> None:
    """Constants, tables, and last the manifest: the store is whole when it exists."""
    store = partial / "store"
    constants = _constants(partial, plan)
    constants.write(store / CONSTANTS)
    if plan.expression_TC is not None:
        np.save(store / EXPRESSION, plan.expression_TC)
    for name, table in (
        ("regions", plan.regions), ("motifs", plan.motifs), ("cells", plan.cells),
    ):  # fmt: skip
        table.write_parquet(store / f"{name}.parquet")
    written: dict[str, Written] = {}
    for shard in range(plan.sizes.layouts()[SEQUENCE].shards):
        written |= json.loads(_marker(partial, shard).read_text())
    digests = write_checks(store, written)
    constants_digest = constants.digest(plan.motifs["motif_id"].to_list(), plan.regions, plan.cells)
    manifest = _manifest(plan, constants_digest, file_entries(store, digests))
    write_atomic(store / MANIFEST, manifest_text(manifest))


def _manifest(plan: RegionPlan, constants_digest: str, files: dict[str, Any]) -> dict[str, Any]:
    described = plan.describe()
    sizes = plan.sizes
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "cislens": cislens.__version__,
        "plan_digest": plan.digest,
        "constants_digest": constants_digest,
        "assembly": described["assembly"],
        "sizes": vars(sizes),
        "settings": plan.settings,
        "motifs": {
            "source": plan.library.source,
            "release": plan.library.release,
            "digest": plan.library.digest,
            "read": len(plan.library.motifs),
            "scanner": scanner_name(),
        },
        "regions": {
            key: described[key]
            for key in ("regions", "dropped_split", "dropped_homologs", "block_bp", "read")
        },
        "chrom_sizes": plan.genome.chrom_sizes,
        "inputs": plan.inputs,
        "files": files,
    }


def _inner(codes_RL: Codes, margin: int) -> Codes:
    """The regions without their margins."""
    return codes_RL[:, margin : codes_RL.shape[1] - margin]


def _marker(partial: Path, shard: int) -> Path:
    return partial / "done" / f"{shard}.json"


def _require_space(out: Path, partial: Path, plan: RegionPlan) -> None:
    layouts = plan.sizes.layouts().values()
    needed = sum(
        layout.shard_bytes(shard) for shard in _unfinished(partial, plan) for layout in layouts
    )
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise CislensError(
            f"{out} needs {needed:,} more bytes, {free:,} are free on its disk; free some space or "
            "choose another path."
        )
