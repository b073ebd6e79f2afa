"""Which course a recipe's objective takes."""

from importlib.util import find_spec

from cislens.errors import CislensError
from cislens.files import manifest_format
from cislens.motifs.store import FORMAT as REGIONS
from cislens.recipes.multimodal import MultimodalTerms
from cislens.recipes.schema import TrainRecipe
from cislens.signal.store import FORMAT as PROFILES
from cislens.training.course import Course

# The modules of which the logger of that name needs one.
_LOGGERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}


def course_of(recipe: TrainRecipe) -> Course:
    """The recipe's data, objective and model, checked.

    Raises:
        CislensError: if they do not fit each other.
    """
    refuse_missing_loggers(recipe)
    _refuse_another_store(recipe)
    if isinstance(recipe.objective, MultimodalTerms):
        from cislens.training.multimodal_course import MultimodalCourse

        return MultimodalCourse(recipe)
    from cislens.training.profile_course import ProfileCourse

    return ProfileCourse(recipe)


def _refuse_another_store(recipe: TrainRecipe) -> None:
    """Refuse a finished store of the kind that the objective does not read."""
    found = manifest_format(recipe.store)
    regions = found == REGIONS
    if found in (REGIONS, PROFILES) and regions != isinstance(recipe.objective, MultimodalTerms):
        kind, name = ("region", "multimodal") if regions else ("profile", "profile")
        raise CislensError(
            f"objective {recipe.objective.name!r} does not read {recipe.store}, which is a {kind} "
            f"store; set `objective: {{name: {name}}}` and a model for it, or name another store."
        )


def refuse_missing_loggers(recipe: TrainRecipe) -> None:
    """Refuse loggers whose package is not installed, before anything is read."""
    for name in recipe.training.loggers:
        found = [find_spec(module) for module in _LOGGERS[name]]
        # A folder of that name in the current one is found as well, but comes from no file.
        if not any(spec is not None and spec.origin is not None for spec in found):
            raise CislensError(
                f"training.loggers: the package {name} is not installed. Install it (`pip install "
                f"{name}`) or leave {name} out: metrics.parquet has all metrics without it."
            )
