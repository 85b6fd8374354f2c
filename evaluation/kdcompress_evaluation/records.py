# ruff: noqa: ANN401 - JSON is Any
"""Dataclasses to JSON and back, driven by their type hints; one place instead of a pair of methods each."""

from __future__ import annotations

import json
import math
import os
import types
import typing
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from kdcompress_evaluation.errors import RowsError

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Return ``value`` (dataclasses, mappings, sequences, scalars) as what ``json`` can write.

    A number that is not finite becomes ``None``: JSON has no word for it.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def from_json(kind: type[T], value: Any) -> T:
    """Build the dataclass ``kind`` from what ``to_json`` gave.

    Raises:
        RowsError: a field is missing or unknown.
    """
    result: T = _build(kind, value)
    return result


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to a temporary name beside ``path``, then move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def dumps(value: Any) -> str:
    """Return ``to_json(value)`` as indented JSON text."""
    return json.dumps(to_json(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def load(kind: type[T], path: Path) -> T:
    """Read the dataclass ``kind`` from a JSON file.

    Raises:
        RowsError: the file is missing, is not JSON, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RowsError(f"{path} is missing; run `kdcompress eval` again into this folder") from error
    except json.JSONDecodeError as error:
        raise RowsError(f"{path}: not valid JSON ({error.msg}); remove it and run again") from error
    return from_json(kind, value)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return None if value is None else _build(next(a for a in arguments if a is not type(None)), value)
    if origin is tuple:
        return tuple(_build(arguments[0], item) for item in value)
    if origin is dict:
        return {key: _build(arguments[1], item) for key, item in value.items()}
    if is_dataclass(hint):
        return _build_dataclass(hint, value)
    return float(value) if hint is float and value is not None else value


def _build_dataclass(kind: Any, value: Any) -> Any:
    names = _hints(kind)
    if not isinstance(value, dict) or set(value) - set(names):
        raise RowsError(f"not a {kind.__name__}: {str(value)[:80]}; written by another version? Run eval again")
    try:
        return kind(**{name: _build(names[name], item) for name, item in value.items()})
    except (TypeError, AttributeError) as error:
        raise RowsError(f"not a {kind.__name__} ({error}); written by another version? Run eval again") from error
