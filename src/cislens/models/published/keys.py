"""Names of tensors in a published file and in our model, as pairs of patterns.

In a pattern each `*` stands for one part between dots; the parts that it stood for are put in
the place of the other pattern's stars, in order. So one list of pairs reads in both directions.
"""

from collections.abc import Iterable, Sequence

KeyPairs = Sequence[tuple[str, str]]


def translate(key: str, pairs: Iterable[tuple[str, str | None]]) -> str | None:
    """The other name of `key`, by the first pair whose first pattern fits.

    None if that pair has no other name.

    Raises:
        KeyError: if no pattern fits.
    """
    parts = key.split(".")
    for pattern, other in pairs:
        wanted = pattern.split(".")
        if len(wanted) != len(parts):
            continue
        if any(w not in ("*", p) for w, p in zip(wanted, parts, strict=True)):
            continue
        if other is None:
            return None
        filled = [p for w, p in zip(wanted, parts, strict=True) if w == "*"]
        return ".".join(filled.pop(0) if part == "*" else part for part in other.split("."))
    raise KeyError(key)


def published_names(ours: Iterable[str], pairs: KeyPairs) -> dict[str, str]:
    """Our name -> published name, each under its first name.

    Args:
        pairs: published pattern, our pattern.
    """
    back = [(own, published) for published, own in pairs]
    return {key: name for key in ours if (name := translate(key, back)) is not None}
