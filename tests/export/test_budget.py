"""A budget says what is wanted, is refused where it cannot be read, and names by how much it is missed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_export.errors import BudgetSyntaxError, ExportError
from kdcompress_export.quantization.budget import nearest, parse_budget

FIGURES = {
    "size": 2e6,
    "size_ratio": 0.3,
    "wer": 12.0,
    "wer_high": 0.4,
    "p50": 1.0,
    "p95": 2.5,
    "speed": 3.0,
    "chunk_speed": 1.5,
    "agreement": 0.97,
}


@pytest.mark.parametrize(
    ("text", "figure", "value"),
    [
        ("size<=3MB", "size", 3e6),
        ("size<=3MiB", "size", 3 * 2**20),
        ("size <= 800 kb", "size", 8e5),
        ("size<=0.27x", "size_ratio", 0.27),
        ("wer<=12.5", "wer", 12.5),
        ("wer<=12.5%", "wer", 12.5),
        ("wer<=+0.3", "wer_high", 0.3),
        ("wer<=-1", "wer_high", -1.0),
        ("p95<=2ms", "p95", 2.0),
        ("p50<=500us", "p50", 0.5),
        ("speed>=2x", "speed", 2.0),
        ("chunk_speed>=1.5", "chunk_speed", 1.5),
        ("agreement>=95%", "agreement", 0.95),
    ],
)
def test_every_bound_is_read(text, figure, value):
    (bound,) = parse_budget(text).bounds
    assert (bound.figure, bound.value) == (figure, pytest.approx(value))
    assert bound.most == ("<=" in text)


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("size<=3MB,wr<=1", 11, "unknown name 'wr'; did you mean wer"),
        ("size<=3parsecs", 8, "unknown unit 'parsecs'"),
        ("size>=3MB", 5, "bounded by <="),
        ("wer<=1, speed<=2x", 14, "bounded by >="),
        ("p95<=", 6, "takes a value such as 2ms"),
        ("size", 1, "expected a bound"),
        ("", 1, "expected a bound"),
        ("size<=3MB,", 11, "expected a bound"),
        ("p95<=+2ms", 6, "takes no sign"),
        ("size<=3MB,size<=2MB", 11, "bounds what was bounded before"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_position(text, position, words):
    with pytest.raises(BudgetSyntaxError) as caught:
        parse_budget(text)
    assert f"character {position}:" in str(caught.value)
    assert words in str(caught.value)
    assert "known names are size, wer" in str(caught.value)
    assert isinstance(caught.value, ExportError)


@settings(max_examples=50, deadline=None)
@given(st.text("sizewrp95<=>+.,MBx 1", max_size=20))
def test_any_text_is_read_or_refused(text):
    try:
        found = len(parse_budget(text).bounds)
    except BudgetSyntaxError:
        found = 0
    assert found == 0 or found == text.count(",") + 1


def test_misses_are_shares_of_the_bound_and_points_of_errors():
    budget = parse_budget("size<=1MB,wer<=+0.3,speed>=2x,p95<=2ms")
    misses = budget.misses(FIGURES)
    assert misses == {
        "size<=1MB": pytest.approx(1.0),
        "wer<=+0.3": pytest.approx(0.1),
        "p95<=2ms": pytest.approx(0.25),
    }
    said = budget.describe_misses(FIGURES)
    assert "size<=1MB (found 2 MB)" in said
    assert "speed" not in said
    assert parse_budget("size<=2MB,speed>=3x").misses(FIGURES) == {}


def test_what_was_not_measured_is_not_met():
    misses = parse_budget("wer<=+0.3").misses({**FIGURES, "wer_high": None})
    assert misses == {"wer<=+0.3": math.inf}
    assert "not measured" in parse_budget("wer<=+0.3").describe_misses({"wer_high": None})


def test_the_nearest_misses_the_least_in_all():
    budget = parse_budget("size<=1MB,p95<=1ms")
    candidates = [{"size": 3e6, "p95": 1.0}, {"size": 1.2e6, "p95": 1.3}, {"size": 1e6, "p95": 9.0}]
    assert nearest(budget, candidates) == 1
    assert nearest(budget, []) is None
