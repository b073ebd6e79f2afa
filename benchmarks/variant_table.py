"""What trained runs say of variants where the bench cannot judge them: variants in genome windows
that the runs have read in pre-training (never with an effect or a class).

    python benchmarks/variant_table.py --run NAME=FOLDER [--run ...] [--limit 300]

`ncvardb`: pathogenic against benign variants of chromosomes 20 and 21, matched in GC, distance
to the TSS and chromosome; AUROC of every score. `hnf4a`: saturation mutagenesis of the one element
on these chromosomes, in windows of the genome of several widths; Pearson correlation with the
effect, or with its size for scores without a sign. Nothing is chosen: every score is shown as it
is. Intervals are of 2,000 bootstraps over loci (stretches of 100 kb, or of 10 bp within the
element, which understates how much elements differ); `p` is two-sided, of 2,000 permutations.

Needs the development data (CISLENS_DATA).
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.effects.alleles import score_alleles
from cislens.evaluation.contestants import run_representation
from cislens.evaluation.metrics import metric_draws
from cislens.evaluation.tasks.build import build_task
from cislens.evaluation.track_scores import score_by_tracks, score_sign, track_scores
from cislens.example import core_data
from cislens.genome.chromosomes import match_names
from cislens.genome.codes import Codes
from cislens.genome.reference import Genome, open_genome
from cislens.genome.variants import windows
from cislens.randomness import generator
from cislens.recipes.task_recipe import read_tasks
from cislens.representations.contract import MaskedLikelihood, TrackEffects
from cislens.representations.encoder import EncoderEmbedding

WIDTHS = (230, 512, 2048, 8192)
DRAWS, LOCUS = 2000, 10
Values = npt.NDArray[np.float64]


def main() -> None:
    """Print a row per score and, as last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="append", required=True, help="NAME=FOLDER")
    parser.add_argument("--limit", type=int, default=300, help="variants of the element")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    options = parser.parse_args()
    folder = core_data()
    if folder is None:
        sys.exit("the development data is not here: set CISLENS_DATA to its folder")
    given = dict(each.split("=", 1) for each in options.run)
    runs = [run_representation(Path(path), name) for name, path in given.items()]
    genome = open_genome(folder / "human_hg19_chr20_21" / "hg19_chr20_21.fa.gz", "hg19")
    found = []
    for name, metric, variants in (
        ("ncvardb", "auroc", labelled("variants.ncvardb", {})),
        ("hnf4a", "pearson", element(options.limit)),
    ):
        for row in rows(name, metric, variants, genome, runs, options.widths):
            found.append(row)
            print("{set}  {run:8} {score:18} {width:5} bp  {value:6.3f} [{low:6.3f}, {high:6.3f}]"
                  "  null [{null_low:6.3f}, {null_high:6.3f}]  p {p:.3f}  n {n}".format(**row),
                  flush=True)  # fmt: skip
    print(json.dumps(found))


def labelled(task: str, update: dict[str, Any]) -> pl.DataFrame:
    """`chrom, pos, ref, alt, y, locus` of the substitutions of all parts of a packaged task."""
    section = read_tasks("variants").tasks[task].model_copy(update=update)
    examples = build_task(task, section, None, 0).examples
    alleles = pl.col("example_id").str.extract_groups(r":(?<ref>[ACGT])>(?<alt>[ACGT])$")
    table = examples.with_columns(alleles.struct.unnest(), pl.col("y").list.first())
    table = table.filter(pl.col("ref").is_not_null())
    return table.select("chrom", "pos", "ref", "alt", "y", locus="block_id", within="example_id")


def element(limit: int) -> pl.DataFrame:
    """The variants of HNF4A, whose loci are stretches of its bases."""
    table = labelled("satmut.signed", {"limit": None, "deletions": False})
    mine = table.filter(pl.col("within").str.starts_with("HNF4A/"))
    order = generator(0, "hnf4a").permutation(len(mine))[:limit]
    return mine[order].with_columns(locus=(pl.col("pos") // LOCUS).cast(pl.String))


def rows(
    name: str, metric: str, variants: pl.DataFrame, genome: Genome, runs: list[EncoderEmbedding],
    widths: list[int],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Every score of every run in windows of every width."""
    y = variants["y"].to_numpy().astype(float)
    loci = np.unique(variants["locus"].to_list(), return_inverse=True)[1]
    named = match_names(variants["chrom"], genome.chrom_sizes, name).rename(variants)
    for width in widths:
        reference, alternate = windows(named, genome, width)
        for run in runs:
            for score, values in scores_of(run, reference, alternate).items():
                truth = np.abs(y) if metric != "auroc" and score_sign(score) != "signed" else y
                seen = judged(metric, truth, values.astype(float), loci)
                yield {"set": name, "run": run.name, "score": score, "width": width,
                       "n": len(y)} | seen  # fmt: skip


def scores_of(run: EncoderEmbedding, reference: Codes, alternate: Codes) -> dict[str, Any]:
    """The default view's distance, likelihoods of bases and tracks, as far as the run has them."""
    names = [f"{run.views[-1]}:l2"]
    if isinstance(run, MaskedLikelihood):
        names += ["masked:llr", "masked:abs_llr"]
    found = dict(score_alleles(run, [*reference], [*alternate], "human", False, names))
    if isinstance(run, TrackEffects):
        tracks = track_scores(run, "human")
        found |= score_by_tracks(run, [*reference], [*alternate], "human", False, tracks)
    return found


def judged(metric: str, y: Values, scores: Values, loci: npt.NDArray[np.intp]) -> dict[str, float]:
    """The metric, its interval over loci, and its range and p-value without any knowledge."""
    rng = generator(0, "variant table")
    y_N1, s_N1 = y[:, None], scores[:, None]
    value = float(metric_draws(metric, y_N1, s_N1, np.ones((1, len(y))))[0])
    count = int(loci.max()) + 1
    weight = rng.multinomial(count, np.full(count, 1 / count), DRAWS)[:, loci].astype(float)
    low, high = np.nanquantile(metric_draws(metric, y_N1, s_N1, weight), [0.025, 0.975])
    shuffled = np.stack([rng.permutation(y) for _ in range(DRAWS)])[..., None]
    null = metric_draws(metric, shuffled, s_N1, np.ones((1, len(y))))
    middle = 0.5 if metric == "auroc" else 0.0
    p = (1 + (np.abs(null - middle) >= abs(value - middle)).sum()) / (1 + DRAWS)
    null_low, null_high = np.nanquantile(null, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high),
            "null_low": float(null_low), "null_high": float(null_high), "p": float(p)}  # fmt: skip


if __name__ == "__main__":
    main()
