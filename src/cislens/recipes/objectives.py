"""Every objective that a training recipe may name, and mixtures of them."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from cislens.recipes.multimodal import MultimodalTerms, Weight
from cislens.recipes.profiles import Objective
from cislens.recipes.reading import RecipePath, Section
from cislens.recipes.sequence_terms import DistillationTerms, MaskedTerms

# Names of the objectives that may be parts of a mixture.
OBJECTIVES = ("profile", "multimodal", "masked", "distillation")


def _objective_name(given: Any) -> Any:
    """Of a section of YAML or a read one; a section without a name is a profile objective."""
    if isinstance(given, dict):
        return given.get("name", "profile")
    return getattr(given, "name", None)


OneObjective = Annotated[
    Annotated[Objective, Tag("profile")]
    | Annotated[MultimodalTerms, Tag("multimodal")]
    | Annotated[MaskedTerms, Tag("masked")]
    | Annotated[DistillationTerms, Tag("distillation")],
    Discriminator(_objective_name),
]


class MixturePart(Section):
    """One objective of a mixture.

    Attributes:
        weight: of its loss in the sum.
        store: what it reads; that of the recipe, unless given.
        batch_size: windows of a step; that of the recipe, unless given.
        model: what of its model differs from the preset, beside the encoder.
    """

    objective: OneObjective
    weight: Weight = 1.0
    store: RecipePath | None = None
    batch_size: int | None = Field(default=None, ge=1)
    model: dict[str, Any] = {}


class MixtureTerms(Section):
    """A weighted sum of objectives that share one encoder.

    Every step takes one batch of each part. Weights are chosen by the selection metric of the
    first part.

    Attributes:
        parts: each of another objective.
    """

    name: Literal["mixture"] = "mixture"
    parts: list[MixturePart] = Field(min_length=2)

    @field_validator("parts")
    @classmethod
    def _each_once(cls, parts: list[MixturePart]) -> list[MixturePart]:
        names = [part.objective.name for part in parts]
        if len(set(names)) < len(names):
            raise ValueError(f"an objective is there twice among {', '.join(names)}")
        if not any(part.weight for part in parts):
            raise ValueError("every part has weight 0; give one a weight")
        return parts


AnyObjective = Annotated[
    Annotated[Objective, Tag("profile")]
    | Annotated[MultimodalTerms, Tag("multimodal")]
    | Annotated[MaskedTerms, Tag("masked")]
    | Annotated[DistillationTerms, Tag("distillation")]
    | Annotated[MixtureTerms, Tag("mixture")],
    Discriminator(_objective_name),
]
