"""Which course a recipe's objective takes."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from cislens.errors import CislensError
from cislens.files import manifest_format
from cislens.motifs.store import FORMAT as REGIONS
from cislens.recipes.multimodal import MultimodalTerms
from cislens.recipes.objectives import MixtureTerms
from cislens.recipes.schema import TrainRecipe
from cislens.recipes.sequence_terms import DistillationTerms, MaskedTerms
from cislens.sequence.store import FORMAT as SEQUENCES
from cislens.signal.store import FORMAT as PROFILES
from cislens.training.course import Course

if TYPE_CHECKING:
    from cislens.models.contract import Encoder

# How a store of that format is called, and the objectives that read it.
_READERS = {
    PROFILES: ("profile", ("profile",)),
    REGIONS: ("region", ("multimodal",)),
    SEQUENCES: ("sequence", ("masked", "distillation")),
}

# The modules of which the logger of that name needs one.
_LOGGERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}


def course_of(recipe: TrainRecipe, encoder: "Encoder | None" = None) -> Course:
    """The recipe's data, objective and model, checked.

    Args:
        encoder: to be trained in place of the recipe's own, as one part of a mixture does.

    Raises:
        CislensError: if they do not fit each other.
    """
    refuse_missing_loggers(recipe)
    if isinstance(recipe.objective, MixtureTerms):
        from cislens.training.mixture_course import MixtureCourse

        return MixtureCourse(recipe)
    _refuse_another_store(recipe)
    if isinstance(recipe.objective, MultimodalTerms):
        from cislens.training.multimodal_course import MultimodalCourse

        return MultimodalCourse(recipe, encoder)
    if isinstance(recipe.objective, MaskedTerms | DistillationTerms):
        from cislens.training.sequence_course import SequenceCourse

        return SequenceCourse(recipe, encoder)
    from cislens.training.profile_course import ProfileCourse

    return ProfileCourse(recipe, encoder)


def _refuse_another_store(recipe: TrainRecipe) -> None:
    """Refuse a finished store of a kind that the objective does not read."""
    kind, readers = _READERS.get(manifest_format(recipe.store) or "", ("", ()))
    if readers and recipe.objective.name not in readers:
        raise CislensError(
            f"objective {recipe.objective.name!r} does not read {recipe.store}, which is a {kind} "
            f"store; set `objective: {{name: {readers[0]}}}` and a model for it, or name another "
            "store."
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
