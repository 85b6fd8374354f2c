"""Ids of a manifest: every row is kept by one."""

from __future__ import annotations

import json

import pytest

from kdcompress_evaluation.manifests import plan_manifest, read_entries
from kdcompress_runtime.errors import ManifestError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_sentences_that_repeat_are_numbered(tmp_path):
    rows = [{"source": "It is.", "target": "a"}, {"source": "No.", "target": "b"}, {"source": "It is.", "target": "c"}]
    path = write(tmp_path / "pairs.jsonl", rows)
    assert [entry.id for entry in read_entries(path)] == ["It is.", "No.", "It is. (2)"]
    assert plan_manifest("pairs", path).utterances == 3


@pytest.mark.parametrize(
    "rows",
    [
        [{"source": "a", "target": "b", "id": "x"}, {"source": "c", "target": "d", "id": "x"}],
        [{"audio_filepath": "a.wav", "text": "b"}, {"audio_filepath": "a.wav", "text": "b"}],
    ],
)
def test_ids_that_somebody_gave_and_files_are_not(rows, tmp_path):
    with pytest.raises(ManifestError, match="appears twice; give every line its own `id`"):
        plan_manifest("twice", write(tmp_path / "m.jsonl", rows))
