"""The recipe of `cislens data profile`, and the objective on profiles."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cislens.recipes.reading import RecipePath, Section

Fraction = Annotated[float, Field(ge=0, le=1)]


class Split(Section):
    """How windows are divided: by chromosome where any is named, else by homology-aware blocks."""

    fractions: dict[str, Fraction] = {"train": 0.8, "valid": 0.1, "test": 0.1}
    block_bp: int | None = Field(default=None, ge=1)  # 16 windows, unless given
    valid: dict[str, list[str]] = {}  # species -> chromosomes
    test: dict[str, list[str]] = {}
    exclude: dict[str, list[str]] = {}  # species -> chromosomes without windows, e.g. chrM

    @field_validator("fractions")
    @classmethod
    def _name_all_parts(cls, fractions: dict[str, float]) -> dict[str, float]:
        parts = ("train", "valid", "test")
        if set(fractions) != set(parts):
            raise ValueError(f"name {', '.join(parts)} and nothing else")
        return {part: fractions[part] for part in parts}


class DataRecipe(Section):
    """`cislens data profile`: genomes and a track table, cut into windows."""

    genomes: dict[str, RecipePath] = Field(min_length=1)  # species -> FASTA or 2bit
    tracks: RecipePath  # track table (TSV)
    length: int = Field(ge=1)  # bp of a window
    bin_size: int = Field(default=128, ge=1)  # bp
    crop: int = Field(default=0, ge=0)  # bins without target at either side
    margin: int = Field(default=3, ge=0)  # bp kept at either side, for shifts
    stride: int | None = Field(default=None, ge=1)  # bp; so that bins meet, unless given
    split: Split = Split()
    blacklist: dict[str, RecipePath] = {}  # species -> BED; clipped there to the window's median
    # "uint8": half the bytes, each bin within some 3.3 % (cislens.signal.quantization).
    values: Literal["float16", "uint8"] = "float16"
    seed: int = 0


class PlusTerms(Section):
    """Weights of the terms that keep the experts of SPACE-plus in order."""

    kind: Literal["plus"] = "plus"
    balance: float = Field(default=0.01, ge=0)
    z: float = Field(default=1e-3, ge=0)
    mutual_information: float = Field(default=0.01, ge=0)  # of species and expert


class PublishedTerms(Section):
    """Weights of the terms as the code of the SPACE paper has them."""

    kind: Literal["published"] = "published"
    z: float = Field(default=1e-3, ge=0)
    cv: float = Field(default=5e-3, ge=0)
    mutual_information: float = Field(default=0.01, ge=0)
    # "mass" holds at any length; "published" only at 131,072 bp and one pair of species.
    normalizer: Literal["mass", "published"] = "mass"


class Objective(Section):
    """What the model is trained to do.

    Attributes:
        loss: "poisson-multinomial" splits the likelihood of a window into its total and shape.
        total_weight: of the total, where it is split.
        experts: the terms beside the likelihood; without effect on a model without experts.
        tracks: query of the store's tracks to learn, `assay == "CAGE"`; all unless given. Species
            without such a track are left out.
        shuffle_species: tell the encoder a random species of each window: the control for what
            it gains by knowing it.
    """

    name: Literal["profile"] = "profile"
    loss: Literal["poisson", "poisson-multinomial"] = "poisson"
    total_weight: float = Field(default=0.2, gt=0)
    experts: Annotated[PlusTerms | PublishedTerms, Field(discriminator="kind")] = PlusTerms()
    tracks: str | None = None
    shuffle_species: bool = False
