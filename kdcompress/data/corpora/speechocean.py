"""speechocean762 (OpenSLR 101): Kaldi directories ``train`` and ``test``, audio in ``WAVE``, scores in JSON.

A copy that is laid out as manifests (``train.jsonl``, ``dev.jsonl``, ``test.jsonl``) is read as such.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdcompress.data.corpora.base import Found, ManifestRow, Source, check_folder
from kdcompress.data.corpora.kaldi import read_directory
from kdcompress.data.corpora.nemo import read_nemo
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCORES = ("accuracy", "completeness", "fluency", "prosodic", "total")


def read_speechocean762(source: Source) -> Iterator[Found]:
    """Yield the utterances of ``train`` and ``test`` with age, gender and the experts' scores for the sentence.

    Raises:
        DataNotFoundError: there is no such folder.
        ManifestError: it is laid out in neither way, or ``scores.json`` is broken.
    """
    check_folder(source.path, "speechocean762")
    splits = [split for split in ("train", "test") if (source.path / split / "wav.scp").is_file()]
    if not splits:
        if any(source.path.glob("*.jsonl")):
            yield from read_nemo(source)
            return
        raise ManifestError(f"{source.path}: neither train/wav.scp and test/wav.scp nor train.jsonl; check the path")
    scores = _scores(source.path / "scores.json")
    for split in splits:
        if source.wants(split):
            for item in read_directory(source, source.path / split):
                told = scores.get(item.id, {}) if isinstance(item, ManifestRow) else {}
                yield split, replace(item, fields={**item.fields, **told}) if isinstance(item, ManifestRow) else item


def _scores(path: Path) -> dict[str, dict[str, Any]]:
    """Scores of the sentence by utterance; the corpus has five thousand."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: {score: row[score] for score in SCORES if score in row} for name, row in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: cannot be read ({error}); get it again, or remove it") from error
