"""`cislens data regions`: what is open in cell types, and which motifs are there, into a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, Seed, Workers, answer
from cislens.errors import CislensError
from cislens.recipes.packaged import packaged_names, recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.regions import RegionRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cislens.motifs.build import Scan, ScanOf
    from cislens.motifs.sites import Motif

_PACKAGED = "data"
SUFFIX = "-regions"  # of the names of packaged recipes
_NAMES = [name for name in packaged_names(_PACKAGED) if name.endswith(SUFFIX)]


def command(
    recipe: Annotated[
        str, typer.Argument(help=f"Recipe (YAML), or a packaged one: {', '.join(_NAMES)}.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Store to write (a folder).")],
    workers: Workers = 1,
    device: Annotated[
        str, typer.Option("--device", help="Where motifs are scanned: cpu, or cuda.")
    ] = "cpu",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Peaks of cell types, a genome and motifs -> RegionStore. Resumes an interrupted build."""
    from cislens.motifs.build import build_regions
    from cislens.motifs.plan import describe_store, plan_regions

    read = read_recipe(recipe_path(_PACKAGED, recipe), RegionRecipe)
    if seed is not None:
        read = read.model_copy(update={"seed": seed})
    result: dict[str, Any] = {"store": str(out)}
    if dry_run:
        result |= plan_regions(read).describe()
    else:
        scan = {} if device == "cpu" else {"scan": scan_on(device)}
        store = build_regions(read, out, workers=workers, **scan)
        result |= describe_store(store)
        result |= {"digest": store.digest, "constants": store.constants_digest}
    answer(result, as_json)


def scan_on(device: str) -> "ScanOf":
    """What computes occupancies of motifs on a device of torch.

    Raises:
        CislensError: if there is no such device.
    """
    import torch

    from cislens.motifs.scan import log_odds
    from cislens.nn.motif_scan import MotifScan, scan_codes

    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise CislensError(
            f"--device {device}: motifs are scanned on cpu, or on cuda where there is a GPU; this "
            f"machine has {torch.cuda.device_count()}."
        )

    def scan_of(motifs: "Sequence[Motif]") -> "Scan":
        module = MotifScan([log_odds(motif) for motif in motifs]).to(device)
        return lambda codes_RL: scan_codes(module, codes_RL, device)

    return scan_of
