"""`cislens variants`: what a model says of the variants of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, EngineName, Workers, answer, given
from cislens.errors import CislensError, nearest

if TYPE_CHECKING:
    from cislens.effects.variants.request import Request

_ROLES = ("chrom", "pos", "ref", "alt", "id")


def command(
    model: Annotated[Path, typer.Argument(help="Model folder of a run.")],
    variants: Annotated[Path, typer.Argument(help="VCF, BCF, TSV, CSV or parquet.")],
    genome: Annotated[Path, typer.Option("--genome", help="FASTA or 2bit of the variants.")],
    out: Annotated[Path, typer.Option("--out", help="Folder; an interrupted run goes on there.")],
    species: Annotated[
        str | None,
        typer.Option("--species", help="Species of the model; needed if it has several."),
    ] = None,
    tracks: Annotated[
        str | None,
        typer.Option("--tracks", help="Tracks, e.g. 'assay == \"ATAC\"'; all if absent."),
    ] = None,
    center: Annotated[
        int | None,
        typer.Option("--center", help="Also score this many bp around a variant, and rank by it."),
    ] = None,
    genes: Annotated[
        Path | None, typer.Option("--genes", help="GTF, GFF3 or BED: also score the nearest TSS.")
    ] = None,
    gene: Annotated[
        list[str] | None, typer.Option("--gene", help="Only variants near this gene; repeatable.")
    ] = None,
    average: Annotated[
        str, typer.Option("--average", help="Views averaged: rc, shift, rc,shift or none.")
    ] = "rc",
    background: Annotated[
        int, typer.Option("--background", help="Background variants for percentiles; 0 for none.")
    ] = 1000,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave wrong variants out, however many there are.")
    ] = False,
    columns: Annotated[
        str, typer.Option("--columns", help="Columns of a table, e.g. chrom=CHR,pos=BP,alt=A1.")
    ] = "",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Windows of one pass.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the background.")] = 0,
    engine: EngineName = "local",
    workers: Workers = 1,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Check variants, score them, and rank the scores.

    The rank of a score is among matched background variants. The same command resumes.
    """
    from cislens.effects.variants.request import Request
    from cislens.effects.variants.run import plan_variants, run_variants
    from cislens.effects.variants.scores import Scoring
    from cislens.files import require_file
    from cislens.genome.reference import open_genome
    from cislens.scale.engines import engine_of

    by = engine_of(engine, workers)
    scoring = Scoring(
        species=species, tracks=tracks, center=center, average=average, device=device,
        batch_size=batch_size,
    )  # fmt: skip
    request = Request(
        require_file(model, "model folder"), require_file(given(variants), "variant file"),
        open_genome(given(genome), species), scoring, _columns(columns),
        None if genes is None else given(genes), tuple(gene or ()), background, seed, keep_going,
    )  # fmt: skip
    if dry_run:
        plan = plan_variants(request, out)
        answer(plan, as_json)
        return
    summary = run_variants(request, out, by)
    answer({**summary, "out": str(out)}, as_json, _text(request, summary, out))


def _text(request: "Request", summary: dict[str, Any], out: Path) -> str:
    from cislens.genome.variant_diagnosis import counted

    lost, elsewhere = sum(summary["left_out"].values()), summary["elsewhere"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["left_out"].items())
    scored = counted(summary["variants"], "variant")
    lines = [f"{scored} of {request.variants} scored into {out}"]
    if lost:
        left = counted(lost, "allele")
        lines.append(f"{left} left out ({reasons}); see {out / 'left_out.tsv'}")
    if elsewhere:
        lines.append(f"{counted(elsewhere, 'variant')} not near the genes asked for")
    lines += [summary[name] for name in ("guess", "warning") if summary[name]]
    return "\n".join([*lines, *(f"  {out / name}" for name in summary["files"])])


def _columns(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        role, equals, name = pair.partition("=")
        if not equals or not name:
            raise CislensError(f"--columns {pair!r}: give chrom=NAME,pos=NAME,ref=NAME,alt=NAME.")
        if role not in _ROLES:
            raise CislensError(f"--columns: unknown role {role!r}. {nearest(role, _ROLES)}")
        found[role] = name
    return found
