"""One command for all corpora."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdcompress.data.corpora.adapters import CORPORA
from kdcompress.data.corpora.base import Source
from kdcompress.data.corpora.writing import PrepareOptions, prepare_corpus
from tests.core.corpora import trees

SOURCE_FIELDS = ("without_texts", "audio_root", "speaker_folders", "splits")


@pytest.fixture
def tree(tmp_path):
    """``tree("kaldi")``: a tiny corpus of that kind."""
    return lambda kind: getattr(trees, kind)(tmp_path / kind)


@pytest.fixture
def prepare(tmp_path):
    """``prepare("kaldi", source, text="lower")``: prepare it into ``tmp_path / "out"``."""

    def run(kind, source, output=None, **settings):
        fields = {name: settings.pop(name) for name in SOURCE_FIELDS if name in settings}
        adapter = kind if callable(kind) else CORPORA[kind]
        name = "made up" if callable(kind) else kind
        where = Source(Path(source), **fields)
        return prepare_corpus(name, adapter, where, output or tmp_path / "out", options=PrepareOptions(**settings))

    return run


@pytest.fixture
def rows():
    """``rows(made, "train")``: the lines of a manifest."""
    return lambda made, split: [json.loads(line) for line in made.manifests[split].read_text("utf-8").splitlines()]
