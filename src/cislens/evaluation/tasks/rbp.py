"""Binding sites of RNA-binding proteins (eCLIP), against sites of the same transcripts."""

from bisect import bisect_left, bisect_right, insort

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.background import built_card, disjoint, drawn
from cislens.evaluation.tasks.card import Target
from cislens.evaluation.tasks.genomic import on_genome, opened, signed_off
from cislens.evaluation.tasks.placing import place
from cislens.evaluation.tasks.task import Task, make_task
from cislens.evaluation.training_stores import TrainingStore
from cislens.genome.annotation import read_genes
from cislens.genome.codes import N, gc_content
from cislens.genome.intervals import Spans, centered, read_intervals
from cislens.genome.reference import Genome
from cislens.genome.sampling import standardized_difference
from cislens.randomness import generator
from cislens.recipes.task_sections import RbpTask

_CANDIDATES = 40  # random places in the gene for each site
_CALIPER = 0.1  # largest difference in GC content
_LARGEST_DIFFERENCE = 0.1


def build_rbp(name: str, section: RbpTask, store: TrainingStore | None, seed: int) -> Task:
    """A stranded task of binding sites; see `RbpTask` and `rbp_sites`."""
    genome, regions = opened(name, section, store)
    sites = on_genome(read_intervals(section.peaks), genome, section.peaks)
    genes = on_genome(read_genes(section.genes), genome, section.genes)
    task = rbp_sites(
        genome, sites, genes, name=name, species=section.species, width=section.width,
        regions=regions, limit=section.limit, seed=seed,
    )  # fmt: skip
    files = {"genome": section.genome, "peaks": section.peaks, "genes": section.genes}
    return signed_off(task, section, files, {"peaks": sites.height})


