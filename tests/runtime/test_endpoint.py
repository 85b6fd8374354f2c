"""Endpoint rules on posteriors made by hand: which rule, at which frame, however the frames are cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_runtime import OptionsError, Vocabulary
from kdcompress_runtime.endpoint import Endpointer, EndpointRules, EndpointState

VOCABULARY = Vocabulary.from_symbols(["▁", "a", "b"])
SHIFT = 40.0
RULES = EndpointRules(
    initial_silence=0.8,  # 20 frames
    trailing_silence=0.4,  # 10 frames
    confident_silence=0.2,  # 5 frames
    max_utterance=2.0,  # 50 frames
    silence_probability=0.5,
    confident_probability=0.95,
)


def frames(text):
    """One frame a letter: ``.`` probably blank, ``_`` surely, ``-`` separator, letters themselves, ``?`` nobody."""
    rows = {
        ".": [0.7, 0.1, 0.1, 0.1],
        "_": [0.97, 0.01, 0.01, 0.01],
        "-": [0.1, 0.7, 0.1, 0.1],
        "a": [0.1, 0.05, 0.8, 0.05],
        "b": [0.1, 0.05, 0.05, 0.8],
        "?": [0.3, 0.1, 0.3, 0.3],
    }
    return np.log(np.array([rows[letter] for letter in text], dtype=np.float32).reshape(-1, 4))


def endpoint(text, rules=RULES, cuts=()):
    """Frame after the utterance and the rule that ended it; None when it goes on."""
    endpointer = Endpointer(rules, VOCABULARY, SHIFT)
    state, seen = EndpointState(), 0
    for piece in np.split(frames(text), sorted(cuts)):
        state, count, rule = endpointer.advance(state, piece)
        if count is not None:
            return seen + count, rule
        assert rule is None
        seen += len(piece)
    return None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("." * 19, None),
        ("." * 20, (20, "initial")),
        ("_" * 30, (20, "initial")),
        ("a" + "." * 9, None),
        ("a" + "." * 30, (11, "trailing")),
        ("a" + "_" * 4, None),
        ("a" + "_" * 30, (6, "confident")),
        ("a_._._._._._._", (11, "trailing")),
        ("...a.........b.........a", None),
        ("a...?" + "." * 10, (15, "trailing")),
        ("a" + "-" * 10, (11, "trailing")),
        ("-" * 20, (20, "initial")),
        ("ab" * 40, (50, "length")),
        ("ab" * 20 + "." * 10, (50, "trailing")),
        ("?" + "." * 10, (11, "trailing")),
    ],
)
def test_each_rule_ends_the_utterance_at_its_frame(text, expected):
    assert endpoint(text) == expected


@pytest.mark.parametrize(
    ("changes", "text", "expected"),
    [
        ({"min_utterance": 1.0}, "a" + "_" * 40, (25, "trailing")),
        ({"confident_silence": 0.4}, "a" + "_" * 40, (11, "trailing")),
        ({"initial_silence": math.inf, "max_utterance": math.inf}, "." * 500, None),
        ({"trailing_silence": math.inf, "confident_silence": math.inf}, "a" + "_" * 500, (50, "length")),
        ({"trailing_silence": math.inf, "confident_silence": 0.2}, "a" + "_" * 500, (6, "confident")),
        ({"trailing_silence": 0.41, "confident_silence": 0.41}, "a" + "." * 20, (12, "trailing")),
        ({"silence_probability": 0.9}, "a" + "." * 60, (50, "length")),
    ],
)
def test_every_rule_can_be_set_and_switched_off(changes, text, expected):
    assert endpoint(text, EndpointRules(**{**vars(RULES), **changes})) == expected


@settings(max_examples=60, deadline=None)
@given(
    text=st.lists(st.sampled_from([".", "_", "-", "a", "?", "." * 8, "_" * 4, "a" * 9]), max_size=30).map("".join),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
def test_cuts_do_not_matter(text, cuts):
    assert endpoint(text, cuts=[min(cut, len(text)) for cut in cuts]) == endpoint(text)


def test_times_in_decimals_are_the_frames_they_say():
    """0.6 s of 40 ms are 15 frames, though 0.6 / 0.04 is a little less in binary fractions."""
    for seconds in (0.04, 0.12, 0.28, 0.6, 1.16, 4.6):
        rules = EndpointRules(trailing_silence=seconds, confident_silence=seconds, max_utterance=math.inf)
        assert endpoint("a" + "." * 200, rules) == (1 + round(seconds / 0.04), "trailing")


def test_states_are_values():
    endpointer = Endpointer(RULES, VOCABULARY, SHIFT)
    before, _, _ = endpointer.advance(EndpointState(), frames("a...."))
    one = endpointer.advance(before, frames("......"))
    assert endpointer.advance(before, frames("......")) == one
    assert before == EndpointState(5, 4, 0, spoken=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"initial_silence": 0.0},
        {"trailing_silence": -1.0},
        {"confident_silence": math.nan},
        {"max_utterance": "20"},
        {"max_utterance": True},
        {"min_utterance": -0.1},
        {"silence_probability": 0.0},
        {"silence_probability": 1.0},
        {"confident_probability": 1.5},
        {"confident_silence": 1.1},
        {"confident_probability": 0.4},
    ],
)
def test_rules_out_of_range_are_refused(changes):
    with pytest.raises(OptionsError, match=next(iter(changes))):
        EndpointRules(**changes)


def test_the_defaults_are_in_order():
    rules = EndpointRules()
    assert rules.confident_silence < rules.trailing_silence < rules.initial_silence < rules.max_utterance
