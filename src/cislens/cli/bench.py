"""`cislens bench`: representations on tasks, against baselines, with a verdict each."""

from pathlib import Path
from typing import Annotated

import typer

from cislens.cli.options import AsJson, DryRun, Seed, answer, packaged
from cislens.cli.report import show_verdicts
from cislens.recipes.packaged import packaged_names


def command(
    recipe: Annotated[
        str | None,
        packaged(packaged_names("bench"), " Not needed with --resume."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of results, tables and report.")
    ] = Path("bench"),
    run: Annotated[
        list[str] | None,
        typer.Option("--run", help="NAME=FOLDER: judge this run too; may be repeated."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the bench in --out: do what is missing.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Judge representations against baselines. The same command again resumes."""
    from cislens.cli.bench_job import bench_recipe, judge, plan, with_seed

    read = bench_recipe(recipe, out, run or [], resume)
    if seed is not None:
        read = with_seed(read, seed)
    if dry_run:
        answer(plan(read), as_json)
        return
    page = out / "report.html"
    judged = judge(read, out, page)
    result = {"report": str(page), "verdicts": judged.verdicts.to_dicts()}
    if as_json:
        answer(result, as_json)
    else:
        show_verdicts(judged)
        typer.echo(f"report: {page}")
