"""Utterances in a stream: endpoints, reset and flush; nothing lost, times right, the same however the audio is cut."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcompress_runtime import DecoderOptions, OptionsError, Recognizer, StreamStateError
from kdcompress_runtime.endpoint import Endpointer, EndpointRules, EndpointState
from kdcompress_runtime.errors import StreamOverflowError

KINDS = ("greedy", "beam")
RELAXED = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CUTS = st.lists(st.integers(0, 4000), max_size=25)
RULES = EndpointRules(  # the tiny model has 10 ms frames, and is never very sure of a silence
    initial_silence=0.5,
    trailing_silence=0.25,
    confident_silence=0.25,
    max_utterance=1.5,
    silence_probability=0.4,
    confident_probability=0.9,
)
UNTIL_THE_END = replace(RULES, initial_silence=math.inf, trailing_silence=math.inf, max_utterance=math.inf)


@pytest.fixture(scope="module")
def recognizers(bundle_path):
    return {
        kind: Recognizer.from_dir(
            bundle_path, decoder=DecoderOptions(kind, beam_width=4), endpoint=RULES, tail_seconds=0.0
        )
        for kind in KINDS
    }


@pytest.fixture(scope="module")
def talk(audio):
    """Speech and silence of many lengths, 6.5 s."""
    quiet = np.zeros(8000, np.float32)
    parts = [audio[:3000], quiet[:2500], audio[3000:8000], quiet, audio[8000:], quiet[:500], audio, audio[:4000]]
    return np.concatenate([*parts, quiet, audio[:801]])


def pieces(samples, sizes):
    return np.split(samples, np.minimum(np.cumsum(sizes), len(samples)))


def utterances(recognizer, parts, rate=8000, *, decode=True):
    """All utterances of a stream: (rule, result)."""
    stream, found = recognizer.create_stream(), []

    def drain():
        if not decode:
            recognizer.decode_streams([stream])
        while stream.is_endpoint():
            found.append((stream.endpoint_rule, stream.result()))
            stream.reset(decode=decode)
            if not decode:
                recognizer.decode_streams([stream])

    for part in parts:
        stream.accept_waveform(part, rate, decode=decode)
        drain()
    stream.input_finished(decode=decode)
    drain()
    return [*found, (None, stream.result())], stream


def agree(one, other, shift=0.0):
    assert one.tokens == other.tokens
    assert one.text == other.text
    assert one.timestamps == pytest.approx([time + shift for time in other.timestamps], abs=1e-6)
    assert one.token_ends == pytest.approx([time + shift for time in other.token_ends], abs=1e-6)
    assert one.log_prob == pytest.approx(other.log_prob, abs=1e-3)


def test_utterances_are_what_the_rules_and_the_decoder_make_of_the_frames(bundle_path, recognizers, talk):
    """Endpoints and results from the log-probabilities of the whole, frame by frame."""
    log_probs = recognizers["greedy"].log_probs(talk, 8000)
    endpointer = Endpointer(RULES, recognizers["greedy"].vocabulary, 10.0)
    labels, expected, begin, state = log_probs.argmax(axis=1), [], 0, EndpointState()
    for frame in range(len(log_probs)):
        state, count, rule = endpointer.advance(state, log_probs[frame : frame + 1])
        if count is not None:
            expected.append((rule, begin, frame + 1))
            begin, state = frame + 1, EndpointState()
    expected.append((None, begin, len(log_probs)))
    assert {rule for rule, _, _ in expected} == {"initial", "trailing", "length", None}

    found, stream = utterances(recognizers["greedy"], [talk])
    assert [rule for rule, _ in found] == [rule for rule, _, _ in expected]
    for (_, result), (_, first, last) in zip(found, expected, strict=True):
        starts = [t for t in range(first, last) if labels[t] and (t == first or labels[t] != labels[t - 1])]
        assert result.timestamps == pytest.approx([t / 100 for t in starts])
    assert stream.frames_decoded == len(log_probs)


@pytest.mark.parametrize("kind", KINDS)
@RELAXED
@given(sizes=CUTS, decode=st.booleans())
def test_any_cut_gives_exactly_the_same_utterances(recognizers, talk, kind, sizes, decode):
    expected, _ = utterances(recognizers[kind], [talk])
    found, _ = utterances(recognizers[kind], pieces(talk, sizes), decode=decode)
    assert found == expected


@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_the_chunk_of_the_model_does_not_move_endpoints(bundle_path, recognizers, talk, chunk):
    other = Recognizer.from_dir(bundle_path, chunk_frames=chunk, endpoint=RULES, tail_seconds=0.0)
    expected, _ = utterances(recognizers["greedy"], [talk])
    found, _ = utterances(other, [talk])
    assert [rule for rule, _ in found] == [rule for rule, _ in expected]
    for (_, one), (_, two) in zip(found, expected, strict=True):
        agree(one, two)


def test_endpoints_at_another_rate_stand_at_the_same_times(recognizers, talk):
    soxr = pytest.importorskip("soxr")
    fast = soxr.resample(talk, 8000, 44100)
    expected, _ = utterances(recognizers["greedy"], [soxr.resample(fast, 44100, 8000, quality="HQ")])
    found, _ = utterances(recognizers["greedy"], pieces(fast, [4410] * 90), 44100)
    assert [rule for rule, _ in found] == [rule for rule, _ in expected]
    assert len(found) > 4
    for (_, one), (_, two) in zip(found, expected, strict=True):
        agree(one, two)


def test_the_bundles_own_rules_of_a_stream_win(recognizers, talk):
    stream = recognizers["greedy"].create_stream(endpoint=replace(RULES, max_utterance=0.1))
    stream.accept_waveform(talk, 8000)
    assert stream.is_endpoint()
    assert stream.endpoint_rule == "length"
    assert stream.frames_decoded == 10


def test_without_rules_asking_for_an_endpoint_is_refused(bundle_path, talk):
    stream = Recognizer.from_dir(bundle_path).create_stream()
    stream.accept_waveform(talk, 8000)
    with pytest.raises(StreamStateError, match="EndpointRules"):
        stream.is_endpoint()
    with pytest.raises(StreamStateError, match="flush"):
        stream.result()


def test_an_endpoint_has_a_final_result_and_holds_the_rest_back(recognizers, talk):
    stream = recognizers["beam"].create_stream()
    stream.accept_waveform(talk, 8000)
    assert stream.is_endpoint()
    first = stream.result()
    assert stream.partial_result() == first
    assert stream.nbest(3)[0] == first
    assert first.stable_tokens == len(first.tokens) > 0
    frames = stream.frames_decoded
    stream.accept_waveform(talk, 8000)
    assert (stream.result(), stream.frames_decoded) == (first, frames)
    stream.reset()
    assert stream.frames_decoded > frames
    assert stream.result() != first


@pytest.mark.parametrize("kind", KINDS)
@RELAXED
@given(cut=st.integers(0, 10_437), sizes=CUTS)
def test_reset_in_the_middle_loses_nothing(recognizers, audio, kind, cut, sizes):
    """The frames of both utterances are those of one stream, and times go on."""
    recognizer = recognizers[kind]
    stream = recognizer.create_stream(endpoint=UNTIL_THE_END)
    for part in pieces(audio[:cut], sizes):
        stream.accept_waveform(part, 8000)
    begin = stream.frames_decoded
    stream.reset()
    stream.accept_waveform(audio[cut:], 8000)
    last = stream.flush()
    assert stream.frames_decoded == -(-len(audio) // 80)
    decoder, log_probs = recognizer._decoder, recognizer.log_probs(audio, 8000)
    alone = decoder.best(decoder.advance(decoder.init_state(), log_probs[begin:]))
    assert last.timestamps == pytest.approx([(begin + frame) / 100 for frame in alone.frames])
    assert last.log_prob == pytest.approx(alone.log_prob, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@RELAXED
@given(lengths=st.lists(st.integers(0, 6000), min_size=1, max_size=5), cuts=CUTS, rate=st.sampled_from([8000, 11025]))
def test_after_a_flush_the_next_utterance_is_that_of_a_new_stream_later(recognizers, audio, kind, **drawn):
    lengths, sizes, rate = drawn["lengths"], drawn["cuts"], drawn["rate"]
    stream = recognizers[kind].create_stream(endpoint=UNTIL_THE_END)
    samples = 0
    for length in lengths:
        clip = audio[len(audio) - length :]
        for part in pieces(clip, sizes):
            stream.accept_waveform(part, rate)
        single = recognizers[kind].create_stream(endpoint=UNTIL_THE_END)
        single.accept_waveform(clip, rate)
        single.input_finished()
        agree(stream.flush(), single.result(), samples / rate)
        stream.reset()
        samples += length


def test_flush_is_input_finished_and_result(recognizers, audio):
    one, two = (recognizers["beam"].create_stream(endpoint=UNTIL_THE_END) for _ in range(2))
    for stream in (one, two):
        stream.accept_waveform(audio, 8000)
    two.input_finished()
    assert one.flush() == two.result() == one.result() == one.flush()
    with pytest.raises(StreamStateError, match=r"reset\(\)"):
        one.accept_waveform(audio, 8000)


def test_the_last_word_survives_without_padding_by_the_caller(recognizers, audio):
    """Frames up to the very last sample are decoded, and equal those of audio that goes on with silence."""
    stream = recognizers["greedy"].create_stream(endpoint=UNTIL_THE_END)
    stream.accept_waveform(audio, 8000)
    before = stream.partial_result()
    final = stream.flush()
    padded = recognizers["greedy"].recognize(np.concatenate([audio, np.zeros(4000, np.float32)]), 8000)
    known = [time for time in padded.timestamps if time < len(audio) / 8000]
    assert list(final.timestamps) == pytest.approx(known)
    assert len(final.tokens) > len(before.tokens)


def test_partial_results_cost_nothing_when_nothing_changed(recognizers, audio):
    stream = recognizers["beam"].create_stream()
    stream.accept_waveform(audio[:4000], 8000)
    first = stream.partial_result()
    stream.accept_waveform(audio[4000:4010], 8000)  # not yet a chunk
    assert stream.partial_result() is first
    stream.accept_waveform(audio[4010:9000], 8000)
    assert stream.partial_result() is not first


@pytest.mark.parametrize("kind", KINDS)
def test_stable_tokens_never_change(recognizers, audio, kind):
    stream = recognizers[kind].create_stream(endpoint=UNTIL_THE_END)
    stable = ((), ())
    for part in pieces(audio, [400] * 30):
        stream.accept_waveform(part, 8000)
        partial = stream.partial_result()
        count = partial.stable_tokens
        assert count >= len(stable[0])
        assert partial.tokens[: len(stable[0])] == stable[0]
        assert partial.timestamps[: len(stable[0])] == stable[1]
        stable = (partial.tokens[:count], partial.timestamps[:count])
    final = stream.flush()
    assert final.tokens[: len(stable[0])] == stable[0]
    assert final.stable_tokens == len(final.tokens)
    assert len(stable[0]) > 5 or kind == "beam"  # its prefixes may differ for as long as the audio is noise


@pytest.mark.parametrize("rate", [8000, 44100])
def test_times_do_not_drift_over_utterances(recognizers, audio, rate):
    """200 flushed recordings of an odd length: each begins at its first sample, to the sample."""
    clip = audio[:1237]
    stream = recognizers["greedy"].create_stream(endpoint=UNTIL_THE_END)
    stream.accept_waveform(clip, rate)
    first = stream.flush()
    assert first.timestamps
    for number in range(1, 200):
        stream.reset()
        stream.accept_waveform(clip, rate)
        agree(stream.flush(), first, number * len(clip) / rate)


def test_audio_waits_up_to_a_limit(bundle_path, audio):
    recognizer = Recognizer.from_dir(bundle_path, max_queue_seconds=2.0)
    stream = recognizer.create_stream()
    stream.accept_waveform(audio, 8000, decode=False)
    with pytest.raises(StreamOverflowError, match="decode_streams"):
        stream.accept_waveform(audio, 8000, decode=False)
    recognizer.decode_streams([stream])
    stream.accept_waveform(audio, 8000, decode=False)
    stream.accept_waveform(np.tile(audio, 3), 8000)  # decoded on the way, so nothing waits
    result = stream.flush()
    assert stream.frames_decoded == -(-5 * len(audio) // 80)
    assert result == streamed_alone(recognizer, np.tile(audio, 5))
    assert issubclass(StreamOverflowError, StreamStateError)


def streamed_alone(recognizer, samples):
    stream = recognizer.create_stream()
    stream.accept_waveform(samples, 8000)
    return stream.flush()


def test_an_endpoint_that_nobody_resets_is_an_error_in_the_end(bundle_path, talk):
    stream = Recognizer.from_dir(bundle_path, max_queue_seconds=10.0, endpoint=RULES).create_stream()
    stream.accept_waveform(talk, 8000)
    with pytest.raises(StreamOverflowError, match=r"reset\(\)"):
        stream.accept_waveform(talk, 8000)
    with pytest.raises(StreamOverflowError, match=r"shorter pieces.*recognizer\.stream"):
        Recognizer.from_dir(bundle_path, max_queue_seconds=2.0, endpoint=RULES).create_stream().accept_waveform(
            talk, 8000
        )


@pytest.mark.parametrize("value", [0, -1.0, math.nan])
def test_queue_limits_out_of_range_are_refused(bundle_path, value):
    with pytest.raises(OptionsError, match="max_queue_seconds"):
        Recognizer.from_dir(bundle_path, max_queue_seconds=value)


def test_order_is_kept_when_decoding_is_left_to_others(recognizers, audio):
    recognizer = recognizers["greedy"]
    stream = recognizer.create_stream(endpoint=UNTIL_THE_END)
    stream.accept_waveform(audio, 8000, decode=False)
    assert stream.frames_decoded == 0
    stream.input_finished(decode=False)
    for call in (stream.result, stream.reset, lambda: stream.nbest(1)):
        with pytest.raises(StreamStateError, match="decode_streams"):
            call()
    recognizer.decode_streams([stream])
    agree(stream.result(), recognizer.recognize(audio, 8000))
    stream.reset()
    assert stream.partial_result().tokens == ()


def test_whole_recordings_have_no_endpoints_but_may_follow_each_other(whole_path, audio):
    recognizer = Recognizer.from_dir(whole_path)
    for make in (
        lambda: Recognizer.from_dir(whole_path, endpoint=RULES),
        lambda: recognizer.create_stream(endpoint=RULES),
    ):
        with pytest.raises(OptionsError, match="whole recordings"):
            make()
    stream = recognizer.create_stream()
    for number in range(3):
        stream.accept_waveform(audio, 8000)
        agree(stream.flush(), recognizer.recognize(audio, 8000), number * len(audio) / 8000)
        stream.reset()
