"""Manifests of words become manifests of phones; nothing else of them changes."""

from __future__ import annotations

import json
import os

import pytest
import typer
from typer.testing import CliRunner

from kdcompress.commands.preparing_phones import register
from kdcompress.data.text import Encoder, word_vocabulary
from kdcompress.errors import VocabularyError
from kdcompress.units.phone_manifest import write_phone_manifest
from kdcompress.units.pronunciation import Pronouncer
from kdcompress_runtime.errors import ManifestError, OptionsError
from kdcompress_runtime.manifest import read_manifest

PRONOUNCER = Pronouncer({"cat": ("K", "AE", "T"), "the": ("DH", "AH"), "katze": ("k", "a")})
ROWS = (
    {"audio_filepath": "audio/1.wav", "text": "The cat.", "duration": 1.5, "speaker": "ann", "age": 6},
    {"audio_filepath": "/far/2.wav", "text": "", "utt_id": "two"},
    {"image_filepath": "3.png", "text": "CAT", "width": 30},
    {"source": "Die Katze", "target": "the cat"},
    {"audio_filepath": "s3://bucket/5.wav", "text": "cat cat", "id": "five"},
    {"audio_filepath": "all.tar:512:99", "text": "cat"},
)


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "in" / "train.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_references_become_phones_and_all_else_stays(manifest, tmp_path):
    output = tmp_path / "out" / "train.jsonl"
    report = write_phone_manifest(manifest, output, PRONOUNCER)
    before, after = list(read_manifest(manifest)), list(read_manifest(output))
    assert [entry.text for entry in after] == ["DH AH K AE T", "", "K AE T", "DH AH K AE T", "K AE T K AE T", "K AE T"]
    assert [row["words"] for row in rows_of(output)] == ["the cat", "", "cat", "the cat", "cat cat", "cat"]
    for old, new in zip(before, after, strict=True):
        kept = {key: value for key, value in new.extra.items() if key != "words"}
        assert (new.id, new.kind, new.duration, new.speaker) == (old.id, old.kind, old.duration, old.speaker)
        assert os.path.normpath(new.input) == os.path.normpath(old.input)
        assert kept == old.extra
    assert (report.items, report.words, report.missing, report.phones) == (6, 8, 0, 22)
    vocabulary = word_vocabulary(entry.text for entry in after)
    assert len(Encoder(vocabulary, "words")(after[0].text)) == 5


def test_beside_the_old_one_lines_keep_their_paths(manifest):
    output = manifest.with_name("phones.jsonl")
    write_phone_manifest(manifest, output, PRONOUNCER)
    changed = {"text", "target", "words"}
    for old, new in zip(ROWS, rows_of(output), strict=True):
        assert {k: v for k, v in new.items() if k not in changed} == {k: v for k, v in old.items() if k not in changed}


def test_other_letters_are_kept_when_asked(tmp_path):
    manifest = tmp_path / "a.jsonl"
    manifest.write_text(json.dumps({"source": "x", "text": "Kätze KATZE"}))
    said = Pronouncer({**PRONOUNCER.entries, "kätze": ("k", "E")})
    write_phone_manifest(manifest, tmp_path / "b.jsonl", said, "lower")
    assert rows_of(tmp_path / "b.jsonl") == [{"source": "x", "text": "k E k a", "words": "kätze katze"}]


def test_bad_input_is_refused_and_nothing_is_written(manifest, tmp_path):
    output = tmp_path / "new.jsonl"
    lacking = Pronouncer({"the": ("DH", "AH")})
    with pytest.raises(VocabularyError, match=r"train.jsonl: no pronunciation of 'cat' in the lexicon"):
        write_phone_manifest(manifest, output, lacking)
    with pytest.raises(OptionsError, match="is the manifest itself"):
        write_phone_manifest(manifest, manifest, PRONOUNCER)
    with pytest.raises(ManifestError, match="manifest not found"):
        write_phone_manifest(tmp_path / "none.jsonl", output, PRONOUNCER)
    for content, error, sentence in (
        ("\n", ManifestError, "manifest is empty"),
        ("{", ManifestError, "entry 1: not valid JSON"),
        ('{"source": "x", "text": "K AE T", "words": "cat"}', ManifestError, "entry 1: it has 'words' already"),
        ('{"source": "x", "text": "no. 81"}', VocabularyError, "entry 1 .x.: '8' in .* --text lower"),
    ):
        broken = tmp_path / "broken.jsonl"
        broken.write_text(content)
        with pytest.raises(error, match=sentence):
            write_phone_manifest(broken, output, PRONOUNCER)
    assert not output.exists()


@pytest.fixture
def app():
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return app


def test_the_command_says_what_was_guessed(app, manifest, tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("THE DH AH0\nAT AE1 T\nACT AE1 K T\nCAB K AE1 B\n")
    output, guesses = tmp_path / "new.jsonl", tmp_path / "guesses.txt"
    asked = ["phones", str(manifest), "-o", str(output), "--lexicon", str(lexicon)]
    done = CliRunner().invoke(app, [*asked, "--guesses", str(guesses)])
    assert done.exit_code == 0
    assert "6 items, 8 words" in done.output
    assert "6 words (75.0%), 1 different, all guessed" in done.output
    word, _, phones = guesses.read_text().rstrip("\n").partition("\t")
    assert word == "cat"
    assert rows_of(output)[0]["text"] == f"DH AH {phones}"
    done = CliRunner().invoke(app, [*asked, "--g2p", "none"])
    assert isinstance(done.exception, VocabularyError)
    assert "'cat'" in str(done.exception)
