"""Tasks of promoters as recipes ask for them."""

from typing import Literal

from pydantic import Field, model_validator

from cislens.recipes.reading import RecipePath, Section
from cislens.recipes.task_basics import GenomeSection


class TataBox(Section):
    """A motif whose hits upstream of the TSS tell promoters with a TATA box from those without.

    Attributes:
        motif: a consensus in IUPAC letters, or the name of a motif of `motifs`.
        motifs: file of motifs in MEME format.
        p_value: share of random words that score as a hit does.
        keep: promoters of one class; all if None.
    """

    motif: str = "TATAWAWR"
    motifs: RecipePath | None = None
    p_value: float = Field(default=1e-3, gt=0, lt=1)
    keep: Literal["only", "without"] | None = None


class PromoterTask(GenomeSection):
    """Promoters of annotated genes against other sequence of the same genome, or of themselves.

    Attributes:
        genes: GTF, GFF3 or BED; several files of one genome as a list.
        downstream: bp of the window from the TSS on, the TSS included; a quarter unless given.
        jitter: move each window at random, for annotations that begin genes at the start codon.
            Without, the TSS is at one place in all windows.
        collapse: take the TSS of every transcript, and of those within so many bp on one strand
            the one that most transcripts have. None: the first base of every gene.
        negatives: genomic (alike in GC, CpG and repeats), accessible (windows of `open` away from
            every TSS, alike in GC), or shuffled (promoters with segments of them rearranged).
        open: peaks of accessible chromatin.
        away: least bp between an accessible negative and any TSS.
        tata: marks the TATA boxes of promoters, and may keep one class.
        stranded: read the promoter's strand, and the negative on that of its promoter.
    """

    kind: Literal["promoters"]
    genes: RecipePath | list[RecipePath]
    width: int = Field(default=512, ge=1)
    downstream: int | None = Field(default=None, ge=0)
    jitter: bool = True
    collapse: int | None = Field(default=None, ge=0)
    negatives: Literal["genomic", "accessible", "shuffled"] = "genomic"
    open: RecipePath | None = None
    away: int = Field(default=2000, ge=0)
    tata: TataBox | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "PromoterTask":
        if (self.negatives == "accessible") != (self.open is not None):
            raise ValueError("accessible negatives, and no others, need `open`")
        if self.downstream is not None and self.downstream > self.width:
            raise ValueError("`downstream` is part of `width`")
        return self
