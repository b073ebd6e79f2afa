"""Reading model configurations with errors for people."""

from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from cislens.errors import CislensError, nearest

Config = TypeVar("Config", bound=BaseModel)


def read_config(kind: type[Config], data: dict[str, Any], source: str) -> Config:
    """`data` as a configuration of class `kind`.

    Raises:
        CislensError: naming `source`, the key, what was found, and the nearest known key.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = [_explain(kind, problem) for problem in error.errors()]
        raise CislensError(f"{source}: {' '.join(lines)}") from None


def _explain(kind: type[BaseModel], problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(kind, problem["loc"])
        return f"unknown key {key!r}. {nearest(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing."
    return f"{key + ': ' if key else ''}{problem['msg']} (found {problem['input']!r})."


def _keys_beside(kind: type[BaseModel], location: tuple[Any, ...]) -> set[str]:
    """The keys that could have stood where `location` points to."""
    schema = TypeAdapter(kind).json_schema()
    node = schema
    for part in location[:-1]:
        node = _resolve(schema, node)
        by_tag = node.get("discriminator", {}).get("mapping", {})
        if part in by_tag:
            node = {"$ref": by_tag[part]}
        else:
            node = node.get("properties", {}).get(part, {})
    return set(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    return schema["$defs"][reference.rsplit("/", 1)[1]] if reference else node
