"""A genome browser in a page: igv.js, the reference, genes and tracks of a few places, no network.

What a page shows is a `View` per genome. Its tracks are igv.js's own configurations, except that
`stretches` holds values compactly, which `browser.js` unfolds; a page opened from a file can read
no other file, so everything is in it.

All coordinates here are 0-based half-open; igv.js shows them 1-based, as its users expect.
"""

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.report.inputs import Locus
from cislens.report.templates import render

# What a page may hold. At 2 million values and 4 million bases it has about 20 MB.
MOST_VALUES, MOST_BASES, MOST_FEATURES = 2_000_000, 4_000_000, 20_000

# As in page.css, on white: igv.js draws on white, and the page turns it dark as a whole.
MEASURED, PREDICTED, LOSS, GAIN, GENES = "#56636f", "#0072b2", "#b8460e", "#0067a5", "#2f3b46"
_HEIGHT = {"measured": 64, "predicted": 64, "attribution": 90}
_COLOR = {"measured": MEASURED, "predicted": PREDICTED, "attribution": PREDICTED}


@dataclass(frozen=True)
class Place:
    """A stretch of a genome to look at; `title` says why."""

    chrom: str
    start: int
    end: int
    title: str = ""


@dataclass(frozen=True)
class View:
    """One genome with its tracks.

    Attributes:
        name: of the genome or species.
        reference: igv.js's description of the genome.
        places: to go to; the first is shown at once.
        tracks: igv.js's description of each track, in order.
    """

    name: str
    reference: Mapping[str, Any]
    places: Sequence[Place]
    tracks: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for place in self.places:
            if ":" in place.chrom or place.chrom.split() != [place.chrom]:
                raise CislensError(
                    f"chromosome {place.chrom!r} of {self.name} cannot be shown in a browser, "
                    "whose positions are written chromosome:start-end; choose other regions."
                )


@dataclass(frozen=True)
class Stretch:
    """Values of bins that follow each other; `step` bp each, the first at `start`."""

    chrom: str
    start: int
    step: int
    values: npt.NDArray[Any]

    def described(self) -> dict[str, Any]:
        """For JSON: four digits, null where nothing was measured."""
        values = [None if np.isnan(value) else float(f"{value:.4g}") for value in self.values]
        return {"chrom": self.chrom, "start": self.start, "step": self.step, "values": values}


def signal(
    name: str, kind: str, scale: str, stretches: Sequence[Stretch] = (), url: str | None = None
) -> dict[str, Any]:
    """A track of values: in the page (`stretches`), or a bigWig at `url`.

    Args:
        kind: measured, predicted or attribution; the last is drawn as letters (dynseq).
        scale: tracks of one scale name are drawn on one scale.
    """
    source: dict[str, Any] = {"url": url, "format": "bigwig"}
    if url is None:
        source = {"stretches": [stretch.described() for stretch in stretches]}
    track: dict[str, Any] = {
        "name": name, "type": "wig", "height": _HEIGHT[kind], "color": _COLOR[kind],
        "autoscale": True, "autoscaleGroup": scale, "kind": kind, **source,
    }  # fmt: skip
    if kind == "attribution":
        track |= {"graphType": "dynseq", "altColor": LOSS}
    return track


def features(name: str, rows: pl.DataFrame, height: int = 80) -> dict[str, Any]:
    """A track of intervals: chrom, start, end and where there are name, strand, score and color."""
    kept = [c for c in ("name", "strand", "score", "color", "track") if c in rows.columns]
    listed = rows.select(pl.col("chrom").alias("chr"), "start", "end", *kept).to_dicts()
    return {
        "name": name, "type": "annotation", "displayMode": "EXPANDED", "height": height,
        "margin": 22, "kind": "annotation", "searchable": True, "visibilityWindow": -1,
        **({} if "color" in rows.columns else {"color": GENES}),
        "features": [{k: v for k, v in row.items() if v not in (None, "")} for row in listed],
    }  # fmt: skip


def genes(rows: pl.DataFrame, url: str | None = None) -> dict[str, Any]:
    """A track of genes with their exons, of the rows of `read_transcripts`.

    Args:
        url: where the browser reads them; in the page without it.
    """
    source = {"url": url} if url else {"bed": bed12(rows)}
    return {
        "name": "genes", "type": "annotation", "format": "bed", "displayMode": "EXPANDED",
        "height": 80, "margin": 22, "kind": "annotation", "searchable": True, "indexed": False,
        "visibilityWindow": -1, "color": GENES, **source,
    }  # fmt: skip


def bed12(rows: pl.DataFrame) -> str:
    """The text of a BED file with twelve columns, of the rows of `read_transcripts`.

    Names that igv.js would take for HTML or for attributes, or that hold blanks, are changed.
    """
    plain = rows.with_columns(
        pl.col("name")
        .str.replace_many(["<", '"'], ["\u2039", "\u201d"])
        .str.replace_all(r"[\s;]+", "_"),
        count=pl.col("block_sizes").str.strip_chars(",").str.count_matches(",") + 1,
        score=pl.lit(0),
        color=pl.lit("."),
    )
    columns = ("chrom", "start", "end", "name", "score", "strand", "thick_start", "thick_end",
               "color", "count", "block_sizes", "block_starts")  # fmt: skip
    return plain.select(columns).write_csv(
        separator="\t", include_header=False, quote_style="never"
    )


