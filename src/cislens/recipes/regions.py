"""The recipe of `cislens data regions`: a genome, motifs, and what is open in each cell type."""

from typing import Literal

from pydantic import Field, model_validator

from cislens.recipes.reading import RecipeName, RecipePath, Section


class CellSection(Section):
    """What was measured in one cell type: peaks, or fragments.

    Attributes:
        peaks: narrowPeak, broadPeak or BED, plain or gzip; several are taken together.
        fragments: `chrom, start, end, ...`; both ends of a fragment are cut sites.
        shifted: the fragments' ends are moved to the middle of the transposase already, as
            10x files have them; otherwise they are `start + 4` and `end - 5`.
        signal: bigWig whose mean over a region is its accessibility; without it, the score of the
            peaks or the number of cut sites.
        named: keep the peaks whose name matches this pattern (`K562|*`), of a pooled file.
        column: where the names are, by the names that `intervals.read_intervals` gives.
        score: column of the peaks' score; unless given, the signal value or the score there is.
        summit: column of the summit's offset from the start, where the file is no narrowPeak.
    """

    peaks: RecipePath | list[RecipePath] | None = None
    fragments: RecipePath | None = None
    shifted: bool = True
    signal: RecipePath | None = None
    named: str | None = None
    column: str = "name"
    score: str | None = None
    summit: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "CellSection":
        if self.peaks is None and self.fragments is None:
            raise ValueError("give `peaks` or `fragments`")
        if self.peaks == []:
            raise ValueError("`peaks` lists no file; name one, or leave the key out")
        return self


class RegionSplit(Section):
    """How regions and cell types are parted.

    Attributes:
        fractions: of the regions, by homology-aware blocks; where `valid` or `test` name
            chromosomes, by these instead.
        valid, test: chromosomes.
        exclude: chromosomes without regions, e.g. chrM.
        valid_cells, test_cells: cell types that training never sees.
    """

    fractions: dict[str, float] = {"train": 0.8, "valid": 0.1, "test": 0.1}
    valid: list[str] = []
    test: list[str] = []
    exclude: list[str] = []
    valid_cells: list[str] = []
    test_cells: list[str] = []


class RegionRecipe(Section):
    """`cislens data regions`.

    Attributes:
        species: as tasks call it, so that they find their parts in the store; the assembly,
            unless given.
        cells: name -> what was measured. May be empty where `counts` is given.
        counts: table of counts, a column `region_id` (`chrom:start-end`, 0-based half-open; else
            the first one) or `chrom, start, end`, then one column for each cell type; its regions
            are peaks of every cell type with a count above 0.
        log_counts: the counts are logarithms already (log2 of count + 1).
        regions: BED of regions to take as they are, centered to `width`, in place of a consensus;
            beside `counts` it must list the same ones.
        width: bp of a region.
        margin: bp of sequence kept at either side, for shifts.
        motifs: `JASPAR2026:CORE:<taxon>` or a file in MEME format.
        value: "occupancy" is the log-sum-exp over all placements, "hits" the number of placements
            rarer than `p_value`.
        archetypes: "auto" joins alike motifs to about 320, a number to that many, "none" none.
        expression: TPM of genes (rows, column `gene`) in cell types (columns).
        max_regions: the regions with the best scores.
    """

    genome: RecipePath
    species: str = ""
    assembly: str = ""
    cells: dict[str, CellSection] = {}
    counts: RecipePath | None = None
    log_counts: bool = False
    regions: RecipePath | None = None
    width: int = Field(default=512, ge=32)
    margin: int = Field(default=32, ge=0)
    motifs: RecipeName = "JASPAR2026:CORE:vertebrates"
    value: Literal["occupancy", "hits"] = "occupancy"
    p_value: float = Field(default=1e-4, gt=0, lt=1)
    archetypes: Literal["auto", "none"] | int = "auto"
    expression: RecipePath | None = None
    blacklist: RecipePath | None = None
    max_regions: int | None = Field(default=None, ge=1)
    split: RegionSplit = RegionSplit()
    seed: int = 0

    @model_validator(mode="after")
    def _some_cell(self) -> "RegionRecipe":
        if not self.cells and self.counts is None:
            raise ValueError("give `cells` or `counts`")
        return self
