"""Pages made from the templates beside this module."""

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined


def render(name: str, **values: object) -> str:
    """The HTML text of a template, which gets the style sheet as `css`; all text is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_text)
    )
    return environment.get_template(name).render(css=_text("page.css"), **values)


def _text(name: str) -> str:
    return files("cislens.report").joinpath(name).read_text("utf-8")
