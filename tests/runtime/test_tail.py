"""The tail behind the end of a recording: models that speak late are heard out, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from kdcompress_runtime import Bundle, CtcModel, EndpointRules, OptionsError, Recognizer
from kdcompress_runtime.tail import AMPLITUDE, faint_noise

LATE = 15
"""Frames of 10 ms that the model below says everything too late."""


class LateModel:
    """A model whose tokens come ``LATE`` frames after their sound; one step only."""

    def __init__(self, inner: CtcModel) -> None:
        self._inner = inner

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def step(self, inputs, states):
        log_probs, following = self._inner.step(inputs, states)
        late = np.full_like(log_probs, -50.0)
        late[:, :, 0] = 0.0
        late[:, LATE:] = log_probs[:, : log_probs.shape[1] - LATE]
        return late, following


@pytest.fixture(scope="module")
def late(bundle_path):
    model = LateModel(CtcModel.from_bundle(Bundle.open(bundle_path)))
    return {seconds: Recognizer(model, tail_seconds=seconds) for seconds in (0.0, 0.2)}


def test_a_model_that_speaks_late_is_heard_out(late, bundle_path, audio):
    on_time = Recognizer.from_dir(bundle_path, tail_seconds=0.0).recognize(audio, 8000)
    lost, kept = (late[seconds].recognize(audio, 8000) for seconds in (0.0, 0.2))
    said = "".join(on_time.tokens)[3:]
    assert said in "".join(kept.tokens)
    assert said not in "".join(lost.tokens)
    assert kept.tokens[: len(lost.tokens)] == lost.tokens


def test_times_never_lie_beyond_the_end(late, audio):
    for length in (1, 79, 80, 81, 700, 1500, len(audio)):
        found = late[0.2].recognize(audio[:length], 8000)
        end = -(-length // 80) / 100
        assert all(0 <= time < end for time in found.timestamps)
        assert all(time <= end for time in found.token_ends)
        assert list(found.timestamps) == sorted(found.timestamps)
        assert all(word.begin < word.end <= end for word in found.words)


def test_no_audio_has_no_tail_and_frames_are_those_of_the_audio(recognizer, audio):
    assert recognizer.recognize(audio[:0], 8000).tokens == ()
    stream = recognizer.create_stream()
    stream.accept_waveform(audio[:801], 8000)
    stream.flush()
    assert stream.frames_decoded == 11
    stream.reset()
    stream.accept_waveform(audio[:80], 8000)
    stream.flush()
    assert stream.frames_decoded == 12


def test_nobody_pauses_in_the_tail(bundle_path, audio):
    rules = EndpointRules(initial_silence=0.01, trailing_silence=0.01, confident_silence=0.01)
    with_tail, without = (Recognizer.from_dir(bundle_path, endpoint=rules, tail_seconds=s) for s in (5.0, 0.0))
    rows = [
        [(event.rule, event.result.text) for event in one.stream([audio], 8000) if event.is_final]
        for one in (with_tail, without)
    ]
    ends = [[row for row in found if row[0] is not None] for found in rows]
    assert ends[0] == ends[1] != []


def test_the_noise_is_one_and_faint():
    noise = faint_noise(4000)
    assert noise.dtype == np.float32
    assert np.array_equal(faint_noise(10), noise[:10])
    assert len(faint_noise(0)) == 0
    state = 1
    for value in noise[:100]:
        state = (1664525 * state + 1013904223) % 2**32
        assert value == np.float32(((state >> 8) / 2**23 - 1) * AMPLITUDE)
    assert abs(noise).max() <= np.float32(AMPLITUDE)
    assert abs(noise.mean()) < 0.05 * AMPLITUDE
    assert noise.std() == pytest.approx(AMPLITUDE / np.sqrt(3), rel=0.05)


@pytest.mark.parametrize("seconds", [-0.1, 11.0, float("nan")])
def test_a_tail_without_sense_is_refused(bundle_path, seconds):
    with pytest.raises(OptionsError, match="tail_seconds"):
        Recognizer.from_dir(bundle_path, tail_seconds=seconds)
