"""The compiled beam search against the Python one, and against states and scores that it must refuse.

Where there is no compiler there is no compiled core: then these tests skip, and those of the Python search and of
the fallback stay.
"""

from __future__ import annotations

import gc
import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_runtime import BeamDecoder, DecoderOptions, MissingDependencyError, OptionsError, build_decoder
from kdcompress_runtime.decoders.native import library
from kdcompress_runtime.errors import PicklingRefusedError
from kdcompress_runtime.lm.hashing import keys_of
from kdcompress_runtime.lm.ngram import build
from kdcompress_runtime.vocabulary import Vocabulary

needs_core = pytest.mark.skipif(not library.is_there(), reason="the compiled core is not built here")
CHARACTERS = Vocabulary.from_symbols(["▁", *"abcd"])
SUBWORDS = Vocabulary(("▁a", "b", "<blk>", "▁ba"))
ODD = Vocabulary.from_symbols(["▁", "b▁a", "a▁"])
WORDS = ("a", "ab", "ba", "bab", "abba", "bb", "c", "cab", "bad")
HOTWORDS = {"ab": 1.3, "ba a": 0.7, "a ba": 2.1, "b": -1.1}
SEEDS = st.integers(0, 100_000)
SCORES = ("log_prob", "score", "lm_score", "hotword_score")


def ngrams(words, order, unit, seed):
    """A back-off model of random n-grams."""
    random = np.random.default_rng(seed)
    words = ("<unk>", "<s>", "</s>", *words)
    longer = []
    for length in range(2, order + 1):
        ids = np.unique(random.integers(0, len(words), (60, length)), axis=0)
        longer.append((keys_of(ids), random.normal(-2, 1, (len(ids), 2)).astype(np.float32)))
    return build(order, unit, words, random.normal(-3, 1, (len(words), 2)).astype(np.float32), longer)


def make_lm(table_lm, kind, vocabulary, order, seed):
    tokens = tuple(symbol for symbol in vocabulary.symbols if symbol not in {"<blk>", "b", "b▁a"})
    return {
        "none": lambda: None,
        "words": lambda: ngrams(WORDS[:6], order, "word", seed),
        "tokens": lambda: ngrams(tokens, order, "token", seed),
        "words by callback": lambda: table_lm(WORDS[:5], order=order, seed=seed),
        "tokens by callback": lambda: table_lm(tokens, order=order, unit="token", seed=seed),
    }[kind]()


def both(vocabulary, *, lm=None, lexicon=None, **options):
    """The Python search and the compiled one."""
    wanted = (DecoderOptions("beam", native=native, **options) for native in (False, True))
    return tuple(build_decoder(one, vocabulary, lm=lm, lexicon=lexicon) for one in wanted)


def advance(decoder, parts):
    state = decoder.init_state()
    for part in parts:
        state = decoder.advance(state, part)
    return state


def assert_same(expected, found):
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        for name in ("token_ids", "frames", "ends", "token_log_probs"):
            assert getattr(one, name) == getattr(other, name)
        for name in SCORES:
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)


