"""Streams: the same answer however the audio is cut, typed, scaled; clear words for misuse."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcompress_runtime import (
    AudioError,
    DecoderOptions,
    KdcompressError,
    OptionsError,
    PicklingRefusedError,
    Recognizer,
    Result,
    StreamStateError,
)

KINDS = ("greedy", "beam")
CUTS = st.lists(st.integers(0, 2500), max_size=25)
RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def recognizers(bundle_path):
    return {kind: Recognizer.from_dir(bundle_path, decoder=DecoderOptions(kind)) for kind in KINDS}


def pieces(samples, sizes):
    """Cut at running sums of ``sizes``; the rest is the last piece."""
    return np.split(samples, np.minimum(np.cumsum(sizes), len(samples)))


def streamed(recognizer, parts, rate=8000):
    stream = recognizer.create_stream()
    for part in parts:
        stream.accept_waveform(part, rate)
        stream.partial_result()
    stream.input_finished()
    return stream.result()


def agree(one, other):
    assert one.text == other.text
    assert one.tokens == other.tokens
    assert one.timestamps == other.timestamps
    assert one.log_prob == pytest.approx(other.log_prob, abs=1e-3)


def test_the_model_says_something(recognizers, audio):
    result = recognizers["greedy"].recognize(audio, 8000)
    assert len(result.tokens) > 20
    assert len(set(result.tokens)) > 4
    assert list(result.timestamps) == sorted(set(result.timestamps))
    assert 0 <= result.timestamps[0] < result.timestamps[-1] <= len(audio) / 8000
    assert result.log_prob < 0


@pytest.mark.parametrize("kind", KINDS)
@RELAXED
@given(sizes=CUTS)
def test_any_cut_gives_exactly_the_same_result(recognizers, audio, kind, sizes):
    recognizer = recognizers[kind]
    assert streamed(recognizer, pieces(audio, sizes)) == streamed(recognizer, [audio])
    agree(streamed(recognizer, [audio]), recognizer.recognize(audio, 8000))


@pytest.mark.parametrize("rate", [11025, 16000, 44100])
@settings(max_examples=8, deadline=None)
@given(sizes=CUTS)
def test_any_cut_gives_the_same_result_at_other_rates(recognizers, audio, rate, sizes):
    recognizer = recognizers["greedy"]
    assert streamed(recognizer, pieces(audio, sizes), rate) == streamed(recognizer, [audio], rate)
    agree(streamed(recognizer, [audio], rate), recognizer.recognize(audio, rate))


@RELAXED
@given(sizes=CUTS)
def test_int16_and_float_are_the_same_audio(recognizers, audio, sizes):
    whole = (audio * 32767).astype(np.int16)
    same = whole.astype(np.float64) / 32768
    expected = streamed(recognizers["greedy"], [same])
    assert streamed(recognizers["greedy"], pieces(whole, sizes)) == expected
    assert streamed(recognizers["greedy"], [same.astype(np.float32)]) == expected


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, 1500), chunk=st.integers(1, 9))
def test_every_length_and_chunk_gives_the_frames_promised(bundle_path, recognizers, audio, length, chunk):
    recognizer = Recognizer.from_dir(bundle_path, chunk_frames=chunk)
    stream = recognizer.create_stream()
    stream.accept_waveform(audio[:length], 8000)
    stream.input_finished()
    assert stream.frames_decoded == -(-length // 80)
    assert recognizers["greedy"].log_probs(audio[:length], 8000).shape == (stream.frames_decoded, 8)
    agree(stream.result(), recognizers["greedy"].recognize(audio[:length], 8000))


def test_long_audio_in_bounded_steps_equals_streaming(recognizers, audio):
    long = np.tile(audio, 55)  # 72 s: three steps
    agree(recognizers["greedy"].recognize(long, 8000), streamed(recognizers["greedy"], [long]))


def test_log_probs_of_whole_and_of_single_frames_agree(bundle_path, recognizers, audio):
    from kdcompress_runtime import Bundle, CtcModel
    from kdcompress_runtime.feed import PcmFeed, run_feed

    model = CtcModel.from_bundle(Bundle.open(bundle_path))
    rows = list(run_feed(model, PcmFeed(model, chunk_frames=1), audio, 8000))
    np.testing.assert_allclose(np.concatenate(rows), recognizers["greedy"].log_probs(audio, 8000), atol=1e-5)


def test_partial_results_only_grow_under_greedy(recognizers, audio):
    stream = recognizers["greedy"].create_stream()
    seen = [()]
    for part in pieces(audio, [500] * 30):
        stream.accept_waveform(part, 8000)
        seen.append(stream.partial_result().tokens)
        assert seen[-1][: len(seen[-2])] == seen[-2]
    assert len(seen[-1]) > 10
    stream.input_finished()
    assert len(stream.result().tokens) >= len(seen[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_no_audio_is_an_empty_result(recognizers, kind):
    nothing = np.zeros(0, np.float32)
    assert streamed(recognizers[kind], []) == Result("", (), (), 0.0)
    assert streamed(recognizers[kind], [nothing, nothing], 44100) == Result("", (), (), 0.0)
    assert recognizers[kind].recognize(nothing, 8000) == Result("", (), (), 0.0)
    assert recognizers[kind].log_probs(nothing, 8000).shape == (0, 8)


def test_nbest_begins_with_the_result(recognizers, audio):
    stream = recognizers["beam"].create_stream()
    stream.accept_waveform(audio, 8000)
    stream.input_finished()
    found = stream.nbest(5)
    assert len(found) == 5
    assert found[0] == stream.result()
    assert len({result.tokens for result in found}) == 5
    assert [r.log_prob for r in found] == sorted((r.log_prob for r in found), reverse=True)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros((100, 2), np.float32), r"mono.*\(100, 2\).*mean"),
        (np.zeros((1, 100), np.float32), "mono"),
        (np.zeros(100, np.int32), "int32"),
        (np.zeros(100, np.complex64), "complex64"),
        (np.zeros(100, bool), "bool"),
        ([0.0, 0.1], "numpy array"),
        (np.array([0, np.nan], np.float32), "NaN"),
        (np.array([0, -np.inf]), "infinity"),
        (np.array([0, 3000.0, -20000.0], np.float32), "int16 audio as int16"),
    ],
)
def test_audio_that_cannot_be_used_is_refused_and_leaves_the_stream_usable(recognizers, audio, samples, words):
    recognizer = recognizers["greedy"]
    stream = recognizer.create_stream()
    stream.accept_waveform(audio[:5000], 8000)
    with pytest.raises(AudioError, match=words):
        stream.accept_waveform(samples, 8000)
    with pytest.raises(AudioError, match=words):
        recognizer.recognize(samples, 8000)
    stream.accept_waveform(audio[5000:], 8000)
    stream.input_finished()
    assert stream.result() == streamed(recognizer, [audio])


@pytest.mark.parametrize("rate", [0, -8000, 8000.0, "8000", None, True])
def test_sample_rates_that_are_not_positive_integers_are_refused(recognizers, audio, rate):
    with pytest.raises(OptionsError, match="sample_rate"):
        recognizers["greedy"].create_stream().accept_waveform(audio, rate)
    with pytest.raises(OptionsError, match="sample_rate"):
        recognizers["greedy"].recognize(audio, rate)


def test_a_numpy_integer_is_a_sample_rate(recognizers, audio):
    recognizer = recognizers["greedy"]
    assert recognizer.recognize(audio, np.int64(16000)) == recognizer.recognize(audio, 16000)


def test_the_rate_cannot_change_within_a_stream(recognizers, audio):
    stream = recognizers["greedy"].create_stream()
    stream.accept_waveform(audio, 16000)
    with pytest.raises(AudioError, match=r"16000 Hz.*8000 Hz"):
        stream.accept_waveform(audio, 8000)


def test_a_stream_is_used_in_order(recognizers, audio):
    stream = recognizers["greedy"].create_stream()
    for call in (stream.result, lambda: stream.nbest(2)):
        with pytest.raises(StreamStateError, match="input_finished"):
            call()
    stream.accept_waveform(audio, 8000)
    stream.input_finished()
    result = stream.result()
    stream.input_finished()
    assert stream.result() == stream.partial_result() == result
    with pytest.raises(StreamStateError, match="new stream"):
        stream.accept_waveform(audio, 8000)


def test_two_threads_cannot_be_in_one_stream(recognizers, audio):
    stream = recognizers["greedy"].create_stream()
    inside, go_on = threading.Event(), threading.Event()
    decoder = stream._track._decoder

    class Slow:
        def advance(self, state, log_probs):
            inside.set()
            go_on.wait(10)
            return decoder.advance(state, log_probs)

    stream._track._decoder = Slow()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(stream.accept_waveform, audio, 8000)
        assert inside.wait(10)
        with pytest.raises(StreamStateError, match="another thread"):
            stream.accept_waveform(audio, 8000)
        go_on.set()
        first.result()


def test_one_recognizer_serves_four_threads(recognizers, audio):
    recognizer = recognizers["beam"]
    clips = [audio[start : start + 6000] for start in range(0, 4000, 500)]
    expected = [streamed(recognizer, [clip]) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda clip: streamed(recognizer, pieces(clip, [333] * 12)), clips * 3))
    assert found == expected * 3


def test_recognizers_and_streams_refuse_to_be_pickled_or_copied(recognizers):
    for thing in (recognizers["greedy"], recognizers["greedy"].create_stream()):
        for refuse in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(PicklingRefusedError, match="cannot be pickled"):
                refuse(thing)
    assert issubclass(PicklingRefusedError, (KdcompressError, TypeError))


@pytest.mark.parametrize("chunk", [0, -1, 2.0, True])
def test_chunk_frames_out_of_range_are_refused(bundle_path, chunk):
    with pytest.raises(OptionsError, match="chunk_frames"):
        Recognizer.from_dir(bundle_path, chunk_frames=chunk)


def test_the_callers_audio_is_not_changed_or_kept(recognizers, audio):
    recognizer = recognizers["greedy"]
    stream = recognizer.create_stream()
    buffer = np.empty(500, np.float32)
    for start in range(0, len(audio), 500):
        part = audio[start : start + 500]
        buffer[: len(part)] = part
        stream.accept_waveform(buffer[: len(part)], 8000)
        np.testing.assert_array_equal(buffer[: len(part)], part)
    stream.input_finished()
    assert stream.result() == streamed(recognizer, [audio])
