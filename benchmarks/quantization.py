"""What a byte instead of a float16 for each bin costs and saves.

    python benchmarks/quantization.py values loader training

`values`: bytes and build seconds of stores of real tracks, and how the bins of the two differ.
`loader`: batches of wide synthetic stores, from memory-mapped files and from memory.
`training`: the same small model on both stores, seed by seed; each is judged on the float16 one.
The stores are those of a packaged recipe, by default two yeasts with 17 tracks, which needs the
development data.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loading import WIDE_BATCH, rate, write_wide

from cislens.cli.data import plan_store
from cislens.models.saving import load_profile_model
from cislens.objectives.metrics import PearsonPooled, PoissonNll
from cislens.objectives.profile import one_hot
from cislens.recipes.packaged import recipe_path
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.signal.build import build_planned
from cislens.signal.layout import Values
from cislens.signal.loader import ProfileLoader
from cislens.signal.plan import ProfilePlan
from cislens.signal.quantization import UNIT
from cislens.signal.store import ProfileStore
from cislens.training.data import SpeciesLabels, to_tensors
from cislens.training.fit import fit

MODEL = {"preset": "basenji-tiny", "dim": 48, "stem_dim": 24, "hidden_dim": 32, "depth": 2}
KINDS: tuple[Values, ...] = ("float16", "uint8")
COUNT = 1.0  # relative errors are of bins with at least one read


def main() -> None:
    """Print a line a result and, as last line, one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="+", choices=["values", "loader", "training"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--data", default="yeasts", help="Recipe of `cislens data profile`.")
    given = parser.parse_args()
    plan = plan_store(read_recipe(recipe_path("data", given.data), DataRecipe))
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        stores = {kind: built(plan, kind, Path(folder)) for kind in KINDS}
        if "values" in given.what:
            results += difference({kind: store for kind, (store, _) in stores.items()})
            results += [size for _, size in stores.values()]
        if "loader" in given.what:
            results += loading(Path(folder))
        if "training" in given.what:
            paths = {kind: store.path for kind, (store, _) in stores.items()}
            results += training(paths, given.seeds, given.steps, Path(folder))
    print(json.dumps({"benchmark": "quantization", "results": results}))


def built(plan: ProfilePlan, values: Values, folder: Path) -> tuple[ProfileStore, dict[str, Any]]:
    """A store of one kind, and what it took."""
    began = time.perf_counter()
    store = build_planned(folder / values, replace(plan, values=values))
    seconds = time.perf_counter() - began
    targets = sum(np.prod(store.targets(s, [0]).shape) * store.windows(s).height
                  for s in store.species) * np.dtype(values).itemsize  # fmt: skip
    size = {"measured": "build", "values": values, "seconds": round(seconds, 2),
            "target_bytes": int(targets), "array_bytes": store.data_bytes}  # fmt: skip
    print(f"{values}: {seconds:.1f} s, targets {targets:,} bytes, arrays {store.data_bytes:,}")
    return store, size


def difference(stores: dict[Values, ProfileStore]) -> list[dict[str, Any]]:
    """Track by track: correlation with the float16 bins, errors, and what became 0."""
    results = []
    for species in stores["float16"].species:
        rows = np.arange(stores["float16"].windows(species).height)
        exact, coded = (stores[kind].targets(species, rows).astype(np.float64) for kind in KINDS)
        for t, track in enumerate(stores["float16"].tracks(species).frame["id"]):
            x, y = exact[..., t].ravel(), coded[..., t].ravel()
            counted = x >= COUNT
            off = np.abs(y - x)[counted] / x[counted]
            found = {
                "measured": "values", "species": species, "track": track,
                "pearson": float(np.corrcoef(x, y)[0, 1]),
                "relative_error_mean": float(off.mean()) if off.size else 0.0,
                "relative_error_most": float(off.max()) if off.size else 0.0,
                "relative_bias": float(y.sum() / x.sum() - 1),
                "above_0_kept": float((y[x > 0] > 0).mean()),
                "below_unit": float((x[x > 0] < UNIT).mean()),
            }  # fmt: skip
            results.append(found)
            print(
                f"{species} {track}: Pearson {found['pearson']:.6f}, relative error of bins of a "
                f"count or more {found['relative_error_mean']:.2%} on average, "
                f"{found['relative_error_most']:.2%} at most, total {found['relative_bias']:+.3%}, "
                f"{found['above_0_kept']:.2%} of bins above 0 still are"
            )
    return results


def loading(folder: Path) -> list[dict[str, Any]]:
    """Batches of 192 windows of 131,072 bp, 896 bins x 512 tracks."""
    results: list[dict[str, Any]] = []
    for values in KINDS:
        path = folder / f"wide-{values}"
        write_wide(path, windows=192, tracks=512, values=values)
        for regime, budget in (("streaming", 0), ("resident", 1 << 40)):
            loader = ProfileLoader(
                ProfileStore.open(path), "train", WIDE_BATCH, memory_budget=budget
            )
            results.append({"measured": "loader", **rate(loader, values, regime)})
    return results


def training(
    paths: dict[Values, Path], seeds: int, steps: int, folder: Path
) -> list[dict[str, Any]]:
    """The same model on both stores with each seed, judged on the held-out float16 bins."""
    results = []
    for seed in range(seeds):
        scores = {}
        for values, path in paths.items():
            recipe = TrainRecipe.model_validate({
                "store": str(path), "model": MODEL, "seed": seed,
                "training": {"steps": steps, "batch_size": 8, "learning_rate": 3e-3,
                             "validate_every": steps, "ema_decay": 0.9},
            })  # fmt: skip
            run = fit(recipe, folder / f"run-{values}-{seed}")
            scores[values] = judged(run.model_folder, ProfileStore.open(paths["float16"]))
        for values, (nll, pearson) in scores.items():
            print(f"seed {seed}, {values}: valid poisson_nll {nll:.5f}, Pearson {pearson:.5f}")
            results.append({"measured": "training", "values": values, "seed": seed,
                            "poisson_nll": nll, "pearson": pearson})  # fmt: skip
    for name in ("poisson_nll", "pearson"):
        exact, coded = (
            np.array([r[name] for r in results if r.get("values") == kind]) for kind in KINDS
        )
        change, spread = coded - exact, float(exact.std(ddof=1)) if seeds > 1 else float("nan")
        print(
            f"{name}: uint8 - float16 {change.mean():+.5f}, by seed {change.round(5).tolist()}; "
            f"standard deviation between seeds {spread:.5f}"
        )
        results.append(
            {"measured": "change", "of": name, "by_seed": change.tolist(), "between_seeds": spread}
        )
    return results


def judged(model_folder: Path, store: ProfileStore) -> tuple[float, float]:
    """Poisson loss and pooled Pearson correlation of the valid windows, mean over all tracks."""
    model = load_profile_model(model_folder).eval()
    labels = SpeciesLabels.of(store, model.species)
    sizes = {name: len(store.tracks(name)) for name in store.species}
    metrics = {name: (PoissonNll(size), PearsonPooled(size)) for name, size in sizes.items()}
    loader = ProfileLoader(store, "valid", 32, shift=0, reverse_complement=False)
    with torch.inference_mode():
        for step in range(len(loader)):
            batch = to_tensors(loader.batch(0, step), labels)
            output = model.predict(one_hot(batch.codes_BL), batch.species_B)
            for name, target in batch.targets.items():
                for metric in metrics[name]:
                    metric.update(output.tracks[name], target)
    nll, pearson = (
        np.concatenate([mine[at].compute().per_track for mine in metrics.values()]) for at in (0, 1)
    )
    return float(np.nanmean(nll)), float(np.nanmean(pearson))


if __name__ == "__main__":
    main()
