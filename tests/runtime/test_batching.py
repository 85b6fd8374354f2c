"""Many streams in one call: the answers of streams alone, wherever each of them stands."""

from __future__ import annotations

import threading

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from kdcompress_runtime import Bundle, CtcModel, DecoderOptions, ModelError, OptionsError, Recognizer, StreamStateError
from kdcompress_runtime.batching import MAX_BATCH, stack_states, unstack_states

RELAXED = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def recognizers(bundle_path):
    return {
        kind: Recognizer.from_dir(bundle_path, decoder=DecoderOptions(kind, beam_width=4))
        for kind in ("greedy", "beam")
    }


def alone(recognizer, samples, rate=8000):
    stream = recognizer.create_stream()
    stream.accept_waveform(samples, rate)
    return stream.flush()


class Counted:
    """A model that counts calls and rows."""

    def __init__(self, model):
        self._model = model
        self.batches = []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def step(self, inputs, states):
        self.batches.append(len(inputs))
        return self._model.step(inputs, states)


@pytest.fixture
def counted(bundle_path):
    model = Counted(CtcModel.from_bundle(Bundle.open(bundle_path)))
    return model, Recognizer(model)


@pytest.mark.parametrize("count", range(1, 9))
def test_streams_together_answer_as_alone_to_the_bit(counted, audio, count):
    model, recognizer = counted
    clips = [np.roll(audio, 700 * i)[: 3000 + 900 * i] for i in range(count)]
    streams = [recognizer.create_stream() for _ in clips]
    for stream, clip in zip(streams, clips, strict=True):
        stream.accept_waveform(clip, 8000, decode=False)
        stream.input_finished(decode=False)
    recognizer.decode_streams(streams)
    assert max(model.batches) == count
    assert [stream.result() for stream in streams] == [alone(recognizer, clip) for clip in clips]


@pytest.mark.parametrize("kind", ["greedy", "beam"])
@RELAXED
@given(data=st.data())
def test_any_order_of_feeding_resetting_and_decoding_gives_the_same(recognizers, audio, kind, data):
    """Streams do what they like between batched steps; each equals a twin that is decoded at once and alone."""
    recognizer = recognizers[kind]
    pairs = [(recognizer.create_stream(), recognizer.create_stream()) for _ in range(data.draw(st.integers(1, 4)))]
    actions = st.tuples(
        st.sampled_from(["feed", "feed", "feed", "reset", "flush", "finish", "decode"]),
        st.integers(0, len(pairs) - 1),
        st.integers(0, 2500),
    )
    for action, index, size in data.draw(st.lists(actions, max_size=25)):
        stream, twin = pairs[index]
        if action == "decode":
            recognizer.decode_streams([stream for stream, _ in pairs])
        elif action == "feed":
            stream.accept_waveform(audio[size:][:size], 8000, decode=False)
            twin.accept_waveform(audio[size:][:size], 8000)
        elif action == "reset":
            recognizer.decode_streams([stream])
            stream.reset()
            twin.reset()
        elif action == "flush":
            assert stream.flush() == twin.flush()
            stream.reset()
            twin.reset()
        else:
            stream.input_finished(decode=False)
            recognizer.decode_streams([stream for stream, _ in pairs])
            twin.input_finished()
            assert stream.result() == twin.result()
            stream.reset(decode=False)
            twin.reset()
    recognizer.decode_streams([stream for stream, _ in pairs])
    for stream, twin in pairs:
        assert stream.partial_result() == twin.partial_result()
        assert stream.flush() == twin.flush()
        assert stream.frames_decoded == twin.frames_decoded


def test_finished_empty_and_waiting_streams_may_be_among_them(counted, audio):
    model, recognizer = counted
    streams = [recognizer.create_stream() for _ in range(4)]
    streams[0].accept_waveform(audio, 8000)
    done = streams[0].flush()
    streams[1].accept_waveform(audio[:100], 8000, decode=False)  # less than a chunk
    streams[2].accept_waveform(audio, 8000, decode=False)
    before = len(model.batches)
    recognizer.decode_streams(streams)
    assert set(model.batches[before:]) == {1}
    assert streams[0].result() == done
    assert streams[1].frames_decoded == streams[3].frames_decoded == 0
    recognizer.decode_streams([])
    recognizer.decode_streams(streams)
    assert streams[2].flush() == done


def test_no_call_has_more_than_the_largest_batch(counted, audio):
    model, recognizer = counted
    streams = [recognizer.create_stream() for _ in range(MAX_BATCH + 3)]
    for stream in streams:
        stream.accept_waveform(audio[:700], 8000, decode=False)
    recognizer.decode_streams(streams)
    assert sorted(set(model.batches)) == [3, MAX_BATCH]
    assert {stream.frames_decoded for stream in streams} == {6}


def test_streams_of_others_and_twice_the_same_are_refused(recognizers, audio):
    mine, other = recognizers["greedy"].create_stream(), recognizers["beam"].create_stream()
    with pytest.raises(OptionsError, match=r"streams\[1\]"):
        recognizers["greedy"].decode_streams([mine, other])
    with pytest.raises(OptionsError, match="twice"):
        recognizers["greedy"].decode_streams([mine, mine])
    with pytest.raises(OptionsError, match=r"streams\[0\]"):
        recognizers["greedy"].decode_streams(["stream"])
    mine.accept_waveform(audio, 8000)
    assert mine.frames_decoded > 0


