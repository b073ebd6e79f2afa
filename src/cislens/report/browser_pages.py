"""Which browser page a folder makes: of a bench, a run, a demo, or of results with their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.genome.reference import open_genome
from cislens.report.browser import LETTERS, NOTES, View, page, views_of_loci
from cislens.report.browser_files import Sources
from cislens.report.browser_sources import find_sources, require_kind
from cislens.report.serving import Offered


@dataclass(frozen=True)
class Asked:
    """What is to be shown.

    Attributes:
        folders: of a bench, a demo or a run (one, alone), or of predictions, attributions and
            variants.
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
        for folder in self.folders:
            require_kind(folder)
        if self.genome is None:
            raise CislensError(
                f"the browser needs the genome of {self.folders[0]}; give --genome FASTA or 2bit."
            )
        genome = open_genome(self.genome)
        return find_sources(self.folders, genome, self.genes, self.tracks, self.at)


def browser_page(asked: Asked) -> str:
    """The HTML text of a page that holds all it shows.

    Raises:
        CislensError: if there is nothing to show, or too much for a page.
    """
    text = _page_of_loci(asked)
    if text is not None:
        return text
    sources = asked.sources()
    if not sources.places:
        raise CislensError(_NOWHERE.format(asked.folders[0]))
    return _page([sources.embedded()], asked.folders, sources)


def _page_of_loci(asked: Asked) -> str | None:
    """The page of a bench's held-out regions or a run's validation windows; None of others."""
    for folder in asked.folders:
        require_file(folder, "folder")
    folder, bench = asked.folders[0], asked.bench()
    if bench is None and not (len(asked.folders) == 1 and (folder / METRICS).exists()):
        return None
    if asked.genome or asked.genes or asked.tracks or asked.at:
        raise CislensError(
            f"{folder} is shown with the genome and the regions that its recipe names; --genome, "
            "--genes, --tracks and --at are for folders of predict, attribute and variants. Leave "
            "them out."
        )
    if bench is not None:
        from cislens.report.collect import loci_of

        title, loci, missing = "Held-out regions", loci_of(bench), _NO_LOCI.format(bench)
    else:
        from cislens.report.run import watched_loci

        title, loci, missing = (
            "Validation windows",
            watched_loci(folder),
            _NO_WINDOWS.format(folder),
        )
    views = views_of_loci(loci)
    if not views:
        raise CislensError(missing)
    regions = sum(len(view.places) for view in views)
    return page(f"{title}, measured and predicted", views, [("Regions", str(regions))])


def offer(asked: Asked) -> Offered:
    """What `cislens serve` offers: the browser over whole files at `/`, and the first folder.

    The page of a bench or a run holds its regions itself. A folder that has a report and no genome
    is offered with the report at `/`.

    Raises:
        CislensError: as `browser_page`.
    """
    offered = Offered(asked.folders[0])
    report = asked.folders[0] / "report.html"
    if asked.genome is None and report.is_file():
        offered.pages["/"] = _redirect("report.html")
    elif (text := _page_of_loci(asked)) is not None:
        offered.pages["/"] = text
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


METRICS = "metrics.parquet"
_NO_LOCI = (
    "{} shows no held-out regions; name a genome under `loci` in its recipe, or predict regions "
    "and show that folder."
)
_NO_WINDOWS = (
    "{} shows no validation windows; they are of finished runs that predict profiles. Predict "
    "regions with its model and show that folder."
)
_NOWHERE = "{} names no region to show; give --at chrom:start-end, or a BED file."


def _redirect(name: str) -> str:
    return (
        f'<!doctype html><meta http-equiv="refresh" content="0; url={name}"><title>cislens</title>'
    )
