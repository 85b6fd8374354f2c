"""Models that take whole recordings: the graph decides how many frames, a stream answers at its end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcompress_runtime import (
    AudioError,
    AudioTooLongError,
    Bundle,
    CtcModel,
    DecoderOptions,
    ModelError,
    OptionsError,
    Recognizer,
    Result,
)

KINDS = ("greedy", "beam")
RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def recognizers(whole_path):
    return {kind: Recognizer.from_dir(whole_path, decoder=DecoderOptions(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def model(whole_path):
    return CtcModel.from_bundle(Bundle.open(whole_path))


def streamed(recognizer, parts, rate=8000):
    stream = recognizer.create_stream()
    for part in parts:
        stream.accept_waveform(part, rate)
        assert stream.partial_result() == Result("", (), (), 0.0)
        assert stream.frames_decoded == 0
    stream.input_finished()
    return stream.result()


def test_the_whole_recording_goes_through_the_graph_once(recognizers, whole_path, audio):
    session = onnxruntime.InferenceSession(str(whole_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"pcm": audio[None]})
    found = recognizers["greedy"].log_probs(audio, 8000)
    assert found.shape == ((len(audio) - 100) // 80 + 1, 8)
    np.testing.assert_array_equal(found, expected[0])


def test_recordings_longer_than_a_streaming_step_are_not_cut(recognizers, audio):
    long = np.tile(audio, 40)  # 52 s
    assert len(recognizers["greedy"].log_probs(long, 8000)) == (len(long) - 100) // 80 + 1


@pytest.mark.parametrize("kind", KINDS)
@RELAXED
@given(sizes=st.lists(st.integers(0, 2500), max_size=25))
def test_any_cut_gives_exactly_the_same_result(recognizers, audio, kind, sizes):
    parts = np.split(audio, np.minimum(np.cumsum(sizes), len(audio)))
    result = recognizers[kind].recognize(audio, 8000)
    assert streamed(recognizers[kind], parts) == result
    assert len(result.tokens) > 10
    assert 0 <= result.timestamps[0] < result.timestamps[-1] < len(audio) / 8000


@pytest.mark.parametrize("rate", [11025, 16000])
def test_any_cut_gives_the_same_result_at_other_rates(recognizers, audio, rate):
    recognizer = recognizers["greedy"]
    assert streamed(recognizer, np.split(audio, [7, 900, 901]), rate) == recognizer.recognize(audio, rate)


def test_frame_t_stands_at_t_times_the_frame_shift(recognizers, audio):
    best = recognizers["greedy"].log_probs(audio, 8000).argmax(axis=1)
    first = int(np.flatnonzero(best)[0])
    assert recognizers["greedy"].recognize(audio, 8000).timestamps[0] == pytest.approx(first * 0.01)


@pytest.mark.parametrize("length", [1, 50, 99, 100, 179, 180])
def test_short_recordings_are_padded_to_the_shortest_input_and_no_further(recognizers, model, audio, length):
    found = recognizers["greedy"].log_probs(audio[:length], 8000)
    padded = np.pad(audio[:length], (0, max(100 - length, 0)))
    np.testing.assert_array_equal(found, model.step(padded[None], {})[0][0])
    assert len(found) == (2 if length == 180 else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_no_audio_is_an_empty_result(recognizers, kind):
    nothing = np.zeros(0, np.float32)
    assert streamed(recognizers[kind], []) == Result("", (), (), 0.0)
    assert streamed(recognizers[kind], [nothing, nothing], 44100) == Result("", (), (), 0.0)
    assert recognizers[kind].recognize(nothing, 8000) == Result("", (), (), 0.0)
    assert recognizers[kind].log_probs(nothing, 8000).shape == (0, 8)


def test_an_endless_stream_is_refused_before_it_eats_the_memory(whole_path, audio):
    recognizer = Recognizer.from_dir(whole_path, max_whole_seconds=2.0)
    stream = recognizer.create_stream()
    stream.accept_waveform(audio, 8000)
    with pytest.raises(AudioTooLongError, match=r"2\.6 s of audio .* at most 2 s; cut the recording"):
        stream.accept_waveform(audio, 8000)
    with pytest.raises(AudioError, match="max_whole_seconds"):
        recognizer.recognize(np.tile(audio, 2), 8000)
    # Nothing of what was refused was taken: the stream ends with what it had.
    stream.input_finished()
    assert stream.result() == recognizer.recognize(audio, 8000)


def test_by_default_five_minutes_are_kept(recognizers):
    stream = recognizers["greedy"].create_stream()
    silence = np.zeros(8000 * 60, np.int16)
    for _ in range(5):
        stream.accept_waveform(silence, 8000)
    with pytest.raises(AudioTooLongError, match="at most 300 s"):
        stream.accept_waveform(silence[:1], 8000)


def test_the_callers_audio_is_not_kept(recognizers, audio):
    stream = recognizers["greedy"].create_stream()
    buffer = audio.copy()
    stream.accept_waveform(buffer, 8000)
    buffer[:] = 0
    stream.input_finished()
    assert stream.result() == recognizers["greedy"].recognize(audio, 8000)


def test_a_batch_of_equal_lengths_is_one_step(model, audio):
    both = np.stack([audio[:1600], audio[1600:3200]])
    together, states = model.step(both, model.init_states(batch=2))
    assert states == {}
    for row, alone in enumerate(both):
        np.testing.assert_allclose(together[row], model.step(alone[None], {})[0][0], atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 99), (1, 0), (100,)])
def test_inputs_shorter_than_the_shortest_are_model_errors(model, shape):
    with pytest.raises(ModelError, match=r"takes \(N, n\) with n >= 100"):
        model.step(np.zeros(shape, np.float32), {})


def test_a_graph_that_answers_for_another_batch_is_refused(whole_path, audio):
    bundle = Bundle.open(whole_path)
    model = CtcModel.from_bundle(bundle)

    class Odd:
        def run(self, *_):
            return [np.zeros((2, 7, 8), np.float32)]

    model._session = Odd()
    with pytest.raises(ModelError, match=r"\(2, 7, 8\).*promise \(1, 7, 8\)"):
        model.step(audio[None], {})


def test_a_streaming_graph_under_whole_metadata_is_refused(bundle_path):
    bundle = Bundle.open(bundle_path)
    metadata = replace(bundle.metadata, streaming=False, states=(), lookahead_frames=0)
    with pytest.raises(ModelError, match="unknown input 'history'"):
        CtcModel.from_bundle(replace(bundle, metadata=metadata))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chunk_frames": 4}, "no chunks"),
        ({"max_whole_seconds": 0}, "max_whole_seconds must be above 0"),
        ({"max_whole_seconds": float("nan")}, "max_whole_seconds must be above 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(whole_path, options, words):
    with pytest.raises(OptionsError, match=words):
        Recognizer.from_dir(whole_path, **options)


def test_onnxruntimes_own_format_is_told_by_its_bytes(whole_path, tmp_path, bundle_writer, audio, ort_format):
    content = ort_format((whole_path / "model.onnx").read_bytes())
    fields = {"streaming": False, "states": [], "lookahead_frames": 0}
    source = {"kind": "pcm", "name": "pcm", "units_per_frame": 80, "sample_rate": 8000, "min_units": 100}
    path = bundle_writer(tmp_path / "b", model=content, input=source, **fields)
    found = Recognizer.from_dir(path).log_probs(audio, 8000)
    np.testing.assert_allclose(found, Recognizer.from_dir(whole_path).log_probs(audio, 8000), atol=1e-5)