def test_a_stream_in_use_is_refused_and_the_others_are_free_again(recognizers, audio):
    recognizer = recognizers["greedy"]
    free, busy = recognizer.create_stream(), recognizer.create_stream()
    free.accept_waveform(audio, 8000, decode=False)
    with busy._in_use, pytest.raises(StreamStateError, match="another thread"):
        recognizer.decode_streams([free, busy])
    assert free.frames_decoded == 0
    recognizer.decode_streams([free, busy])
    assert free.frames_decoded > 0


def test_a_stream_that_fails_does_not_stop_the_others(bundle_path, audio):
    """The model fails on audio louder than 1; only that stream stays where it is."""

    class Picky(Counted):
        def step(self, inputs, states):
            if np.abs(inputs).max() > 1:
                raise ModelError("too loud")
            return super().step(inputs, states)

    model = Picky(CtcModel.from_bundle(Bundle.open(bundle_path)))
    recognizer = Recognizer(model)
    clips = [audio[:5000], audio[:5000].copy(), audio[5000:]]
    clips[1][2000] = 1.5
    streams = [recognizer.create_stream() for _ in clips]
    for stream, clip in zip(streams, clips, strict=True):
        stream.accept_waveform(clip, 8000, decode=False)
        stream.input_finished(decode=False)
    with pytest.raises(ModelError, match="too loud"):
        recognizer.decode_streams(streams)
    assert streams[0].result() == alone(recognizer, clips[0])
    assert streams[2].result() == alone(recognizer, clips[2])
    assert streams[1].frames_decoded == 2000 // 320 * 4 - 2
    with pytest.raises(ModelError, match="too loud"):
        recognizer.decode_streams(streams)


def test_two_threads_may_each_decode_their_own(recognizers, audio):
    recognizer = recognizers["greedy"]
    groups = [[recognizer.create_stream() for _ in range(3)] for _ in range(3)]

    def work(group):
        for part in np.array_split(audio, 20):
            for stream in group:
                stream.accept_waveform(part, 8000, decode=False)
            recognizer.decode_streams(group)

    threads = [threading.Thread(target=work, args=(group,)) for group in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = alone(recognizer, audio)
    assert all(stream.flush() == expected for group in groups for stream in group)


def test_whole_recordings_are_decoded_one_by_one(whole_path, audio):
    recognizer = Recognizer.from_dir(whole_path)
    streams = [recognizer.create_stream() for _ in range(3)]
    for number, stream in enumerate(streams):
        stream.accept_waveform(audio[: 3000 * (number + 1)], 8000, decode=False)
        stream.input_finished(decode=False)
    recognizer.decode_streams(streams)
    for number, stream in enumerate(streams):
        assert stream.result() == recognizer.recognize(audio[: 3000 * (number + 1)], 8000)


def dynamic(content):
    """The same graph, its input quantized with the range of all that a call is given."""
    model = onnx.load_from_string(content)
    for node in model.graph.node:
        node.input[:] = ["rounded" if name == "pcm" else name for name in node.input]
    extra = [
        helper.make_node("DynamicQuantizeLinear", ["pcm"], ["codes", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["rounded"]),
    ]
    nodes = [*extra, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    return model.SerializeToString()


def test_models_with_dynamic_ranges_are_stepped_one_by_one(tmp_path, bundle_writer, bundle_path, audio):
    path = bundle_writer(tmp_path / "dynamic", model=dynamic((bundle_path / "model.onnx").read_bytes()))
    inner = CtcModel.from_bundle(Bundle.open(path))
    loud, quiet = audio[None, :320], audio[None, :320] * np.float32(0.01)
    together, _ = inner.step(np.concatenate([loud, quiet]), inner.init_states(2))
    single, _ = inner.step(quiet, inner.init_states())
    assert np.abs(together[1] - single[0]).max() > 0.01  # the reason
    assert not inner.batchable

    model = Counted(inner)
    recognizer = Recognizer(model)
    clips = [audio, audio * np.float32(0.01)]
    streams = [recognizer.create_stream() for _ in clips]
    for stream, clip in zip(streams, clips, strict=True):
        stream.accept_waveform(clip, 8000, decode=False)
        stream.input_finished(decode=False)
    recognizer.decode_streams(streams)
    assert set(model.batches) == {1}
    assert [stream.result() for stream in streams] == [alone(recognizer, clip) for clip in clips]


def test_states_stack_and_unstack_along_their_batch_axis():
    from kdcompress_runtime.bundle import StateSpec

    specs = (StateSpec("a", (2, "N", 3)), StateSpec("b", ("N",), "int64"))
    random = np.random.default_rng(0)
    states = [
        {"a": random.normal(size=(2, 1, 3)).astype(np.float32), "b": np.array([i], dtype=np.int64)} for i in range(4)
    ]
    stacked = stack_states(states, specs)
    assert stacked["a"].shape == (2, 4, 3)
    back = unstack_states(stacked, specs, 4)
    for one, other in zip(states, back, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
            assert other[name].base is None
