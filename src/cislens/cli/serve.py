"""`cislens serve`: a report, or a genome browser over whole files, for this machine alone."""

from pathlib import Path
from typing import Annotated

import typer

from cislens.cli.options import AsJson, DryRun, answer
from cislens.cli.report import At, Genes, GenomeFile, Tracks, asked


def command(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folder with a report, a bench, or folders of `predict`, `attribute` and "
            "`variants` with --genome."
        ),
    ],
    genome: GenomeFile = None,
    genes: Genes = None,
    tracks: Tracks = None,
    at: At = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes one that is free.")
    ] = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Serve a page to a browser on this machine.

    With the files that it reads by ranges, on 127.0.0.1, until Ctrl-C.
    """
    from cislens.report.browser_pages import offer
    from cislens.report.serving import address_of, server_of

    offered = offer(asked(folders, genome, genes, tracks, at))
    if dry_run:
        files = [str(path) for path in offered.files]
        answer({"folder": str(folders[0]), "files": files}, as_json)
        return
    with server_of(offered, port) as server:
        answer({"address": address_of(server), "stop": "Ctrl-C"}, as_json)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
