"""Building a region store: in parallel, resumable, the same bytes whoever does it.

A unit of work is one shard of regions. Constants follow when all shards are there, then the
manifest. How units are shared, marked and resumed is in `cislens.signal.resuming`.

Dimensions: R region, L base pair, T motif.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import cislens
from cislens.engines import Engine
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
from cislens.recipes.regions import RegionRecipe
from cislens.remote import local
from cislens.signal.checks import Written, write_checks
from cislens.signal.manifests import MANIFEST, file_entries, manifest_text
from cislens.signal.resuming import DoUnit, UnitsLeft, accepted, build
from cislens.signal.shards import RowArray, create_array, write_shard
from cislens.signal.sharing import WHOLE, Part

# Regions (R, L) to occupancies (R, M), and what makes that of M motifs, once for a whole build.
Scan = Callable[[Codes], npt.NDArray[np.float32]]
ScanOf = Callable[[Sequence[Motif]], Scan]


def scan_of(motifs: Sequence[Motif]) -> Scan:
    """Occupancies as `scan.occupancy` computes them."""
    return lambda codes_RL: occupancy(codes_RL, motifs)


def build_regions(
    recipe: RegionRecipe,
    out: str | os.PathLike[str],
    engine: Engine | None = None,
    scan: ScanOf = scan_of,
) -> RegionStore:
    """Plan and build the store of a recipe; one that is finished is opened instead, unplanned.

    Args:
        scan: makes what computes occupancies; one for another device may differ in the last bit
            of a value. Workers of an engine are sent it.

    Raises:
        CislensError: as `finished_store`, `plan_regions` and `build_planned`.
    """
    store = finished_store(recipe, out)
    return store or build_planned(out, plan_regions(recipe), engine, scan)


def finished_store(recipe: RegionRecipe, out: str | os.PathLike[str]) -> RegionStore | None:
    """The store at `out` if it is of this recipe, with files of the same content; None if there
    is nothing.

    Raises:
        CislensError: if `out` is something else.
    """
    out = local(out, "a region store")
    if not out.exists():
        return None
    store = RegionStore.open(out)
    return accepted(store, is_of(store, recipe), "region")


def build_planned(
    out: str | os.PathLike[str],
    plan: RegionPlan,
    engine: Engine | None = None,
    scan: ScanOf = scan_of,
) -> RegionStore:
    """Build what was planned; a store of the same plan that exists already is opened instead.

    The bytes do not depend on the order of rows in the inputs. Memory does not grow with regions
    x motifs.

    Raises:
        CislensError: as `resuming.build`, if `out` is something else, or if a motif has one value
            in all training regions.
    """
    build_part(out, plan, engine, scan=scan)
    return RegionStore.open(out)


def build_part(
    out: str | os.PathLike[str],
    plan: RegionPlan,
    engine: Engine | None = None,
    part: Part = WHOLE,
    scan: ScanOf = scan_of,
) -> UnitsLeft | None:
    """Build a share of what was planned; what is left to others, None if the store is whole.

    Raises:
        CislensError: as `build_planned`.
    """
    out = local(out, "a region store")
    if out.exists():
        store = RegionStore.open(out)
        accepted(store, store.manifest["plan_digest"] == plan.digest, "region")
        return None
    return build(out, RegionBuilder(plan, scan), engine, part)


@dataclass(frozen=True)
class RegionBuilder:
    """How a planned region store is made; see `cislens.signal.resuming.Builder`."""

    plan: RegionPlan
    scan: ScanOf
    doing: str = "scanning motifs"

    @property
    def digest(self) -> str:
        return self.plan.digest

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.plan.settings

    def units(self) -> Sequence[str]:
        return [str(shard) for shard in range(self.plan.sizes.layouts()[SEQUENCE].shards)]

    def unit_bytes(self, unit: str) -> int:
        layouts = self.plan.sizes.layouts().values()
        return sum(layout.shard_bytes(int(unit)) for layout in layouts)

    def begin(self, store: Path) -> None:
        for name, layout in self.plan.sizes.layouts().items():
            create_array(store / name, layout)

    def worker(self, store: Path) -> DoUnit:
        scan = self.scan([row.motif for row in self.plan.rows])
        return lambda unit: _build_shard(store, self.plan, int(unit), scan)

    def finish(self, store: Path, markers: Mapping[str, Mapping[str, Any]]) -> None:
        """Constants, tables, checksums, and last the manifest."""
        _finish(store, self.plan, markers)


def _build_shard(store: Path, plan: RegionPlan, shard: int, scan: Scan) -> dict[str, Written]:
    """Write all arrays of a shard; returns what is known of each file."""
    layouts = plan.sizes.layouts()
    first, last = layouts[SEQUENCE].span(shard)
    codes_RL = region_codes(plan.genome, plan.regions[first:last], plan.recipe.margin)
    arrays: dict[str, npt.NDArray[Any]] = {
        SEQUENCE: codes_RL,
        OCCUPANCY: _values(plan, _inner(codes_RL, plan.recipe.margin), scan),
        ACCESS: plan.access_RC[first:last],
        OPEN: plan.open_RC[first:last],
    }
    return {
        str(layouts[name].shard_file(Path(name), shard)): write_shard(
            store / name, layouts[name], shard, rows
        )
        for name, rows in arrays.items()
    }


def _values(plan: RegionPlan, codes_RL: Codes, scan: Scan) -> npt.NDArray[np.float16]:
    if plan.recipe.value == "hits":
        motifs = [row.motif for row in plan.rows]
        return hits(codes_RL, motifs, plan.recipe.p_value).astype(np.float16)
    return scan(codes_RL).astype(np.float16)


def _constants(store: Path, plan: RegionPlan) -> Constants:
    """Regress the scanned values of the training regions, a shard at a time."""
    layouts = plan.sizes.layouts()
    scanned, sequence = (RowArray(store / name, layouts[name]) for name in (OCCUPANCY, SEQUENCE))
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


def _finish(store: Path, plan: RegionPlan, markers: Mapping[str, Mapping[str, Any]]) -> None:
    constants = _constants(store, plan)
    constants.write(store / CONSTANTS)
    if plan.expression_TC is not None:
        np.save(store / EXPRESSION, plan.expression_TC)
    for name, table in (
        ("regions", plan.regions), ("motifs", plan.motifs), ("cells", plan.cells),
    ):  # fmt: skip
        table.write_parquet(store / f"{name}.parquet")
    written: dict[str, Written] = {}
    for marker in markers.values():
        written |= marker
    known = write_checks(store, written)
    constants_digest = constants.digest(plan.motifs["motif_id"].to_list(), plan.regions, plan.cells)
    manifest = _manifest(plan, constants_digest, file_entries(store, known))
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
