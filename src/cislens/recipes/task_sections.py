"""Tasks as recipes ask for them: from tables that somebody labelled, and from a user's own data."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cislens.recipes.promoters import PromoterTask
from cislens.recipes.reading import RecipePath, Section
from cislens.recipes.task_basics import GenomeSection, Labelling, Parting, TaskSection


class TableTask(Labelling):
    """Labelled sequences in CSV or TSV: one file, or one for each split.

    Names of columns that are not given are found among their usual names, and the card reports
    which was taken. Examples of one `block` are not independent and stay in one split.
    """

    kind: Literal["table"]
    file: RecipePath | None = None
    train: RecipePath | None = None
    valid: RecipePath | None = None
    test: RecipePath | None = None
    header: list[str] | None = None  # names of the columns of files without a header
    sequence: str | None = None
    label: str | list[str] | None = None
    block: str | None = None
    id: str | None = None
    chrom: str | None = None
    start: str | None = None
    end: str | None = None
    strand: str | None = None
    weight: str | None = None
    split: Parting | None = None

    @model_validator(mode="after")
    def _one_or_three(self) -> "TableTask":
        if (self.file is None) == (self.train is None):
            raise ValueError("name one `file`, or `train` and `test` (and `valid`)")
        if self.train is not None and (self.test is None or self.split is not None):
            raise ValueError("files for each split need `test`, and no `split`")
        if self.file is not None and (self.valid is not None or self.test is not None):
            raise ValueError("`file` holds all examples; leave out `valid` and `test`")
        return self


class MpraTask(TableTask):
    """Reporter assays: activity per sequence, with standard error or replicates as weights.

    Attributes:
        element: regular expression whose first group, in the id of a row, names its element; both
            orientations and all tiles of an element stay in one split.
        error: column of the standard error of the activity.
        replicates: columns of single measurements; the activity is their mean where `label` is
            not given, and their standard error the weight.
    """

    kind: Literal["mpra"]  # type: ignore[assignment]
    element: str | None = None
    error: str | None = None
    replicates: list[str] = []


class FastaTask(Labelling):
    """Labelled FASTA: `>chrom:start-end|label`. The revision of the set has no default."""

    kind: Literal["fasta"]
    revision: str
    file: RecipePath | None = None
    train: RecipePath | None = None
    valid: RecipePath | None = None
    test: RecipePath | None = None
    split: Parting | None = None


class GenomicBenchmarksTask(Labelling):
    """A folder `{train,test}/<class>.csv.gz` of intervals with their genome, or one table of the
    same with sequences (`split, label, sequence, id, locus`). Valid is carved from train."""

    kind: Literal["genomic_benchmarks"]
    folder: RecipePath | None = None
    genome: RecipePath | None = None
    table: RecipePath | None = None

    @model_validator(mode="after")
    def _one_form(self) -> "GenomicBenchmarksTask":
        if len(self.classes) < 2:
            raise ValueError("number the classes: the order of a folder's files means nothing")
        if (self.folder is None) == (self.table is None) or (self.folder and not self.genome):
            raise ValueError("name `folder` and `genome`, or `table`")
        return self


class GueTask(Labelling):
    """A dataset folder of GUE: train.csv, dev.csv and test.csv with `sequence,label`.

    Attributes:
        without_train: `carve` divides dev into train and valid where the folder has no train
            file; the task's revision then ends in `+train-from-dev`.
    """

    kind: Literal["gue"]
    folder: RecipePath
    without_train: Literal["refuse", "carve"] = "refuse"


class BedLabelTask(Labelling):
    """Intervals with a split and labels, as BEND has them, and their genome.

    Attributes:
        columns: names of the columns of a file without a header.
        label: column of numbers, or of comma-separated lists; None if `labels` holds them.
        labels: parquet or HDF5 with the labels, row by row as in the file.
        dataset: name of the HDF5 dataset, or of the parquet column if it is a list.
    """

    kind: Literal["bed_labels"]
    file: RecipePath
    genome: RecipePath
    columns: list[str] | None = None
    chrom: str | None = None
    start: str | None = None
    end: str | None = None
    strand: str | None = None
    split: str | None = None
    label: str | None = "label"
    labels: RecipePath | None = None
    dataset: str = "labels"
    names: list[str] = []
    parts: dict[str, Literal["train", "valid", "test"]] = {}


class SplicingTask(TaskSection):
    """Exons with the sequence at both ends and percent spliced in per tissue (MTSplice type).

    Attributes:
        acceptor, donor: columns with the two sequences; intron first, then exon, at the acceptor,
            exon first at the donor, all on the strand of the gene.
        tissues: columns of PSI, 0 to 1; by default all that end in `psi_suffix`.
        percent: whether PSI counts to 100.
        least_tissues, least_spread: a test exon needs so many tissues observed and such a
            largest distance from its mean PSI.
    """

    kind: Literal["splicing"]
    file: RecipePath
    acceptor: str = "acceptor"
    donor: str = "donor"
    tissues: list[str] = []
    psi_suffix: str = "_psi"
    percent: bool = False
    id: str | None = None
    chrom: str | None = None
    block: str | None = None
    ends: list[int] = Field(default=[400, 400], min_length=2, max_length=2)
    least_tissues: int = Field(default=10, ge=1)
    least_spread: float = Field(default=0.2, ge=0)
    split: Parting = Parting()


class VariantSection(TaskSection):
    """Variants; `width` bp of sequence with the variant at index width // 2."""

    width: int = Field(default=512, ge=2)
    split: Parting = Parting()


