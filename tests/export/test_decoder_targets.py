"""Targets: the tuned decoder goes along, with its files, to runtimes that can follow it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.targets import mobile, web
from kdcompress_runtime import Bundle
from kdcompress_runtime.bundle import sha256
from kdcompress_runtime.decoder_settings import LEXICON_FILE, LM_FILE, DecoderSettings

FILES = {LM_FILE: b"a language model", LEXICON_FILE: b"one\ntwo\n"}
SETTINGS = DecoderSettings("beam", {"beam_width": 8}, lm=LM_FILE, lexicon=LEXICON_FILE)


@pytest.fixture(scope="module")
def tuned(bundle, tmp_path_factory):
    """The bundle with a tuned decoder."""
    folder = shutil.copytree(bundle, tmp_path_factory.mktemp("tuned") / "bundle")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    before = Bundle.open(folder).metadata
    hashes = before.files | {name: sha256(content) for name, content in FILES.items()}
    after = replace(before, decoder=SETTINGS.to_json(), files=hashes)
    (folder / "bundle.json").write_text(after.dumps(), encoding="utf-8")
    return Bundle.open(folder)


def test_a_phone_gets_decoder_and_files(tuned, tmp_path):
    write_bundle(tmp_path / "b", mobile.files(tuned))
    made = Bundle.open(tmp_path / "b")
    assert made.metadata.decoder_settings == SETTINGS
    assert {name: made.read(name) for name in FILES} == FILES


def test_a_browser_decodes_greedily_and_fetches_nothing_for_more(tuned, tmp_path):
    write_bundle(tmp_path / "b", web.files(tuned))
    made = Bundle.open(tmp_path / "b")
    assert made.metadata.decoder == {}
    assert not FILES.keys() & made.metadata.files.keys()
    assert not FILES.keys() & {file.name for file in (tmp_path / "b").iterdir()}
