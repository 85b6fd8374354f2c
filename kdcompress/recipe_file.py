"""YAML -> recipe. An unknown key or a bad value is one clear sentence."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import ValidationError

from kdcompress.errors import RecipeError
from kdcompress.recipe import Recipe
from kdcompress.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.abc import Traversable

AnySettings = TypeVar("AnySettings", bound=Settings)
PACKAGED = resources.files("kdcompress") / "recipes"
"""Folder of the recipes that come with the package."""

PLAIN_WORDS = {
    "union_tag_not_found": "key 'kind' is missing; it selects what the section is",
    "model_type": "must be a section, a mapping of keys",
    "model_attributes_type": "must be a section, a mapping of keys",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
    "too_short": "must hold something",
}
"""Sentences for pydantic's errors whose own words are about Python."""


def packaged_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return packaged_in(PACKAGED)


def packaged_in(folder: Traversable) -> list[str]:
    """Names of the recipes in a folder of the package."""
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file, or a packaged recipe by name, and apply ``key.path=value`` overrides.

    Raises:
        RecipeError: not found, not YAML, an unknown key (with the nearest known one), a bad value, or a
            combination that cannot work.
    """
    return read_settings(Recipe, source, overrides, PACKAGED)


def read_settings(
    kind: type[AnySettings], source: str | Path, overrides: Iterable[str], packaged: Traversable
) -> AnySettings:
    """Read a file, or one of the folder ``packaged`` by name, as settings of a kind; see ``load_recipe``."""
    tree, where = read_tree(source, overrides, packaged)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{where}: {'; '.join(_sentence(item, kind) for item in _causes(error))}") from error


def read_tree(source: str | Path, overrides: Iterable[str], packaged: Traversable) -> tuple[dict[str, Any], str]:
    """Return sections as they stand in the file, ``overrides`` applied, and the name of the file for messages.

    Raises:
        RecipeError: not found, not YAML, or no mapping; or an override cannot be applied.
    """
    content, where = _content(source, packaged)
    try:
        tree = yaml.safe_load(content)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem_mark", None)
        line = f", line {problem.line + 1}" if problem else ""
        raise RecipeError(f"{where}{line}: not valid YAML; check the indentation and the quotes") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{where}: a recipe is a mapping of sections; the first line is `schema: 1`")
    for override in overrides:
        tree = _overridden(tree, override)
    return tree, where


def _content(source: str | Path, packaged: Traversable) -> tuple[str, str]:
    path = Path(source)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read as text ({error})") from error
    names = packaged_in(packaged)
    if str(source) in names:
        return (packaged / f"{source}.yaml").read_text(encoding="utf-8"), str(source)
    raise RecipeError(f"recipe not found: {source}; give a YAML file, or one of: {', '.join(names)}")


def _overridden(tree: dict[str, Any], override: str) -> dict[str, Any]:
    """Return a copy of ``tree`` with ``a.b=value`` set; the value is read as YAML."""
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"--set {override!r}: expected key.path=value, for example train.steps=100")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override!r}: the value is not valid YAML") from error
    changed: dict[str, Any] = _set(tree, path.split("."), parsed, override)
    return changed


def _set(node: Any, path: list[str], value: Any, override: str) -> Any:  # noqa: ANN401 (a tree of YAML)
    """Copy of ``node`` with the value at ``path``; an item of a list goes by its ``name``, or its ``kind``."""
    if not path:
        return value
    head, *rest = path
    if isinstance(node, list):
        places = [i for i, item in enumerate(node) if isinstance(item, dict) and head in _names(item)]
        if len(places) != 1:
            known = [name for item in node if isinstance(item, dict) for name in _names(item)]
            problem = "is there more than once; give each a name" if places else "is not one of the list's items"
            raise RecipeError(f"--set {override!r}: {head!r} {problem} ({', '.join(known) or 'they have no names'})")
        return [_set(item, rest, value, override) if i == places[0] else item for i, item in enumerate(node)]
    below = node if isinstance(node, dict) else {}
    return {**below, head: _set(below.get(head), rest, value, override)}


def _names(item: dict[str, Any]) -> list[str]:
    return [str(item[key]) for key in ("name", "kind") if item.get(key)][:1]


def _causes(error: ValidationError) -> list[Any]:
    """Errors, without what pydantic adds because of others: a list too short, a default that could not be made."""
    found = [item for item in error.errors() if item["type"] != "default_factory_not_called"]
    above = {item["loc"][:length] for item in found for length in range(len(item["loc"]))}
    return [item for item in found if item["type"] != "too_short" or item["loc"] not in above]


def _sentence(item: Any, kind: type[Settings] = Recipe) -> str:  # noqa: ANN401 (pydantic's ErrorDetails)
    # pydantic names the member of a union in the place of an error; the file has no such key
    place = _place(item["loc"])
    name = ".".join(place)
    if item["type"] == "extra_forbidden":
        near = " or ".join(map(repr, _nearest(place, kind)))
        return f"unknown key {name!r}; " + (f"did you mean {near}?" if near else "remove it")
    if item["type"] == "missing":
        return f"key {name!r} is missing"
    if item["type"] == "union_tag_invalid":
        return f"{name}.kind: {item['ctx']['tag']!r} is unknown; choose one of {item['ctx']['expected_tags']}"
    if item["type"] in PLAIN_WORDS:
        return f"{name}: {PLAIN_WORDS[item['type']]} (found {item['input']!r})"
    message = str(item["msg"]).removeprefix("Value error, ")
    return (
        f"{name}: {message} (found {item['input']!r})"
        if name and item["type"] != "value_error"
        else f"{name}: {message}".removeprefix(": ")
    )


def _place(loc: tuple[str | int, ...]) -> list[str]:
    """Path of a key as the file and ``--set`` know it."""
    match loc:
        case ("model" | "frontend" as section, _, *rest):
            return [section, *map(str, rest)]
        case ("losses", int(), str() as kind, *rest):
            return ["losses", kind, *map(str, rest)]
        case ("distill", "combine", _, *rest):
            return ["distill", "combine", *map(str, rest)]
    return [str(part) for part in loc]


def _nearest(place: list[str], kind: type[Settings]) -> list[str]:
    """Known keys that an unknown one may have meant: of its own section, or else by their path, of another."""
    schema = kind.model_json_schema()
    known = list(_keys(schema, schema["$defs"]))
    *section, key = place
    if near := difflib.get_close_matches(key, [path[-1] for path in known if list(path[:-1]) == section], n=1):
        return near
    near = difflib.get_close_matches(key, {path[-1] for path in known}, n=1)
    paths = [path for path in known if path[-1] in near]
    if len(paths) > 1:
        paths = [("losses", "<kind>", *path[2:]) if path[0] == "losses" else path for path in paths]
    return list(dict.fromkeys(map(".".join, paths)))[:2]


def _keys(node: dict[str, Any], defs: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Path of every key that a recipe can hold, as ``_place`` spells it."""
    if "$ref" in node:
        node = defs[node["$ref"].rpartition("/")[2]]
    for alternative in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _keys(alternative, defs, above)
    for kind, reference in node.get("items", {}).get("discriminator", {}).get("mapping", {}).items():
        yield from _keys({"$ref": reference}, defs, (*above, kind))
    for key, value in node.get("properties", {}).items():
        yield (*above, key)
        yield from _keys(value, defs, (*above, key))
