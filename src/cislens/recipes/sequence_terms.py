"""The objectives on sequence alone as a recipe has them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cislens.recipes.multimodal import Weight
from cislens.recipes.reading import Section

Share = Annotated[float, Field(ge=0, le=1)]


class View(Section):
    """How a view is cut from a parent window, anywhere in it.

    Attributes:
        length: bp.
        reverse_complement: turn it with probability 1/2.
        substitutions: share of the bases changed, drawn between the two for each view;
            transitions are twice as frequent as transversions.
        indels, indel_length: most insertions and deletions of a view, and the longest; what a
            deletion takes is filled up with the real bases beyond it.
        haplotypes: let each view carry the alleles of one haplotype of the store.
    """

    length: int = Field(default=256, ge=16)
    reverse_complement: bool = True
    substitutions: tuple[Share, Share] = (0.0, 0.0)
    indels: int = Field(default=0, ge=0)
    indel_length: int = Field(default=10, ge=1)
    haplotypes: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> "View":
        low, high = self.substitutions
        if low > high:
            raise ValueError("substitutions must be two shares in order, such as [0.01, 0.05]")
        return self


class Views(View):
    """Several views of one parent window, each drawn on its own.

    Attributes:
        count: global views, of `length`.
        local_length, local_count: of local views.
    """

    substitutions: tuple[Share, Share] = (0.01, 0.05)
    indels: int = Field(default=2, ge=0)
    count: int = Field(default=2, ge=1)
    local_length: int = Field(default=64, ge=8)
    local_count: int = Field(default=4, ge=0)


class Masks(Section):
    """Which bases of a global view are asked: 80 % of them hidden, 10 % replaced, 10 % left.

    Attributes:
        kind: "bases" one by one at `base_rate`; "spans" with a share of the bases drawn within
            `span_rate` for each view, half of the spans geometric of mean 10 bp and half of
            16 to 48 bp; "mixed" one or the other, each for half of the views.
    """

    kind: Literal["bases", "spans", "mixed"] = "mixed"
    base_rate: float = Field(default=0.15, gt=0, lt=1)
    span_rate: tuple[float, float] = (0.1, 0.5)

    @model_validator(mode="after")
    def _in_order(self) -> "Masks":
        low, high = self.span_rate
        if not 0 < low <= high < 1:
            raise ValueError("span_rate must be two shares in order, such as [0.1, 0.5]")
        return self


class MaskedTerms(Section):
    """Tell hidden bases, and nothing else: a masked language model of DNA.

    Attributes:
        repeat_weight: of a soft-masked base, where others weigh 1.
        held_out: windows of the validation part that are looked at.
        on_collapse: stop the run, or warn.
    """

    name: Literal["masked"] = "masked"
    view: View = View()
    masks: Masks = Masks()
    repeat_weight: Share = 0.1
    held_out: int = Field(default=1024, ge=8)
    on_collapse: Literal["stop", "warn"] = "stop"


class DistillationTerms(Section):
    """A student learns to give what its running mean, the teacher, gives for other views.

    Attributes:
        masked: tell hidden bases.
        latent: tell the teacher's vectors of hidden places (data2vec).
        pooled: agree with the teacher on the prototypes of the whole sequence (DINO).
        koleo: keep the vectors of sequences apart (the entropy estimate of Kozachenko and
            Leonenko).
        contrast: find the teacher's vector of the same window among those of the batch.
        prototypes: of the pooled term; 0 takes the channels of the pooled vector themselves.
        target: how the teacher's prototypes are kept from collapsing into one.
        temperature: of the student.
        teacher_temperature: at the start and from a tenth of the steps on.
        half_life: of the teacher, as shares of all windows of the run, at the start and the end.
        ramp: share of the steps over which the distilled terms grow to their weight.
        noise: standard deviation of the noise on the bases that the student reads.
        on_collapse: stop the run, or warn.
    """

    name: Literal["distillation"] = "distillation"
    masked: Weight = 1.0
    latent: Weight = 1.0
    pooled: Weight = 0.5
    koleo: Weight = 0.1
    contrast: Weight = 0.0
    views: Views = Views()
    masks: Masks = Masks()
    repeat_weight: Share = 0.1
    prototypes: int = Field(default=128, ge=0)
    target: Literal["center", "sinkhorn"] = "sinkhorn"
    temperature: float = Field(default=0.1, gt=0)
    teacher_temperature: tuple[float, float] = (0.04, 0.04)
    half_life: tuple[float, float] = (0.005, 0.1)
    ramp: Share = 0.05
    noise: float = Field(default=0.0, ge=0)
    on_collapse: Literal["stop", "warn"] = "stop"
    held_out: int = Field(default=1024, ge=8)

    @model_validator(mode="after")
    def _something_to_learn(self) -> "DistillationTerms":
        if not any(getattr(self, term) for term in DISTILLATION_TERMS):
            raise ValueError("every term has weight 0; give one a weight")
        if self.views.count < 2 and (self.pooled or self.contrast):
            raise ValueError("pooled and contrast compare views: views.count must be at least 2")
        if not 0 <= self.half_life[0] <= self.half_life[1] <= 1:
            raise ValueError("half_life must be two shares in order, such as [0.005, 0.1]")
        return self


DISTILLATION_TERMS = ("masked", "latent", "pooled", "koleo", "contrast")
