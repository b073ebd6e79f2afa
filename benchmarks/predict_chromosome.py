"""Whole-chromosome prediction against the pure forward time of the same windows.

    python benchmarks/predict_chromosome.py [--model FOLDER --genome FILE --species NAME]

One side is `cislens predict` from a checked plan to finished bigWigs: windows cut from the genome,
both strands averaged, scale undone, stretches laid aside, files written. The other runs the net
alone on the same windows, one-hot in memory already, both strands, batches of the same size, before
and after; the median of the ratios counts. On a busy machine that of processor times says more.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

from cislens.effects.track_plan import plan_prediction
from cislens.effects.track_run import Prediction
from cislens.genome.codes import one_hot
from cislens.genome.reference import open_genome
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.models.saving import save_model
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.tracks import Track, track_table

LENGTH, CROP, BASES = 8192, 8, 1_200_000
TARGET = 1.15


def main() -> None:
    """Print each repeat and, as last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--genome", type=Path)
    parser.add_argument("--species", default=None)
    parser.add_argument("--chrom", default=None, help="the first of the genome unless given")
    parser.add_argument("--bases", type=int, default=BASES, help="from the chromosome's start")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or fresh_model(Path(folder) / "model")
        genome = open_genome(given.genome or random_genome(Path(folder) / "genome.fa", given.bases))
        chrom = given.chrom or next(iter(genome.chrom_sizes))
        end = min(genome.size(chrom), given.bases)
        region = pl.DataFrame({"chrom": [chrom], "start": [0], "end": [end]})

        def plan() -> Prediction:
            out = Path(folder) / "out"
            shutil.rmtree(out, ignore_errors=True)
            return plan_prediction(
                [model], genome, region, out, species=given.species, device=given.device,
                batch_size=given.batch_size,
            )  # fmt: skip

        measure(plan, given.repeats)


def measure(plan: Callable[[], Prediction], repeats: int) -> None:
    """Forward before and after each prediction; the first repeat warms up and is not counted."""
    whole, pure, ratios, work = [], [], [], []
    for repeat in range(repeats + 1):
        prediction = plan()
        before, one, after = forward(prediction), predicted(prediction), forward(prediction)
        other = (before[0] + after[0]) / 2, (before[1] + after[1]) / 2
        print(
            f"repeat {repeat}: predict {one[0]:.2f} s ({one[1]:.2f} s of the processor), "
            f"forward {other[0]:.2f} s ({other[1]:.2f} s)"
        )
        if repeat:
            whole.append(one[0])
            pure.append(other[0])
            ratios.append(one[0] / other[0])
            work.append(one[1] / other[1])
    ratio = statistics.median(ratios)
    print(
        f"{prediction.tiling.windows} windows of {prediction.tiling.length} bp, "
        f"{len(prediction.ensemble.tracks)} tracks: {ratio:.3f}x of the pure forward time "
        f"({min(ratios):.3f} to {max(ratios):.3f}; target {TARGET}), "
        f"{statistics.median(work):.3f}x of its processor time"
    )
    result = {
        "windows": prediction.tiling.windows,
        "predict_seconds": round(statistics.median(whole), 3),
        "forward_seconds": round(statistics.median(pure), 3),
        "ratio": round(ratio, 3),
        "ratios": [round(each, 3) for each in ratios],
        "processor_ratio": round(statistics.median(work), 3),
        "target": TARGET,
        "threads": torch.get_num_threads(),
        "device": str(prediction.device),
    }
    print(json.dumps({"benchmark": "predict_chromosome", **result}))


def predicted(prediction: Prediction) -> tuple[float, float]:
    """Seconds from the plan to the files, and of the processor."""
    start = time.perf_counter(), time.process_time()
    prediction.run()
    return time.perf_counter() - start[0], time.process_time() - start[1]


@torch.inference_mode()
def forward(prediction: Prediction) -> tuple[float, float]:
    """Seconds, and those of the processor, of the net on the same windows, both strands."""
    tiling, ensemble = prediction.tiling, prediction.ensemble
    net, each = ensemble.models[0].net, prediction.batch_size
    codes_WL = prediction.genome.windows(
        tiling.names(slice(0, tiling.windows)), tiling.starts(), tiling.length
    )
    with ensemble.running(prediction.device) as place:
        x_W4L = torch.from_numpy(one_hot(codes_WL)).to(place)
        turned_W4L = x_W4L.flip(1, 2)
        start = time.perf_counter(), time.process_time()
        for first in range(0, tiling.windows, each):
            for view in (x_W4L, turned_W4L):
                found = net(view[first : first + each], ensemble.species, crop=True).cpu()
        assert bool(torch.isfinite(found).all())
        return time.perf_counter() - start[0], time.process_time() - start[1]


def fresh_model(folder: Path) -> Path:
    """An untrained net of two tracks; speed does not depend on the weights."""
    torch.manual_seed(0)
    model = build_model(preset_config("space-plus-tiny", {"made": ["a", "b"]}, crop=CROP))
    tracks = track_table([Track("a", "a.bw", "made"), Track("b", "b.bw", "made")])
    save_model(model, folder, "# untrained\n", {FILE_NAME: DataCard(LENGTH, tracks).to_json()})
    return folder


def random_genome(path: Path, bases: int) -> Path:
    """One chromosome of random bases."""
    letters = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(0).integers(0, 4, bases)]
    path.write_bytes(b">chr1\n" + letters.tobytes() + b"\n")
    return path


if __name__ == "__main__":
    main()
