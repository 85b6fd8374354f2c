"""A VAD of the caller's: the model rests in long silences, and times stay right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_runtime import Bundle, CtcModel, DecoderOptions, OptionsError, Recognizer
from kdcompress_runtime.endpoint import EndpointRules
from kdcompress_runtime.vad import VadRules

RULES = VadRules(hangover=0.2, context=0.1)


class EnergyVad:
    """The simplest there is: loud is speech."""

    def __init__(self, threshold=0.005):
        self.threshold = threshold
        self.heard = []

    def __call__(self, samples, sample_rate):
        assert samples.dtype == np.float32
        assert sample_rate == 8000
        self.heard.append(samples)
        return float(np.sqrt(np.mean(samples**2))) > self.threshold


class Counted:
    def __init__(self, model):
        self._model = model
        self.steps = 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    def step(self, inputs, states):
        self.steps += len(inputs)
        return self._model.step(inputs, states)


@pytest.fixture
def counted(bundle_path):
    model = Counted(CtcModel.from_bundle(Bundle.open(bundle_path)))
    return model, Recognizer(model)


@pytest.fixture(scope="module")
def talk(audio):
    """Speech, 10 s of silence, speech, 3 s of silence."""
    quiet = np.zeros(80_000, np.float32)
    return np.concatenate([audio[:4000], quiet, audio[4000:], quiet[:24_000]])


def run(recognizer, samples, vad=None, sizes=(), **options):
    if vad is not None:
        options.setdefault("vad_rules", RULES)
    stream = recognizer.create_stream(vad=vad, **options)
    for part in np.split(samples, np.minimum(np.cumsum(sizes, dtype=int), len(samples))):
        stream.accept_waveform(part, 8000)
    return stream.flush(), stream


def test_a_vad_that_always_hears_speech_changes_nothing(counted, talk):
    _, recognizer = counted
    plain, stream = run(recognizer, talk)
    found, other = run(recognizer, talk, lambda *_: True)
    assert found == plain
    assert other.frames_decoded == stream.frames_decoded


def test_the_model_rests_in_silence_and_times_stay_right(counted, talk):
    model, recognizer = counted
    plain, stream = run(recognizer, talk)
    steps, model.steps = model.steps, 0
    found, other = run(recognizer, talk, EnergyVad())
    assert model.steps < steps / 4
    assert other.frames_decoded == stream.frames_decoded == -(-len(talk) // 80)
    # Inside of speech, where the model has its context again, nothing differs.
    inner = [(t, s) for t, s in zip(plain.timestamps, plain.tokens, strict=True) if not 0.48 < t < 10.6 and t < 11.7]
    assert [pair for pair in zip(found.timestamps, found.tokens, strict=True) if pair in inner] == inner
    assert len(inner) > 25
    silence = [t for t in found.timestamps if 1.0 < t < 10.3]
    assert silence == []


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_cuts_do_not_matter_with_a_vad(bundle_path, talk, data):
    recognizer = Recognizer.from_dir(bundle_path)
    part = talk[data.draw(st.integers(0, 3000)) : len(talk) - data.draw(st.integers(0, 30_000))]
    sizes = data.draw(st.lists(st.integers(0, 20_000), max_size=12))
    vads = EnergyVad(), EnergyVad()
    expected, one = run(recognizer, part, vads[0])
    found, two = run(recognizer, part, vads[1], sizes)
    assert found == expected
    assert one.frames_decoded == two.frames_decoded == -(-len(part) // 80)
    for first, second in zip(vads[0].heard, vads[1].heard, strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.concatenate(vads[0].heard), part)  # every sample once, in order


@settings(max_examples=40, deadline=None)
@given(
    answers=st.lists(st.booleans(), min_size=1, max_size=60),
    hangover=st.integers(0, 5),
    context=st.integers(0, 5),
    odd=st.integers(0, 319),
)
def test_whatever_the_vad_says_every_frame_is_counted_once(bundle_path, audio, **drawn):
    answers, hangover, context, odd = (drawn[name] for name in ("answers", "hangover", "context", "odd"))
    recognizer = Recognizer.from_dir(bundle_path)
    samples = np.resize(audio, 320 * len(answers) + odd)
    left = iter([*answers, answers[-1]])
    rules = VadRules(hangover=hangover * 0.04, context=context * 0.04)
    _, stream = run(recognizer, samples, lambda *_: next(left), vad_rules=rules)
    assert stream.frames_decoded == -(-len(samples) // 80)


def test_when_the_model_wakes_it_hears_the_context_from_new_states(bundle_path, audio):
    """After a rest, the answer is that of a new recording which begins ``context`` before the speech."""
    recognizer = Recognizer.from_dir(bundle_path)
    chunk = 320
    samples = np.concatenate([np.zeros(100 * chunk, np.float32), audio])
    answers = iter([False] * 100 + [True] * 100)
    found, _ = run(recognizer, samples, lambda *_: next(answers), vad_rules=VadRules(hangover=0.2, context=0.12))
    alone = recognizer.recognize(samples[97 * chunk :], 8000)
    assert found.tokens == alone.tokens
    assert found.timestamps == pytest.approx([t + 97 * 0.04 for t in alone.timestamps])


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_endpoints_come_while_the_model_rests(bundle_path, talk, kind):
    rules = EndpointRules(
        initial_silence=4.0,
        trailing_silence=0.6,
        confident_silence=0.6,
        max_utterance=math.inf,
        silence_probability=0.4,
        confident_probability=0.9,
    )
    recognizer = Recognizer.from_dir(bundle_path, decoder=DecoderOptions(kind, beam_width=4), endpoint=rules)
    ends = {}
    for name, vad in {"without": None, "with": EnergyVad()}.items():
        stream = recognizer.create_stream(vad=vad, vad_rules=None if vad is None else RULES)
        found = []
        for part in np.array_split(talk, 50):
            stream.accept_waveform(part, 8000)
            while stream.is_endpoint():
                found.append((stream.endpoint_rule, stream.frames_decoded))
                stream.reset()
        ends[name] = found
    assert [rule for rule, _ in ends["with"]] == [rule for rule, _ in ends["without"]]
    assert [rule for rule, _ in ends["with"]] == ["trailing", "initial", "initial", "trailing"]
    for (_, one), (_, other) in zip(ends["with"], ends["without"], strict=True):
        assert abs(one - other) <= 5


def test_streams_with_and_without_a_vad_are_decoded_together(counted, talk):
    _, recognizer = counted
    streams = [recognizer.create_stream(vad=EnergyVad(), vad_rules=RULES), recognizer.create_stream()]
    for stream in streams:
        stream.accept_waveform(talk, 8000, decode=False)
        stream.input_finished(decode=False)
    recognizer.decode_streams(streams)
    assert streams[0].result() == run(recognizer, talk, EnergyVad())[0]
    assert streams[1].result() == run(recognizer, talk)[0]


def test_memory_of_a_resting_stream_is_that_of_its_context(bundle_path):
    stream = Recognizer.from_dir(bundle_path).create_stream(vad=lambda *_: False, vad_rules=RULES)
    for _ in range(60):
        stream.accept_waveform(np.zeros(80_000, np.float32), 8000)
    assert stream.frames_decoded > 59_000
    assert len(stream._track.feed.intake.queue._buffer) < 400_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vad": "energy"}, "callable"),
        ({"vad_rules": VadRules()}, "vad_rules"),
    ],
)
def test_what_is_no_vad_is_refused(counted, options, words):
    with pytest.raises(OptionsError, match=words):
        counted[1].create_stream(**options)


@pytest.mark.parametrize("changes", [{"threshold": 1.5}, {"hangover": -1.0}, {"context": math.inf}, {"threshold": "0"}])
def test_rules_out_of_range_are_refused(changes):
    with pytest.raises(OptionsError, match=next(iter(changes))):
        VadRules(**changes)


def test_a_vad_that_fails_or_gives_no_answer_leaves_the_stream_usable(counted, talk):
    _, recognizer = counted
    good = EnergyVad()
    problems = {30: RuntimeError("no microphone"), 60: None}

    def fragile(samples, rate):
        problem = problems.pop(len(good.heard), good)
        if isinstance(problem, Exception):
            raise problem
        return problem if problem is None else good(samples, rate)

    stream = recognizer.create_stream(vad=fragile, vad_rules=RULES)
    with pytest.raises(RuntimeError, match="no microphone"):
        stream.accept_waveform(talk, 8000)
    with pytest.raises(OptionsError, match="bool or a probability"):
        stream.accept_waveform(talk[:0], 8000)
    assert stream.flush() == run(recognizer, talk, EnergyVad())[0]


def test_probabilities_are_held_against_the_threshold(counted, talk):
    _, recognizer = counted
    likely, _ = run(recognizer, talk, lambda *_: 0.5)
    assert likely == run(recognizer, talk)[0]
    unlikely, _ = run(recognizer, talk, lambda *_: np.float32(0.49))
    assert len(unlikely.tokens) < len(likely.tokens)


def test_models_that_take_whole_recordings_have_nothing_to_skip(whole_path):
    with pytest.raises(OptionsError, match="nothing to skip"):
        Recognizer.from_dir(whole_path).create_stream(vad=EnergyVad())