@needs_core
@settings(max_examples=120, deadline=None)
@given(
    seed=SEEDS,
    vocabulary=st.sampled_from([CHARACTERS, SUBWORDS, ODD]),
    kind=st.sampled_from(["none", "words", "tokens", "words by callback", "tokens by callback"]),
    order=st.integers(1, 4),
    lexicon=st.sampled_from([None, None, {"ab", "ba", "bb", "a", "b"}]),
    hotwords=st.sampled_from([{}, HOTWORDS]),
    weights=st.fixed_dictionaries(
        {
            "alpha": st.sampled_from([0.0, 0.6]),
            "beta": st.sampled_from([-1.0, 0.9]),
            "unk_score": st.sampled_from([0.0, -4.0]),
            "score_boundary": st.booleans(),
            "lookahead": st.booleans(),
            "beam_width": st.sampled_from([1, 2, 5, 16, 60]),
            "beam_prune_logp": st.sampled_from([-10.0, -3.0]),
            "token_min_logp": st.sampled_from([-math.inf, -5.0, -2.0]),
            "blank_penalty": st.sampled_from([0.0, 1.5]),
            "blank_skip": st.sampled_from([1.0, 0.5]),
        }
    ),
    frames=st.integers(0, 60),
    sharpness=st.sampled_from([0.5, 2.0, 5.0]),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_it_answers_as_the_python_search_does(  # noqa: PLR0917
    posteriors, table_lm, seed, vocabulary, kind, order, lexicon, hotwords, weights, frames, sharpness, cuts
):
    lm = make_lm(table_lm, kind, vocabulary, order, seed)
    slow, fast = both(vocabulary, lm=lm, lexicon=lexicon, **weights)
    slow, fast = slow.with_hotwords(hotwords), fast.with_hotwords(hotwords)
    assert isinstance(slow, BeamDecoder)
    assert not isinstance(fast, BeamDecoder)
    log_probs = posteriors(seed, frames, len(vocabulary), sharpness)
    expected = advance(slow, [log_probs])
    found = advance(fast, np.split(log_probs, sorted(min(cut, frames) for cut in cuts)))
    for final in (True, False):
        assert_same(slow.nbest(expected, 60, final=final), fast.nbest(found, 60, final=final))
    assert slow.stable_count(expected) == fast.stable_count(found)


@needs_core
@pytest.mark.parametrize("width", [1, 8, 64])
def test_a_long_stream_is_the_same_and_its_state_stays_small(posteriors, width):
    options = {"beam_width": width, "beam_prune_logp": -20.0}
    slow, fast = (
        build_decoder(DecoderOptions("beam", native=native, **options), CHARACTERS) for native in (False, True)
    )
    log_probs = np.concatenate([posteriors(seed, 200, 6, 4.0) for seed in range(10)])
    expected, found = advance(slow, [log_probs]), advance(fast, np.split(log_probs, range(7, 2000, 7)))
    assert_same([slow.best(expected)], [fast.best(found)])
    assert slow.stable_count(expected) == fast.stable_count(found) > 300
    later = advance(fast, [log_probs] * 4)
    assert len(later.block) < 3 * len(found.block) < 1_000_000
    assert len(fast.best(later).token_ids) > 4 * 300


@needs_core
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_dtype_and_layout_of_scores_is_read(posteriors, dtype):
    log_probs = posteriors(3, 40, 6, 3.0).astype(dtype)
    slow, fast = both(CHARACTERS)
    expected = slow.nbest(advance(slow, [log_probs]), 5)
    for layout in (log_probs, np.asfortranarray(log_probs), np.repeat(log_probs, 2, axis=1)[:, ::2]):
        assert_same(expected, fast.nbest(advance(fast, [layout]), 5))


@needs_core
def test_no_labels_at_all_are_the_same():
    log_probs = np.full((6, 6), -np.inf, np.float32)
    log_probs[:4, 1:3] = np.log(0.5)
    slow, fast = both(CHARACTERS)
    for frames in range(7):
        expected, found = (advance(decoder, [log_probs[:frames]]) for decoder in (slow, fast))
        best = slow.best(expected), fast.best(found)
        assert best[0].token_ids == best[1].token_ids
        assert best[0].score == pytest.approx(best[1].score)
        assert slow.stable_count(expected) == fast.stable_count(found)


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_core)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", [(0, 0), (5, 3), (9, 5)])
def test_scores_that_are_no_log_probabilities_are_refused(posteriors, native, value, place):
    decoder = build_decoder(DecoderOptions("beam", native=native), CHARACTERS)
    state = decoder.advance(decoder.init_state(), posteriors(1, 10, 6))
    before = decoder.best(state)
    log_probs = posteriors(2, 10, 6)
    log_probs[place] = value
    with pytest.raises(OptionsError, match="NaN"):
        decoder.advance(state, log_probs)
    with pytest.raises(OptionsError, match=r"\(T, 6\)"):
        decoder.advance(state, log_probs[:, :5])
    assert decoder.best(state) == before


@pytest.fixture
def boosted():
    """A decoder with everything, a state of it, and scores to go on with."""
    if not library.is_there():
        pytest.skip("the compiled core is not built here")
    lm = ngrams(WORDS, 3, "word", 5)
    decoder = build_decoder(DecoderOptions("beam", beam_width=24), CHARACTERS, lm=lm).with_hotwords(HOTWORDS)
    scores = np.random.default_rng(0).normal(0, 1.5, (60, 6))
    scores = (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)
    return decoder, decoder.advance(decoder.init_state(), scores), scores


def outcome(decoder, state, scores):
    """Use a state in every way; what it says, or ``refused``."""
    try:
        return decoder.advance(state, scores), decoder.nbest(state, 50), decoder.stable_count(state)
    except OptionsError:
        return "refused"


def test_states_of_another_length_are_refused(boosted):
    decoder, state, scores = boosted
    for block in (
        b"",
        b"x",
        state.block[:15],
        state.block[:-1],
        state.block[:100],
        state.block + b"\0",
        state.block[8:],
    ):
        broken = replace(state, block=block)
        for use in (decoder.best, decoder.stable_count, lambda one: decoder.advance(one, scores)):
            with pytest.raises(OptionsError, match="damaged"):
                use(broken)


