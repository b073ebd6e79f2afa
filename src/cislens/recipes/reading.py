"""Recipes are typed YAML: every mistake names the file, the line and what was expected."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from cislens.errors import CislensError, nearest
from cislens.example import located
from cislens.files import require_file, write_atomic
from cislens.remote import Address, place


class Section(BaseModel):
    """Base of all recipe sections: values are frozen, an unknown key names the nearest one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    message = f"unknown key {str(key)!r}. {nearest(str(key), cls.model_fields)}"
                    raise PydanticCustomError("unknown_key", "{message}", _key(key, message))
        return values


def _key(key: str, message: str) -> dict[str, Any]:
    return {"message": message, "key": key}


def _resolve(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str | Path):
        return value
    if isinstance(place(value), Address):
        return place(value)
    try:
        return located(str(value), (info.context or {}).get("folder", Path()))
    except (CislensError, OSError) as error:
        raise PydanticCustomError("not_there", "{message}", {"message": str(error)}) from None


# A path in a recipe is relative to the recipe's own folder; `example:` names packaged data and
# `core:` a file in the folder that CISLENS_DATA names.
RecipePath = Annotated[Path, BeforeValidator(_resolve)]


def _resolve_named(value: Any, info: ValidationInfo) -> Any:
    try:
        path = _resolve(value, info) if isinstance(value, str) else None
        return str(path) if path is not None and Path(path).is_file() else value
    except OSError:  # too long for a path
        return value


# Another recipe, by its path if such a file exists, else by the name of a packaged one.
RecipeName = Annotated[str, BeforeValidator(_resolve_named)]

S = TypeVar("S", bound=BaseModel)

_MOST_VALUES, _DEEPEST = 100_000, 50  # of a recipe
_LISTED = 20  # mistakes of one recipe
_SHOWN = 200  # letters of a wrong value


def read_recipe(path: Path | str, kind: type[S], given: Mapping[str, Any] | None = None) -> S:
    """Read a YAML recipe; relative paths in it are resolved against its folder.

    Args:
        given: keys that are given beside the recipe and replace its own.

    Raises:
        MissingFileError: if the recipe does not exist.
        CislensError: for YAML that does not parse, an unknown key (the nearest one is named), a
            missing key or a value of the wrong type, each with its line.
    """
    path = require_file(path, "recipe")
    values, tree = read_yaml(path)
    values |= given or {}
    try:
        return kind.model_validate(values, context={"folder": path.resolve().parent})
    except ValidationError as error:
        problems = error.errors()
        lines = [_explain(path, tree, problem) for problem in problems[:_LISTED]]
        more = [f"... and {len(problems) - _LISTED} more."] if len(problems) > _LISTED else []
        raise CislensError("\n".join([*lines, *more])) from None