class SaturationTask(VariantSection):
    """Saturation mutagenesis of elements: `Chrom Pos Ref Alt Coefficient Element Release` and the
    reference as a FASTA of elements or a genome. One element is one block.

    Attributes:
        elements: FASTA of the elements, named as in the table, with `chrom:start-end` (1-based) in
            the header.
        release: rows of this release of the assembly are taken.
        train, valid, test: names of elements.
        signed: the effect itself, or how large it is whatever its sign.
        least_barcodes: variants seen with fewer barcodes are left out.
    """

    kind: Literal["saturation"]
    table: RecipePath
    elements: RecipePath | None = None
    genome: RecipePath | None = None
    release: str | None = None
    train: list[str] = Field(min_length=1)
    valid: list[str] = Field(min_length=1)
    test: list[str] = Field(min_length=1)
    effect: str = "Coefficient"
    signed: bool = True
    least_barcodes: int = Field(default=10, ge=0)
    deletions: bool = True

    @model_validator(mode="after")
    def _one_reference(self) -> "SaturationTask":
        if (self.elements is None) == (self.genome is None):
            raise ValueError("name `elements` or `genome`")
        return self


class TraitGymTask(VariantSection):
    """Variants in parquet: `chrom, pos, ref, alt, label` and, where there, `tss_dist,
    match_group, consequence`; pos is 1-based, which the reference is asked to confirm."""

    kind: Literal["traitgym"]
    file: RecipePath
    genome: RecipePath
    label: str = "label"


class VcfTask(VariantSection):
    """A VCF, plain or compressed, with the label in an INFO key."""

    kind: Literal["vcf"]
    file: RecipePath
    genome: RecipePath
    label: str  # INFO key
    classes: dict[str, int] = {}
    signed: bool | None = None  # of effects; None for classes


class VariantTask(VariantSection):
    """Positive variants against controls from the same table, matched by covariates.

    Attributes:
        label: column whose `classes` tell positives (1) from controls (0).
        covariates: columns with numbers; without any, GC content of the window and, given
            `genes`, the distance to the next TSS.
        controls: how many for each positive.
        caliper: largest distance in any covariate, in its robust standard deviations.
    """

    kind: Literal["variants"]
    file: RecipePath
    genome: RecipePath
    label: str = "label"
    classes: dict[str, int] = {}
    genes: list[RecipePath] = []
    covariates: list[str] = []
    within: list[str] = []  # controls share the positive's values of these columns
    controls: int = Field(default=9, ge=1)
    caliper: float = Field(default=1.0, gt=0)


