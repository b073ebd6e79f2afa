"""The multi-modal objective as a recipe has it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cislens.recipes.reading import Section

TERMS = ("masked", "next", "match", "contrast", "regions", "motifs")

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class MultimodalTerms(Section):
    """Weights of the terms, and how what they ask is drawn. A term of weight 0 is not computed.

    Attributes:
        masked: tell hidden bases (masked genome modelling).
        next: tell whether the second half of the sequence follows the first.
        match: tell a context that belongs to the sequence from one that does not.
        contrast: find the context of each sequence among those of the batch, and back.
        regions: tell the hidden regions of a context.
        motifs: tell the motifs of the region from its sequence.
        mask_rate: share of the bases asked, drawn between the two for each sequence.
        negatives: contexts and segments that do not belong: drawn at random, or matched in GC
            content ("matched": a third of them near by, a third far away, a third the model's own
            most alike of the batch).
        region_rate: share of the regions hidden.
        context: regions of a context.
    """

    name: Literal["multimodal"] = "multimodal"
    masked: Weight = 1.0
    next: Weight = 0.0
    match: Weight = 0.25
    contrast: Weight = 0.5
    regions: Weight = 1.0
    motifs: Weight = 0.5
    mask_rate: tuple[float, float] = (0.15, 0.3)
    negatives: Literal["random", "matched"] = "matched"
    region_rate: float = Field(default=0.5, gt=0, lt=1)
    context: int = Field(default=16, ge=2)

    @model_validator(mode="after")
    def _something_to_learn(self) -> "MultimodalTerms":
        if not any(getattr(self, term) for term in TERMS):
            raise ValueError("every term has weight 0; give one a weight")
        low, high = self.mask_rate
        if not 0 < low <= high < 1:
            raise ValueError("mask_rate must be two shares in order, such as [0.15, 0.3]")
        return self
