"""The decoder of a bundle: written, read back and checked as everything there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from kdcompress_runtime import Bundle, BundleError, DecoderOptions
from kdcompress_runtime.bundle import BundleMetadata, sha256
from kdcompress_runtime.confidence import Calibration
from kdcompress_runtime.decoder_settings import LEXICON_FILE, LM_FILE, DecoderSettings

TUNED = DecoderSettings("beam", {"beam_width": 8, "blank_penalty": 0.5}, confidence=Calibration((0.1, 0.9), (0.2, 0.7)))


@pytest.fixture
def bundle(bundle_path, tmp_path):
    """Write a bundle with a tuned decoder and files for it."""

    def write(settings, **files):
        folder = shutil.copytree(bundle_path, tmp_path / "bundle")
        metadata = Bundle.open(folder).metadata
        hashes = metadata.files | {name: sha256(content) for name, content in files.items()}
        metadata = replace(metadata, decoder=settings.to_json(), files=hashes)
        (folder / "bundle.json").write_text(metadata.dumps(), encoding="utf-8")
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return Bundle.open(folder)

    return write


def test_settings_survive_json_and_the_bundle(bundle):
    assert DecoderSettings.from_json(json.loads(json.dumps(TUNED.to_json()))) == TUNED
    metadata = bundle(TUNED).metadata
    assert metadata.decoder_settings == TUNED
    assert BundleMetadata.loads(metadata.dumps()) == metadata


def test_nothing_said_is_none():
    assert DecoderSettings.from_json({}) is None


def test_options_become_those_of_the_decoder():
    expected = DecoderOptions(kind="beam", beam_width=8, blank_penalty=0.5)
    assert TUNED.decoder_options() == expected
    assert DecoderSettings().decoder_options() == DecoderOptions()


def test_files_of_the_decoder_count_in_the_size(bundle):
    settings = replace(TUNED, lm=LM_FILE, lexicon=LEXICON_FILE)
    found = bundle(settings, **{LM_FILE: b"x" * 1000, LEXICON_FILE: "añb\nc\n".encode()})
    assert found.size() == sum(file.stat().st_size for file in found.path.iterdir())
    assert settings.read_lexicon(found) == {"añb", "c"}
    assert TUNED.read_lexicon(found) is None


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff"])
def test_a_lexicon_that_is_none_is_refused(bundle, content):
    settings = replace(TUNED, lexicon=LEXICON_FILE)
    with pytest.raises(BundleError, match=r"lexicon\.txt"):
        settings.read_lexicon(bundle(settings, **{LEXICON_FILE: content}))
