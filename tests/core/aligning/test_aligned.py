"""Files of alignments: what is written is read, and what is no alignment, or of other data, is refused."""

from __future__ import annotations

import json

import pytest

from kdcompress.aligning.aligned import (
    Aligned,
    Alignments,
    Header,
    Segment,
    read_alignments,
    read_header,
    write_alignments,
)
from kdcompress.errors import AlignmentError
from kdcompress_runtime.manifest import manifest_fingerprint

FIRST = Aligned("a", 0, "phones", ("hé", '"so"'), (Segment("hh", 0.1, 0.2, 0), Segment("s", 0.3, 0.5, 1)), 0.6, -0.25)
EMPTY = Aligned("b", 2, "phones", (), (), 1.0, -1.5)
LAST = Aligned("c", 3, "phones", ("to",), (Segment("t", 0.0, 0.123456, 0),), 0.5, -0.5)


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "items.jsonl"
    rows = [{"audio_filepath": "x.flac", "text": "t", "id": name} for name in ("a", "left out", "b", "c")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def file(tmp_path, manifest):
    header = Header("phones", manifest=manifest_fingerprint(manifest), source={"run": "x"})
    assert write_alignments(tmp_path / "sub" / "alignment.jsonl", [FIRST, EMPTY, LAST], header) == 3
    return tmp_path / "sub" / "alignment.jsonl"


def test_what_is_written_is_read(file, manifest):
    assert list(read_alignments(file)) == [FIRST, EMPTY, LAST]
    assert read_header(file).source == {"run": "x"}
    found = Alignments.read(file, manifest)
    assert [found.get(place) for place in range(-1, 5)] == [None, FIRST, None, EMPTY, LAST, None]
    assert len(found) == 3


def test_a_header_is_made_where_none_is_given(tmp_path, manifest):
    path = tmp_path / "marks.jsonl"
    write_alignments(path, iter([FIRST, EMPTY]))
    assert read_header(path).kind == "phones"
    assert len(Alignments.read(path, manifest)) == 2
    write_alignments(path, [])
    assert list(read_alignments(path)) == []
    with pytest.raises(AlignmentError, match="units are phones"):
        write_alignments(path, [FIRST], Header("characters"))
    assert list(read_alignments(path)) == []


def test_another_manifest_is_refused(file, manifest, tmp_path):
    rows = manifest.read_text()
    manifest.write_text(rows.replace('"t"', '"other"'))
    with pytest.raises(AlignmentError, match=r"aligned another manifest .*align the manifest again"):
        Alignments.read(file, manifest)
    marks = tmp_path / "marks.jsonl"
    write_alignments(marks, [FIRST, LAST])
    Alignments.read(marks, manifest)
    manifest.write_text(rows.replace('"c"', '"d"'))
    with pytest.raises(AlignmentError, match="another manifest"):
        Alignments.read(marks, manifest)


def test_a_missing_file_and_one_that_is_something_else(tmp_path, file):
    with pytest.raises(AlignmentError, match="alignment not found"):
        list(read_alignments(tmp_path / "no.jsonl"))
    for content in ("", "no json\n", "[1]\n", '{"id": "a"}\n'):
        file.write_text(content)
        with pytest.raises(AlignmentError, match="line 1: not what `kdcompress align` writes"):
            Alignments.read(file)
    file.write_text(Header("phones").line().replace('"version": 1', '"version": 9'))
    with pytest.raises(AlignmentError, match="version 9, only 1"):
        read_header(file)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"segments"', '"segment"'),
        ("0.3, 0.5", "0.15, 0.5"),
        ("0.3, 0.5", "0.5, 0.3"),
        ('"s", 0.3, 0.5, 1', '"s", 0.3, 0.5, 2'),
        ('"s", 0.3, 0.5, 1', '"s", 0.3, 0.5'),
        ('"s", 0.3', '"s", "x"'),
        ("-0.25}", "-0.25"),
    ],
)
def test_a_damaged_line_is_named(file, old, new):
    content = file.read_text()
    assert old in content
    file.write_text(content.replace(old, new, 1))
    with pytest.raises(AlignmentError, match=r"line 2: damaged \(.*align the manifest again"):
        list(read_alignments(file))
    with pytest.raises(AlignmentError, match="line 2: damaged"):
        Alignments.read(file)


def test_a_place_twice_is_damage(file):
    content = file.read_text()
    file.write_text(content + content.splitlines()[1] + "\n")
    with pytest.raises(AlignmentError, match=r"line 5: damaged .place 0 a second time"):
        Alignments.read(file)


def test_a_file_that_changes_after_it_was_opened(file):
    found = Alignments.read(file)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], *lines[:1:-1], lines[1]]))
    with pytest.raises(AlignmentError):
        found.get(0)
    file.unlink()
    with pytest.raises(AlignmentError, match="cannot be read any more"):
        found.get(2)
