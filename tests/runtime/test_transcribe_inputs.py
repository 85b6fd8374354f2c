"""``kdcompress transcribe`` of images and of sentences; bad input is one sentence, and the rest goes on."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from kdcompress.cli import main
from kdcompress_runtime import Recognizer
from tests.runtime.small_bundles import image_bundle, line, text_bundle


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Both bundles, images, sentences, and what is neither."""
    place = tmp_path_factory.mktemp("place")
    image_bundle(place / "lines")
    text_bundle(place / "pairs")
    Image.fromarray(line("ab c", width=16, height=16)).save(place / "one.png")
    Image.fromarray(line("fee")).save(place / "two.png")
    soundfile.write(place / "said.wav", np.zeros(800), 8000)
    (place / "page.txt").write_text("ab\nc d\n\nf\n", encoding="utf-8")
    (place / "good.txt").write_text("\ufeffab\r\nc d", encoding="utf-8")
    (place / "latin.txt").write_bytes("får\n".encode("latin-1"))
    (place / "none.txt").write_text("", encoding="utf-8")
    return place


@pytest.fixture
def there(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def said(place):
    """What the translator says: ``said(sentence)``."""
    translator = Recognizer.from_dir(place / "pairs")
    return lambda sentence: translator.recognize(sentence).text


def errors(capsys) -> list[str]:
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert all(one.startswith("error: ") for one in lines), shown.err
    return [one.removeprefix("error: ") for one in lines]


def test_images_are_read(there, capsys):
    assert main(["transcribe", "lines", "one.png"]) == 0
    assert capsys.readouterr().out == "ab c\n"
    assert main(["transcribe", "lines", "one.png", "two.png", "--words"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines()[0] == "one.png: ab c"
    assert shown.out.splitlines()[1].split()[:2] == ["0.00", "48.00"]
    assert shown.out.splitlines()[3] == "two.png: fee"


def test_images_as_json_and_with_rivals(there, capsys):
    assert main(["transcribe", "lines", "one.png", "two.png", "--json"]) == 0
    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert [(row["file"], row["text"]) for row in rows] == [("one.png", "ab c"), ("two.png", "fee")]
    assert rows[0]["timestamps"] == [0, 32, 64, 96]
    assert main(["transcribe", "lines", "two.png", "--beam-width", "8", "--nbest", "3"]) == 0
    texts = capsys.readouterr().out.splitlines()
    assert texts[0] == "fee"
    assert len(set(texts)) == 3


def test_recordings_are_still_heard(bundle_path, audio, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", audio, 8000, subtype="FLOAT")
    expected = Recognizer.from_dir(bundle_path).recognize(audio, 8000)
    assert main(["transcribe", str(bundle_path), str(tmp_path / "a.wav")]) == 0
    assert capsys.readouterr().out == f"{expected.text}\n"
    assert main(["transcribe", str(bundle_path), str(tmp_path / "a.wav"), "--stream"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == expected.text
    assert main(["transcribe", str(bundle_path), str(tmp_path / "a.wav"), "--beam-width", "9", "--nbest", "2"]) == 0
    assert len({*capsys.readouterr().out.splitlines()}) == 2


def test_sentences_are_translated(there, capsys, said, monkeypatch):
    assert main(["transcribe", "pairs", "c d"]) == 0
    assert capsys.readouterr().out == f"{said('c d')}\n"
    assert main(["transcribe", "pairs", "good.txt"]) == 0
    assert capsys.readouterr().out == f"{said('ab')}\n{said('c d')}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("ab\nf\n"))
    assert main(["transcribe", "pairs", "-", "--json"]) == 0
    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert [(row["source"], row["text"]) for row in rows] == [("ab", said("ab")), ("f", said("f"))]
    assert main(["transcribe", "pairs", "good.txt", "f"]) == 0
    expected = [f"good.txt, line 1: {said('ab')}", f"good.txt, line 2: {said('c d')}", f"f: {said('f')}"]
    assert capsys.readouterr().out.splitlines() == expected
    assert main(["transcribe", "pairs", "ab " * 200]) == 0  # longer than any name of a file


def test_hotwords(there, capsys, said):
    assert said("ab") == "e"
    assert main(["transcribe", "pairs", "ab", "--hotword", "f=9"]) == 0
    assert capsys.readouterr().out == "f\n"


def test_an_empty_line_is_named_and_the_others_go_on(there, capsys, said):
    assert main(["transcribe", "pairs", "page.txt"]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [said("ab"), said("c d"), said("f")]
    assert shown.err == "error: page.txt, line 3: the source is empty; leave it out\n"


@pytest.mark.parametrize(
    ("bundle", "argument", "words"),
    [
        ("lines", "none.png", "image file not found: none.png; check the path"),
        ("lines", "said.wav", "said.wav: cannot be read as an image"),
        ("lines", "pairs", "image file not found: pairs"),
        ("lines", "page.txt", "page.txt: cannot be read as an image (no kind that Pillow knows)"),
        ("pairs", "missing.txt", "text file not found: missing.txt; check the path"),
        ("pairs", "latin.txt", "latin.txt: must be UTF-8 text"),
        ("pairs", "none.txt", "none.txt: holds no sentence"),
        ("pairs", "said.wav", "said.wav: a file, but no .txt"),
        ("pairs", "", "the source is empty"),
        ("pairs", "a" * 20_000, "20000 characters are no sentence"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(there, capsys, bundle, argument, words):
    assert main(["transcribe", bundle, argument]) == 1
    (error,) = errors(capsys)
    assert words in error


@pytest.mark.parametrize(("bundle", "argument"), [("lines", "one.png"), ("pairs", "ab")])
@pytest.mark.parametrize("option", ["--stream", "--endpoint"])
def test_streams_are_for_audio(there, capsys, bundle, argument, option):
    assert main(["transcribe", bundle, argument, option]) == 1
    (error,) = errors(capsys)
    assert "only for audio, and this bundle takes" in error


def test_good_files_are_read_beside_bad_ones(there, capsys):
    assert main(["transcribe", "lines", "none.png", "one.png", "said.wav", "two.png"]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["one.png: ab c", "two.png: fee"]
    assert len(shown.err.splitlines()) == 2
