"""Which browser page a folder makes: of a bench, a run, a demo, or of results with their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.genome.reference import open_genome
from cislens.report.browser import LETTERS, NOTES, View, page, views_of_loci
from cislens.report.browser_files import Sources
from cislens.report.browser_sources import find_sources
from cislens.report.serving import Offered


@dataclass(frozen=True)
class Asked:
    """What is to be shown.

    Attributes:
        folders: of a bench or a demo (one, alone), or of predictions, attributions and variants.
        genome: FASTA or 2bit; needed for results.
        genes, tracks, at: as `find_sources`.
    """

    folders: Sequence[Path]
    genome: Path | None = None
    genes: Path | None = None
    tracks: Sequence[Path] = ()
    at: Sequence[str] = ()

    def bench(self) -> Path | None:
        """The bench folder, where one is to be shown: itself, or the one of a demo."""
        for folder in (self.folders[0], self.folders[0] / "bench"):
            if len(self.folders) == 1 and (folder / "verdicts.parquet").exists():
                return folder
        return None

    def sources(self) -> Sources:
        """What the files have to show.

        Raises:
            CislensError: if no genome is given, or as `find_sources`.
        """
        if self.genome is None:
            raise CislensError(
                f"{self.folders[0]} is no bench, so the browser needs to know its genome; give "
                "--genome FASTA or 2bit."
            )
        genome = open_genome(self.genome)
        return find_sources(self.folders, genome, self.genes, self.tracks, self.at)


def browser_page(asked: Asked) -> str:
    """The HTML text of a page that holds all it shows.

    Raises:
        CislensError: if there is nothing to show, or too much for a page.
    """
    for folder in asked.folders:
        require_file(folder, "folder")
    bench = asked.bench()
    if bench is not None:
        return bench_page(bench)
    sources = asked.sources()
    if not sources.places:
        raise CislensError(_NOWHERE.format(asked.folders[0]))
    return _page([sources.embedded()], asked.folders, sources)


def bench_page(folder: Path) -> str:
    """The browser page of the held-out regions of a bench.

    Raises:
        CislensError: if it shows none.
    """
    from cislens.report.collect import loci_of

    views = views_of_loci(loci_of(folder))
    if not views:
        raise CislensError(
            f"{folder} shows no held-out regions; name a genome under `loci` in its recipe, or "
            "predict regions and show that folder."
        )
    regions = sum(len(view.places) for view in views)
    return page("Held-out regions, measured and predicted", views, [("Regions", str(regions))])


def offer(asked: Asked) -> Offered:
    """What `cislens serve` offers: the browser over whole files at `/`, and the first folder.

    A bench's page holds its regions itself. A folder that has a report and no genome is offered
    with the report at `/`.

    Raises:
        CislensError: as `browser_page`.
    """
    for folder in asked.folders:
        require_file(folder, "folder")
    offered = Offered(asked.folders[0])
    report = asked.folders[0] / "report.html"
    if asked.genome is None and report.is_file():
        offered.pages["/"] = _redirect("report.html")
    elif (bench := asked.bench()) is not None:
        offered.pages["/"] = bench_page(bench)
    else:
        sources = asked.sources()
        view = sources.served(offered.offer, offered.offer_text)
        offered.pages["/"] = _page([view], asked.folders, sources, connect="'self'")
    return offered


def _page(
    views: Sequence[View], folders: Sequence[Path], sources: Sources, connect: str = "'none'"
) -> str:
    letters = any(file.kind == "attribution" for file in sources.signals)
    facts = [
        ("Genome", sources.genome.name),
        ("Tracks", str(sum(len(view.tracks) for view in views))),
        ("Regions", str(len(sources.places))),
    ]
    title = ", ".join(folder.resolve().name for folder in folders)
    return page(title, views, facts, [*NOTES, LETTERS] if letters else NOTES, connect)


_NOWHERE = "{} names no region to show; give --at chrom:start-end, or a BED file."


def _redirect(name: str) -> str:
    return (
        f'<!doctype html><meta http-equiv="refresh" content="0; url={name}"><title>cislens</title>'
    )
