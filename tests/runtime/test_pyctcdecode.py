"""pyctcdecode as an engine, and as the judge of our own search."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest

from kdcompress_runtime import DecoderOptions, MissingDependencyError, Recognizer, build_decoder
from kdcompress_runtime.decoders.alignment import align
from kdcompress_runtime.vocabulary import Vocabulary

pytest.importorskip("pyctcdecode")

LETTERS = Vocabulary.from_symbols(["▁", "'", *"abcdefghijklmnopqrstuvwxyz"])
SUBWORDS = Vocabulary.from_symbols(["▁", "▁one", "▁two", "th", "ree", "▁f", "our", "ive", "o", "e"])


def utterance(vocabulary, seed, *, noise):
    """Posteriors as a trained model gives them: sharp peaks on a background of blank, some of them wrong."""
    random = np.random.default_rng(seed)
    classes = len(vocabulary)
    tokens = random.integers(1, classes, 25)
    labels = []
    for token in tokens:
        labels += [token] * random.integers(1, 3) + [0] * random.integers(1, 5)
    scores = random.normal(0, noise, (len(labels), classes))
    scores[np.arange(len(labels)), labels] += 6
    scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
    return scores.astype(np.float32)


def decode(kind, vocabulary, log_probs, width=32):
    decoder = build_decoder(DecoderOptions(kind, beam_width=width), vocabulary)
    return decoder.best(decoder.advance(decoder.init_state(), log_probs))


@pytest.mark.parametrize("vocabulary", [LETTERS, SUBWORDS], ids=["letters", "subwords"])
def test_on_clear_speech_our_text_is_theirs(vocabulary):
    for seed in range(12):
        log_probs = utterance(vocabulary, seed, noise=1.0)
        ours, theirs = (decode(kind, vocabulary, log_probs) for kind in ("beam", "pyctcdecode"))
        assert vocabulary.text(ours.token_ids) == vocabulary.text(theirs.token_ids)


@pytest.mark.parametrize("vocabulary", [LETTERS, SUBWORDS], ids=["letters", "subwords"])
@pytest.mark.parametrize("noise", [1.8, 2.6])
def test_on_unclear_speech_our_text_is_theirs_or_as_probable(vocabulary, noise):
    """By the exact score: never 0.05 nats below theirs, and above on average.

    Both engines rank by the alignments that survived pruning, so near ties may fall either way.
    """
    gains = []
    for seed in range(12):
        log_probs = utterance(vocabulary, seed, noise=noise)
        ours, theirs = (decode(kind, vocabulary, log_probs) for kind in ("beam", "pyctcdecode"))
        gains.append(align(log_probs, ours.token_ids, 0)[0] - align(log_probs, theirs.token_ids, 0)[0])
    assert min(gains) > -0.05
    assert np.mean(gains) > 0


def test_its_tokens_times_and_score_are_those_of_the_exact_alignment():
    log_probs = utterance(SUBWORDS, 5, noise=0.5)
    found = decode("pyctcdecode", SUBWORDS, log_probs)
    assert len(found.token_ids) > 15
    assert (found.log_prob, found.frames) == align(log_probs, found.token_ids, 0)
    assert list(found.frames) == sorted(set(found.frames))


def test_it_streams_with_the_same_result(bundle_path, audio):
    recognizer = Recognizer.from_dir(bundle_path, decoder=DecoderOptions("pyctcdecode"))
    stream = recognizer.create_stream()
    for part in np.array_split(audio, 13):
        stream.accept_waveform(part, 8000)
    assert stream.partial_result().tokens
    stream.input_finished()
    whole = recognizer.recognize(audio, 8000)
    assert stream.result().text == whole.text
    assert stream.result().timestamps == whole.timestamps


def test_nbest_holds_no_hypothesis_twice():
    decoder = build_decoder(DecoderOptions("pyctcdecode"), LETTERS)
    state = decoder.advance(decoder.init_state(), utterance(LETTERS, 3, noise=2.0))
    found = decoder.nbest(state, 6)
    assert len({h.token_ids for h in found}) == len(found) > 1
    assert found[0] == decoder.best(state)


def test_it_is_silent_and_leaves_logging_as_it_was():
    script = (
        "from kdcompress_runtime import *\n"
        "build_decoder(DecoderOptions('pyctcdecode'), Vocabulary.from_symbols('ab'))\n"
        "import logging; print(logging.getLogger('pyctcdecode').level)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() == str(logging.NOTSET)


def test_without_the_package_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyctcdecode", None)
    with pytest.raises(MissingDependencyError, match=r"kdcompress\[pyctcdecode\]"):
        build_decoder(DecoderOptions("pyctcdecode"), LETTERS)
