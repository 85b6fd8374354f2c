# ruff: noqa: ANN401 - type hints and JSON are Any
"""JSON schemas of ``report.json`` and of one row, made from the dataclasses and their docstrings.

``python -m kdcompress_evaluation.schema`` writes the published files anew. Types are read as ``records`` reads them,
descriptions stand under the fields in the source.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.records import write_text
from kdcompress_evaluation.rows import Row
from kdcompress_evaluation.several import Report
from kdcompress_evaluation.summary import SCHEMA, Summary

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""Draft 2020-12; a name, nothing is fetched."""
FOLDER = Path(__file__).parent / "schemas"
"""Where the published files lie."""
PUBLISHED = {
    "report": (Summary, "report.json of kdcompress eval"),
    "tasks": (Report, "report.json of kdcompress eval on several tasks"),
    "row": (Row, "One line of rows/*.jsonl"),
}
"""Class and title of each published schema, by the stem of its file."""
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    Any: {},
}


def schema_of(kind: type, *, title: str, identifier: str) -> dict[str, Any]:
    """Return the schema of what ``records.to_json`` writes for ``kind``.

    Every field is written, so every field is required, and ``records.from_json`` takes no other. A number that is not
    finite is written as ``null``; it has no place in a report and the schema does not allow it.

    Args:
        kind: a dataclass of plain values, tuples, dicts with text as keys, and such dataclasses.
        title: of the schema.
        identifier: a URI that names it.

    Raises:
        TypeError: a field has a type that has no word in JSON.
    """
    found: dict[str, dict[str, Any]] = {}
    top = _describe(kind, found)
    definitions = {name: found[name] for name in sorted(found) if name != kind.__name__}
    return {"$schema": DIALECT, "$id": identifier, "title": title, **top, "$defs": definitions}


def render(name: str) -> str:
    """Return the text of a published schema, one of ``PUBLISHED``."""
    kind, title = PUBLISHED[name]
    content = schema_of(kind, title=title, identifier=f"urn:kdcompress:{name}:{SCHEMA}")
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def schema_path(name: str) -> Path:
    """Where the published schema called ``name`` lies."""
    return FOLDER / f"{name}.schema.json"


def read_schema(name: str) -> dict[str, Any]:
    """Return a published schema, one of ``PUBLISHED``.

    Raises:
        RowsError: there is none of that name, or its file is missing.
    """
    try:
        content: dict[str, Any] = json.loads(schema_path(name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RowsError(f"no schema called {name!r}; there are {', '.join(PUBLISHED)}") from error
    return content


@cache
def field_texts(kind: type) -> dict[str, str]:
    """Return the docstring under each field of a dataclass, as plain text in one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    texts = {}
    for before, after in itertools.pairwise(body):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            texts[before.target.id] = _one_line(after.value.value)
    return texts


def _one_line(text: str) -> str:
    """A docstring in JSON's words."""
    return " ".join(text.replace("``None``", "``null``").replace("``", "`").split())


def _describe(kind: Any, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The schema of a dataclass; those inside go to ``found`` by name."""
    found[kind.__name__] = {}  # a place for itself, should it be met again inside
    hints, texts = typing.get_type_hints(kind), field_texts(kind)
    properties = {}
    for field in fields(kind):
        if field.name == "schema" and field.default is not MISSING:
            shape: dict[str, Any] = {"const": field.default}
        else:
            shape = _shape(hints[field.name], found, f"{kind.__name__}.{field.name}")
        text = texts.get(field.name)
        properties[field.name] = {**({"description": text} if text else {}), **shape}
    found[kind.__name__] = {
        "description": _one_line(inspect.getdoc(kind) or ""),
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return found[kind.__name__]


def _shape(hint: Any, found: dict[str, dict[str, Any]], where: str) -> dict[str, Any]:
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return _either([_shape(argument, found, where) for argument in arguments])
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": _shape(arguments[0], found, where)}
    if origin is dict and arguments[0] is str:
        return {"type": "object", "additionalProperties": _shape(arguments[1], found, where)}
    if is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in found:
            _describe(hint, found)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    raise TypeError(f"{where}: {hint} has no JSON schema; use plain values, tuples, dicts of text, or dataclasses")


def _either(shapes: list[dict[str, Any]]) -> dict[str, Any]:
    """One of several shapes; plain ones in the short form ``"type": [...]``."""
    if all(set(shape) == {"type"} for shape in shapes):
        return {"type": [shape["type"] for shape in shapes]}
    return {"anyOf": shapes}


def main() -> None:
    """Write the published files."""
    for name in PUBLISHED:
        write_text(schema_path(name), render(name))


if __name__ == "__main__":
    main()
