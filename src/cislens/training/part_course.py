"""A course whose model is saved alone, or as a part of a mixture."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cislens.models.saving import save_model
from cislens.recipes.schema import TrainRecipe
from cislens.training.card import model_card
from cislens.training.course import Course
from cislens.training.provenance import data_section


class PartCourse(Course):
    """Says of its model what its card tells and what is written beside it.

    Such a course is built around a given encoder by `Class(recipe, encoder)`.

    Attributes:
        recipe: of this course alone.
        store: what it reads; has `path` and `digest`.
        model: that is trained.
        title: of the model card.
    """

    recipe: TrainRecipe
    store: Any
    model: Any
    title: str

    @abstractmethod
    def about(self, model: Any) -> str:
        """What the model is, Markdown."""

    @abstractmethod
    def data(self) -> str:
        """Its data in words; `provenance` is beneath."""

    def provenance(self) -> str:
        """Its data, Markdown."""
        return f"{self.data()}\n\n{data_section(self.store.manifest)}"

    def leave(self, folder: Path, model: Any) -> dict[str, str]:
        """Write what belongs to the model into the run folder.

        Returns:
            Further files of the model folder, name -> text.
        """
        return {}

    def save(self, folder: Path, model: nn.Module, manifest: Mapping[str, Any]) -> None:
        beside = self.leave(folder, model)
        card = model_card(self.recipe, manifest, self.title, self.about(model), self.provenance())
        known: Any = model
        save_model(known, folder / "model", card, beside)
