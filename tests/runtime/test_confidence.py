"""Confidence: the raw figure and the calibration that is applied to it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcompress_runtime.confidence import MAX_KNOTS, Calibration, raw_confidence
from kdcompress_runtime.errors import OptionsError


def test_the_map_is_linear_between_knots_and_constant_beyond():
    found = Calibration((0.2, 0.6, 0.8), (0.1, 0.5, 0.9))
    assert [found(raw) for raw in (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 1.0)] == pytest.approx(
        [0.1, 0.1, 0.3, 0.5, 0.7, 0.9, 0.9]
    )
    assert Calibration((0.5,), (0.3,))(0.9) == 0.3


@given(st.data())
def test_the_map_never_decreases(data):
    share = st.floats(0, 1)
    raw = sorted(data.draw(st.sets(share, min_size=1, max_size=6)))
    calibrated = sorted(data.draw(st.lists(share, min_size=len(raw), max_size=len(raw))))
    found = Calibration(tuple(raw), tuple(calibrated))
    one, two = sorted((data.draw(share), data.draw(share)))
    assert -1e-12 <= found(one) <= found(two) + 1e-12 <= 1 + 2e-12


def test_json_round_trip():
    found = Calibration((0.2, 0.6), (0.1, 0.5))
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"raw": [], "calibrated": []}, "knots"),
        ({"raw": [0.1, 0.1], "calibrated": [0, 1]}, "increase"),
        ({"raw": [0.1, 0.2], "calibrated": [1, 0]}, "decrease"),
        ({"raw": [0.1, 0.2], "calibrated": [1]}, "knots"),
        ({"raw": [0.1, 1.2], "calibrated": [0, 1]}, "from 0 to 1"),
        ({"raw": [0.1, math.nan], "calibrated": [0, 1]}, "from 0 to 1"),
        ({"raw": ["0"], "calibrated": [0]}, "from 0 to 1"),
        ({"raw": [True], "calibrated": [0]}, "from 0 to 1"),
        ({"raw": [0.1]}, "raw and calibrated"),
        ({"raw": [0.1], "calibrated": [0], "more": 1}, "raw and calibrated"),
        ({"raw": "0", "calibrated": "0"}, "lists"),
        ([], "expected an object"),
        ({"raw": [i / 1000 for i in range(MAX_KNOTS + 1)], "calibrated": [0.5] * (MAX_KNOTS + 1)}, "knots"),
    ],
)
def test_what_is_no_calibration_is_refused(row, word):
    with pytest.raises(OptionsError, match=word):
        Calibration.from_json(row)


def test_raw_confidence_is_a_share_and_falls_with_every_token():
    assert raw_confidence([0.0, 0.0]) == 1.0
    assert raw_confidence([]) == 0.0
    assert raw_confidence([math.nan]) == 0.0
    assert raw_confidence([-math.inf, 0.0]) == 0.0
    assert 0 < raw_confidence([-1.0, -2.0]) < raw_confidence([-1.0, -1.0]) < 1
