"""`cislens risk`: whether effects of variants, summed over people's genotypes, tell who is ill."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli.options import AsJson, DryRun, answer
from cislens.errors import CislensError

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from cislens.evaluation.risk.assess import Assessment

    EffectsOf = Callable[[pl.DataFrame], pl.DataFrame]


Genotypes = Annotated[Path, typer.Argument(help="VCF or BCF with a GT for every person.")]
Phenotype = Annotated[
    Path, typer.Option("--phenotype", help="TSV: sample, status (0 or 1), covariates.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]
Effects = Annotated[
    Path | None,
    typer.Option("--effects", help="Table of variants: chrom, pos, ref, alt, effect (, locus)."),
]
Score = Annotated[
    str | None,
    typer.Option("--score", help="Column of the effects, or a variant score of the model."),
]
Model = Annotated[
    Path | None, typer.Option("--model", help="Run or model folder that gives the effects.")
]
Baseline = Annotated[
    str | None, typer.Option("--baseline", help="Baseline that gives them, e.g. kmer-1to5.")
]
GenomeFile = Annotated[
    Path | None, typer.Option("--genome", help="FASTA or 2bit; with --model or --baseline.")
]
Width = Annotated[int, typer.Option("--width", min=2, help="bp around a variant.")]
Species = Annotated[str | None, typer.Option("--species", help="Of the model.")]
Covariates = Annotated[
    list[str] | None,
    typer.Option("--covariate", help="Column of the people, e.g. sex; may be repeated."),
]
Components = Annotated[
    int, typer.Option("--components", min=0, help="Principal components as covariates.")
]
Genes = Annotated[
    list[Path] | None,
    typer.Option("--genes", help="GTF, GFF3 or BED, for the control by TSS distance."),
]
LocusWidth = Annotated[
    int, typer.Option("--locus-bp", min=1, help="Width of a locus, where none is named.")
]
Permutations = Annotated[
    int, typer.Option("--permutations", min=99, help="Shuffles of the status.")
]
FoldSeed = Annotated[int, typer.Option(help="Of folds, shuffles and random effects.")]


def command(
    genotypes: Genotypes,
    phenotype: Phenotype,
    out: Out,
    effects: Effects = None,
    score: Score = None,
    model: Model = None,
    baseline: Baseline = None,
    genome: GenomeFile = None,
    width: Width = 512,
    species: Species = None,
    covariate: Covariates = None,
    components: Components = 0,
    genes: Genes = None,
    locus_bp: LocusWidth = 1_000_000,
    permutations: Permutations = 1000,
    seed: FoldSeed = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Sum effects over people's alleles, and judge the sums.

    Effects are summed by locus; a logistic model of the sums tells cases from controls. Beside it:
    how many variants a person has, distance to the TSS alone, and effects dealt at random. Effects
    come from a table, or from a model: the distance between its embeddings of both alleles unless
    --score names another of its scores, the mean over both strands.
    """
    from cislens.evaluation.risk.run import RiskInputs, prepare, require_place, run_risk, write_risk

    inputs = RiskInputs(
        genotypes, phenotype, effects, score or "effect", tuple(genes or ()),
        tuple(covariate or ()), components, locus_bp, permutations, seed,
    )  # fmt: skip
    if [effects, model, baseline].count(None) != 2:
        raise CislensError("name one of --effects, --model and --baseline.")
    if (genome is None) != (effects is not None):
        raise CislensError("--genome goes with --model or --baseline, which need it.")
    require_place(out)
    digest, effects_of = None, None
    if genome is not None:
        digest, effects_of = _of_model(model, baseline, genome, width, species, score)
    prepared = prepare(inputs, _nothing if dry_run else effects_of)
    if dry_run:
        answer(dict(prepared.counts), as_json)
        return
    found = run_risk(inputs, prepared)
    record = write_risk(out, inputs, prepared, found, digest)
    if as_json:
        answer(
            {"folder": str(out), "counts": record["counts"], "risk": found.results.to_dicts(),
             "differences": found.differences.to_dicts()},
            as_json,
        )  # fmt: skip
        return
    for line in _lines(found):
        typer.echo(line)
    typer.echo(f"tables: {out}")


def _of_model(
    model: Path | None, baseline: str | None, genome: Path, width: int, species: str | None,
    score: str | None,
) -> "tuple[str, EffectsOf]":  # fmt: skip
    """Digest of a representation, and what gives variants its effects."""
    from cislens.cli.embed_inputs import Source
    from cislens.evaluation.risk.effects import variant_effects
    from cislens.genome.chromosomes import match_names
    from cislens.genome.reference import open_genome
    from cislens.representations.worker_client import Runner

    found = Source(model, None, baseline, None, None, None, None).open()
    assert not isinstance(found, Runner)
    reference = open_genome(genome)

    def effects_of(variants: "pl.DataFrame") -> "pl.DataFrame":
        chroms = variants["chrom"].unique(maintain_order=True)
        renamed = match_names(chroms, reference.chrom_sizes, "the genotypes").rename(variants)
        return variant_effects(found, renamed, reference, width, species, score)

    return found.digest, effects_of


def _nothing(variants: "pl.DataFrame") -> "pl.DataFrame":
    """Every variant with an effect that nobody looks at."""
    import polars as pl

    return variants.with_columns(effect=pl.lit(0.0))


def _lines(found: "Assessment") -> list[str]:
    lines = []
    for row in found.results.iter_rows(named=True):
        text = f"{row['arm']}: AUROC {row['auroc']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        if row["gain"] is not None:
            text += f", over covariates {row['gain']:+.3f}"
        if row["p"] is not None:
            text += f", p {row['p']:.4f}"
        lines.append(text)
    return lines
