"""Chunks come when a microphone would give them; the clock is made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kdcompress_evaluation.speed.pace import pace
from kdcompress_evaluation.speed.timing import time_once


class World:
    """A clock that only sleeping and computing move."""

    def __init__(self, costs):
        self.now, self.busy, self.slept = 100.0, 5.0, []
        self.costs = list(costs)
        self.begun = []

    def clock(self):
        return self.now

    def cpu(self):
        return self.busy

    def sleep(self, seconds):
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds

    # An engine of one chunk a second.
    rate, piece = 10, 10

    def feed(self):
        return self

    def chunk(self, samples):
        assert len(samples) == self.piece
        self.begun.append(self.now - 100.0)
        cost = self.costs.pop(0)
        self.now += cost
        self.busy += cost
        return ""

    def finish(self):
        return ""

    def whole(self, _):
        return ""

    def run(self, samples):
        return pace(self, np.zeros(samples), clock=self.clock, sleep=self.sleep, cpu=self.cpu)


def test_a_chunk_waits_for_its_last_sample():
    world = World([0.1, 0.2, 0.3])
    found = world.run(35)
    assert world.begun == pytest.approx([1.0, 2.0, 3.0])
    assert found.chunks == pytest.approx((0.1, 0.2, 0.3))
    assert found.wall == pytest.approx(3.3)
    assert found.cpu == pytest.approx(0.6)


def test_a_chunk_behind_a_slow_one_begins_late_and_counts_its_own_computing():
    world = World([2.5, 0.1, 0.1, 0.1])
    found = world.run(40)
    assert world.begun == pytest.approx([1.0, 3.5, 3.6, 4.0])
    assert found.chunks == pytest.approx((2.5, 0.1, 0.1, 0.1))
    assert world.slept == pytest.approx([1.0, 0.3])


def test_what_is_shorter_than_a_chunk_or_does_not_stream_gives_none():
    world = World([])
    assert world.run(9).chunks == ()
    world.piece = None
    assert world.run(30).chunks == ()
    assert world.slept == []


def test_back_to_back_only_full_chunks_count():
    class Short(World):
        def chunk(self, samples):
            self.begun.append(len(samples))
            return ""

    world = Short([])
    found = time_once(world, np.zeros(25))
    assert world.begun == [10, 10, 5]
    assert (len(found.whole), len(found.chunks), len(found.finals)) == (1, 2, 1)
    world.piece = None
    assert time_once(world, np.zeros(25)).chunks == ()


def test_a_system_without_a_stream_answers_at_the_end():
    class Whole(World):
        piece = None

        def feed(self):
            return None

    found = time_once(Whole([]), np.zeros(25))
    assert found.chunks == ()
    assert found.finals == found.whole
