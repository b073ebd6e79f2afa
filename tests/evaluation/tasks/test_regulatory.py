"""The packaged suite of regulatory tasks, on the real data where it is."""

from pathlib import Path

import polars as pl
import pytest

from cislens.evaluation.tasks.build import build_task
from cislens.recipes.task_recipe import read_tasks


@pytest.mark.parametrize("name", ["tfbs.tead4", "risk.pathogenic"])
def test_a_task_of_the_suite_is_built(core_data: Path, name: str) -> None:
    recipe = read_tasks("regulatory")
    task = build_task(name, recipe.tasks[name], None, recipe.seed)
    assert 50 < task.examples.height <= 2000
    shares = task.examples.group_by("split").agg(pl.col("y").list.first().mean())
    assert ((shares["y"] > 0) & (shares["y"] < 1)).all()


def test_the_suite_has_all_four_families(core_data: Path) -> None:
    tasks = read_tasks("regulatory").tasks
    families = {name.partition(".")[0] for name in tasks}
    assert families == {"promoters", "tfbs", "splice", "risk"}
    negatives = {getattr(section, "negatives", None) for section in tasks.values()}
    assert {"genomic", "accessible", "shuffled"} <= negatives