def read_yaml(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    """The keys and values of a YAML file, and its nodes, which know their lines.

    Raises:
        CislensError: for a file that does not parse, is nested too deep, grows beyond bounds when
            its aliases are followed, has a key twice, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
    except UnicodeDecodeError:
        raise CislensError(f"{path} is not UTF-8 text; is it a recipe?") from None
    except yaml.YAMLError as error:
        raise CislensError(f"{path} is not valid YAML: {error}") from None
    try:
        tree = loader.get_single_node()
        _measure(path, tree, {})
        _refuse_repeated_keys(path, tree)  # before what `<<` merges is put among the keys
        values = loader.construct_document(tree) if tree is not None else None
        if "\\ud" in text.lower():  # half a pair of surrogates is no text
            json.dumps(values, ensure_ascii=False, default=str, skipkeys=True).encode()
    except CislensError:
        raise
    except RecursionError:
        raise CislensError(f"{path} is nested too deep; is it a recipe?") from None
    # Of a value that is not of the type that its tag or its form claims PyYAML raises these.
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise CislensError(f"{path} is not valid YAML: {error}") from None
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise CislensError(f"{path} must hold keys and values, found {type(values).__name__}.")
    for key in values:
        if not isinstance(key, str):
            raise CislensError(f"{path}: the key {key!r} is no text; put it in quotes.")
    return values, tree


def _measure(path: Path, node: yaml.Node | None, known: dict[int, tuple[int, int]]) -> None:
    """Refuse what would be too much if every alias were written out, or never end."""
    if node is None or id(node) in known:
        return
    known[id(node)] = (_MOST_VALUES, _DEEPEST)  # until it is known: within itself it is endless
    parts = []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    for part in parts:
        _measure(path, part, known)
    values = 1 + sum(known[id(part)][0] for part in parts)
    depth = 1 + max((known[id(part)][1] for part in parts), default=0)
    if values > _MOST_VALUES or depth > _DEEPEST:
        raise CislensError(
            f"{path} line {node.start_mark.line + 1}: more than {_MOST_VALUES:,} values, or "
            f"{_DEEPEST} levels, counted with what its aliases repeat; no recipe is so large."
        )
    known[id(node)] = values, depth


def read_section(values: Any, kind: type[S], source: str) -> S:
    """Values that come from no recipe file of their own, e.g. the configuration of a model.

    Raises:
        CislensError: naming `source`, the key, what was found, and the nearest known key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [_describe(problem) for problem in error.errors()[:_LISTED]]
        raise CislensError(f"{source}: {' '.join(lines)}") from None


def write_recipe(recipe: BaseModel) -> str:
    """The recipe as YAML with every default filled in and every path absolute."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def claim_folder(folder: Path, recipe: BaseModel, may_grow: Collection[str] = ()) -> None:
    """Write the resolved recipe into the folder that its results go to; see `check_claim`."""
    check_claim(folder, recipe, may_grow)
    write_atomic(folder / "recipe.yaml", write_recipe(recipe))


def check_claim(folder: Path, recipe: BaseModel, may_grow: Collection[str] = ()) -> None:
    """Refuse a folder that holds results of another recipe, or something else altogether.

    Args:
        may_grow: sections that may have entries which the folder's recipe does not have yet.

    Raises:
        CislensError: that names the folder and its recipe, or what else is there.
    """
    if folder.exists() and not folder.is_dir():
        raise CislensError(f"--out {folder} is a file; name a folder, which is made if need be.")
    path = folder / "recipe.yaml"
    if folder.is_dir() and not path.exists():
        _require_empty(folder)
    if path.exists():
        then, now = _filled(read_yaml(path)[0], type(recipe)), recipe.model_dump(mode="json")
        for key in may_grow if then.keys() == now.keys() else ():
            kept = {name: now[key][name] for name in then[key] if name in now[key]}
            if kept == then[key]:
                then[key] = now[key]
        if then != now:
            raise CislensError(
                f"{folder} holds results of another recipe ({path} differs); choose another --out, "
                "or remove the folder to start over."
            )


def _filled(given: Any, kind: type[BaseModel]) -> Any:
    """A recipe as it would be written now: with the defaults of keys that it did not know."""
    try:
        return kind.model_validate(given).model_dump(mode="json")
    except ValidationError:
        return given


def _require_empty(folder: Path) -> None:
    """But for a lock, and a log that a shell may have opened before the command began."""
    other = sorted(
        entry.name
        for entry in folder.iterdir()
        if not (entry.name == "lock" or entry.name.startswith(".") or entry.suffix == ".log")
    )
    if other:
        raise CislensError(
            f"{folder} holds {other[0]} but no recipe.yaml, so its content is not of this command; "
            "choose another --out."
        )


def _refuse_repeated_keys(path: Path, node: yaml.Node | None) -> None:
    """YAML's reader would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise CislensError(f"{path} line {line}: the key {key.value!r} is there twice.")
            seen.add(key.value)
            _refuse_repeated_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(path, item)


def _explain(path: Path, tree: yaml.Node | None, problem: Any) -> str:
    location = problem["loc"]
    if problem["type"] == "unknown_key":
        location = (*location, problem["ctx"]["key"])
    return f"{path} line {_line(tree, location)}: {_describe(problem)}"


def _describe(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    match problem["type"]:
        case "unknown_key":
            return str(problem["msg"])
        case "missing":
            return f"the key {name!r} is missing; add it."
        case _:
            return f"{name + ': ' if name else ''}{problem['msg']}, found {_shown(problem)}."


def _shown(problem: Any) -> str:
    text = repr(problem["input"])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The 1-based line of the deepest part of `location` that the YAML has."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pairs = {key.value: (key, value) for key, value in node.value}
            if part in pairs:  # the tag of a union is part of a location but not of the file
                key, node = pairs[part]
                line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
