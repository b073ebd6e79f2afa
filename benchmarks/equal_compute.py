"""How many steps each control may train, so that all spend the FLOPs that a recipe spends.

Counts one training step, forward and backward, of a packaged recipe and of the same recipe without
each of its terms on a store, and prints `<arm> <steps> <FLOPs per step>`. Products of matrices,
convolutions and attention are counted; element-wise work is not.

    python benchmarks/equal_compute.py genebert-plus-tiny --store STORE --steps 800 \
        --beside genebert-paper-tiny
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cislens.errors import CislensError
from cislens.recipes.ablations import ablated
from cislens.recipes.multimodal import TERMS
from cislens.recipes.packaged import recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.training.courses import course_of


def arms(name: str, store: str, beside: list[str]) -> Iterator[tuple[str, TrainRecipe]]:
    """The recipe, what is trained beside it, and the recipe without each of its terms."""
    for each in (name, *beside):
        yield each, read_recipe(recipe_path("train", each), TrainRecipe, {"store": store})
    whole = read_recipe(recipe_path("train", name), TrainRecipe, {"store": store})
    for term in TERMS:
        try:
            yield f"{name}-without-{term}", ablated(whole, term)
        except CislensError:  # it has no such term
            continue


def step_flops(recipe: TrainRecipe) -> int:
    """FLOPs of one training step."""
    course = course_of(recipe)
    batch = next(iter(course.stream(lambda: 0)))
    counter = FlopCounterMode(display=False)
    # Fused attention on a CPU is not counted; as plain products it is.
    with counter, sdpa_kernel(SDPBackend.MATH):
        course.objective.loss(batch).total.backward()
    return int(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--beside", nargs="*", default=[])
    given = parser.parse_args()
    budget = 0
    for arm, recipe in arms(given.recipe, str(given.store.resolve()), given.beside):
        flops = step_flops(recipe)
        budget = budget or flops * given.steps
        print(arm, round(budget / flops), flops)


if __name__ == "__main__":
    main()
