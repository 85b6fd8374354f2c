"""pyctcdecode as an engine, and as the judge of our own search."""

from __future__ import annotations

import gzip
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdcompress_runtime import DecoderOptions, MissingDependencyError, OptionsError, Recognizer, build_decoder
from kdcompress_runtime.decoders.alignment import align
from kdcompress_runtime.decoders.fusion import Fusion
from kdcompress_runtime.lm import open_lm
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
    ours = decode("beam", SUBWORDS, log_probs)
    assert (found.token_ids, found.frames, found.ends) == (ours.token_ids, ours.frames, ours.ends)
    assert found.token_log_probs == ours.token_log_probs


ARPA = Path(__file__).parents[1] / "golden" / "lm" / "words-3.arpa.gz"
"""Of lmplz, on a small text."""


@pytest.fixture(scope="module")
def lm():
    return open_lm(ARPA)


def spoken(vocabulary, lm, seed, *, noise, unknown=False):
    """Posteriors of some words of the model, and of one that it does not know where asked."""
    random = np.random.default_rng(seed)
    words = [word for word in lm.words[3:] if word.isalpha() and word.islower()]
    chosen = [words[index] for index in random.integers(0, len(words), 7)]
    chosen[int(random.integers(7))] = "zoq" if unknown else "the"
    spelt, tokens = "▁" + "▁".join(chosen), []
    while spelt:
        fitting = [s for s in vocabulary.symbols if spelt.startswith(s)]
        tokens.append(vocabulary.symbols.index(max(fitting, key=len)))
        spelt = spelt[len(vocabulary.symbols[tokens[-1]]) :]
    labels = []
    for token in tokens[0 if len(vocabulary) > len(LETTERS) else 1 :]:
        labels += [token] * random.integers(1, 3) + [0] * random.integers(1, 4)
    scores = random.normal(0, noise, (len(labels), len(vocabulary)))
    scores[np.arange(len(labels)), labels] += 6
    return (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)


PIECES = Vocabulary.from_symbols([*LETTERS.symbols[1:], "▁t", "▁a", "he", "er", "in", "an", "▁s", "on"])


def judged(vocabulary, lm, seeds, *, hotwords, noise, unknown):
    """Gain of our score over theirs, and whether the texts are equal; by the exact score, from the same weights."""
    options = {"beam_width": 32, "alpha": 0.7, "beta": 1.2}
    judge = Fusion.build(DecoderOptions(**options), vocabulary, lm=lm)
    judge = judge.with_hotwords(hotwords) if hotwords else judge
    gains, same = [], []
    for seed in seeds:
        log_probs = spoken(vocabulary, lm, seed, noise=noise, unknown=unknown)
        found = []
        for kind in ("beam", "pyctcdecode"):
            decoder = build_decoder(DecoderOptions(kind, **options), vocabulary, lm=lm).with_hotwords(hotwords)
            found.append(decoder.best(decoder.advance(decoder.init_state(), log_probs)))
        ours, theirs = (sum(judge.score(one.token_ids)) + align(log_probs, one.token_ids, 0)[0] for one in found)
        assert found[1].score == pytest.approx(theirs, abs=1e-6)
        gains.append(ours - theirs)
        same.append(vocabulary.text(found[0].token_ids) == vocabulary.text(found[1].token_ids))
    return gains, same


@pytest.mark.parametrize("vocabulary", [LETTERS, PIECES], ids=["letters", "subwords"])
@pytest.mark.parametrize("hotwords", [{}, {"cat": 0.8, "the dog": 0.5}], ids=["no-hotwords", "hotwords"])
def test_with_a_language_model_our_text_is_theirs_or_scores_higher(lm, vocabulary, hotwords):
    gains, same = judged(vocabulary, lm, range(6), hotwords=hotwords, noise=1.4, unknown=False)
    assert all(equal or gain > 0 for gain, equal in zip(gains, same, strict=True))
    assert sum(same) >= 4


