"""Events over an iterator of chunks, and the same for asyncio."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_runtime import AudioError, OptionsError, Recognizer
from kdcompress_runtime.endpoint import EndpointRules
from kdcompress_runtime.events import Event

RULES = EndpointRules(
    initial_silence=0.5,
    trailing_silence=0.25,
    confident_silence=0.25,
    max_utterance=math.inf,
    silence_probability=0.4,
    confident_probability=0.9,
)


@pytest.fixture(scope="module")
def listening(bundle_path):
    return Recognizer.from_dir(bundle_path, endpoint=RULES)


@pytest.fixture(scope="module")
def talk(audio):
    quiet = np.zeros(16_000, np.float32)
    return np.concatenate([audio[:4000], quiet, audio, quiet[:9000], audio[:2000]])


async def later(parts):
    for part in parts:
        await asyncio.sleep(0)
        yield part


def gather(recognizer, parts, rate=8000, **options):
    async def run():
        return [event async for event in recognizer.stream_async(later(parts), rate, **options)]

    return asyncio.run(run())


def finals(events):
    return [(event.rule, event.result) for event in events if event.is_final]


def test_events_tell_partial_results_and_utterances(listening, talk):
    events = list(listening.stream(np.array_split(talk, 60), 8000))
    assert [rule for rule, _ in finals(events)] == ["trailing", "trailing", None]
    assert {event.kind for event in events} == {"partial", "final"}
    assert all(event.result.tokens for event in events)
    begin = 0
    for index, event in enumerate(events):
        if event.is_final:
            seen = [one.result.tokens for one in events[begin:index]]
            assert all(one != other for one, other in pairwise(seen))
            assert seen
            begin = index + 1


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(0, 6000), max_size=15))
def test_finals_do_not_depend_on_the_chunks(listening, talk, sizes):
    parts = np.split(talk, np.minimum(np.cumsum(sizes, dtype=int), len(talk)))
    expected = finals(listening.stream([talk], 8000))
    assert finals(listening.stream(parts, 8000)) == expected
    assert finals(gather(listening, parts)) == expected


def test_without_rules_there_is_one_final_event(recognizer, talk):
    events = list(recognizer.stream(np.array_split(talk, 30), 8000))
    assert finals(events) == [(None, events[-1].result)]
    assert len(events) > 5


def test_rules_may_be_given_to_the_call(recognizer, listening, talk):
    expected = finals(listening.stream([talk], 8000))
    assert finals(recognizer.stream([talk], 8000, endpoint=RULES)) == expected
    assert finals(gather(recognizer, [talk], endpoint=RULES)) == expected


@pytest.mark.parametrize("parts", [[], [np.zeros(0, np.float32)], [np.zeros(40_000, np.float32)]])
def test_a_stream_without_a_word_ends_with_one_empty_final_event(listening, parts):
    for events in (list(listening.stream(parts, 8000)), gather(listening, parts)):
        assert [(event.kind, event.result.text) for event in events] == [("final", "")]


def test_long_chunks_give_events_on_the_way(listening, talk):
    """Ten minutes at once: more than a stream lets wait, and nobody waits for the end."""
    events = listening.stream([np.tile(talk, 120)], 8000)
    first = next(events)
    assert first.result.timestamps[-1] < 1.1
    assert list(events)[-1].result.timestamps[-1] > 600


def test_chunks_are_pulled_when_events_are_asked_for(recognizer, talk):
    pulled = []

    def chunks():
        for number, part in enumerate(np.array_split(talk, 40)):
            pulled.append(number)
            yield part

    events = recognizer.stream(chunks(), 8000)
    assert pulled == []
    next(events)
    assert len(pulled) < 10


def test_bad_arguments_are_refused_at_once_and_bad_audio_on_the_way(recognizer, audio):
    for make in (recognizer.stream, recognizer.stream_async):
        with pytest.raises(OptionsError, match="sample_rate"):
            make([], 0)
        with pytest.raises(OptionsError, match="beam"):
            make([], 8000, hotwords={"a": 1.0})
    bad = [audio, np.full(30_000, np.nan, np.float32)]
    with pytest.raises(AudioError, match="NaN"):
        list(recognizer.stream(bad, 8000))
    with pytest.raises(AudioError, match="NaN"):
        gather(recognizer, bad)


def test_the_loop_runs_while_the_model_steps(bundle_path, audio):
    recognizer = Recognizer.from_dir(bundle_path)
    step = recognizer._model.step
    in_thread = []

    def slow(inputs, states):
        in_thread.append(threading.current_thread() is not threading.main_thread())
        time.sleep(0.005)
        return step(inputs, states)

    recognizer._model.step = slow

    async def run():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        beside = asyncio.ensure_future(tick())
        events = [event async for event in recognizer.stream_async(later([audio]), 8000)]
        beside.cancel()
        return ticks, events

    ticks, events = asyncio.run(run())
    assert all(in_thread)
    assert len(in_thread) > 20
    assert ticks > 20
    assert [event.is_final for event in events[-1:]] == [True]


def test_a_cancelled_task_waits_for_its_step_and_nothing_runs_after_it(bundle_path, audio):
    recognizer = Recognizer.from_dir(bundle_path)
    step = recognizer._model.step
    running = threading.Event()
    state = {"inside": 0, "done": 0}

    def slow(inputs, states):
        state["inside"] += 1
        running.set()
        time.sleep(0.002)
        answer = step(inputs, states)
        state["done"] += 1
        return answer

    recognizer._model.step = slow

    async def consume():
        async for _ in recognizer.stream_async(later([audio] * 100), 8000):
            pass

    async def run():
        task = asyncio.ensure_future(consume())
        while not running.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return dict(state)

    after = asyncio.run(run())
    time.sleep(0.02)
    assert after["inside"] == after["done"]
    assert state == after
    assert after["done"] < 100


def test_many_clients_share_one_recognizer(listening, talk):
    expected = finals(listening.stream([talk], 8000))

    async def client(parts):
        return [event async for event in listening.stream_async(later(parts), 8000)]

    async def run():
        return await asyncio.gather(*(client(np.array_split(talk, 10 + n)) for n in range(8)))

    assert [finals(events) for events in asyncio.run(run())] == [expected] * 8


def test_a_slow_reader_holds_the_sender_back(recognizer, talk):
    sent = []

    async def chunks():
        for number, part in enumerate(np.array_split(talk, 40)):
            sent.append(number)
            yield part

    async def run():
        events = recognizer.stream_async(chunks(), 8000)
        first = await anext(events)
        before = len(sent)
        await asyncio.sleep(0.05)
        assert len(sent) == before
        await events.aclose()
        return first

    assert isinstance(asyncio.run(run()), Event)
    assert len(sent) < 40
