"""Recipes that ship with the package, found by their name."""

from pathlib import Path

from cislens.errors import CislensError, nearest

_HERE = Path(__file__).parent


def packaged_names(folder: str) -> list[str]:
    """Names of the packaged recipes of one kind."""
    return sorted(path.stem for path in (_HERE / folder).glob("*.yaml"))


def packaged_path(folder: str, name: str) -> Path:
    """A packaged recipe of one kind by its name, which is one of `packaged_names`."""
    return _HERE / folder / f"{name}.yaml"


def recipe_path(folder: str, recipe: str) -> Path:
    """A recipe by its path, or a packaged one of a kind by its name.

    A folder of that name, as the results of the recipe may lie in, is no recipe.

    Raises:
        CislensError: if there is neither.
    """
    if Path(recipe).is_file():
        return Path(recipe)
    names = packaged_names(folder)
    if recipe not in names:
        raise CislensError(
            f"{recipe} is no file, and no packaged recipe for {folder}. {nearest(recipe, names)}"
        )
    return packaged_path(folder, recipe)
