"""From a matplotlib figure to an inline SVG that follows the page's light or dark colors.

Figures are drawn with stand-in colors, one per role; in the SVG each stand-in becomes a CSS
variable of the page. Text stays text, so it can be read aloud, selected and searched. One unit
of the drawing is one CSS pixel at the figure's native width.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

import matplotlib
import polars as pl
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

_ROLES = (
    "ink", "muted", "grid", "paper", "band", "trained", "random", "onehot", "composition",
    "measured", "predicted", "heat", "on-heat",
    "series-1", "series-2", "series-3", "series-4", "series-5",
)  # fmt: skip
_STAND_IN = {role: f"#ce00{index:02x}" for index, role in enumerate(_ROLES)}
SERIES = tuple(f"series-{number}" for number in range(1, 6))

_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "cislens", "text.parse_math": False,
    "font.family": "DejaVu Sans", "font.size": 11.0, "path.simplify": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.edgecolor": _STAND_IN["grid"], "axes.linewidth": 1.0, "axes.titlesize": 11.0,
    "xtick.color": _STAND_IN["grid"], "xtick.labelcolor": _STAND_IN["muted"],
    "ytick.color": _STAND_IN["grid"], "ytick.labelcolor": _STAND_IN["muted"],
    "xtick.major.size": 4.0, "ytick.major.size": 0.0, "text.color": _STAND_IN["ink"],
    "axes.facecolor": "none", "figure.facecolor": "none", "axes.axisbelow": True,
}  # fmt: skip
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"#([A-Za-z][\w.-]*)")
_KEEP_STYLE = {
    "fill", "fill-opacity", "opacity", "stroke", "stroke-width", "stroke-opacity",
    "stroke-dasharray", "stroke-linejoin", "stroke-linecap", "font-size", "font-weight",
    "text-anchor",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Attributes:
        svg: an SVG element.
        alt: what it shows, in words.
        width: native, in pixels.
        data: the rows it was drawn from.
    """

    svg: str
    alt: str
    width: int
    data: pl.DataFrame


def color(role: str) -> str:
    """The stand-in of a color role, e.g. `trained` or `muted`."""
    return _STAND_IN[role]


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of this many CSS pixels, in the house style whatever the user's matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield Figure(figsize=(width / 72, height / 72))


def picture(figure: Figure, alt: str, data: pl.DataFrame) -> Picture:
    """The figure as an inline SVG; the same figure gives the same bytes. Call inside `canvas`."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawn = buffer.getvalue()
    root = ElementTree.fromstring(drawn[drawn.index("<svg") :])
    key = hashlib.sha256(drawn.encode() + alt.encode()).hexdigest()[:8]
    width = float(root.get("viewBox", "0 0 0 0").split()[2])
    _clean(root, key)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    markup = ElementTree.tostring(root, encoding="unicode")
    return Picture(re.sub(r">\s+<", "><", markup), alt, round(width), data)


def plain(text: object) -> str:
    """A name without characters that no SVG may hold."""
    return "".join(char if char.isprintable() else " " for char in str(text))


@lru_cache(maxsize=1 << 14)
def text_width(text: str, size: float = 11.0, bold: bool = False) -> float:
    """Width of a line of text in pixels; the drawing font is wider than most page fonts."""
    if not text.strip():
        return 0.0
    font = FontProperties(
        family=_STYLE["font.family"], weight="bold" if bold else "normal", size=size
    )
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def shortened(text: object, width: float, size: float = 11.0, bold: bool = False) -> str:
    """The text, its middle left out where it is wider than `width` pixels."""
    text = plain(text)
    if text_width(text, size, bold) <= width:
        return text

    def kept(count: int) -> str:
        return f"{text[: (count + 1) // 2]}\u2026{text[len(text) - count // 2 :]}"

    fewest, most = 1, len(text) - 1
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if text_width(kept(middle), size, bold) <= width:
            fewest = middle
        else:
            most = middle - 1
    return kept(fewest)


def _clean(root: ElementTree.Element, key: str) -> None:
    """Drop namespaces and unused ids, make ids unique on the page, shorten numbers, recolor."""
    used = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.endswith("href") or "url(#" in value:
                used.update(_REFERENCE.findall(value))
    _drop(root, "style", "metadata")
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in list(element.attrib):
            value = element.attrib.pop(name)
            name = name.rpartition("}")[2]
            if name == "id":
                if value in used:
                    element.set(name, f"{key}-{value}")
                continue
            if name == "transform" and value.startswith("rotate(-0 "):
                continue
            if name == "style":
                value = _restyled(value)
            if name == "href" or "url(#" in value:
                value = value.replace("#", f"#{key}-")
            elif name != "style":
                value = _NUMBER.sub(lambda found: f"{float(found[0]):.2f}", value)
            element.set(name, " ".join(value.split()))


def _drop(element: ElementTree.Element, *tags: str) -> None:
    for child in list(element):
        if child.tag.rpartition("}")[2] in tags:
            element.remove(child)
        else:
            _drop(child, *tags)


def _restyled(style: str) -> str:
    parts = (part.partition(":") for part in style.split(";"))
    kept = [f"{name.strip()}:{value.strip()}" for name, _, value in parts
            if name.strip() in _KEEP_STYLE]  # fmt: skip
    text = ";".join(kept)
    for role, stand_in in _STAND_IN.items():
        text = text.replace(stand_in, f"var(--{role})")
    return text
