"""What self-distillation costs: a training step with a teacher against one of hidden bases alone.

    python benchmarks/teacher.py [--preset findna-plus-tiny] [--batch 32] [--threads 1]
        [--store STORE]

One step is forward, backward, AdamW, and the teacher's move. The student of both reads as many
bases: distillation two global and four local views of each window, hidden bases alone more windows
of one view. The steps run in turn, and every figure is a median over the turns, so that a slow
moment of the machine meets both. FLOPs are of products, forward and backward. The third line is the
teacher's own share: its pass over the global views, and its move towards the student.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from cislens.objectives.distillation.objective import DistillationObjective
from cislens.recipes.packaged import recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.recipes.sequence import SequenceRecipe
from cislens.sequence.build import build_sequences
from cislens.training.course import Course
from cislens.training.courses import course_of
from cislens.training.ledger import step_flops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="findna-plus-tiny")
    parser.add_argument("--batch", type=int, default=32, help="windows of a distillation step")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--store", type=Path, help="sequence store; the packaged example if none")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or example_store(Path(folder) / "store")
        distilled = course(store, "findna-plus-tiny", options.preset, options.batch)
        view = course(store, "masked-tiny", options.preset, 1).bases
        masked = course(store, "masked-tiny", options.preset, distilled.bases // view)
        compare(distilled, masked, options)


def example_store(out: Path) -> Path:
    build_sequences(read_recipe(recipe_path("data", "example-sequence"), SequenceRecipe), out)
    return out


def course(store: Path, recipe: str, preset: str, batch: int) -> Course:
    given = {"store": str(store.resolve()), "model": preset}
    read = read_recipe(recipe_path("train", recipe), TrainRecipe, given)
    training = read.training.model_copy(update={"batch_size": batch})
    return course_of(read.model_copy(update={"training": training}))


def compare(distilled: Course, masked: Course, options: argparse.Namespace) -> None:
    """Times the steps in turn and prints them, with their ratios."""
    if distilled.bases != masked.bases:
        raise SystemExit(f"the students read {distilled.bases} and {masked.bases} bp a step")
    device = torch.device(options.device)
    steps = {
        "distillation": training_step(distilled, device),
        "hidden bases": training_step(masked, device),
        "teacher alone": teacher_alone(distilled, device),
    }
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.repeats + 2):
        for name, step in steps.items():
            seconds = timed(step, device)
            if turn >= 2:  # the first ones warm up
                spent[name].append(seconds)
    median = {name: statistics.median(values) for name, values in spent.items()}
    flops = {name: step_flops(each) for name, each in
             (("distillation", distilled), ("hidden bases", masked))}  # fmt: skip
    print(f"{options.preset}: the student reads {distilled.bases:,} bp a step")
    for name, seconds in median.items():
        counted = f", {flops[name]:.3g} FLOPs" if name in flops else ""
        print(f"{name}: {1e3 * seconds:.1f} ms{counted}")
    ratio = statistics.median(
        a / b for a, b in zip(spent["distillation"], spent["hidden bases"], strict=True)
    )
    counted = flops["distillation"] / flops["hidden bases"]
    print(f"distillation / hidden bases: {ratio:.2f} in time, {counted:.2f} in FLOPs")
    print(f"teacher / hidden bases: {median['teacher alone'] / median['hidden bases']:.2f} in time")


def training_step(course: Course, device: torch.device) -> Callable[[], None]:
    batch = next(iter(course.stream(lambda: 0))).to(device)
    objective = course.objective.to(device).train()
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad])

    def step() -> None:
        optimizer.zero_grad()
        objective.loss(batch).total.backward()
        optimizer.step()
        objective.after_step()

    return step


def teacher_alone(course: Course, device: torch.device) -> Callable[[], None]:
    """The teacher's pass over the whole global views and its move."""
    batch = next(iter(course.stream(lambda: 0))).to(device)
    objective = course.objective
    assert isinstance(objective, DistillationObjective)
    species_R = batch.species_B.repeat(len(batch.whole.codes_VBL))

    def step() -> None:
        objective._teach(batch.whole, species_R)
        objective.after_step()

    return step


def timed(step: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
