"""What becomes of the frames of an item: deltas, quiet frames in front, another speed; against slow references."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kdcompress.data.features import QUIET_FRAMES, deltas, move_frames, quiet_frames, resampled, with_deltas
from kdcompress.recipe import AugmentConfig

RATE = 100.0


def noise(frames: int, dim: int = 3) -> np.ndarray:
    return np.random.default_rng(frames).standard_normal((frames, dim)).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 17])
def test_deltas_are_the_slope_over_five_frames(frames):
    values = noise(frames)

    def at(t: int) -> np.ndarray:
        return values[min(max(t, 0), frames - 1)].astype(np.float64)

    slow = [sum(k * at(t + k) for k in range(-2, 3)) / 10 for t in range(frames)]
    np.testing.assert_allclose(deltas(values), slow, atol=1e-6)
    stacked = with_deltas(values, 2)
    assert stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked[:, :3], values)
    np.testing.assert_array_equal(stacked[:, 6:], deltas(deltas(values)))
    np.testing.assert_array_equal(with_deltas(values, 0), values)


def test_a_straight_line_has_its_slope_as_delta():
    line = np.arange(20, dtype=np.float32)[:, None] * 0.5
    np.testing.assert_allclose(deltas(line)[2:-2], 0.5, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 7, 10, 11, 60])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_quiet_frames_are_those_of_the_quietest_stretch(frames, count):
    values = noise(frames) + np.abs(np.arange(frames) - frames * 0.7)[:, None].astype(np.float32)
    length = min(QUIET_FRAMES, frames)
    start = min(range(frames - length + 1), key=lambda s: float(values[s : s + length].sum()))
    made = quiet_frames(values, count, np.random.default_rng(1))
    assert made.shape == (count, 3)
    place = [int(np.flatnonzero((values == row).all(axis=1))[0]) for row in made]
    assert start <= min(place)
    assert max(place) < start + length
    assert all(abs(one - two) == (length > 1) for one, two in pairwise(place))


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 2.0])
@pytest.mark.parametrize("frames", [1, 2, 3, 40])
def test_another_speed_is_on_the_line_between_neighbours(speed, frames):
    values = noise(frames)
    made = resampled(values, speed)
    assert len(made) == max(1, int(frames / speed))
    places = np.minimum(np.arange(len(made)) * speed, frames - 1)
    slow = np.stack([np.interp(places, np.arange(frames), column) for column in values.T], axis=1)
    np.testing.assert_allclose(made, slow, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_moments_are_found_again(seed):
    ramp = np.arange(200, dtype=np.float32)[:, None] + np.zeros((1, 2), np.float32)
    config = AugmentConfig(lead_in_s=(0.1, 0.5), speed=(0.8, 1.0, 1.25))
    moved = move_frames(ramp, config, units_per_second=RATE, rng=np.random.default_rng(seed), min_frames=10)
    assert 10 <= moved.lead_in <= 50
    times = moved.speed * np.arange(len(moved.frames)) - moved.lead_in
    inside = (times >= 0) & (times <= 199)
    assert inside.sum() > 150
    np.testing.assert_allclose(moved.frames[inside, 0], times[inside], atol=1e-3)
    again = move_frames(ramp, config, units_per_second=RATE, rng=np.random.default_rng(seed), min_frames=10)
    np.testing.assert_array_equal(moved.frames, again.frames)


def test_an_item_stays_long_enough_for_its_reference():
    for seed in range(20):
        moved = move_frames(
            noise(50),
            AugmentConfig(speed=(2.0, 1.2)),
            units_per_second=RATE,
            rng=np.random.default_rng(seed),
            min_frames=40,
        )
        assert len(moved.frames) >= 40
        assert moved.speed in {1.0, 1.2}
