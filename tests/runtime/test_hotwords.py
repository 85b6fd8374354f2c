"""Hotwords: the automaton against counting in text, and what they do to a search. Both cores, where there are two."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_runtime import OptionsError
from kdcompress_runtime.decoders.hotwords import HotwordTable
from kdcompress_runtime.decoders.spelling import Spelling
from kdcompress_runtime.vocabulary import Vocabulary

LETTERS = Vocabulary.from_symbols(["▁", *"abcdefghijklmnopqrstuvwxyz"])
SPELLING = Spelling.of(LETTERS)


def score(hotwords, text, spelling=SPELLING):
    """Nats of a complete text, a separator where it has a blank or ``▁``; and those lent on the way."""
    table = HotwordTable.build(spelling, hotwords)
    state, total, lent = table.start, 0.0, []
    for letter in text.replace(" ", "▁"):
        total += table.gain[state, spelling.ids[letter]]
        state = table.next[state, spelling.ids[letter]]
        lent.append(total)
    return total + table.end_gain[state], lent


PHRASES = st.text("ab ", min_size=1, max_size=7).filter(str.strip).map(lambda text: " ".join(text.split()))
WEIGHTS = st.floats(-3, 3).map(lambda weight: round(weight, 4))


@settings(max_examples=300, deadline=None)
@given(hotwords=st.dictionaries(PHRASES, WEIGHTS, max_size=6), text=st.text("ab▁", max_size=25))
def test_a_complete_text_has_the_nats_of_all_phrases_in_it(hotwords, text):
    plain = " ".join(text.replace("▁", " ").split())
    expected = sum(
        len(re.findall(f"(?= {phrase} )", f" {plain} ")) * weight * len(phrase) for phrase, weight in hotwords.items()
    )
    total, _ = score(hotwords, text)
    assert total == pytest.approx(expected, abs=1e-4)
    if not any(f" {phrase} " in f" {plain} " for phrase in hotwords):
        assert total == 0.0


def test_nats_are_lent_letter_by_letter_and_taken_back_where_the_match_breaks():
    assert score({"abc": 0.7}, "abd")[1] == pytest.approx([0.7, 1.4, 0.0], abs=1e-5)
    assert score({"abc": 0.7}, "abc")[1] == pytest.approx([0.7, 1.4, 2.1], abs=1e-5)
    assert score({"abc": 0.7}, "abc")[0] == pytest.approx(2.1, abs=1e-5)
    assert score({"abc": 0.7}, "abcd")[1][-1] == 0.0
    assert score({"abc": 0.7}, "ab")[0] == 0.0
    assert score({"abc": 0.7}, "xab abc")[1] == pytest.approx([0, 0, 0, 0, 0.7, 1.4, 2.1], abs=1e-5)


def test_art_gives_nothing_to_party():
    for text in ("party", "arty", "part", "tart"):
        assert score({"art": 2.0}, text)[0] == 0.0
    assert score({"art": 2.0}, "tart art")[0] == 6.0


def test_phrases_that_overlap_both_count():
    hotwords = {"new york": 1.0, "york city": 0.5}
    assert score(hotwords, "new york city")[0] == 8.0 + 4.5
    assert score(hotwords, "new york")[0] == 8.0
    assert score(hotwords, "new▁▁york▁")[0] == 8.0
    assert score(hotwords, "york city")[0] == 4.5
    assert score(hotwords, "new yorkcity")[0] == 0.0
    assert score({"a a": 1.0}, "a a a")[0] == 6.0


def test_the_greater_of_what_could_be_meant_is_lent():
    assert score({"abc": 1.0, "abd": 2.0}, "ab")[1] == [2.0, 4.0]
    assert score({"abc": 1.0, "abd": 2.0}, "abc")[1] == [2.0, 4.0, 3.0]


def test_letters_are_taken_in_the_case_that_the_vocabulary_has():
    assert score({"New YORK": 1.0}, "new york")[0] == 8.0
    capitals = Spelling.of(Vocabulary.from_symbols(["▁", *"ABKNORWYE"]))
    assert score({"new york": 1.0}, "NEW YORK", capitals)[0] == 8.0
    both = Spelling.of(Vocabulary.from_symbols(["▁", *"Aab"]))
    assert score({"ab": 1.0}, "Ab", both)[0] == 0.0


def test_without_separators_phrases_count_wherever_they_stand():
    spelling = Spelling.of(Vocabulary.from_symbols("东京都"))
    assert score({"京都": 1.5}, "东京都", spelling)[0] == 3.0
    assert score({"京 都": 1.5}, "东京都", spelling)[0] == 3.0
    assert score({"京都": 1.5}, "东京", spelling)[0] == 0.0


@pytest.mark.parametrize(
    ("hotwords", "words"),
    [
        ({"": 1.0}, "empty"),
        ({" ▁ ": 1.0}, "empty"),
        ({"a1b": 1.0}, "'a1b' cannot be spelt: the vocabulary lacks '1'"),
        ({"ab": math.nan}, "weight of the hotword 'ab'"),
        ({"ab": math.inf}, "weight of the hotword 'ab'"),
        ({"ab": "much"}, "weight of the hotword 'ab'"),
        ({"ab": True}, "weight of the hotword 'ab'"),
        ({3: 1.0}, "is a text"),
    ],
)
def test_what_cannot_be_boosted_is_said(build_beam, hotwords, words):
    with pytest.raises(OptionsError, match=words):
        build_beam(LETTERS, hotwords=hotwords)


SUBWORDS = Vocabulary.from_symbols(["▁", "▁he", "▁h", "l", "lo", "e", "▁y"])


def clear(vocabulary, tokens, confused=()):
    """Frames that spell tokens with a blank between; ``confused``: (token, another, probability of the other)."""
    log_probs = np.full((2 * len(tokens), len(vocabulary)), 1e-4, np.float32)
    ids = [vocabulary.symbols.index(token) for token in tokens]
    log_probs[np.arange(0, 2 * len(ids), 2), ids] = 0.99
    log_probs[1::2, vocabulary.blank_id] = 0.99
    for token, other, probability in confused:
        for row in np.flatnonzero(np.array(ids) == vocabulary.symbols.index(token)).tolist():
            log_probs[2 * row, vocabulary.symbols.index(token)] = 1 - probability
            log_probs[2 * row, vocabulary.symbols.index(other)] = probability
    return np.log(log_probs)


def texts(decoder, vocabulary, log_probs, count=1):
    state = decoder.advance(decoder.init_state(), log_probs)
    return [vocabulary.text(one.token_ids) for one in decoder.nbest(state, count)]


def test_a_hotword_is_heard_where_the_sound_leaves_it_open(build_beam):
    log_probs = clear(LETTERS, "barty", [("b", "p", 0.2)])
    assert texts(build_beam(LETTERS), LETTERS, log_probs) == ["barty"]
    plain = build_beam(LETTERS)
    boosted = plain.with_hotwords({"party": 0.5})
    assert texts(boosted, LETTERS, log_probs) == ["party"]
    assert texts(plain, LETTERS, log_probs) == ["barty"]  # per stream: the other one is as it was
    assert texts(plain.with_hotwords({"art": 5.0}), LETTERS, log_probs) == ["barty"]
    assert plain.with_hotwords({}) is plain


def test_hypotheses_without_the_hotword_have_exactly_nothing_of_it(posteriors, build_beam):
    hotwords = {"abc": 0.37, "a b": 0.11, "cab a": 0.9}
    vocabulary = Vocabulary.from_symbols(["▁", *"abc"])
    decoder = build_beam(vocabulary, hotwords=hotwords, beam_width=50)
    nothing = something = 0
    for seed in range(15):
        state = decoder.advance(decoder.init_state(), posteriors(seed, 12, 5, 2.0))
        for one in decoder.nbest(state, 50):
            text = f" {vocabulary.text(one.token_ids)} "
            if any(f" {phrase} " in text for phrase in hotwords):
                something += 1
                assert one.hotword_score > 0
            else:
                nothing += 1
                assert one.hotword_score == 0.0
                assert one.score == one.log_prob
    assert nothing > 50
    assert something > 20


def test_subwords_spell_hotwords_however_they_are_cut(build_beam):
    decoder = build_beam(SUBWORDS, hotwords={"hello": 1.0}, beam_width=200, token_min_logp=-math.inf)
    for tokens in (["▁he", "l", "lo"], ["▁", "▁h", "e", "l", "lo", "▁"], ["▁h", "e", "l", "lo", "▁y"]):
        found = decoder.best(decoder.advance(decoder.init_state(), clear(SUBWORDS, tokens)))
        assert [SUBWORDS.symbols[token] for token in found.token_ids] == tokens
        assert found.hotword_score == 5.0
    unfinished = decoder.best(decoder.advance(decoder.init_state(), clear(SUBWORDS, ["▁he", "l"])))
    assert unfinished.hotword_score == 0.0


def test_a_partial_result_counts_what_is_lent(build_beam):
    decoder = build_beam(LETTERS, hotwords={"party": 0.5})
    state = decoder.advance(decoder.init_state(), clear(LETTERS, "par"))
    assert decoder.best(state, final=False).hotword_score == 1.5
    assert decoder.best(state).hotword_score == 0.0


def test_hundreds_of_hotwords_that_are_not_there_change_no_text(posteriors, build_beam):
    random = np.random.default_rng(0)
    letters = list("qxzjv")
    hotwords = {"".join(random.choice(letters, 8)): 0.5 for _ in range(300)}
    plain = build_beam(LETTERS)
    boosted = plain.with_hotwords(hotwords)
    words = ["the", "cat", "sat", "on", "her", "mat"]
    log_probs = clear(LETTERS, "▁".join(words))
    assert texts(plain, LETTERS, log_probs) == texts(boosted, LETTERS, log_probs) == [" ".join(words)]


def test_who_asks_for_a_word_pays_nothing_for_it_being_unknown(build_beam, table_lm):
    lm = table_lm(("ab", "ba"))
    decoder = build_beam(LETTERS, lm=lm, hotwords={"zab": 1.0}, alpha=0.5, beta=0.0, unk_score=-20.0)
    without = build_beam(LETTERS, lm=lm, alpha=0.5, beta=0.0, unk_score=-20.0, beam_prune_logp=-math.inf)
    frames = np.full((6, len(LETTERS)), -9.0, dtype=np.float32)
    for frame, letter in enumerate(["z", "a", "b"]):
        frames[2 * frame, LETTERS.symbols.index(letter)] = -0.01
        frames[2 * frame + 1, LETTERS.blank_id] = -0.01
    with_it = decoder.best(decoder.advance(decoder.init_state(), frames))
    assert LETTERS.text(with_it.token_ids) == "zab"
    assert with_it.hotword_score == pytest.approx(3 * 1.0 + 0.5 * 20.0, abs=1e-4)
    known = build_beam(LETTERS, lm=lm, hotwords={"ab": 1.0}, alpha=0.5, beta=0.0, unk_score=-20.0)
    frames[:2] = frames[5]
    heard = known.best(known.advance(known.init_state(), frames))
    assert (LETTERS.text(heard.token_ids), heard.hotword_score) == ("ab", pytest.approx(2.0, abs=1e-4))
    assert LETTERS.text(without.best(without.advance(without.init_state(), frames)).token_ids) == "ab"


def test_a_hotword_that_the_lexicon_forbids_is_said(build_beam):
    with pytest.raises(OptionsError, match="'zab' is not among the words of the lexicon"):
        build_beam(LETTERS, lexicon={"ab", "ba"}, hotwords={"zab": 1.0})
    build_beam(LETTERS, lexicon={"ab", "ba"}, hotwords={"ab ba": 1.0})
