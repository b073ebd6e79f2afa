"""`cislens demo`: the main job on the packaged data, from measured tracks to a verdict.

It runs `data profile`, `train`, `bench` and `predict` on packaged recipes, which it leaves in
the output folder to be changed and run again.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli.data import plan_store
from cislens.cli.options import AsJson, DryRun, Seed, Workers, answer
from cislens.cli.report import show_verdicts
from cislens.files import write_atomic
from cislens.recipes.packaged import packaged_path

if TYPE_CHECKING:
    from cislens.recipes.profiles import DataRecipe
    from cislens.recipes.schema import BenchRecipe, TrainRecipe
    from cislens.report.inputs import ReportInput

logger = logging.getLogger("cislens")
_STEPS = ("data", "train", "bench")


def command(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("cislens-demo"),
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps, fewer for a quick look.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Fits of every arm of the bench.")
    ] = None,
    workers: Workers = 2,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Build, pre-train, compare with baselines and report. Run it again to resume."""
    if dry_run:
        data, _, _ = _recipes(packaged_path("demo", "data").parent, steps, seeds, seed)
        answer(plan_store(data).describe(workers), as_json)
        return
    _copy_recipes(out / "recipes")
    data, train, bench = _recipes(out / "recipes", steps, seeds, seed)
    began = time.perf_counter()
    run = _main_job(out, data, train, bench, workers)
    seconds = round(time.perf_counter() - began)
    page = (out / "report.html").resolve()
    result = {
        "report": str(page),
        "seconds": seconds,
        "tracks": sorted(str(path) for path in (out / "tracks").glob("*/*.bw")),
        "verdicts": run.verdicts.to_dicts(),
    }
    if as_json:
        answer(result, as_json)
    else:
        show_verdicts(run)
        typer.echo(f"\nfinished in {seconds} s; predicted tracks in {out / 'tracks'}")
        typer.echo(f"report: {page}")


def _copy_recipes(folder: Path) -> None:
    """The packaged recipes, to be changed and run again."""
    for name in _STEPS:
        write_atomic(folder / f"{name}.yaml", packaged_path("demo", name).read_text("utf-8"))


def _recipes(
    folder: Path, steps: int | None, seeds: int | None, seed: int | None
) -> "tuple[DataRecipe, TrainRecipe, BenchRecipe]":
    """The recipes of a folder, with what the command line changes."""
    from cislens.cli.bench_job import with_seed
    from cislens.recipes.profiles import DataRecipe
    from cislens.recipes.reading import read_recipe
    from cislens.recipes.schema import BenchRecipe, TrainRecipe

    data = read_recipe(folder / "data.yaml", DataRecipe)
    train = read_recipe(folder / "train.yaml", TrainRecipe)
    bench = read_recipe(folder / "bench.yaml", BenchRecipe)
    if steps is not None:
        shorter = {"steps": steps, "validate_every": min(steps, train.training.validate_every)}
        train = train.model_copy(update={"training": train.training.model_copy(update=shorter)})
    if seeds is not None:
        settings = bench.settings.model_copy(update={"seeds": seeds})
        bench = bench.model_copy(update={"settings": settings})
    if seed is not None:
        data = data.model_copy(update={"seed": seed})
        train = train.model_copy(update={"seed": seed})
        bench = with_seed(bench, seed)
    return data, train, bench


def _main_job(
    out: Path, data: "DataRecipe", train: "TrainRecipe", bench: "BenchRecipe", workers: int
) -> "ReportInput":
    from cislens.cli.bench_job import judge
    from cislens.engines import LocalEngine
    from cislens.signal.build import build_planned
    from cislens.training.fit import fit

    logger.info("1/4 data: genomes and tracks to a profile store")
    build_planned(out / "store", plan_store(data), LocalEngine(workers))
    logger.info("2/4 train: %s for %d steps", train.model, train.training.steps)
    with _one_thread():
        fit(train, out / "run")
    logger.info("3/4 predict: tracks of the held-out windows")
    _predict(out, data)
    logger.info("4/4 bench: against one-hot, k-mers and random weights")
    return judge(bench, out / "bench", out / "report.html")


@contextmanager
def _one_thread() -> Iterator[None]:
    """The products of experts this small take 0.27 s a step on two threads and 0.18 s on one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _predict(out: Path, data: "DataRecipe") -> None:
    """Write the held-out windows of every species as bigWig, one per track."""
    import polars as pl

    from cislens.effects.track_files import write_track_bigwigs
    from cislens.effects.tracks import predict_tracks
    from cislens.genome.reference import open_genome
    from cislens.models.saving import load_profile_model
    from cislens.signal.store import ProfileStore

    store, model = ProfileStore.open(out / "store"), load_profile_model(out / "run" / "model")
    for species in store.species:
        predicted = predict_tracks(
            model,
            open_genome(data.genomes[species], species),
            store.windows(species).filter(pl.col("split") == "test"),
            species,
            store.tracks(species),
            length=store.length,
            average_strands=True,
        )
        write_track_bigwigs(predicted, out / "tracks" / species)
