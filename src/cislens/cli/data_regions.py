"""`cislens data regions`: what is open in cell types, and which motifs are there, into a store."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, EngineName, PartOf, Seed, Workers, answer, packaged
from cislens.errors import CislensError
from cislens.recipes.packaged import packaged_names, recipe_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cislens.motifs.build import Scan, ScanOf
    from cislens.motifs.sites import Motif

_PACKAGED = "data"
SUFFIX = "-regions"  # of the names of packaged recipes
_NAMES = [name for name in packaged_names(_PACKAGED) if name.endswith(SUFFIX)]


def command(
    recipe: Annotated[str, packaged(_NAMES)],
    out: Annotated[Path, typer.Option("--out", help="Store to write (a folder).")],
    engine: EngineName = "local",
    workers: Workers = 1,
    part: PartOf = "1/1",
    device: Annotated[
        str, typer.Option("--device", help="Where motifs are scanned: cpu, or cuda.")
    ] = "cpu",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Peaks of cell types, a genome and motifs -> RegionStore. Resumes an interrupted build."""
    from cislens.motifs.build import build_part, finished_store, scan_of
    from cislens.motifs.plan import describe_store, plan_regions
    from cislens.motifs.store import RegionStore
    from cislens.recipes.reading import read_recipe
    from cislens.recipes.regions import RegionRecipe
    from cislens.remote import local
    from cislens.scale.engines import engine_of
    from cislens.signal.sharing import read_part

    out = local(out, "a region store")
    by, share = engine_of(engine, workers), read_part(part)
    read = read_recipe(recipe_path(_PACKAGED, recipe), RegionRecipe)
    if seed is not None:
        read = read.model_copy(update={"seed": seed})
    result: dict[str, Any] = {"store": str(out)}
    if dry_run:
        answer(result | plan_regions(read).describe(), as_json)
        return
    if finished_store(read, out) is None:
        scan = scan_of if device == "cpu" else scan_on(device)
        left = build_part(out, plan_regions(read), by, share, scan)
        if left:
            answer(result | {"units_left": left.units}, as_json)
            return
    store = RegionStore.open(out)
    result |= describe_store(store)
    answer(result | {"digest": store.digest, "constants": store.constants_digest}, as_json)


def scan_on(device: str) -> "ScanOf":
    """What computes occupancies of motifs on a device of torch.

    Raises:
        CislensError: if there is no such device.
    """
    import torch

    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise CislensError(
            f"--device {device}: motifs are scanned on cpu, or on cuda where there is a GPU; this "
            f"machine has {torch.cuda.device_count()}."
        )

    return _ScanOn(device)


@dataclass(frozen=True)
class _ScanOn:
    """Scans on a device; can be sent to workers."""

    device: str

    def __call__(self, motifs: "Sequence[Motif]") -> "Scan":
        from cislens.motifs.scan import log_odds
        from cislens.nn.motif_scan import MotifScan, scan_codes

        module = MotifScan([log_odds(motif) for motif in motifs]).to(self.device)
        return lambda codes_RL: scan_codes(module, codes_RL, self.device)
