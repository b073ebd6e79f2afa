"""`cislens report`: folders of results to a self-contained page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli.options import AsJson, answer, given
from cislens.errors import CislensError

if TYPE_CHECKING:
    from cislens.report.browser_pages import Asked
    from cislens.report.inputs import ReportInput

GenomeFile = Annotated[
    Path | None, typer.Option("--genome", help="Of the browser: FASTA or 2bit of the results.")
]
Genes = Annotated[
    Path | None, typer.Option("--genes", help="Of the browser: genes, GTF, GFF3 or BED.")
]
Tracks = Annotated[
    list[Path] | None,
    typer.Option(
        "--tracks",
        help="Of the browser: measured tracks; a bigWig, a folder of them or a track table. "
        "Several are allowed.",
    ),
]
At = Annotated[
    list[str] | None,
    typer.Option(
        "--at", help="Of the browser: chrom:start-end (1-based) or a BED file. Several are allowed."
    ),
]


def command(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folder that `bench`, `train`, `demo`, `evaluate`, `predict`, `variants` or "
            "`attribute` wrote, or several benches; with --browser a bench, or folders of "
            "`predict`, `attribute` and `variants`."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Page to write; FOLDER/report.html, leaderboard.html for several benches, "
            "FOLDER/browser.html with --browser.",
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser", help="A genome browser of what the folders hold instead.")
    ] = False,
    genome: GenomeFile = None,
    genes: Genes = None,
    tracks: Tracks = None,
    at: At = None,
    umap: Annotated[
        bool,
        typer.Option("--umap", help="Of a bench: maps of embeddings by UMAP, too; takes a minute."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the page of a folder of results.

    Of several benches their leaderboard; with --browser a genome browser.
    """
    if browser:
        from cislens.files import write_atomic
        from cislens.report.browser_pages import browser_page

        page = out or folders[0] / "browser.html"
        write_atomic(page, browser_page(asked(folders, genome, genes, tracks, at)))
        answer({"browser": str(page)}, as_json)
        return
    if umap and len(folders) > 1:
        raise CislensError("--umap is of one bench; leave it out for a leaderboard.")
    if genome or genes or tracks or at:
        raise CislensError("--genome, --genes, --tracks and --at are of --browser; add it.")
    if len(folders) == 1:
        from cislens.report.kinds import write_page

        page = out or folders[0] / "report.html"
        write_page(folders[0], page, umap=umap)
        answer({"report": str(page)}, as_json)
        return
    from cislens.report.leaderboard import leaderboard
    from cislens.report.page import write_report

    page = out or Path("leaderboard.html")
    run = leaderboard(folders)
    write_report(run, page)
    if as_json:
        assert run.ranks is not None
        answer({"report": str(page), "ranks": run.ranks.to_dicts()}, as_json)
    else:
        show_verdicts(run)
        answer({"report": str(page)}, as_json)


def asked(
    folders: list[Path],
    genome: Path | None,
    genes: Path | None,
    tracks: list[Path] | None,
    at: list[str] | None,
) -> "Asked":
    """What the options of a browser ask for."""
    from cislens.report.browser_pages import Asked

    return Asked(
        folders,
        None if genome is None else given(genome),
        None if genes is None else given(genes),
        tuple(given(path) for path in tracks or ()),
        tuple(str(given(text)) if text.startswith(("example:", "core:")) else text
              for text in at or ()),
    )  # fmt: skip


def write(folder: Path, page: Path) -> "ReportInput":
    """Collect what the folder holds and write its page."""
    from cislens.report.collect import collect
    from cislens.report.page import write_report

    run = collect(folder)
    write_report(run, page)
    return run


def show_verdicts(run: "ReportInput") -> None:
    """Print the verdict table on stdout."""
    from rich.console import Console

    from cislens.report.terminal import verdict_table

    Console().print(verdict_table(run))
