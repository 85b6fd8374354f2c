"""Results: words with times and confidence, whatever the kind of tokens; what is stable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from kdcompress_runtime.confidence import Calibration
from kdcompress_runtime.result import Result, Word, split_words
from kdcompress_runtime.vocabulary import Vocabulary

METADATA = SimpleNamespace(frame_shift_ms=40.0)


@dataclass(frozen=True)
class Found:
    """What a decoder answers."""

    token_ids: tuple[int, ...]
    frames: tuple[int, ...]
    log_prob: float = -1.0
    ends: tuple[int, ...] = ()
    token_log_probs: tuple[float, ...] = ()
    score: float = math.nan


def result(symbols, tokens, **options):
    """Spell out ``tokens``: symbol, first frame, end, log-probability."""
    vocabulary = Vocabulary.from_symbols(symbols)
    names, frames, ends, scores = zip(*tokens, strict=True) if tokens else ((), (), (), ())
    found = Found(tuple(map(vocabulary.symbols.index, names)), frames, ends=ends, token_log_probs=scores)
    return Result.of(found, vocabulary, METADATA, **options)


def half(value):
    return math.log(value)


def test_words_of_characters_leave_the_separators_frames_out():
    tokens = [("▁", 0, 2, -9.0), ("a", 5, 7, 0.0), ("b", 10, 11, half(0.25)), ("▁", 15, 20, -9.0), ("a", 25, 27, 0.0)]
    found = result(["▁", "a", "b"], tokens)
    assert found.text == "ab a"
    assert found.words == (Word("ab", 0.2, 0.44, pytest.approx(0.5)), Word("a", 1.0, 1.08, 1.0))
    assert found.timestamps == (0.0, 0.2, 0.4, 0.6, 1.0)
    assert found.token_ends == (0.08, 0.28, 0.44, 0.8, 1.08)
    assert found.token_confidences[2] == pytest.approx(0.25)


def test_words_of_subwords_and_of_phones_begin_with_the_token_that_marks_them():
    found = result(["▁he", "llo", "▁o"], [("▁he", 1, 2, 0.0), ("llo", 3, 5, 0.0), ("▁o", 6, 7, 0.0)])
    assert [(word.text, word.begin, word.end) for word in found.words] == [("hello", 0.04, 0.2), ("o", 0.24, 0.28)]
    phones = result(["▁AE", "▁T"], [("▁AE", 1, 2, 0.0), ("▁T", 3, 5, 0.0)])
    assert [word.text for word in phones.words] == ["AE", "T"] == phones.text.split()


def test_a_vocabulary_without_separators_gives_one_word():
    found = result(["a", "b"], [("a", 0, 1, 0.0), ("b", 2, 3, 0.0)])
    assert found.words == (Word("ab", 0.0, 0.12, 1.0),)


@pytest.mark.parametrize("tokens", [["▁a▁b", "c"], ["a▁", "b"], ["▁", "▁", "a", "▁"], ["▁"], [], ["x", "▁▁y▁"]])
def test_words_are_those_of_the_text(tokens):
    vocabulary = Vocabulary.from_symbols(list(dict.fromkeys(tokens)))
    text = vocabulary.text(map(vocabulary.symbols.index, tokens))
    assert " ".join(word for word, _ in split_words(tokens)) == text
    assert all(rows == sorted(set(rows)) for _, rows in split_words(tokens))


def test_a_token_with_a_separator_inside_belongs_to_both_words():
    assert split_words(["a▁b", "c"]) == [("a", [0]), ("bc", [0, 1])]


def test_a_decoder_without_ends_and_log_probs_gives_words_without_confidence():
    vocabulary = Vocabulary.from_symbols(["a", "▁b"])
    found = Result.of(Found((1, 2), (3, 6)), vocabulary, METADATA)
    assert found.words == (Word("a", 0.12, 0.16, None), Word("b", 0.24, 0.28, None))
    assert found.token_ends == found.token_confidences == ()


def test_calibration_and_offset_are_applied():
    calibration = Calibration((0.0, 1.0), (0.2, 0.6))
    found = result(["a"], [("a", 0, 1, half(0.5))], confidence=calibration, offset_frames=100)
    assert found.words == (Word("a", 4.0, 4.04, pytest.approx(0.4)),)
    assert found.timestamps == (4.0,)
    assert found.token_confidences == (pytest.approx(0.5),)


def test_score_is_the_log_prob_unless_given():
    vocabulary = Vocabulary.from_symbols(["a"])
    assert Result.of(Found((), (), -2.0), vocabulary, METADATA).score == -2.0
    assert Result.of(Found((), (), -2.0, score=-5.0), vocabulary, METADATA).score == -5.0
    assert Result("", (), (), 0.0) == Result("", (), (), 0.0, score=0.0)


@pytest.mark.parametrize(("stable", "text"), [(0, ""), (1, ""), (2, "a"), (3, "ab"), (4, "ab"), (5, "ab a")])
def test_stable_text_is_a_beginning_of_the_text(stable, text):
    tokens = [(token, frame, frame + 1, 0.0) for frame, token in enumerate("▁ab▁a")]
    found = result(["▁", "a", "b"], tokens, stable_tokens=stable)
    assert found.stable_text == text
    assert found.text.startswith(found.stable_text)
