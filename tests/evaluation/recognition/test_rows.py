"""Files of rows: what is kept, what is cut off, what is not mixed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.rows import (
    ROWS,
    Row,
    StreamRow,
    drop_rows,
    iterate_rows,
    open_rows,
    parse_row,
    read_rows,
    row_identity,
    rows_files,
    rows_path,
)

if TYPE_CHECKING:
    from pathlib import Path

VARIANT = {
    "name": "v.1",
    "kind": "bundle",
    "engine": "onnxruntime 1",
    "precision": "int8",
    "model_sha256": "m",
    "tokens_sha256": "t",
    "geometry_sha256": "g",
    "bundle_path": "/here",
}
RUN: dict[str, Any] = {
    "schema": 2,
    "variants": [VARIANT],
    "manifests": [{"name": "test", "fingerprint": "f", "path": "/here"}],
    "decoder": {"kind": "bundle"},
    "streaming": {"every": 1},
}
STREAM = StreamRow("a b", 0.4, (0.3, 0.2), "manifest", 1, 2, 0.01, None, "missed")


def row(index: int, **more: Any) -> Row:
    return Row(id=f"u{index}", index=index, reference="été\u2028 ok", input="a.wav", **more)


def save(output: Path, run: dict[str, Any] = RUN) -> None:
    (output / ROWS).mkdir(parents=True, exist_ok=True)
    (output / ROWS / "run.json").write_text(json.dumps(run), encoding="utf-8")


def write(output: Path, rows: list[Row], shard: tuple[int, int] | None = None, run: dict[str, Any] = RUN) -> Path:
    save(output)
    path = rows_path(output, "v.1", "test", shard)
    with open_rows(path, row_identity(run, "v.1", "test")) as writer:
        for one in rows:
            writer.add(one)
    return path


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [row(0, stream=STREAM, split_text="", extra={"snr": 5.0}), row(1, error="no", error_kind="crash")]
    write(tmp_path, rows)
    assert list(iterate_rows(tmp_path, "v.1", "test")) == rows


def test_a_number_that_is_none_is_no_row_killer(tmp_path: Path) -> None:
    path = write(tmp_path, [row(0, log_prob=float("-inf"), hypothesis="\udce9")])
    (found,) = read_rows(path)
    assert found.log_prob is None


def test_a_broken_end_is_cut_off_and_broken_lines_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, [row(0), row(1), row(2)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\xff not JSON\n" + b'{"id": "x"}\n' + lines[1] + lines[2][:-9])
    write(tmp_path, [row(3)])
    assert [one.index for one in iterate_rows(tmp_path, "v.1", "test")] == [0, 1, 3]
    path.write_bytes(b"x" * 200_000)  # one broken line, longer than a block
    write(tmp_path, [row(3)])
    assert [one.index for one in iterate_rows(tmp_path, "v.1", "test")] == [3]


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"1", b'{"id": 1}', b'{"id":"a","index":-1,"reference":"","input":""}', b'{"unknown": 1}']
)
def test_no_row(line: bytes) -> None:
    assert parse_row(line) is None


def test_shards_are_read_together_each_index_once(tmp_path: Path) -> None:
    write(tmp_path, [row(1), row(3)], (2, 2))
    write(tmp_path, [row(0), row(2)], (1, 2))
    write(tmp_path, [row(3, hypothesis="later"), row(100_000)])
    assert [path.name for path in rows_files(tmp_path, "v.1", "test")] == [
        "v.1.test.1-of-2.jsonl",
        "v.1.test.2-of-2.jsonl",
        "v.1.test.jsonl",
    ]
    found = list(iterate_rows(tmp_path, "v.1", "test"))
    assert sorted(one.index for one in found) == [0, 1, 2, 3, 100_000]
    assert {one.hypothesis for one in found} == {""}


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 3},
        {"decoder": {"kind": "beam"}},
        {"streaming": {"every": 2}},
        {"variants": [{**VARIANT, "model_sha256": "other"}]},
        {"variants": [{**VARIANT, "engine": "onnxruntime 2"}]},
        {"manifests": [{"name": "test", "fingerprint": "other"}]},
    ],
)
def test_rows_made_otherwise_are_not_read_and_moved_aside(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path, [row(0)])
    save(tmp_path, {**RUN, **change})
    assert list(iterate_rows(tmp_path, "v.1", "test")) == []
    path = rows_path(tmp_path, "v.1", "test")
    with open_rows(path, row_identity({**RUN, **change}, "v.1", "test")) as writer:
        writer.add(row(7))
    assert [one.index for one in iterate_rows(tmp_path, "v.1", "test")] == [7]
    assert len(list(read_rows(path.with_name(path.name + ".old")))) == 1


def test_names_and_paths_do_not_make_rows_another_run(tmp_path: Path) -> None:
    write(tmp_path, [row(0)])
    elsewhere = {**RUN, "variants": [{**VARIANT, "bundle_path": "/there"}], "budget": "size<=1MB"}
    save(tmp_path, elsewhere)
    assert len(list(iterate_rows(tmp_path, "v.1", "test"))) == 1


def test_files_of_other_variants_are_not_taken(tmp_path: Path) -> None:
    path = write(tmp_path, [row(0)])
    other = path.with_name("vx1.test.jsonl")  # the dot of the name is no wildcard
    other.write_bytes(path.read_bytes())
    other.with_name("vx1.test.identity.json").write_bytes(path.with_name("v.1.test.identity.json").read_bytes())
    assert rows_files(tmp_path, "v.1", "test") == [path]


def test_rows_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, [row(0), row(1, error="x", error_kind="timeout"), row(2)])
    assert drop_rows(path, lambda one: one.error_kind == "timeout") == 1
    assert [one.index for one in read_rows(path)] == [0, 2]
    assert drop_rows(path, lambda _: False) == 0
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(RowsError, match=r"run.json is missing"):
        rows_files(tmp_path, "v.1", "test")
    save(tmp_path)
    with pytest.raises(RowsError, match="names no 'other'"):
        rows_files(tmp_path, "v.1", "other")
    (tmp_path / ROWS / "run.json").write_text("[", encoding="utf-8")
    with pytest.raises(RowsError, match="not valid JSON"):
        rows_files(tmp_path, "v.1", "test")
