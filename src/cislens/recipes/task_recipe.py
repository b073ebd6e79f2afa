"""A file of tasks, as `cislens data task` reads it."""

from pydantic import Field

from cislens.recipes.packaged import recipe_path
from cislens.recipes.reading import RecipePath, Section, read_recipe
from cislens.recipes.schema import AnyTask

PACKAGED = "tasks"


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
    return read_recipe(recipe_path(PACKAGED, recipe), TaskRecipe)
