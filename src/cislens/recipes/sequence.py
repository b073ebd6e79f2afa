"""The recipe of `cislens data sequence`: genomes, and which windows of them may be read."""

from pydantic import Field, model_validator

from cislens.recipes.profiles import Split
from cislens.recipes.reading import RecipePath, Section


class SequenceSplit(Split):
    """As the split of a profile store, or taken over from a store.

    Attributes:
        store: profile, region or sequence store; a window lies in the part of what it lies in.
    """

    store: RecipePath | None = None


class SequenceRecipe(Section):
    """`cislens data sequence`.

    Attributes:
        genomes: species -> FASTA or 2bit.
        window: bp of a parent window, from which views are cut.
        most_n: largest share of N in a window.
        most_repeats: largest share of soft-masked bases in a window; 1 keeps all.
        blacklist: species -> BED of what no window may touch.
        haplotypes: species -> VCF with genotypes, the alleles of which views may carry.
        probe: species -> intervals (BED, narrowPeak, or the starts of the genes of a GTF or GFF3);
            whether a held-out window's center lies near one is asked of its nearest neighbors
            while a model trains.
    """

    genomes: dict[str, RecipePath] = Field(min_length=1)
    window: int = Field(default=1024, ge=32)
    most_n: float = Field(default=0.05, ge=0, lt=1)
    most_repeats: float = Field(default=1.0, gt=0, le=1)
    blacklist: dict[str, RecipePath] = {}
    haplotypes: dict[str, RecipePath] = {}
    probe: dict[str, RecipePath] = {}
    split: SequenceSplit = SequenceSplit()
    seed: int = 0

    @model_validator(mode="after")
    def _known_species(self) -> "SequenceRecipe":
        for key in ("blacklist", "haplotypes", "probe"):
            for species in getattr(self, key):
                if species not in self.genomes:
                    raise ValueError(f"{key} names {species!r}, which has no genome")
        return self
