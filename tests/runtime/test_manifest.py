"""Manifests: read line by line, a broken line named by its number."""

from __future__ import annotations

import json

import pytest

from kdcompress_runtime import ManifestError, read_manifest
from kdcompress_runtime.manifest import manifest_fingerprint


@pytest.fixture
def write(tmp_path):
    def write_lines(*lines):
        path = tmp_path / "m.jsonl"
        path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), "utf-8")
        return path

    return write_lines


def test_entries_are_read_with_paths_against_the_folder(write, tmp_path):
    path = write(
        {"audio_filepath": "a/1.wav", "text": "one", "duration": 1.5, "speaker": 7, "noise": "car"},
        "",
        {"audio_filepath": "/x/2.wav", "text": "", "id": "u2"},
        {"source": "hej", "target": "hello"},
    )
    first, second, third = read_manifest(path)
    assert first.input == str(tmp_path / "a/1.wav")
    assert (first.id, first.text, first.duration, first.speaker) == ("a/1.wav", "one", 1.5, "7")
    assert first.extra == {"noise": "car"}
    assert (second.id, second.input, second.text) == ("u2", "/x/2.wav", "")
    assert (third.input, third.text) == ("hej", "hello")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "not valid JSON"),
        ("[1]", "expected a JSON object"),
        ({"text": "one"}, "no input"),
        ({"audio_filepath": "a.wav"}, "no reference"),
        ({"audio_filepath": "a.wav", "text": 3}, "no reference"),
        ({"audio_filepath": "a.wav", "text": "a", "duration": "long"}, "duration must be seconds"),
        ({"audio_filepath": "a.wav", "text": "a", "duration": -1}, "duration must be seconds"),
    ],
)
def test_a_broken_line_is_named_by_its_number(write, line, words):
    good = {"audio_filepath": "a.wav", "text": "one"}
    entries = read_manifest(write(good, good, line, good))
    assert next(entries).text == "one"
    with pytest.raises(ManifestError, match=rf"m\.jsonl, line 3: .*{words}"):
        list(entries)


def test_missing_and_empty_manifests_are_refused(write, tmp_path):
    with pytest.raises(ManifestError, match="manifest not found"):
        list(read_manifest(tmp_path / "none.jsonl"))
    with pytest.raises(ManifestError, match="manifest is empty"):
        list(read_manifest(write("", "  ")))


def test_the_fingerprint_knows_content_not_place(write, tmp_path):
    lines = [{"audio_filepath": "a.wav", "text": "one"}, {"audio_filepath": "b.wav", "text": "two"}]
    here = manifest_fingerprint(write(*lines))
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "m.jsonl").rename(tmp_path / "elsewhere" / "other.jsonl")
    assert manifest_fingerprint(moved) == here
    assert manifest_fingerprint(write(*reversed(lines))) != here