def test_a_damaged_state_is_refused_or_used_but_never_crashes(boosted):
    """Every 4-byte field is replaced by numbers that would lead out of the tables, were they believed."""
    decoder, state, scores = boosted
    refused = 0
    for place in range(0, len(state.block), 4):
        for number in (-(2**31), -3, 2**31 - 1, 0x7FF80000):
            block = state.block[:place] + number.to_bytes(4, "little", signed=True) + state.block[place + 4 :]
            refused += outcome(decoder, replace(state, block=block), scores[:3]) == "refused"
    assert refused > 1000


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_random_damage_never_crashes(posteriors, data):
    if not library.is_there():
        pytest.skip("the compiled core is not built here")
    decoder = build_decoder(DecoderOptions("beam", beam_width=6), CHARACTERS)
    log_probs = posteriors(4, 30, 6)
    state = decoder.advance(decoder.init_state(), log_probs)
    block = bytearray(state.block)
    for _ in range(data.draw(st.integers(1, 20))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    found = outcome(decoder, replace(state, block=bytes(block)), log_probs)
    assert found == "refused" or len(found[1]) >= 1


@needs_core
def test_a_state_of_another_decoder_is_refused(boosted):
    decoder, state, scores = boosted
    for other in (
        build_decoder(DecoderOptions("beam"), CHARACTERS),
        build_decoder(DecoderOptions("beam"), SUBWORDS),
        build_decoder(DecoderOptions("beam"), CHARACTERS, lm=ngrams(WORDS[:4], 3, "word", 5)),
        decoder.with_hotwords({"abba": 1.0}),
    ):
        with pytest.raises(OptionsError, match="another vocabulary, model or hotwords"):
            other.best(state)
        with pytest.raises(OptionsError):
            other.advance(state, scores[:, : len(SUBWORDS)] if other._classes == 4 else scores)


def test_one_decoder_serves_eight_threads(boosted, posteriors, table_lm):
    for lm in (ngrams(WORDS, 3, "word", 5), table_lm(WORDS, order=3)):
        decoder = build_decoder(DecoderOptions("beam", beam_width=24), CHARACTERS, lm=lm).with_hotwords(HOTWORDS)
        streams = [np.split(posteriors(seed, 200, 6, 2.0), 25) for seed in range(32)]
        expected = [decoder.nbest(advance(decoder, parts), 5) for parts in streams]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda parts: decoder.nbest(advance(decoder, parts), 5), streams))  # noqa: B023
        assert found == expected


@needs_core
def test_what_a_language_model_raises_comes_through(posteriors, table_lm):
    class Broken(table_lm):
        def score(self, *_):
            if threading.current_thread() is threading.main_thread():
                raise RuntimeError("the model is gone")
            return math.nan

    decoder = build_decoder(DecoderOptions("beam"), CHARACTERS, lm=Broken(WORDS))
    log_probs = posteriors(0, 40, 6)
    with pytest.raises(RuntimeError, match="the model is gone"):
        decoder.advance(decoder.init_state(), log_probs)
    with ThreadPoolExecutor(1) as pool, pytest.raises(OptionsError, match="NaN"):
        pool.submit(lambda: decoder.advance(decoder.init_state(), log_probs)).result()


def test_states_travel_to_other_processes_and_decoders_do_not(boosted):
    decoder, state, scores = boosted
    there = pickle.loads(pickle.dumps(state))
    assert_same(decoder.nbest(decoder.advance(state, scores), 9), decoder.nbest(decoder.advance(there, scores), 9))
    with pytest.raises(PicklingRefusedError, match="build_decoder"):
        pickle.dumps(decoder)


def resident():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("calls", [20_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_many_calls_leave_no_memory_behind(boosted, calls):
    decoder, state, scores = boosted
    chunk = scores[:2]

    def work(times):
        for _ in range(times):
            decoder.advance(state, chunk)
        for _ in range(times // 100):
            decoder.nbest(state, 5)
            decoder.stable_count(state)
        gc.collect()

    work(2_000)
    before = resident()
    work(calls)
    assert resident() - before < 4_000_000


def test_without_the_core_the_python_search_is_taken(monkeypatch, tmp_path, posteriors):
    log_probs = posteriors(1, 40, 6, 2.0)
    either = build_decoder(DecoderOptions("beam"), CHARACTERS)
    expected = either.nbest(advance(either, [log_probs]), 5)
    library.load.cache_clear()
    monkeypatch.setattr(library, "FILE", tmp_path / "beam.core.so")
    try:
        for content in (None, b"no library at all"):
            if content is not None:
                library.FILE.write_bytes(content)
            decoder = build_decoder(DecoderOptions("beam"), CHARACTERS)
            assert isinstance(decoder, BeamDecoder)
            assert_same(expected, decoder.nbest(advance(decoder, [log_probs]), 5))
            with pytest.raises(MissingDependencyError, match="C compiler"):
                build_decoder(DecoderOptions("beam", native=True), CHARACTERS)
    finally:
        library.load.cache_clear()


@needs_core
def test_a_core_of_another_version_is_not_used(monkeypatch):
    library.load.cache_clear()
    monkeypatch.setattr(library, "_VERSION", 99)
    try:
        with pytest.raises(MissingDependencyError, match="99 is needed"):
            library.load()
        assert isinstance(build_decoder(DecoderOptions("beam"), CHARACTERS), BeamDecoder)
    finally:
        library.load.cache_clear()