@pytest.mark.parametrize("vocabulary", [LETTERS, PIECES], ids=["letters", "subwords"])
def test_with_a_word_that_the_model_does_not_know_we_score_higher_on_average(lm, vocabulary):
    """There both searches err, each in its way: the library asks for the price of an unknown word when it is over."""
    gains, _ = judged(vocabulary, lm, range(6), hotwords={}, noise=1.0, unknown=True)
    assert np.mean(gains) > 1.0


def test_our_weights_mean_what_the_library_means_by_them(lm, tmp_path):
    """Its own language model on kenlm, and the same ARPA file: equal scores of equal texts."""
    kenlm = pytest.importorskip("kenlm")
    library = pytest.importorskip("pyctcdecode")
    path = tmp_path / "words.arpa"
    path.write_bytes(gzip.decompress(ARPA.read_bytes()))
    labels = ["", " ", *LETTERS.symbols[2:]]
    log_probs = spoken(LETTERS, lm, 3, noise=1.4, unknown=True)
    for alpha, beta, offset, boundary in ((0.5, 1.5, -10.0, True), (1.1, -0.4, -2.0, True), (0.7, 0.3, 0.0, False)):
        model = library.LanguageModel(kenlm.Model(str(path)), lm.words[3:], alpha, beta, offset, boundary)
        engine = library.BeamSearchDecoderCTC(library.Alphabet(labels, False), model)
        options = DecoderOptions(alpha=alpha, beta=beta, unk_score=offset * np.log(10.0), score_boundary=boundary)
        ours = Fusion.build(options, LETTERS, lm=lm)
        for text, _, _, acoustic, combined in engine.decode_beams(log_probs, beam_width=16)[:8]:
            ids = [labels.index(letter) for letter in text]
            assert ours.score(ids) == pytest.approx((combined - acoustic, 0.0), abs=1e-3)
        engine.cleanup()


def test_the_library_keeps_no_model_alive(lm):
    library = pytest.importorskip("pyctcdecode")
    before = len(library.BeamSearchDecoderCTC.model_container)
    decoder = build_decoder(DecoderOptions("pyctcdecode"), LETTERS, lm=lm)
    assert len(library.BeamSearchDecoderCTC.model_container) == before + 1
    del decoder
    assert len(library.BeamSearchDecoderCTC.model_container) == before


def test_it_gives_a_hotword_what_our_search_gives_it():
    plain = build_decoder(DecoderOptions("pyctcdecode"), LETTERS)
    log_probs = np.full((9, len(LETTERS)), -9.0, np.float32)
    log_probs[np.arange(9), [LETTERS.symbols.index(s) for s in ["b", "<blk>", *"arty", "▁", "s", "o"]]] = -0.01
    log_probs[0, LETTERS.symbols.index("p")] = -2.0
    for hotwords, text in (({}, "barty so"), ({"party so": 0.5}, "party so"), ({"arty": 3.0}, "barty so")):
        decoder = plain.with_hotwords(hotwords)
        found = decoder.best(decoder.advance(decoder.init_state(), log_probs))
        assert LETTERS.text(found.token_ids) == text
        assert found.hotword_score == (4.0 if "party so" in hotwords else 0.0)


def test_what_the_library_has_not_is_refused(lm, table_lm):
    options = DecoderOptions("pyctcdecode")
    for more, words in (({"lexicon": ["ab"]}, "lexicon"), ({"lm": table_lm(("a",), unit="token")}, "over tokens")):
        with pytest.raises(OptionsError, match=words):
            build_decoder(options, LETTERS, **more)
    odd = Vocabulary.from_symbols(["a▁", "b", "the▁"])
    assert build_decoder(options, odd).stable_count(None) == 0
    with pytest.raises(OptionsError, match="inside of tokens"):
        build_decoder(options, odd, lm=table_lm(("a", "b")))


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
