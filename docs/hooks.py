"""What MkDocs lacks for these pages: formulas without scripts, and files that live elsewhere."""

import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parent.parent
_MATH = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<tex>.*?)\\[)\]]</(?P=tag)>',
    re.DOTALL,
)

_SHIM = re.compile(r"https://unpkg\.com/iframe-worker/shim")


def on_files(files: Files, config: Any) -> Files:
    """Add the changelog, which lies beside the README."""
    text = (ROOT / "CHANGELOG.md").read_text()
    files.append(File.generated(config, "changelog.md", content=text))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Turn LaTeX into MathML, which browsers draw by themselves."""
    return _MATH.sub(_mathml, html)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Take the theme's one script of another host from this site: search works from a file."""
    own = get_relative_url("assets/iframe-worker.js", page.url)
    return _SHIM.sub(own, output)


def on_post_template(output_content: str, **_: Any) -> str:
    """The same of the page for addresses that are not there."""
    return _SHIM.sub("assets/iframe-worker.js", output_content)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match["open"] == "[" else "inline"
    return convert(unescape(match["tex"]).strip(), display=display)
