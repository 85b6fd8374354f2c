"""The beam search with language models, lexicons and hotwords, against enumeration. Both cores, where there are two."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_runtime import BeamDecoder, DecoderOptions, OptionsError, build_decoder
from kdcompress_runtime.vocabulary import Vocabulary

EVERYTHING = {"beam_width": 100_000, "beam_prune_logp": -math.inf, "token_min_logp": -math.inf}
CHARACTERS = Vocabulary.from_symbols(["▁", "a", "b"])
SUBWORDS = Vocabulary(("▁a", "b", "<blk>", "▁ba"))
ODD = Vocabulary.from_symbols(["▁", "b▁a", "a▁"])
VOCABULARIES = st.sampled_from([CHARACTERS, SUBWORDS, ODD])
WORDS = ("a", "ab", "ba", "bab", "abba", "bb")
HOTWORDS = {"ab": 1.3, "ba a": 0.7, "a ba": 2.1, "b": -1.1}
SEEDS = st.integers(0, 10_000)


def weighted(vocabulary, tokens, *, lm, lexicon, hotwords, options):
    """Scores of a complete utterance from its text alone: (language model, hotwords, unfinished); None: forbidden."""
    spelt = "".join(vocabulary.symbols[token] for token in tokens)
    words = spelt.replace("▁", " ").split()
    unfinished = False
    if lexicon is not None:
        complete = words if spelt.endswith("▁") or not words else words[:-1]
        if any(word not in lexicon for word in complete):
            return None
        if len(complete) < len(words):
            if not any(word.startswith(words[-1]) for word in lexicon):
                return None
            unfinished = words[-1] not in lexicon
    hot = 0.0
    for phrase, weight in hotwords.items():
        found = re.findall(f"(?= {phrase} )", f" {' '.join(words)} ")
        hot += len(found) * weight * len(phrase)
        if lm is not None and lm.unit == "word" and weight > 0:  # whoever asks for a word knows it
            unknown = sum(word not in lm.words[3:] for word in phrase.split())
            hot -= len(found) * options.alpha * options.unk_score * unknown
    if lm is None:
        return 0.0, hot, unfinished
    if lm.unit == "token":
        words = [vocabulary.symbols[token] for token in tokens]
    score, context = 0.0, (lm.bos,) if options.score_boundary else ()
    for word in words:
        index = lm.words.index(word) if word in lm.words[3:] else 0
        if lexicon is not None and lm.unit == "word" and word not in lexicon:
            index = 0  # the word that is not finished
        score += options.alpha * (lm.score(context, index) + (0.0 if index else options.unk_score)) + options.beta
        context = (*context, index)
    if options.score_boundary:
        score += options.alpha * lm.score(context, lm.eos)
    return score, hot, unfinished


def enumerate_all(vocabulary, log_probs, options):
    """Every labelling: log-probability, and begins, ends and peaks of its best alignment."""
    blank, frames = vocabulary.blank_id, len(log_probs)
    raw = log_probs.astype(np.float64)
    table = raw.copy()
    table[:, blank] -= options.blank_penalty
    sums, best = {}, {}
    for path in itertools.product(range(len(vocabulary)), repeat=frames):
        score = float(sum(table[frame, label] for frame, label in enumerate(path)))
        runs, frame = [], 0
        for label, run in itertools.groupby(path):
            length = len(list(run))
            if label != blank:
                runs.append((label, frame, frame + length, raw[frame : frame + length, label].max()))
            frame += length
        tokens = tuple(run[0] for run in runs)
        sums[tokens] = np.logaddexp(sums.get(tokens, -np.inf), score)
        if score > best.get(tokens, (-np.inf,))[0]:
            best[tokens] = (score, *(tuple(run[column] for run in runs) for column in (1, 2, 3)))
    return {tokens: (float(sums[tokens]), *best[tokens][1:]) for tokens in sums}


def advance(decoder, parts):
    state = decoder.init_state()
    for part in parts:
        state = decoder.advance(state, part)
    return state


def pieces(log_probs, sizes):
    return np.split(log_probs, np.minimum(np.cumsum(sizes, dtype=int), len(log_probs)))


MODELS = st.sampled_from(["none", "word", "word-1", "word-3", "token"])


def make_lm(table_lm, kind, vocabulary, seed):
    if kind == "none":
        return None
    if kind == "token":
        known = [symbol for symbol in vocabulary.symbols if symbol not in {"<blk>", "b", "b▁a"}]
        return table_lm(tuple(known), order=3, unit="token", seed=seed)
    return table_lm(WORDS[:4], order=int(kind[5:] or 2), seed=seed)


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    frames=st.integers(0, 5),
    vocabulary=VOCABULARIES,
    kind=MODELS,
    lexicon=st.sampled_from([None, {"ab", "ba", "bb"}]),
    hotwords=st.sampled_from([{}, HOTWORDS, {"ab": 3.0}]),
    penalty=st.sampled_from([0.0, 0.8]),
    boundary=st.booleans(),
    unk_score=st.sampled_from([0.0, -4.0]),
)
def test_without_pruning_it_equals_enumeration(  # noqa: PLR0917
    posteriors, table_lm, build_beam, seed, frames, vocabulary, kind, lexicon, hotwords, penalty, boundary, unk_score
):
    log_probs = posteriors(seed, frames, len(vocabulary))
    lm = make_lm(table_lm, kind, vocabulary, seed)
    if lexicon is not None:
        hotwords = {phrase: weight for phrase, weight in hotwords.items() if lexicon.issuperset(phrase.split())}
    weights = {"alpha": 0.6, "beta": 0.9, "unk_score": unk_score, "score_boundary": boundary, "blank_penalty": penalty}
    options = DecoderOptions("beam", **EVERYTHING, **weights)
    decoder = build_beam(vocabulary, lm=lm, lexicon=lexicon, hotwords=hotwords, **EVERYTHING, **weights)
    found = decoder.nbest(advance(decoder, [log_probs]), 100_000)

    expected = {}
    for tokens, acoustic in enumerate_all(vocabulary, log_probs, options).items():
        more = weighted(vocabulary, tokens, lm=lm, lexicon=lexicon, hotwords=hotwords, options=options)
        if more is not None and not more[-1]:
            expected[tokens] = (*acoustic, *more)
    assert {hypothesis.token_ids for hypothesis in found} == set(expected)
    assert len(found) == len(expected)
    for one in found:
        total, begins, ends, peaks, lm_score, hot, _ = expected[one.token_ids]
        assert (one.log_prob, one.lm_score, one.hotword_score) == pytest.approx((total, lm_score, hot), abs=1e-5)
        assert one.score == pytest.approx(total + lm_score + hot, abs=1e-5)
        assert (one.frames, one.ends) == (begins, ends)
        assert one.token_log_probs == pytest.approx(peaks)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)


SENTENCES = Vocabulary.from_symbols(["▁", *"abcd"])
PIECES = Vocabulary.from_symbols(["▁", "▁a", "▁cab", "b", "ad", "da", "c"])
CAB = ("a", "cab", "bad", "dad", "add", "cad", "abba", "dab", "baa")


def rich(table_lm, build_beam, vocabulary, **options):
    """A decoder with everything at once."""
    lm = table_lm(CAB, order=3, seed=4)
    hotwords = {"cab": 1.0, "bad dad": 0.6}
    options = {"lm": lm, "hotwords": hotwords, "unk_score": -3.0, "beam_width": 8, **options}
    return build_beam(vocabulary, **options)


@settings(max_examples=20, deadline=None)
@given(
    seed=SEEDS,
    sizes=st.lists(st.integers(0, 12), max_size=12),
    sharpness=st.sampled_from([0.5, 2.0, 5.0]),
    vocabulary=st.sampled_from([SENTENCES, PIECES]),
    lexicon=st.sampled_from([None, CAB]),
    quiet=st.integers(0, 20),
)
def test_any_cut_gives_exactly_the_same_hypotheses(  # noqa: PLR0917
    posteriors, table_lm, build_beam, seed, sizes, sharpness, vocabulary, lexicon, quiet
):
    log_probs = posteriors(seed, 50, len(vocabulary), sharpness)
    log_probs[20 : 20 + quiet, 1:] -= 20
    log_probs[20 : 20 + quiet, 0] = -1e-4
    decoder = rich(table_lm, build_beam, vocabulary, lexicon=lexicon, blank_skip=0.99)
    whole = advance(decoder, [log_probs])
    for parts in (pieces(log_probs, sizes), [row[None] for row in log_probs]):
        state = advance(decoder, parts)
        for final in (True, False):
            assert decoder.nbest(state, 8, final=final) == decoder.nbest(whole, 8, final=final)


def test_states_are_values(posteriors, table_lm, build_beam):
    decoder = rich(table_lm, build_beam, PIECES)
    log_probs, other = posteriors(1, 40, len(PIECES), 3.0), posteriors(2, 40, len(PIECES), 3.0)
    kept = decoder.advance(decoder.init_state(), log_probs[:20])
    before = decoder.nbest(kept, 8)
    straight = decoder.nbest(decoder.advance(kept, log_probs[20:]), 8)
    aside = decoder.nbest(decoder.advance(kept, other), 8)
    assert decoder.nbest(kept, 8) == before
    assert decoder.nbest(decoder.advance(kept, log_probs[20:]), 8) == straight
    assert aside != straight


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, cut=st.integers(0, 60), more=SEEDS)
def test_stable_tokens_never_change(posteriors, table_lm, build_beam, seed, cut, more):  # noqa: PLR0917
    sharpness = (1.0, 3.0, 6.0)[seed % 3]
    decoder = rich(table_lm, build_beam, PIECES, beam_width=6, blank_skip=0.9)
    state = decoder.advance(decoder.init_state(), posteriors(seed, 60, len(PIECES), sharpness)[:cut])
    count = decoder.stable_count(state)
    now = decoder.best(state, final=False)
    assert 0 <= count <= len(now.token_ids)
    for seed_after in (more, more + 1):
        state = decoder.advance(state, posteriors(seed_after, 25, len(PIECES), 1.0))
        for final in (True, False):
            for later in decoder.nbest(state, 6, final=final):
                assert later.token_ids[:count] == now.token_ids[:count]
                assert later.frames[:count] == now.frames[:count]
        assert decoder.stable_count(state) >= count


def spell(vocabulary, labels, classes=None, certain=0.9999):
    """Nearly certain log-probabilities that spell ``labels``, ids of frames."""
    classes = classes or len(vocabulary)
    log_probs = np.full((len(labels), classes), np.log((1 - certain) / (classes - 1)), np.float32)
    log_probs[np.arange(len(labels)), labels] = np.log(certain)
    return log_probs


def test_what_is_clear_is_stable_soon(build_beam):
    decoder = build_beam(SENTENCES)
    labels = [0, 2, 2, 0, 3, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0]
    state = advance(decoder, [spell(SENTENCES, labels * 4)])
    assert len(decoder.best(state).token_ids) == 20
    assert decoder.stable_count(state) >= 16


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_frames_of_certain_blank_change_nothing_when_they_are_not_searched(posteriors, table_lm, build_beam, seed):
    random = np.random.default_rng(seed)
    labels = []
    for token in random.integers(1, len(PIECES), 12).tolist():
        labels += [token] * random.integers(1, 4) + [0] * random.integers(1, 9)
    log_probs = spell(PIECES, labels, certain=0.9995)
    log_probs[::7] = posteriors(seed, len(labels), len(PIECES), 2.0)[::7]
    searched, skipped = (rich(table_lm, build_beam, PIECES, blank_skip=skip) for skip in (1.0, 0.999))
    one, two = (decoder.best(advance(decoder, [log_probs])) for decoder in (searched, skipped))
    assert one.token_ids == two.token_ids
    assert (one.frames, one.ends, one.token_log_probs) == (two.frames, two.ends, two.token_log_probs)
    assert one.score == pytest.approx(two.score, abs=0.05)


def test_a_skipped_frame_adds_its_blank_and_ends_the_token(build_beam):
    vocabulary = Vocabulary.from_symbols("ab")
    log_probs = np.log(np.array([[0.1, 0.8, 0.1], [0.998, 0.001, 0.001], *[[0.9991, 0.0006, 0.0003]] * 3], np.float32))
    decoder = build_beam(vocabulary, blank_skip=0.999)
    found = decoder.best(advance(decoder, [log_probs]))
    table = np.exp(log_probs.astype(np.float64))
    # frame 2 is searched, as the first quiet one; frames 3 and 4 can only be blank
    a_here = table[0, 1] * (table[1, 0] + table[1, 1]) * table[2, 0]
    a_here += table[0, 1] * table[1, 1] * table[2, 1]
    a_here += table[0, 0] * (table[1, 1] * (table[2, 0] + table[2, 1]) + table[1, 0] * table[2, 1])
    assert found.token_ids == (1,)
    assert (found.frames, found.ends) == ((0,), (1,))
    assert found.log_prob == pytest.approx(math.log(a_here * table[3, 0] * table[4, 0]), abs=1e-3)
    assert found.log_prob < decoder.best(advance(decoder, [log_probs[:3]])).log_prob


def test_a_partial_result_leaves_the_word_in_progress_to_the_look_ahead(table_lm, build_beam):
    lm = table_lm(("ab", "abc"), seed=1)
    decoder = build_beam(SENTENCES, lm=lm, alpha=0.5, beta=1.5, lookahead=True)
    state = advance(decoder, [spell(SENTENCES, [2, 3])])
    partial, final = decoder.best(state, final=False), decoder.best(state)
    assert partial.lm_score == 0.0
    assert partial.score == pytest.approx(partial.log_prob + 0.5 * float(lm.unigrams()[3:].max()), abs=1e-5)
    assert final.lm_score == pytest.approx(0.5 * (lm.score((1,), 3) + lm.score((1, 3), 2)) + 1.5)
    blind = build_beam(SENTENCES, lm=lm, lookahead=False)
    partial = blind.best(advance(blind, [spell(SENTENCES, [2, 3])]), final=False)
    assert partial.score == partial.log_prob


def test_a_language_model_decides_what_the_sound_leaves_open(table_lm, build_beam):
    lm = table_lm(("cab", "cad"))
    lm._random[:, 3:] = [-1.0, -9.0]
    unclear = spell(SENTENCES, [4, 0, 2, 0, 5])
    unclear[-1] = np.log([0.001, 0.001, 0.001, 0.4, 0.001, 0.596])
    text = {}
    for name, model in (("without", None), ("with", lm)):
        decoder = build_beam(SENTENCES, lm=model)
        text[name] = SENTENCES.text(decoder.best(advance(decoder, [unclear])).token_ids)
    assert text == {"without": "cad", "with": "cab"}


def test_a_word_of_the_lexicon_that_is_not_finished_is_no_answer(build_beam):
    decoder = build_beam(SENTENCES, lexicon=["abba", "a"], **EVERYTHING)
    state = advance(decoder, [spell(SENTENCES, [2, 3, 0, 3])])
    found = decoder.nbest(state, 1000)
    assert {word for one in found for word in SENTENCES.text(one.token_ids).split()} == {"a"}
    partial = decoder.best(state, final=False)
    assert SENTENCES.text(partial.token_ids) == "abb"
    assert partial.score > found[0].score


def test_where_no_complete_word_survived_the_last_one_is_taken_off(build_beam):
    decoder = build_beam(SENTENCES, lexicon=["abba", "a"], beam_width=1)
    state = advance(decoder, [spell(SENTENCES, [2, 1, 2, 3, 0, 3])])
    (only,) = decoder.nbest(state, 3)
    assert SENTENCES.text(only.token_ids) == "a"
    assert len(only.frames) == len(only.ends) == len(only.token_log_probs) == len(only.token_ids)
    assert SENTENCES.text(decoder.best(state, final=False).token_ids) == "a abb"


def test_words_that_cannot_be_spelt_are_left_out_but_not_all_of_them(table_lm, build_beam):
    decoder = build_beam(SENTENCES, lexicon=["abba", "xyz", "", "a▁b"])
    assert SENTENCES.text(decoder.best(advance(decoder, [spell(SENTENCES, [2, 3, 0, 3, 2])])).token_ids) == "abba"
    with pytest.raises(OptionsError, match="none of the 2 words, for example 'XYZ'"):
        build_beam(SENTENCES, lexicon=["XYZ", "ABBA"])
    with pytest.raises(OptionsError, match="none of the 0 words"):
        build_beam(SENTENCES, lexicon=[])
    with pytest.raises(OptionsError, match="none of the 1 words, for example 'ABBA'"):
        build_beam(SENTENCES, lm=table_lm(("ABBA",)))
    with pytest.raises(OptionsError, match="knows none of this vocabulary's"):
        build_beam(SENTENCES, lm=table_lm(("x", "y"), unit="token"))
    with pytest.raises(OptionsError, match="separator"):
        build_beam(Vocabulary.from_symbols("ab"), lm=table_lm(("ab",)))


def test_weights_of_zero_and_impossible_words(table_lm, build_beam):
    lm = table_lm(("cab",))
    lm._random[:] = -math.inf
    unclear = spell(SENTENCES, [4, 0, 2, 0, 3], certain=0.6)
    plain = build_beam(SENTENCES)
    off = build_beam(SENTENCES, lm=lm, alpha=0.0, beta=0.0)
    assert off.nbest(advance(off, [unclear]), 5) == plain.nbest(advance(plain, [unclear]), 5)
    on = build_beam(SENTENCES, lm=lm, alpha=1.0)
    found = on.best(advance(on, [unclear]))
    assert found.score == -math.inf
    assert not math.isnan(found.lm_score)


@pytest.mark.parametrize("classes", [1, 2])
def test_hardly_any_classes(build_beam, classes):
    vocabulary = Vocabulary(("<blk>", "a")[:classes])
    decoder = build_beam(vocabulary)
    state = advance(decoder, [np.log(np.full((30, classes), 1 / classes, np.float32))])
    found = decoder.best(state)
    assert found.log_prob <= 1e-5
    assert len(found.token_ids) == len(found.frames) == len(found.ends)
    nothing = decoder.best(decoder.init_state())
    assert (nothing.token_ids, nothing.score) == ((), 0.0)


def test_all_blank_and_no_frames(table_lm, build_beam):
    lm = table_lm(CAB)
    decoder = build_beam(SENTENCES, lm=lm, alpha=0.5, blank_skip=0.999)
    end = 0.5 * lm.score((1,), 2)
    for log_probs in (np.zeros((0, 6), np.float32), spell(SENTENCES, [0] * 300)):
        found = decoder.best(advance(decoder, [log_probs]))
        assert (found.token_ids, found.frames, found.ends, found.token_log_probs) == ((), (), (), ())
        assert found.lm_score == pytest.approx(end)
        assert decoder.stable_count(advance(decoder, [log_probs])) == 0


def test_impossible_frames_end_the_search_but_not_the_program(build_beam):
    decoder = build_beam(SENTENCES)
    log_probs = np.concatenate([spell(SENTENCES, [2, 0, 3]), np.full((2, 6), -np.inf, np.float32)])
    found = decoder.best(decoder.advance(advance(decoder, [log_probs]), spell(SENTENCES, [4, 4])))
    assert found.log_prob == -math.inf
    assert found.token_ids == (2, 3)
    for bad in (math.nan, math.inf):
        log_probs[1, 1] = bad
        with pytest.raises(OptionsError, match="NaN"):
            decoder.advance(decoder.init_state(), log_probs)


def test_old_differences_are_dropped_so_that_a_stream_has_no_end(posteriors, build_beam):
    """A letter heard twice as likely as another one, then clear speech: both readings stay alive, but not for ever."""
    decoder = build_beam(SENTENCES)
    unclear = spell(SENTENCES, [2, 0])
    unclear[0, 2:4] = np.log([0.6, 0.3])
    clear = spell(SENTENCES, [2, 0, 3, 0, 4, 0, 5, 0])
    state = decoder.advance(decoder.init_state(), unclear)
    for _ in range(60):
        state = decoder.advance(state, clear)
    assert {one.token_ids[0] for one in decoder.nbest(state, 2)} == {2, 3}
    assert decoder.stable_count(state) == 0
    for _ in range(12):
        state = decoder.advance(state, clear)
    assert decoder.best(state).token_ids[0] == 2
    assert {one.token_ids[0] for one in decoder.nbest(state, 100)} == {2}
    assert decoder.stable_count(state) > 72 * 4 - 8


@settings(max_examples=2, deadline=None)
@given(seed=SEEDS, step=st.integers(1, 700))
def test_any_cut_of_a_long_stream_gives_exactly_the_same_hypotheses(posteriors, build_beam, seed, step):
    decoder = build_beam(SENTENCES, beam_width=4)
    log_probs = posteriors(seed, 1500, len(SENTENCES), 2.5)
    whole = decoder.nbest(advance(decoder, [log_probs]), 4)
    assert len(whole[0].token_ids) > 600
    assert decoder.nbest(advance(decoder, np.split(log_probs, range(step, 1500, step))), 4) == whole


def test_the_state_holds_what_beams_have_in_common_once(posteriors):
    decoder = build_decoder(DecoderOptions("beam", beam_width=4, native=False), SENTENCES)
    state = decoder.init_state()
    for seed in range(40):
        state = decoder.advance(state, posteriors(seed, 500, 6, 3.0))
    assert state.frame == 20_000
    tokens = len(decoder.best(state).token_ids)
    seen, todo = set(), [*state.beams.best_blank.before, *state.beams.best_token.before]
    while todo:
        link = todo.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            todo.append(link.before)
    assert len(state.beams.last) <= 4
    assert tokens > 10_000
    assert len(seen) < tokens + 4 * 300
    assert decoder.stable_count(state) > tokens - 300


def test_without_a_vocabulary_there_are_no_hotwords():
    decoder = BeamDecoder(4, 0)
    assert decoder.with_hotwords({}) is decoder
    with pytest.raises(OptionsError, match="build_decoder"):
        decoder.with_hotwords({"a": 1.0})