def sequence_reference(
    name: str, slices: Iterable[tuple[str, int, str]], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """A reference of which the page holds some slices: chromosome, start and bases of each."""
    lines = [
        f">{chrom}:{start + 1}-{start + len(bases)} @len={sizes.get(chrom, start + len(bases))}"
        f"\n{bases}\n"
        for chrom, start, bases in slices
    ]
    coded = base64.b64encode("".join(lines).encode()).decode()
    return {
        "id": name, "name": name, "fastaURL": f"data:text/plain;base64,{coded}",
        "indexed": False, "wholeGenomeView": False,
    }  # fmt: skip


def views_of_loci(loci: Sequence[Locus]) -> list[View]:
    """Views of the held-out regions of a report, one per species; of loci with a sequence only."""
    shown = [locus for locus in loci if locus.sequence and ":" not in locus.chrom]
    found = []
    for species in dict.fromkeys(locus.species for locus in shown):
        own = [locus for locus in shown if locus.species == species]
        sizes = {locus.chrom: locus.chrom_size for locus in own if locus.chrom_size}
        reference = sequence_reference(
            species, [(locus.chrom, locus.start, locus.sequence) for locus in own], sizes
        )
        places = [Place(locus.chrom, locus.start, locus.end, locus.title) for locus in own]
        found.append(View(species, reference, places, _locus_tracks(own)))
    return found


def _locus_tracks(loci: Sequence[Locus]) -> list[dict[str, Any]]:
    tracks: list[dict[str, Any]] = []
    annotated = [locus for locus in loci if locus.annotations is not None]
    if annotated:
        parts = [
            locus.annotations.filter(
                pl.col("chrom") == locus.chrom,
                pl.col("start") < locus.end,
                pl.col("end") > locus.start,
            )
            for locus in annotated
            if locus.annotations is not None
        ]
        tracks.append(features(annotated[0].annotated_as, pl.concat(parts).unique(
            maintain_order=True)))  # fmt: skip
    for name in dict.fromkeys(track.name for locus in loci for track in locus.tracks):
        pairs = [(locus, t) for locus in loci for t in locus.tracks if t.name == name]
        for kind in ("measured", "predicted"):
            stretches = [
                Stretch(locus.chrom, locus.start, locus.bin_size, np.asarray(getattr(t, kind)))
                for locus, t in pairs
            ]
            tracks.append(signal(f"{kind} {name}", kind, name, stretches))
    return tracks


def require_size(views: Sequence[View]) -> None:
    """Refuse what would make a page too large to open.

    Raises:
        CislensError: saying what is too much, and what to do.
    """
    tracks = [track for view in views for track in view.tracks]
    values = sum(len(s["values"]) for track in tracks for s in track.get("stretches", ()))
    shown = sum(len(t.get("features", ())) + t.get("bed", "").count("\n") for t in tracks)
    bases = sum(place.end - place.start for view in views for place in view.places)
    for what, found, most in (
        ("values", values, MOST_VALUES),
        ("bases", bases, MOST_BASES),
        ("intervals", shown, MOST_FEATURES),
    ):
        if found > most:
            raise CislensError(
                f"the page would hold {found:,} {what}, expected at most {most:,}; name fewer or "
                "shorter regions by --at, or look at whole files by `cislens serve`."
            )


@dataclass(frozen=True)
class Embedded:
    """What the template of the browser needs.

    Attributes:
        data: JSON of the views, safe within a script element.
        library: igv.js, gzip in base64.
        script: `browser.js`.
        style: `browser.css`.
        allowed: the scripts, for the page's Content-Security-Policy (`templates.render`).
        places: (number of the view, number of the place, position, why) of each place.
    """

    data: str
    library: str
    script: str
    style: str
    allowed: Sequence[str]
    places: Sequence[tuple[int, int, str, str]]


def embedded(views: Sequence[View]) -> Embedded:
    """The parts of a page that shows some views.

    Raises:
        CislensError: as `require_size`.
    """
    require_size(views)
    script = _static("browser.js")
    places = [
        (v, p, f"{place.chrom}:{place.start + 1:,}\u2013{place.end:,}",
         " \u00b7 ".join(filter(None, [view.name if len(views) > 1 else "", place.title])))
        for v, view in enumerate(views)
        for p, place in enumerate(view.places)
    ]  # fmt: skip
    return Embedded(
        json_in_page([asdict(view) for view in views]),
        _packed_library(),
        script,
        _static("browser.css"),
        (script, library()),
        places,
    )


def json_in_page(value: Any) -> str:
    """JSON that ends no script element, whatever names it holds."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _static(name: str) -> str:
    return files("cislens.report").joinpath("static", name).read_text("utf-8")


@cache
def library() -> str:
    """The text of igv.js."""
    return _static("igv.min.js")


@cache
def _packed_library() -> str:
    packed = bytearray(gzip.compress(library().encode(), mtime=0))
    packed[9] = 255  # the system that packed it, which Python's versions write differently
    return base64.b64encode(packed).decode()


NOTES = (
    "Positions are 1-based with both ends included, as browsers take them; files keep their own "
    "convention.",
    "A measured and a predicted track of one name share a scale, whose ends stand at the left of "
    "each: signal per base, in the unit of the measured file.",
)
LETTERS = (
    "Letters are as high as what a base contributes to the explained number, below the line where "
    "it lowers it; zoom in until a base has more than half a pixel."
)


def page(
    title: str,
    views: Sequence[View],
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = NOTES,
    connect: str = "'none'",
) -> str:
    """The HTML text of a page of its own around the browser.

    Args:
        connect: what the page may read besides itself, as a Content-Security-Policy says it.

    Raises:
        CislensError: as `require_size`.
    """
    item = embedded(views)
    return render(
        "browser_page.html.j2", item=item, allowed=item.allowed, notes=notes, facts=facts,
        title="Genome browser", headline=[title], skip="browser", manifest=[],
        sections=(("browser", "Browser"), ("shown", "What is shown")),
        sources={"connect-src": connect, "img-src": "data: blob:"},
    )  # fmt: skip
