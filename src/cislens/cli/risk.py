"""`cislens risk`: whether effects of variants, summed over people's genotypes, tell who is ill."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli.options import AsJson, DryRun, answer

if TYPE_CHECKING:
    from cislens.evaluation.risk.assess import Assessment


def command(
    genotypes: Annotated[Path, typer.Argument(help="VCF or BCF with a GT for every person.")],
    effects: Annotated[
        Path,
        typer.Option(
            "--effects", help="Table of variants: chrom, pos, ref, alt, effect (, locus)."
        ),
    ],
    phenotype: Annotated[
        Path, typer.Option("--phenotype", help="TSV: sample, status (0 or 1), covariates.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    score: Annotated[str, typer.Option("--score", help="Column of the effects.")] = "effect",
    covariate: Annotated[
        list[str] | None,
        typer.Option("--covariate", help="Column of the people, e.g. sex; may be repeated."),
    ] = None,
    components: Annotated[
        int, typer.Option("--components", min=0, help="Principal components as covariates.")
    ] = 0,
    genes: Annotated[
        list[Path] | None,
        typer.Option("--genes", help="GTF, GFF3 or BED, for the control by TSS distance."),
    ] = None,
    locus_bp: Annotated[
        int, typer.Option("--locus-bp", min=1, help="Width of a locus, where none is named.")
    ] = 1_000_000,
    permutations: Annotated[
        int, typer.Option("--permutations", min=99, help="Shuffles of the status.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of folds, shuffles and random effects.")] = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Sum effects over each person's alleles by locus, and judge a logistic model of them.

    Beside it: how many variants a person has, distance to the TSS alone, and effects dealt at
    random. Strand-averaged effects of a model come from `cislens.evaluation.risk.effects`.
    """
    from cislens.evaluation.risk.run import RiskInputs, prepare, require_place, run_risk, write_risk

    inputs = RiskInputs(
        genotypes, phenotype, effects, score, tuple(genes or ()), tuple(covariate or ()),
        components, locus_bp, permutations, seed,
    )  # fmt: skip
    require_place(out)
    prepared = prepare(inputs)
    if dry_run:
        answer(dict(prepared.counts), as_json)
        return
    found = run_risk(inputs, prepared)
    record = write_risk(out, inputs, prepared, found)
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
