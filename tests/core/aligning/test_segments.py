"""Spans from paths: order, cover, silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.aligning.segments import PATH_ALONE, Activity, SegmentOptions, spans_on_path, spread
from kdcompress_runtime.errors import OptionsError

FRAME = 0.04


def spans_of(states, words, *, letters=None, duration=None, activity=None, **options):
    path = np.array(states)
    on_path = spans_on_path(path, FRAME, duration or len(states) * FRAME)
    letters = np.array(letters or [True] * len(words), dtype=bool)
    chosen = SegmentOptions(**options)
    length = duration or len(states) * FRAME
    return spread(on_path, np.array(words), letters, length, options=chosen, activity=activity)


def loud(duration: float, *times: tuple[float, float]) -> Activity:
    """Ten a second louder than the floor within ``times``."""
    moments = (np.arange(round(duration * 100)) + 0.5) / 100
    active = np.any([(moments >= start) & (moments < end) for start, end in times], axis=0)
    return Activity(np.where(active, -4.0, -12.0).astype(np.float32), 0.01)


def test_a_path_has_the_time_of_its_frames():
    found = spans_on_path(np.array([-1, 0, 0, -1, 1, 2]), FRAME, 0.23)
    np.testing.assert_allclose(found, [[0.04, 0.12], [0.16, 0.2], [0.2, 0.23]])
    assert spans_on_path(np.array([-1, -1]), FRAME, 0.08).shape == (0, 2)


def test_gaps_inside_a_word_are_divided_and_those_between_are_silence():
    states = [-1, 0, -1, -1, 1, -1, -1, -1, -1, 2, -1, -1]
    found = spans_of(states, [0, 0, 1], before=0.04, after=0.06)
    np.testing.assert_allclose(found, [[0.0, 0.12], [0.12, 0.26], [0.32, 0.46]], atol=1e-9)


def test_words_that_both_want_a_gap_share_it():
    found = spans_of([0, -1, -1, 1], [0, 1], before=0.3, after=0.1)
    np.testing.assert_allclose(found, [[0.0, 0.06], [0.06, 0.16]], atol=1e-9)


def test_the_reach_inside_words_has_an_end_too():
    found = spans_of([0, *[-1] * 98, 1], [0, 0], before=0, after=0, inside=0.5)
    np.testing.assert_allclose(found, [[0, 0.54], [3.46, 4.0]], atol=1e-9)


def test_words_begin_and_end_where_it_falls_quiet():
    states = [-1, -1, 0, -1, 1, -1, -1, -1, -1, -1, 2, -1, 3, -1, -1, -1]
    found = spans_of(states, [0, 0, 1, 1], activity=loud(0.64, (0.05, 0.25), (0.35, 0.58)))
    np.testing.assert_allclose(found[:, 0], [0.05, 0.14, 0.35, 0.46], atol=1e-9)
    np.testing.assert_allclose(found[:, 1], [0.14, 0.25, 0.46, 0.58], atol=1e-9)


def test_a_label_that_is_early_is_moved_to_its_sound():
    states = [0, -1, -1, -1, -1, 1, -1, -1]
    found = spans_of(states, [0, 0], activity=loud(0.32, (0.15, 0.28)))
    np.testing.assert_allclose(found, [[0.15, 0.175], [0.175, 0.28]], atol=1e-9)


def test_a_moment_of_quiet_is_part_of_a_sound():
    states = [0, -1, -1, 1, -1]
    blink = loud(0.2, (0.0, 0.05), (0.07, 0.2))
    np.testing.assert_array_equal(spans_of(states, [0, 1], activity=blink), spans_of(states, [0, 1]))
    found = spans_of(states, [0, 1], activity=blink, silence=0.02)
    np.testing.assert_allclose(found, [[0.0, 0.05], [0.07, 0.2]], atol=1e-9)


def test_there_is_a_limit_to_how_far_a_noise_belongs_to_a_word():
    states = [-1] * 20 + [0] + [-1] * 20
    activity = loud(41 * FRAME, (0.3, 1.3))
    found = spans_of(states, [0], activity=activity, reach=0.2)
    np.testing.assert_allclose(found, [[0.6, 1.04]], atol=1e-9)
    np.testing.assert_allclose(spans_of(states, [0], activity=activity, reach=1.0), [[0.3, 1.3]], atol=1e-9)


@pytest.mark.parametrize("values", [[], [-5.0] * 60, [np.nextafter(-5, 0)] * 60])
def test_activity_that_tells_nothing_changes_nothing(values):
    states, flat = [-1, 0, -1, -1, 1, -1, -1], Activity(np.array(values, np.float32), 0.01)
    np.testing.assert_array_equal(spans_of(states, [0, 1], activity=flat), spans_of(states, [0, 1]))


def test_a_separator_has_what_words_leave():
    states = [0, 1, -1, 2, -1, 3]
    found = spans_of(states, [0, 0, 0, 1], letters=[True, True, False, True], before=0, after=0.02)
    np.testing.assert_allclose(found, [[0, 0.04], [0.04, 0.1], [0.1, 0.2], [0.2, 0.24]], atol=1e-9)
    first = spans_of([0, 1, -1], [0, 0], letters=[False, True], before=0, after=0)
    np.testing.assert_allclose(first, [[0, 0.04], [0.04, 0.08]], atol=1e-9)
    assert spans_of([0, -1], [0], letters=[False]).tolist() == [[0.0, 0.08]]


def test_no_units():
    assert spans_of([-1, -1], []).shape == (0, 2)


@st.composite
def cases(draw):
    """A path of any shape over words of any length, with separators, and sound anywhere."""
    words, letters = [], []
    for word in range(draw(st.integers(1, 4))):
        count = draw(st.integers(1, 4))
        words += [word] * count
        letters += [True] * count
        if draw(st.booleans()):
            words.append(word)
            letters.append(False)
    states = []
    for unit in range(len(words)):
        states += [-1] * draw(st.integers(0, 4)) + [unit] * draw(st.integers(1, 2))
    states += [-1] * draw(st.integers(0, 4))
    values = draw(st.lists(st.sampled_from([-12.0, -11.5, -4.0]), min_size=1, max_size=len(states) * 4))
    return states, words, letters, Activity(np.array(values, np.float32), 0.01)


@settings(deadline=None, max_examples=150)
@given(case=cases(), trim=st.booleans(), reach=st.floats(0, 0.4), missing=st.floats(0, 0.039))
def test_spans_rise_without_overlap_inside_the_item(case, trim, reach, missing):
    states, words, letters, activity = case
    duration = len(states) * FRAME - missing
    options = {"before": reach, "after": reach / 2, "reach": reach, "trim": trim}
    found = spans_of(states, words, letters=letters, duration=duration, activity=activity, **options)
    edges = found.reshape(-1)
    assert (np.diff(edges) >= -1e-9).all()
    assert edges[0] >= -1e-9
    assert edges[-1] <= duration + 1e-9
    for word in set(words):
        mine = found[(np.array(words) == word) & np.array(letters)]
        lengths = mine[:, 1] - mine[:, 0]
        assert lengths.min() >= min(0.02, (mine[-1, 1] - mine[0, 0]) / len(mine)) - 1e-9


def test_the_path_alone():
    states = np.array([-1, 0, -1, 1, 1, -1])
    on_path = spans_on_path(states, FRAME, 0.24)
    found = spread(on_path, np.array([0, 0]), np.array([True, True]), 0.24, options=PATH_ALONE)
    np.testing.assert_allclose(found, on_path)


@pytest.mark.parametrize("name", ["blank_penalty", "before", "inside", "wrong"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_impossible_options(name, value):
    with pytest.raises(OptionsError, match=f"{name} must be 0 or more"):
        SegmentOptions(**{name: value})


def test_times_are_scaled_and_nats_are_not():
    found = SegmentOptions(blank_penalty=2, before=0.5).scaled(100)
    assert (found.blank_penalty, found.before, found.shortest, found.trim) == (2, 50, 2, True)
