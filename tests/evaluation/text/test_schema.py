from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.records import to_json
from kdcompress_evaluation.rows import Row, StreamRow
from kdcompress_evaluation.schema import PUBLISHED, main, read_schema, render, schema_of, schema_path
from kdcompress_evaluation.summary import SCHEMA, Summary

if TYPE_CHECKING:
    from pathlib import Path

ROW = Row(
    id="u1",
    index=3,
    reference="été",
    input="a.flac",
    extra={"snr_db": 5, "tags": ["x", None]},
    stream=StreamRow("été", 0.5, (0.25, 0.5), "recogniser", 0, 1, 0.01, None, "missed"),
)


def problems(name: str, value: object) -> list[str]:
    found = Draft202012Validator(read_schema(name)).iter_errors(to_json(value))
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schemas_are_current(name: str) -> None:
    text = schema_path(name).read_text(encoding="utf-8")
    assert text == render(name), "run `python -m kdcompress_evaluation.schema`"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schemas_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(read_schema(name))


def test_a_report_and_a_row_are_valid(summary: Summary) -> None:
    assert problems("report", summary) == []
    assert problems("report", replace(summary, verdict=None, speed_run=None)) == []
    assert problems("row", ROW) == []
    assert problems("row", Row(id="u", index=0, reference="", input="")) == []


def change(content: Any, path: str, value: object) -> Any:
    """The content with something else in one place; ``None`` as value takes the place away."""
    *way, last = path.split("/")
    target = content
    for step in way:
        target = target[int(step) if isinstance(target, list) else step]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("headline", 3),
        ("headline", None),
        ("more", "of it"),
        ("schema", 1),
        ("variants/0/pooled/utterances", 3.5),
        ("variants/0/pooled/metrics/wer/value", "7 %"),
        ("variants/0/speed/chunk/p50", None),
        ("variants/1/fronts/size", "yes"),
        ("worst/small-int8/0/diff/0/kind", 1),
    ],
)
def test_something_else_is_not_valid(summary: Summary, path: str, value: object) -> None:
    content = change(json.loads(summary.dumps()), path, value)
    assert problems("report", content) != []


def test_every_field_is_described() -> None:
    for name in PUBLISHED:
        content = read_schema(name)
        objects = {"": content, **content["$defs"]}
        missing = [
            f"{title}.{key}"
            for title, shape in objects.items()
            for key, value in shape["properties"].items()
            if not value.get("description")
        ]
        assert missing == []
    headline = read_schema("report")["properties"]["headline"]
    assert headline["description"] == "The answer in one sentence."
    assert read_schema("report")["properties"]["schema"]["const"] == SCHEMA


@dataclass(frozen=True)
class Part:
    """A part."""

    value: float
    """Of it,
    over two lines, or ``None``."""


@dataclass(frozen=True)
class Whole:
    """All kinds of fields."""

    parts: tuple[Part, ...]
    """Several."""
    named: dict[str, Part | None]
    """Some are missing."""
    either: int | str | None
    """Of two types."""
    free: Any
    """Anything."""
    flag: bool = False
    undescribed: str = ""
    fresh: dict[str, Any] = field(default_factory=dict)
    """Made anew."""


def test_types_become_shapes() -> None:
    content = schema_of(Whole, title="t", identifier="urn:x")
    shapes = content["properties"]
    assert content["description"] == "All kinds of fields."
    assert shapes["parts"] == {"description": "Several.", "type": "array", "items": {"$ref": "#/$defs/Part"}}
    assert shapes["named"]["additionalProperties"] == {"anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}]}
    assert shapes["either"]["type"] == ["integer", "string", "null"]
    assert shapes["free"] == {"description": "Anything."}
    assert shapes["flag"] == {"type": "boolean"}
    assert shapes["undescribed"] == {"type": "string"}
    assert shapes["fresh"]["description"] == "Made anew."
    assert content["$defs"]["Part"]["properties"]["value"]["description"] == "Of it, over two lines, or `null`."
    assert content["required"] == ["parts", "named", "either", "free", "flag", "undescribed", "fresh"]
    value = Whole((Part(1.5),), {"a": None, "b": Part(2)}, "x", [1, {"y": None}])
    assert list(Draft202012Validator(content).iter_errors(to_json(value))) == []


@dataclass(frozen=True)
class Odd:
    """Not for JSON."""

    value: complex


def test_a_type_without_a_word_in_json_is_named() -> None:
    with pytest.raises(TypeError, match=r"Odd\.value"):
        schema_of(Odd, title="t", identifier="urn:x")


def test_files_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdcompress_evaluation.schema.FOLDER", tmp_path)
    with pytest.raises(RowsError, match="report, tasks, row"):
        read_schema("report")
    main()
    assert read_schema("report")["title"] == "report.json of kdcompress eval"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "report.schema.json",
        "row.schema.json",
        "tasks.schema.json",
    ]
