"""Which decoder a recogniser takes: the bundle's own, the caller's, with whose language model, lexicon and hotwords."""

from __future__ import annotations

import hashlib
import json

import pytest

from kdcompress_runtime import DecoderOptions, OptionsError, Recognizer
from kdcompress_runtime.lm import open_lm
from kdcompress_runtime.lm.packed import dumps

ARPA = """\\data\\
ngram 1=7
ngram 2=2

\\1-grams:
-99 <s> -0.3
-1.0 </s>
-1.5 <unk>
-0.5 abc -0.3
-2.5 b -0.3
-1.0 cab
-1.2 fed

\\2-grams:
-0.1 abc cab
-0.2 <s> abc

\\end\\
"""
LEXICON = ["abc", "cab", "fed", "b", "a"]


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "words.arpa"
    path.write_text(ARPA)
    return path


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, bundle_writer, arpa):
    """A bundle with a beam, a language model, a lexicon and a calibration of its own."""
    path = bundle_writer(tmp_path_factory.mktemp("tuned"))
    row = json.loads((path / "bundle.json").read_text())
    files = {"lm.kdlm": dumps(open_lm(arpa)), "lexicon.txt": "\n".join(LEXICON).encode()}
    for name, content in files.items():
        (path / name).write_bytes(content)
        row["files"][name] = hashlib.sha256(content).hexdigest()
    row["format_version"] = 3
    row["decoder"] = {
        "kind": "beam",
        "beam_width": 8,
        "alpha": 0.7,
        "beta": 0.5,
        "lm": "lm.kdlm",
        "lexicon": "lexicon.txt",
        "confidence": {"raw": [0.1, 0.9], "calibrated": [0.25, 0.25]},
    }
    (path / "bundle.json").write_text(json.dumps(row))
    return path


OPTIONS = DecoderOptions("beam", beam_width=8, alpha=0.7, beta=0.5)


def same(one, other):
    assert one.tokens == other.tokens
    assert one.timestamps == other.timestamps
    assert one.score == pytest.approx(other.score, abs=1e-6)


def test_the_bundles_own_decoder_is_taken_with_all_its_files(tuned, bundle_path, arpa, audio):
    found = Recognizer.from_dir(tuned).recognize(audio, 8000)
    same(found, Recognizer.from_dir(bundle_path, decoder=OPTIONS, lm=arpa, lexicon=LEXICON).recognize(audio, 8000))
    assert found.score != found.log_prob
    assert set(found.text.split()) <= set(LEXICON)
    assert {word.confidence for word in found.words} == {0.25}


def test_the_callers_decoder_wins_and_leaves_the_bundles_files_alone(tuned, bundle_path, audio):
    greedy = DecoderOptions()
    found = Recognizer.from_dir(tuned, decoder=greedy).recognize(audio, 8000)
    same(found, Recognizer.from_dir(bundle_path).recognize(audio, 8000))
    assert not set(found.text.split()) <= set(LEXICON)


def test_the_callers_model_and_lexicon_stand_in_for_the_bundles(tuned, bundle_path, arpa, audio):
    model = open_lm(arpa)
    words = [*LEXICON, "deaf"]
    found = Recognizer.from_dir(tuned, lm=model, lexicon=words).recognize(audio, 8000)
    same(found, Recognizer.from_dir(bundle_path, decoder=OPTIONS, lm=model, lexicon=words).recognize(audio, 8000))


def test_language_models_are_files_or_open_ones(bundle_path, arpa, audio):
    by_path, by_text, by_model = (
        Recognizer.from_dir(bundle_path, decoder=OPTIONS, lm=lm) for lm in (arpa, str(arpa), open_lm(arpa))
    )
    expected = by_model.recognize(audio, 8000)
    assert by_path.recognize(audio, 8000) == by_text.recognize(audio, 8000) == expected
    assert expected.score != Recognizer.from_dir(bundle_path, decoder=OPTIONS).recognize(audio, 8000).score


def test_hotwords_belong_to_one_stream(bundle_path, audio):
    recognizer = Recognizer.from_dir(bundle_path, decoder=DecoderOptions("beam", beam_width=8))
    plain, boosted = recognizer.create_stream(), recognizer.create_stream(hotwords={"fed": 20.0})
    for stream in (plain, boosted):
        stream.accept_waveform(audio, 8000, decode=False)
        stream.input_finished(decode=False)
    recognizer.decode_streams([plain, boosted])
    assert "fed" in boosted.result().text.split()
    assert "fed" not in plain.result().text.split()
    whole = recognizer.recognize(audio, 8000, hotwords={"fed": 20.0})
    assert (whole.tokens, whole.timestamps) == (boosted.result().tokens, boosted.result().timestamps)
    boosted.reset()
    boosted.accept_waveform(audio, 8000)
    assert "fed" in boosted.flush().text.split()  # after a reset, too
    assert recognizer.create_stream(hotwords={})._decoder is recognizer._decoder
    with pytest.raises(OptionsError):
        recognizer.create_stream(hotwords={"fed": float("nan")})


def test_greedy_takes_none_of_them(bundle_path, arpa, audio):
    recognizer = Recognizer.from_dir(bundle_path)
    for make in (
        lambda: recognizer.create_stream(hotwords={"abc": 1.0}),
        lambda: recognizer.recognize(audio, 8000, hotwords={"abc": 1.0}),
        lambda: Recognizer.from_dir(bundle_path, lexicon=LEXICON),
        lambda: Recognizer.from_dir(bundle_path, lm=arpa),
    ):
        with pytest.raises(OptionsError, match="beam"):
            make()
    with pytest.raises(OptionsError, match="collection of words"):
        Recognizer.from_dir(bundle_path, decoder=OPTIONS, lexicon="abc")


def test_the_best_texts_differ_and_come_in_order(bundle_path, audio):
    recognizer = Recognizer.from_dir(bundle_path, decoder=DecoderOptions("beam", beam_width=64, beam_prune_logp=-30.0))
    stream = recognizer.create_stream()
    stream.accept_waveform(audio, 8000)
    stream.input_finished()
    found = stream.nbest(12)
    assert len({one.text for one in found}) == len(found) == 12
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert found[0] == stream.result()
    assert stream.nbest(3) == found[:3]
    assert stream.nbest(0) == ()
    assert len(stream.nbest(10_000)) > 12
