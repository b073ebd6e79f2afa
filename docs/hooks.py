"""What MkDocs lacks for these pages: formulas without scripts, and files that live elsewhere."""

import json
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
    """Add the pages that are written elsewhere: README, changelog and notebooks."""
    readme = (ROOT / "README.md").read_text()
    readme = re.sub(r"\]\(docs/", "](", readme)
    pages = {"index.md": _off_site(readme), "changelog.md": (ROOT / "CHANGELOG.md").read_text()}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{path.stem}.md"] = _notebook(path)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def _off_site(markdown: str) -> str:
    """Links to files that are no pages, as their names."""
    return re.sub(r"\[([^]]+)\]\((?:src/[^)]*|CITATION\.cff)\)", r"`\1`", markdown)


def _notebook(path: Path) -> str:
    """A notebook's cells as a page."""
    cells = json.loads(path.read_text())["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join([*parts, f"This page is `notebooks/{path.name}`; run it in Jupyter.\n"])


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
