"""`cislens audit`: what a split leaks, and which shortcuts its labels allow."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cislens.cli.options import AsJson, DryRun, answer, given
from cislens.errors import CislensError

if TYPE_CHECKING:
    from cislens.evaluation.audit.report import AuditReport
    from cislens.evaluation.audit.table import AuditTable
    from cislens.genome.reference import Genome

logger = logging.getLogger("cislens")

_HELP = """Look for what makes a test set too easy.

Reads a table, a pair of BED or FASTA files, a Genomic Benchmarks folder or a task. Asks for
copies, reverse complements, overlap, homology and shared chromosomes between the parts of a split,
for contradicting labels, and for labels told by length, GC, N, case, strand or place.

Exit code 0: pass, 1: warnings, 2: failed. Wrong input also gives 2, with one line `error: ...`;
with --json it gives an object with the key `error` in place of `verdict`. With --fix the exit
code is that of what was written."""

Split = Annotated[
    list[str] | None,
    typer.Option(help="File of this part; CLASS=FILE names its class. May be given repeatedly."),
]


def _column(role: str) -> Any:
    return typer.Option(f"--{role}", help=f"Column of the {role}.", rich_help_panel="Columns")


def command(
    source: Annotated[
        str | None, typer.Argument(help="Table (CSV, TSV, parquet), folder, or task folder.")
    ] = None,
    train: Split = None,
    valid: Split = None,
    test: Split = None,
    genome: Annotated[
        str | None, typer.Option(help="FASTA or 2bit to look intervals and alleles up in.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Page to write (HTML).")] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            "--fix",
            help="Write a version without copies, contradictions and homologs across parts: a "
            ".csv, .tsv or .parquet file, or for a task a folder.",
        ),
    ] = None,
    stranded: Annotated[
        bool, typer.Option("--stranded", help="The other strand is another example.")
    ] = False,
    labels: Annotated[
        Literal["auto", "classes", "values"], typer.Option(help="What the labels are.")
    ] = "auto",
    split_by: Annotated[
        Literal["unknown", "chromosome", "homology", "regions", "fold", "random"],
        typer.Option(help="How the split was made."),
    ] = "unknown",
    sequence: Annotated[str | None, _column("sequence")] = None,
    label: Annotated[str | None, _column("label")] = None,
    split: Annotated[str | None, _column("split")] = None,
    chrom: Annotated[str | None, _column("chrom")] = None,
    start: Annotated[str | None, _column("start")] = None,
    end: Annotated[str | None, _column("end")] = None,
    strand: Annotated[str | None, _column("strand")] = None,
    block: Annotated[str | None, _column("block")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Annotated[int, typer.Option(help="Of random choices.")] = 0,
) -> None:
    from cislens.evaluation.audit.assemble import Reading
    from cislens.evaluation.audit.run import prepared

    how = Reading(
        sequence, label, split, chrom, start, end, strand, block, labels, stranded, split_by
    )
    reference = _genome(genome)
    parts = {"train": train, "valid": valid, "test": test}
    path = None if source is None else given(source)
    table = prepared(_table(path, parts, how), reference)
    _check_outputs(path, fix, out)
    if dry_run:
        answer(plan(table), as_json)
        return
    report, result = _audit(table, path, reference, fix, out, seed)
    if as_json:
        answer(result, as_json)
    else:
        _show(report, result)
    raise typer.Exit(report.exit_code)


command.__doc__ = _HELP


def plan(table: "AuditTable") -> dict[str, Any]:
    """What would be audited: rows, classes and parts, as they were read."""
    from cislens.evaluation.audit.run import counts
    from cislens.genome.codes import decode

    codes = table.sequences[0] if table.sequences else None
    return {
        "name": table.name,
        "rows": len(table),
        "labels": table.kind,
        "classes": list(table.classes),
        "parts": counts(table),
        "split made by": table.design,
        "sequences": table.sequences is not None,
        "intervals": table.places is not None,
        "strand": table.strand is not None,
        "blocks": table.blocks[1],
        "first_sequence": None if codes is None else decode(codes[:60]),
        "notes": list(table.notes),
    }


def _table(path: Path | None, parts: dict[str, list[str] | None], how: Any) -> "AuditTable":
    from cislens.evaluation.audit.assemble import open_parts, open_table

    files = {part: [_resolved_part(f) for f in names] for part, names in parts.items() if names}
    if (path is None) == (not files):
        raise CislensError("name one table or folder, or files with --train, --test (and --valid).")
    return open_table(path, how) if path is not None else open_parts(files, how)


def _resolved_part(text: str) -> str:
    label, equals, name = text.partition("=")
    if not equals or Path(text).exists():
        return str(given(text))
    return f"{label}={given(name)}"


def _genome(name: str | None) -> "Genome | None":
    if name is None:
        return None
    from cislens.genome.reference import open_genome

    return open_genome(given(name))


def _check_outputs(path: Path | None, fix: Path | None, out: Path | None) -> None:
    """Refuse before the work what could not be written after it."""
    if out is not None and out.is_dir():
        raise CislensError(f"--out {out} is a folder; name a file such as {out / 'audit.html'}.")
    if fix is None:
        return
    task = path is not None and (path / "card.yaml").exists()
    if not task and fix.suffix.lower() not in (".csv", ".tsv", ".parquet"):
        raise CislensError(f"--fix {fix}: end the name in .csv, .tsv or .parquet.")
    if path is not None and fix.resolve() == path.resolve():
        raise CislensError(f"--fix {fix} is the input itself; choose another name.")
    if task and fix.exists():
        raise CislensError(f"--fix {fix} exists; choose a new folder.")


def _audit(
    table: "AuditTable",
    path: Path | None,
    genome: "Genome | None",
    fix: Path | None,
    out: Path | None,
    seed: int,
) -> "tuple[AuditReport, dict[str, Any]]":
    """The report that decides the exit code, and what JSON says."""
    from cislens.evaluation.audit.run import audit

    report = audit(table, genome, seed)
    result: dict[str, Any] = report.to_dict()
    before = report if fix is not None else None
    if fix is not None:
        report, result["fixed"] = _fix(table, path, fix, seed, genome)
    if out is not None:
        from cislens.report.audit import write_audit

        write_audit(report, out, before)
        result["page"] = str(out)
    return report, result


def _fix(
    table: "AuditTable", path: Path | None, out: Path, seed: int, genome: "Genome | None"
) -> "tuple[AuditReport, dict[str, Any]]":
    """Write the fixed version, audit it again, and say what was done."""
    from cislens.evaluation.audit.fix import fix, write_table, write_task
    from cislens.evaluation.audit.run import audit
    from cislens.evaluation.tasks.task import Task

    fixed = fix(table, seed)
    if path is not None and (path / "card.yaml").exists():
        listed = write_task(Task.load(path), fixed, out)
    else:
        listed = write_table(fixed, out)
    for note in fixed.notes:
        logger.warning("fix: %s", note)
    after = audit(fixed.table, genome, seed)
    counted = fixed.dropped.group_by("reason").len().sort("reason").iter_rows()
    return after, {
        "path": str(out),
        "rows": len(fixed.rows),
        "dropped": dict(counted),
        "dropped_rows": str(listed),
        "notes": list(fixed.notes),
        "audit": after.to_dict(),
    }


def _show(report: "AuditReport", result: dict[str, Any]) -> None:
    from rich.console import Console

    from cislens.report.audit import check_table

    Console().print(check_table(report))
    if "fixed" in result:
        fixed = result["fixed"]
        typer.echo(f"fixed: {fixed['path']}, {fixed['rows']} rows; dropped: {fixed['dropped']}")
        typer.echo(f"dropped rows: {fixed['dropped_rows']}")
        for note in fixed["notes"]:
            typer.echo(f"note: {note}")
    if "page" in result:
        typer.echo(f"page: {result['page']}")
