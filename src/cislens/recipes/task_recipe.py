"""A file of tasks, as `cislens data task` reads it."""

from pathlib import Path

from pydantic import Field

from cislens.errors import CislensError, nearest
from cislens.recipes.reading import RecipePath, Section, read_recipe
from cislens.recipes.schema import AnyTask

_PACKAGED = Path(__file__).parent / "tasks"


class TaskRecipe(Section):
    """Tasks by name; with a `store`, examples from its genomes take the part of its windows."""

    tasks: dict[str, AnyTask] = Field(min_length=1)
    store: RecipePath | None = None
    seed: int = 0


class OneTask(Section):
    """A single section, for a task that no recipe describes."""

    task: AnyTask


def read_tasks(recipe: str) -> TaskRecipe:
    """A recipe of tasks by its path, or a packaged one by its name.

    Raises:
        CislensError: if there is no such file and no packaged recipe of that name, or it is wrong.
    """
    if Path(recipe).exists():
        return read_recipe(recipe, TaskRecipe)
    names = packaged()
    if recipe not in names:
        raise CislensError(
            f"{recipe} is no file, and no packaged recipe of tasks. {nearest(recipe, names)}"
        )
    return read_recipe(_PACKAGED / f"{recipe}.yaml", TaskRecipe)


def packaged() -> list[str]:
    """Names of the packaged recipes of tasks."""
    return sorted(path.stem for path in _PACKAGED.glob("*.yaml"))
