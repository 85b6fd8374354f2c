"""Inside an app: forks and spawned processes, Ctrl-C, strange audio, options of the session, bounded memory."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
import threading

import numpy as np
import onnxruntime
import pytest

from kdcompress_runtime import (
    Bundle,
    CtcModel,
    DecoderOptions,
    KdcompressError,
    ModelError,
    OptionsError,
    Recognizer,
    SessionOptions,
    StreamStateError,
)
from kdcompress_runtime.errors import ForkedProcessError

FORK = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")


def streamed(recognizer, samples, rate=8000):
    stream = recognizer.create_stream()
    stream.accept_waveform(samples, rate)
    return stream.flush()


def in_child(work):
    """What ``work()`` answers in a forked child, or the name and words of its error."""
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)

    def run():
        try:
            there.send(work())
        except KdcompressError as error:
            there.send((type(error).__name__, str(error)))

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    try:
        assert here.poll(30), "the child hangs"
        return here.recv()
    finally:
        child.join(5)
        if child.is_alive():
            child.kill()


@FORK
@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_a_recognizer_opened_before_a_fork_works_in_the_child(bundle_path, audio, kind):
    recognizer = Recognizer.from_dir(bundle_path, decoder=DecoderOptions(kind))
    stream = recognizer.create_stream()
    stream.accept_waveform(audio[:5000], 8000)  # in the middle of a stream, too

    def work():
        stream.accept_waveform(audio[5000:], 8000)
        return stream.flush(), streamed(recognizer, audio), streamed(recognizer, audio, 16_000)

    found = in_child(work)
    assert found == work()
    assert found[0] == found[1]


@FORK
@pytest.mark.parametrize("threads", [2, 0])
def test_with_threads_of_its_own_the_child_is_told_instead_of_left_hanging(bundle_path, audio, threads):
    recognizer = Recognizer.from_dir(bundle_path, session_options=SessionOptions(intra_op_threads=threads))
    expected = streamed(recognizer, audio)
    name, words = in_child(lambda: streamed(recognizer, audio))
    assert name == "ForkedProcessError"
    assert "spawn" in words
    assert "intra_op_threads=1" in words
    assert issubclass(ForkedProcessError, ModelError)
    own = in_child(
        lambda: streamed(
            Recognizer.from_dir(bundle_path, session_options=SessionOptions(intra_op_threads=threads)), audio
        )
    )
    assert own.text == expected.text


@FORK
def test_a_child_can_drop_a_session_with_threads_that_it_inherited(bundle_path):
    """onnxruntime would wait for its threads, which are not there, and the child would never end."""
    recognizer = [Recognizer.from_dir(bundle_path, session_options=SessionOptions(intra_op_threads=2))]

    def work():
        recognizer.clear()
        return gc.collect() >= 0

    assert in_child(work)


def test_spawned_workers_open_the_bundle_themselves(tmp_path, bundle_path, audio):
    np.save(tmp_path / "audio.npy", audio)
    script = tmp_path / "workers.py"
    script.write_text(
        "import multiprocessing, numpy\n"
        "from kdcompress_runtime import Recognizer\n"
        "def start():\n"
        "    global recognizer\n"
        f"    recognizer = Recognizer.from_dir({str(bundle_path)!r})\n"
        "def work(samples):\n"
        "    return recognizer.recognize(samples, 8000)\n"
        "if __name__ == '__main__':\n"
        f"    samples = numpy.load({str(tmp_path / 'audio.npy')!r})\n"
        "    with multiprocessing.get_context('spawn').Pool(2, start) as pool:\n"
        "        found = pool.map(work, [samples, samples[:5000]])\n"
        "    start()\n"
        "    print(found == [work(samples), work(samples[:5000])], len(found[0].tokens) > 5)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr


class Interrupting:
    """A model during whose n-th step Ctrl-C comes."""

    def __init__(self, model, when):
        self._model = model
        self._left = when

    def __getattr__(self, name):
        return getattr(self._model, name)

    def step(self, inputs, states):
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt
        return self._model.step(inputs, states)


@pytest.mark.parametrize("when", [1, 2, 17, 32])
@pytest.mark.parametrize("together", [False, True])
def test_after_ctrl_c_in_a_step_the_stream_catches_up(bundle_path, audio, when, together):
    inner = CtcModel.from_bundle(Bundle.open(bundle_path))
    recognizer = Recognizer(Interrupting(inner, when))
    stream = recognizer.create_stream()
    if together:
        stream.accept_waveform(audio, 8000, decode=False)
    decode = recognizer.decode_streams if together else lambda _: stream.accept_waveform(audio, 8000)
    with pytest.raises(KeyboardInterrupt):
        decode([stream])
    assert stream.frames_decoded == max((when - 1) * 4 - 2, 0)
    stream.accept_waveform(audio, 8000)
    assert stream.flush() == streamed(Recognizer(inner), np.tile(audio, 2))


def test_after_ctrl_c_while_audio_is_taken_the_stream_says_that_it_is_lost(bundle_path, audio):
    inner = CtcModel.from_bundle(Bundle.open(bundle_path))
    stream = Recognizer(Interrupting(inner, 20)).create_stream()
    long = np.tile(audio, 60)  # more than is taken in one piece, so the rest of it is gone
    with pytest.raises(KeyboardInterrupt):
        stream.accept_waveform(long, 8000)
    for call in (lambda: stream.accept_waveform(audio, 8000), stream.input_finished, stream.flush, stream.reset):
        with pytest.raises(StreamStateError, match=r"interrupted.*new stream"):
            call()
    assert stream.partial_result().tokens  # what was known stays readable


def test_a_stream_lets_go_of_its_lock_after_an_interruption(bundle_path, audio):
    stream = Recognizer(Interrupting(CtcModel.from_bundle(Bundle.open(bundle_path)), 3)).create_stream()
    with pytest.raises(KeyboardInterrupt):
        stream.accept_waveform(audio, 8000)
    thread = threading.Thread(target=stream.input_finished)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert len(stream.result().tokens) > 20


STRANGE = {
    "silence": np.zeros_like,
    "DC": lambda audio: np.full_like(audio, 0.9),
    "clipped": lambda audio: np.clip(audio * 50, -1, 1),
    "a little over one": lambda audio: audio * 4,
    "denormals": lambda audio: audio * np.float32(1e-41),
    "int16 at full scale": lambda audio: np.where(audio > 0, 32767, -32768).astype(np.int16),
    "an impulse": lambda audio: np.eye(1, len(audio), 5000, dtype=np.float32)[0],
    "not contiguous": lambda audio: np.repeat(audio, 2)[::2],
    "read-only": lambda audio: np.frombuffer(audio.tobytes(), np.float32),
    "backwards": lambda audio: audio[::-1],
    "big-endian": lambda audio: audio.astype(">f4"),
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("rate", [8000, 48_000])
def test_strange_audio_gives_a_finite_answer_however_it_is_cut(recognizer, audio, name, rate):
    samples = STRANGE[name](audio)
    stream = recognizer.create_stream()
    for part in np.array_split(samples, 37):
        stream.accept_waveform(part, rate)
    result = stream.flush()
    assert np.isfinite(result.log_prob)
    assert result == streamed(recognizer, np.ascontiguousarray(samples, samples.dtype.newbyteorder("=")), rate)
    assert stream.frames_decoded == pytest.approx(len(samples) * 100 / rate, abs=1)


def test_an_hour_at_once_costs_no_more_memory_than_a_minute(bundle_path):
    psutil = pytest.importorskip("psutil")
    recognizer = Recognizer.from_dir(bundle_path, chunk_frames=400)
    minute = np.zeros(60 * 8000, np.int16)
    hour = np.zeros(3600 * 8000, np.int16)
    streamed(recognizer, minute)
    peak, done = [0], threading.Event()

    def watch():
        process = psutil.Process()
        while not done.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            done.wait(0.002)

    before = psutil.Process().memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    stream = recognizer.create_stream()
    stream.accept_waveform(hour, 8000)
    stream.input_finished()
    done.set()
    watcher.join()
    assert stream.frames_decoded == 360_000
    assert (peak[0] - before) / 2**20 < 20  # the hour itself is 55 MiB, and 110 as float32


def test_one_sample_at_a_time_is_the_same_and_not_slow(recognizer, audio):
    stream = recognizer.create_stream()
    for sample in audio.reshape(-1, 1):
        stream.accept_waveform(sample, 8000)
    assert stream.flush() == streamed(recognizer, audio)


def test_entries_of_the_session_configuration_reach_onnxruntime_and_win():
    built = SessionOptions(
        graph_optimization="basic",
        config={"session.intra_op.allow_spinning": "1", "session.set_denormal_as_zero": "1"},
    ).build()
    assert built.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert built.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert built.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert built.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert SessionOptions().build().graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


@pytest.mark.parametrize("level", ["none", "basic", "extended", "all"])
def test_optimisation_does_not_change_the_answer(bundle_path, recognizer, audio, level):
    other = Recognizer.from_dir(bundle_path, session_options=SessionOptions(graph_optimization=level))
    np.testing.assert_allclose(other.log_probs(audio, 8000), recognizer.log_probs(audio, 8000), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"graph_optimization": "fast"}, "none, basic, extended, all"),
        ({"config": {"session.x": 1}}, "texts to texts"),
        ({"config": {"": "1"}}, "texts to texts"),
        ({"config": "session.x"}, "texts to texts"),
        ({"config": {1: "1"}}, "texts to texts"),
    ],
)
def test_session_options_out_of_range_are_refused(options, words):
    with pytest.raises(OptionsError, match=words):
        SessionOptions(**options)


def test_what_onnxruntime_refuses_is_an_options_error(bundle_path):
    options = SessionOptions(config={"session.x" * 1000: "1"})
    with pytest.raises(OptionsError, match="refuses config"):
        Recognizer.from_dir(bundle_path, session_options=options)


def test_session_options_keep_a_copy_and_stay_hashable():
    config = {"session.set_denormal_as_zero": "1"}
    options = SessionOptions(config=config)
    config["session.set_denormal_as_zero"] = "0"
    assert options.config == {"session.set_denormal_as_zero": "1"}
    assert hash(options) == hash(SessionOptions(config=options.config))
    assert options != SessionOptions()


def test_streaming_in_all_ways_prints_and_imports_nothing(bundle_path):
    script = (
        "import sys, numpy, kdcompress_runtime as k\n"
        "from kdcompress_runtime.endpoint import EndpointRules\n"
        f"r = k.Recognizer.from_dir({str(bundle_path)!r}, endpoint=EndpointRules())\n"
        "print([name for name in ('asyncio', 'kdcompress_runtime.lm', 'multiprocessing') if name in sys.modules])\n"
        "chunks = [numpy.zeros(4000, numpy.float32)] * 30\n"
        "events = list(r.stream(chunks, 8000))\n"
        "s = r.create_stream(vad=lambda *_: False)\n"
        "s.accept_waveform(chunks[0], 8000, decode=False); r.decode_streams([s]); s.flush(); s.reset()\n"
        "print('asyncio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
    assert done.stderr == ""
