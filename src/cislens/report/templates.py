"""Pages made from the templates beside this module: one layout, one style sheet, one script.

A page is one file. It asks for nothing from anywhere, and runs no script but those it was made
with: its Content-Security-Policy names each by its hash.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined

from cislens.report.downloads import data_url, file_name, frame_csv

_POLICY = {"default-src": "'none'", "style-src": "'unsafe-inline'", "img-src": "data:"}


def render(
    name: str,
    *,
    scripts: Sequence[str] = (),
    allowed: Sequence[str] = (),
    sources: Mapping[str, str] | None = None,
    **values: object,
) -> str:
    """The HTML text of a template that extends the layout; all text is escaped.

    Args:
        scripts: JavaScript that the page runs after its own, in this order.
        allowed: JavaScript that the template holds, or that a script of it adds later.
        sources: further directives of the page's policy, e.g. `connect-src` -> `blob:`; those of
            the same name are replaced.
        values: what the template shows. The layout takes `title`, `headline` (sentences),
            `facts` (pairs), `sections` (pairs of id and title), `skip` (what the first link
            skips to) and `manifest` (groups).

    Raises:
        ValueError: for a script that would end its element.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_text)
    )
    environment.filters.update(csv=frame_csv, data_url=data_url, slug=file_name)
    code = [_text("page.js"), *scripts]
    if any("</script" in script.lower() for script in code):
        raise ValueError(f"a script of {name} holds </script, which would end its element")
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in [*code, *allowed])
    policy = {**_POLICY, "script-src": hashes, **(sources or {})}
    return environment.get_template(name).render(
        css=_text("page.css"),
        scripts=code,
        policy="; ".join(f"{directive} {allowed}" for directive, allowed in policy.items()),
        **values,
    )


def _text(name: str) -> str:
    return files("cislens.report").joinpath(name).read_text("utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