class TfbsTask(GenomeSection):
    """Binding sites: summit +- width / 2 of ChIP peaks against matched background.

    Attributes:
        peaks: a peak file, or several by name for a multilabel task.
        named: keep the peaks of this name only (a pooled file).
        column: where the names are, by the names that `intervals.read_intervals` gives.
        summit: column of the summit's offset from the start, where the file is no narrowPeak.
        negatives: genomic, or accessible: open in the same cell and not bound there, alike in GC
            and in accessibility.
        open: peaks of accessible chromatin of the cell; `peaks` itself unless given.
        open_named: pattern of the names of the peaks that are open regions, e.g. "K562|*".
        relaxed: peaks of a relaxed threshold; what only they hold is neither bound nor unbound.
        signal: bigWig of accessibility by which negatives are matched. Unless given, the signal
            of the open peaks, or in a pooled file how many other names have a peak there.
        natural: test on all unbound open windows, not on as many as there are sites.
    """

    kind: Literal["tfbs"]
    peaks: RecipePath | dict[str, RecipePath]
    named: str | None = None
    column: str = "name"
    summit: str | None = None
    width: int = Field(default=200, ge=1)
    negatives: Literal["genomic", "accessible"] = "genomic"
    open: RecipePath | None = None
    open_named: str | None = None
    relaxed: RecipePath | None = None
    signal: RecipePath | None = None
    natural: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "TfbsTask":
        accessible = self.negatives == "accessible"
        extra = [self.open, self.open_named, self.relaxed, self.signal]
        if not accessible and (self.natural or any(value is not None for value in extra)):
            raise ValueError(
                "open, open_named, relaxed, signal and natural are of accessible negatives"
            )
        if accessible and self.open is None and self.open_named is None:
            raise ValueError("accessible negatives need `open`, `open_named` or both")
        if accessible and isinstance(self.peaks, dict):
            raise ValueError("accessible negatives are of one peak file")
        return self


class RbpTask(GenomeSection):
    """Binding sites of an RNA-binding protein, stranded, against sites of the same transcripts."""

    kind: Literal["rbp"]
    peaks: RecipePath
    genes: RecipePath
    width: int = Field(default=200, ge=1)


class SpliceTask(GenomeSection):
    """Splice sites of an annotation against decoys, GT and AG of the same genes; stranded.

    Attributes:
        genes: GTF or GFF3 with exons, or BED12; several files of one genome as a list.
        reach: bp at either side of the boundary.
        binary: only sites of this kind; None for donor, acceptor and neither.
        decoys: how many for each site.
        apart: least bp between a decoy and any annotated site, on either strand.
        alike: take the decoys of a gene that are nearest to its sites in GC, not any.
        least_canonical: share of the annotated donors that must read GT, and of the acceptors AG;
            else the annotation does not fit the genome.
    """

    kind: Literal["splice"]
    genes: RecipePath | list[RecipePath]
    reach: int = Field(default=200, ge=10)
    binary: Literal["donor", "acceptor"] | None = None
    decoys: int = Field(default=1, ge=1)
    apart: int = Field(default=0, ge=0)
    alike: bool = False
    least_canonical: float = Field(default=0.95, ge=0, le=1)


class ShuffledTask(Section):
    """The positives of another task against their own k-let shuffles."""

    kind: Literal["shuffled"]
    k: int = Field(default=2, ge=1, le=3)
    of: Annotated[TfbsTask | RbpTask, Field(discriminator="kind")]


ImportedTask = (
    TableTask
    | MpraTask
    | FastaTask
    | GenomicBenchmarksTask
    | GueTask
    | BedLabelTask
    | SplicingTask
    | SaturationTask
    | TraitGymTask
    | VcfTask
)
BuiltTask = VariantTask | PromoterTask | TfbsTask | RbpTask | SpliceTask | ShuffledTask
