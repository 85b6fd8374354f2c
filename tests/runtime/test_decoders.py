"""Decoders against slow references: every alignment enumerated, every cut tried."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_runtime import BeamDecoder, DecoderOptions, GreedyDecoder, Hypothesis, OptionsError, build_decoder
from kdcompress_runtime.decoders.alignment import align
from kdcompress_runtime.vocabulary import Vocabulary

EVERYTHING = {"beam_width": 100_000, "beam_prune_logp": -math.inf, "token_min_logp": -math.inf}
VOCABULARY = Vocabulary.from_symbols(["▁", *"abcd"])
SEEDS = st.integers(0, 10_000)
CUTS = st.lists(st.integers(0, 12), max_size=12)


def collapse(path, blank):
    """Tokens of an alignment and the first frame of each."""
    found = [
        (label, frame)
        for frame, label in enumerate(path)
        if label != blank and (frame == 0 or path[frame - 1] != label)
    ]
    return tuple(label for label, _ in found), tuple(frame for _, frame in found)


def exhaustive(log_probs, blank):
    """Every labelling with its summed log-probability and the times of its best alignment."""
    frames, classes = log_probs.shape
    table = log_probs.astype(np.float64)
    sums, best = {}, {}
    for path in itertools.product(range(classes), repeat=frames):
        score = float(sum(table[frame, label] for frame, label in enumerate(path)))
        tokens, times = collapse(path, blank)
        sums[tokens] = np.logaddexp(sums.get(tokens, -np.inf), score)
        if score > best.get(tokens, (-np.inf, ()))[0]:
            best[tokens] = (score, times)
    return {tokens: (float(total), best[tokens][1]) for tokens, total in sums.items()}


def advance(decoder, parts):
    state = decoder.init_state()
    for part in parts:
        state = decoder.advance(state, part)
    return state


def pieces(log_probs, sizes):
    return np.split(log_probs, np.minimum(np.cumsum(sizes, dtype=int), len(log_probs)))


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, frames=st.integers(0, 6), classes=st.integers(2, 4), data=st.data())
def test_beam_search_without_pruning_equals_enumeration(posteriors, seed, frames, classes, data):
    blank = data.draw(st.integers(0, classes - 1))
    log_probs = posteriors(seed, frames, classes)
    expected = exhaustive(log_probs, blank)
    decoder = BeamDecoder(classes, blank, **EVERYTHING)
    found = decoder.nbest(advance(decoder, [log_probs]), len(expected) + 1)
    assert {h.token_ids for h in found} == set(expected)
    assert len(found) == len(expected)
    for hypothesis in found:
        total, times = expected[hypothesis.token_ids]
        assert hypothesis.log_prob == pytest.approx(total, abs=1e-9)
        assert hypothesis.frames == times
    assert found[0].log_prob == pytest.approx(max(total for total, _ in expected.values()), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, frames=st.integers(1, 6), data=st.data())
def test_alignment_equals_enumeration(posteriors, seed, frames, data):
    log_probs = posteriors(seed, frames, 3)
    expected = exhaustive(log_probs, blank=1)
    tokens = data.draw(st.lists(st.sampled_from([0, 2]), max_size=5).map(tuple))
    total, times = align(log_probs, tokens, 1)
    if tokens in expected:
        assert total == pytest.approx(expected[tokens][0], abs=1e-9)
        assert times == expected[tokens][1]
    else:
        assert total == -math.inf
        assert times == ()


@pytest.mark.parametrize("kind", ["greedy", "beam"])
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, sizes=CUTS, sharpness=st.sampled_from([0.5, 2.0, 5.0]))
def test_any_cut_gives_exactly_the_same_hypotheses(posteriors, kind, seed, sizes, sharpness):
    log_probs = posteriors(seed, 50, len(VOCABULARY), sharpness)
    decoder = build_decoder(DecoderOptions(kind, beam_width=8), VOCABULARY)
    whole = decoder.nbest(advance(decoder, [log_probs]), 8)
    assert decoder.nbest(advance(decoder, pieces(log_probs, sizes)), 8) == whole
    assert decoder.nbest(advance(decoder, [row[None] for row in log_probs]), 8) == whole


@pytest.mark.parametrize("kind", ["greedy", "beam", "pyctcdecode"])
def test_states_are_values(posteriors, kind):
    if kind == "pyctcdecode":
        pytest.importorskip("pyctcdecode")
    log_probs, other = posteriors(1, 40, 6, 3.0), posteriors(2, 40, 6, 3.0)
    decoder = build_decoder(DecoderOptions(kind), VOCABULARY)
    kept = decoder.advance(decoder.init_state(), log_probs[:20])
    before = decoder.best(kept)
    straight = decoder.best(decoder.advance(kept, log_probs[20:]))
    aside = decoder.best(decoder.advance(kept, other))
    assert decoder.best(kept) == before
    assert decoder.best(decoder.advance(kept, log_probs[20:])) == straight
    assert aside != straight
    assert before.token_ids


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, sharpness=st.sampled_from([1.0, 3.0]))
def test_beam_finds_at_least_what_greedy_finds(posteriors, seed, sharpness):
    log_probs = posteriors(seed, 60, 6, sharpness)
    greedy, beam = GreedyDecoder(6, 0), BeamDecoder(6, 0, beam_width=64)
    path = greedy.best(advance(greedy, [log_probs]))
    found = beam.best(advance(beam, [log_probs]))
    assert found.log_prob >= path.log_prob
    assert found.log_prob <= align(log_probs, found.token_ids, 0)[0] + 1e-9
    if found.token_ids == path.token_ids:
        assert found.frames == path.frames


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, sizes=CUTS)
def test_greedy_equals_a_loop_over_frames(posteriors, seed, sizes):
    log_probs = posteriors(seed, 80, 4)
    labels = log_probs.argmax(axis=1).tolist()
    tokens, times = collapse(labels, 2)
    ends = [next((t for t in range(begin, 80) if labels[t] != labels[begin]), 80) for begin in times]
    decoder = GreedyDecoder(4, 2)
    state = advance(decoder, pieces(log_probs, sizes))
    found = decoder.best(state)
    assert (found.token_ids, found.frames, found.ends) == (tokens, times, tuple(ends))
    peaks = [log_probs[b:e, t].max() for t, b, e in zip(tokens, times, ends, strict=True)]
    assert found.token_log_probs == tuple(peaks)
    assert found.log_prob == pytest.approx(float(log_probs.max(axis=1).sum()), abs=1e-3)
    assert (found.score, found.lm_score, found.hotword_score) == (found.log_prob, 0.0, 0.0)
    assert decoder.stable_count(state) == len(tokens)


def test_greedy_refuses_what_it_would_leave_out():
    decoder = build_decoder(DecoderOptions(), VOCABULARY)
    assert decoder.with_hotwords({}) is decoder
    with pytest.raises(OptionsError, match="beam"):
        decoder.with_hotwords({"abba": 1.0})
    with pytest.raises(OptionsError, match="beam"):
        build_decoder(DecoderOptions(), VOCABULARY, lexicon=["abba"])


def sharp(labels, classes=4):
    """Nearly certain log-probabilities that spell ``labels``."""
    log_probs = np.full((len(labels), classes), np.log(0.001 / (classes - 1)), np.float32)
    log_probs[np.arange(len(labels)), labels] = np.log(0.999)
    return log_probs


@pytest.mark.parametrize("kind", ["greedy", "beam", "pyctcdecode"])
def test_repetitions_join_unless_a_blank_stands_between(kind):
    if kind == "pyctcdecode":
        pytest.importorskip("pyctcdecode")
    vocabulary = Vocabulary.from_symbols("abc")
    decoder = build_decoder(DecoderOptions(kind), vocabulary)
    found = decoder.best(advance(decoder, [sharp([0, 1, 1, 0, 1, 2, 2, 0, 0, 3])]))
    assert found.token_ids == (1, 1, 2, 3)
    assert found.frames == (1, 4, 5, 9)


@pytest.mark.parametrize("kind", ["greedy", "beam", "pyctcdecode"])
def test_no_frames_are_an_empty_hypothesis(kind):
    if kind == "pyctcdecode":
        pytest.importorskip("pyctcdecode")
    decoder = build_decoder(DecoderOptions(kind), VOCABULARY)
    state = advance(decoder, [np.zeros((0, 6), np.float32)])
    assert decoder.best(state) == Hypothesis((), (), 0.0)
    assert decoder.nbest(state, 0) == ()
    with pytest.raises(OptionsError, match=r"\(T, 6\)"):
        decoder.advance(state, np.zeros((3, 5), np.float32))
    with pytest.raises(OptionsError, match=r"\(T, 6\)"):
        decoder.advance(state, np.zeros(6, np.float32))


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_a_blank_penalty_lets_weak_tokens_through(kind):
    log_probs = np.log(np.array([[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.9, 0.05, 0.05]], np.float32))
    vocabulary = Vocabulary.from_symbols("ab")
    found = {}
    for penalty in (0.0, 1.5):
        decoder = build_decoder(DecoderOptions(kind, blank_penalty=penalty), vocabulary)
        found[penalty] = decoder.best(advance(decoder, [log_probs])).token_ids
    assert found == {0.0: (), 1.5: (1,)}


def test_impossible_labels_do_no_harm():
    log_probs = np.full((5, 3), -np.inf, np.float32)
    log_probs[:, 0] = 0.0
    log_probs[2] = [-np.inf, 0.0, -np.inf]
    decoder = BeamDecoder(3, 0, **EVERYTHING)
    found = decoder.nbest(advance(decoder, [log_probs]), 10)
    assert found == (Hypothesis((1,), (2,), 0.0, (3,), (0.0,)),)


def test_a_prefix_that_was_dropped_and_comes_back_is_one_prefix(posteriors):
    decoder = BeamDecoder(4, 0, beam_width=5, beam_prune_logp=-math.inf, token_min_logp=-math.inf)
    for seed in range(60):
        found = decoder.nbest(advance(decoder, [posteriors(seed, 40, 4, 1.0)]), 5)
        assert len({h.token_ids for h in found}) == len(found) == 5


def test_wider_beams_are_not_worse_on_average(posteriors):
    scores = []
    for width in (1, 4, 32):
        decoder = BeamDecoder(6, 0, beam_width=width)
        scores.append(np.mean([decoder.best(advance(decoder, [posteriors(s, 50, 6)])).log_prob for s in range(20)]))
    assert scores[0] < scores[1] < scores[2]


def test_pruning_keeps_memory_of_the_state_bounded(posteriors):
    decoder = BeamDecoder(6, 0, beam_width=10)
    state = decoder.init_state()
    for seed in range(20):
        state = decoder.advance(state, posteriors(seed, 50, 6))
        assert len(state.beams.last) <= 10
    assert state.frame == 1000


def test_hours_of_tokens_are_no_trouble():
    decoder = GreedyDecoder(3, 0)
    chunk = sharp([1, 2, 1, 2], 3)
    state = advance(decoder, itertools.repeat(chunk, 30_000))
    assert len(decoder.best(state).token_ids) == 120_000
    beam = BeamDecoder(3, 0, beam_width=2)
    state = advance(beam, itertools.repeat(sharp([1, 2] * 500, 3), 10))
    assert len(beam.best(state).token_ids) == 10_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "viterbi"}, "greedy, beam, pyctcdecode"),
        ({"beam_width": 0}, "beam_width"),
        ({"beam_width": 2.5}, "beam_width"),
        ({"beam_prune_logp": 1.0}, "beam_prune_logp"),
        ({"token_min_logp": math.nan}, "token_min_logp"),
        ({"token_min_logp": "low"}, "token_min_logp"),
        ({"blank_penalty": math.inf}, "blank_penalty"),
        ({"blank_penalty": None}, "blank_penalty"),
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": math.nan}, "alpha"),
        ({"beta": math.inf}, "beta"),
        ({"unk_score": -math.inf}, "unk_score"),
        ({"blank_skip": 0.0}, "blank_skip"),
        ({"blank_skip": 1.5}, "blank_skip"),
        ({"score_boundary": 1}, "score_boundary"),
        ({"lookahead": None}, "lookahead"),
        ({"native": "yes"}, "native"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(OptionsError, match=words):
        DecoderOptions(**options)
