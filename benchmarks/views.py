"""How fast views come, against a training step of the smallest FinDNA that consumes them.

    python benchmarks/views.py [--window 512] [--batch 32] [--threads 2]

The windows are those of the packaged yeast and fly. Batches are made on one thread, as a run makes
them beside its steps; a step is forward, backward and AdamW of `findna-plus-tiny` on such a batch.
Both are timed in turn, and every figure is a median over the turns, so that a slow moment of the
machine meets both. The aim is that views come twice as fast as they are used.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from cislens.example import example_path
from cislens.models.presets import encoder_config
from cislens.models.sequence import SequenceModel, SequenceModelConfig
from cislens.objectives.contract import Objective
from cislens.objectives.distillation.objective import DistillationObjective
from cislens.objectives.masked import MaskedObjective
from cislens.objectives.sequence_batch import to_tensors
from cislens.recipes.sequence import SequenceRecipe
from cislens.recipes.sequence_terms import DistillationTerms, MaskedTerms, Views
from cislens.sequence.build import build_sequences
from cislens.sequence.loader import SequenceLoader
from cislens.sequence.store import SequenceStore

PRESET = "findna-plus-tiny"
BATCHES_AT_ONCE = 8
STEPS = 1000


def main() -> None:
    """Print a table and, as last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--window", type=int, default=512, help="bp of a parent window")
    parser.add_argument("--batch", type=int, default=32, help="windows per batch")
    parser.add_argument("--threads", type=int, default=2, help="of the training step")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        store = packaged(Path(folder) / "store", options.window)
        results = [
            measure(store, name, options.batch, options.repeats)
            for name in ("distillation", "masked")
        ]
    print(json.dumps({"benchmark": "views", "window": options.window, "results": results}))


def packaged(path: Path, window: int) -> SequenceStore:
    """The packaged yeast and fly."""
    genomes = {
        "yeast": example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"),
        "fly": example_path("fly_mini/dm6_chr2L_4_7Mb.fa.gz"),
    }
    return build_sequences(SequenceRecipe(genomes=genomes, window=window), path)


def measure(store: SequenceStore, name: str, batch_size: int, repeats: int) -> dict[str, object]:
    """Windows and bp a second of one objective's views, and how often its steps use them up."""
    loader, objective = parts(store, name, batch_size)
    batch = to_tensors(loader.batch(0, 0))
    if batch is None:
        raise RuntimeError("the batch has no windows for this device")
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-4)
    made = iter(range(10**9))

    def make() -> None:
        for _ in range(BATCHES_AT_ONCE):
            loader.batch(*divmod(next(made), len(loader)))

    def step() -> None:
        optimizer.zero_grad()
        objective.loss(batch).total.backward()
        optimizer.step()
        objective.after_step()

    make()
    step()
    turns = [(seconds(make) / BATCHES_AT_ONCE, seconds(step)) for _ in range(repeats)]
    views_s, step_s = (statistics.median(each) for each in zip(*turns, strict=True))
    views = loader.views
    bases = views.count * views.length + views.local_count * views.local_length
    windows = batch_size / views_s
    ratio = step_s / views_s
    print(
        f"{name}, {batch_size} windows, {bases} bp of views of each: {windows:,.0f} windows/s, "
        f"{windows * bases / 1e6:.1f} Mbp/s; a step of {PRESET} takes {1e3 * step_s:.1f} ms, "
        f"{ratio:.1f} times as long (target 2)"
    )
    return {
        "objective": name,
        "windows_a_second": round(windows),
        "bp_a_second": round(windows * bases),
        "step_ms": round(1e3 * step_s, 1),
        "times_a_step": round(ratio, 1),
    }


def parts(store: SequenceStore, name: str, size: int) -> tuple[SequenceLoader, Objective]:
    """What makes the batches of an objective, and what uses them."""
    model = SequenceModel(SequenceModelConfig(encoder=encoder_config(PRESET, ())))
    objective: Objective
    if name == "masked":
        terms = MaskedTerms()
        views = Views(**terms.view.model_dump(), count=1, local_count=0)
        objective = MaskedObjective(model, terms)
        return SequenceLoader(store, "train", size, views=views, masks=terms.masks), objective
    distilled = DistillationTerms()
    objective = DistillationObjective(model, distilled, STEPS, size)
    loader = SequenceLoader(store, "train", size, views=distilled.views, masks=distilled.masks)
    return loader, objective


def seconds(run: Callable[[], None]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