def rbp_sites(
    genome: Genome,
    sites: pl.DataFrame,
    genes: pl.DataFrame,
    *,
    name: str,
    species: str,
    width: int = 200,
    regions: pl.DataFrame | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """Sites on the strand of their gene, each with a place of the same gene and strand alike in
    GC content that no site is near.

    Args:
        sites: with strand; of sites that overlap on a strand the first is kept.
        genes: as `annotation.read_genes` gives them; each is a block.

    Raises:
        CislensError: if sites have no strand, none lies in a gene, or the negatives' GC content
            differs by more than 0.1 standard deviations.
    """
    if "strand" not in sites.columns or not sites["strand"].is_in(["+", "-"]).all():
        raise CislensError("sites of an RNA-binding protein need a strand, + or -.")
    positives, report = _positives(genome, sites, genes, width)
    positives = drawn(positives, limit, seed)
    negatives = _same_gene(genome, positives, sites, width, seed)
    report["sites without a match in their gene"] = positives.height - negatives.height
    positives = positives[negatives["positive"].to_list()]
    rows = pl.concat(
        [
            positives.select("chrom", "start", "end", "strand", "group", label=pl.lit(1)),
            negatives.select("chrom", "start", "end", "strand", "group", label=pl.lit(0)),
        ]
    ).with_columns(
        example_id=pl.format("{}:{}-{}({})", "chrom", "start", "end", "strand"),
        y=pl.col("label").cast(pl.Float32).reshape((-1, 1)).arr.to_list(),
    )
    placed = place(rows, genome, seed, regions, rows["label"].to_numpy(), stranded=True)
    gc = np.array([float(gc_content(codes)) for codes in placed.sequences])
    label = placed.rows["label"].to_numpy()
    difference = standardized_difference(gc[label == 1], gc[label == 0])
    if abs(difference) > _LARGEST_DIFFERENCE:
        raise CislensError(
            f"the negatives differ in GC content by {difference:.2f} standard deviations (at most "
            f"{_LARGEST_DIFFERENCE}): the genes hold too few free places like the sites."
        )
    report["standardized difference of gc"] = round(difference, 4)
    card = built_card(
        placed, report, regions, name=name, species=species, window=width, block="gene",
        target=Target(names=["site"]), assembly=genome.name, strand="stranded",
    )  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def _positives(
    genome: Genome, sites: pl.DataFrame, genes: pl.DataFrame, width: int
) -> tuple[pl.DataFrame, dict[str, str | int | float]]:
    """Windows in genes, on either strand those that do not overlap, and what was left out."""
    windows = centered(sites, width, genome.chrom_sizes)
    inside = _in_genes(windows, genes)
    if inside.is_empty():
        raise CislensError("no site lies in a gene of its strand; are they of this annotation?")
    kept = [
        disjoint(inside.filter(pl.col("strand") == strand).sort("chrom", "start"))
        for strand in ("+", "-")
    ]
    return pl.concat(kept), {
        "sites outside every gene of their strand": windows.height - inside.height
    }


def _in_genes(windows: pl.DataFrame, genes: pl.DataFrame) -> pl.DataFrame:
    """Windows with `group`, `gene_start`, `gene_end` of the shortest gene that holds them."""
    spans = genes.select(
        "chrom", "strand", gene_start="start", gene_end="end", group="name"
    ).with_columns(group=pl.format("{}:{}", "chrom", "group"))
    columns = windows.select("chrom", "start", "end", "strand").with_row_index("window")
    inside = columns.join_where(
        spans.rename({"chrom": "on", "strand": "of"}),
        pl.col("start") >= pl.col("gene_start"),
        pl.col("end") <= pl.col("gene_end"),
        pl.col("chrom") == pl.col("on"),
        pl.col("strand") == pl.col("of"),
    )
    length = pl.col("gene_end") - pl.col("gene_start")
    first = inside.sort("window", length, "group").unique("window", keep="first")
    return first.sort("window").drop("window")


def _same_gene(
    genome: Genome, positives: pl.DataFrame, sites: pl.DataFrame, width: int, seed: int
) -> pl.DataFrame:
    """`chrom,start,end,strand,group,positive`: a free place in the gene of each positive."""
    found: list[tuple[str, int, int, str, str, int]] = []
    rng = generator(seed, "same gene")
    numbered = positives.with_row_index("positive")
    for (chrom, strand), part in numbered.group_by("chrom", "strand", maintain_order=True):
        here = sites.filter((pl.col("chrom") == chrom) & (pl.col("strand") == strand))
        taken = Spans.of(here.select(pl.col("start") - width, pl.col("end") + width))
        used: list[int] = []  # starts, in order
        wanted = gc_content(genome.windows([str(chrom)] * part.height, part["start"], width))
        for gc, row in zip(wanted, part.iter_rows(named=True), strict=True):
            start = _nearest_place(genome, row, width, float(gc), taken, used, rng)
            if start is not None:
                insort(used, start)
                place = (str(chrom), start, start + width, str(strand), row["group"])
                found.append((*place, row["positive"]))
    schema = ["chrom", "start", "end", "strand", "group", "positive"]
    return pl.DataFrame(found, schema=schema, orient="row").sort("positive")


def _nearest_place(
    genome: Genome,
    row: dict[str, int | str],
    width: int,
    gc: float,
    taken: Spans,
    used: list[int],
    rng: np.random.Generator,
) -> int | None:
    low, high = int(row["gene_start"]), int(row["gene_end"]) - width
    starts: npt.NDArray[np.int64] = np.unique(rng.integers(low, high + 1, _CANDIDATES))
    starts = starts[~taken.overlap(starts, starts + width)]
    free = [bisect_right(used, s - width) == bisect_left(used, s + width) for s in starts.tolist()]
    starts = starts[np.array(free, bool)]
    if not len(starts):
        return None
    codes = genome.windows([str(row["chrom"])] * len(starts), starts, width)
    distance = np.abs(gc_content(codes) - gc)
    distance[(codes == N).any(axis=1)] = np.inf
    best = int(np.argmin(distance))
    return int(starts[best]) if distance[best] <= _CALIPER else None
