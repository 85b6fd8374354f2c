"""Budgets: what can be bounded, in which units, and what a mistake is told."""

from __future__ import annotations

import pytest

from kdcompress_evaluation.budget import FIGURES, parse_budget
from kdcompress_evaluation.errors import BudgetError


def test_bounds_are_kept_in_bytes_fractions_and_milliseconds() -> None:
    size, dwer, p95, rss = parse_budget("size<=3MB, dwer<=0.5 ,p95<=20ms,rss<=150MiB")

    assert (size.figure, size.value, size.relative) == ("size", 3e6, False)
    assert dwer.value == pytest.approx(0.005)
    assert p95.value == 20
    assert rss.value == 150 * 2**20
    assert dwer.text == "dwer<=0.5"


@pytest.mark.parametrize(
    ("text", "value"),
    [("size<=0.3x", 0.3), ("p99<=0.5s", 500), ("macs<=120M", 1.2e8), ("params<=1.5m", 1.5e6), ("dchrf>=-1", -0.01)],
)
def test_units(text: str, value: float) -> None:
    assert parse_budget(text)[0].value == pytest.approx(value)


def test_size_may_be_bounded_by_the_baselines() -> None:
    assert parse_budget("size<=0.3x")[0].relative


@pytest.mark.parametrize("figure", FIGURES)
def test_the_example_of_every_figure_is_read(figure: str) -> None:
    bound = FIGURES[figure]
    for example in bound.example.split(" or "):
        assert parse_budget(f"{figure}{'<=' if bound.most else '>='}{example}")[0].figure == figure


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sise<=3MB", "did you mean size?"),
        ("size>=3MB", "bounded by <=, not >="),
        ("speed<=2x", "bounded by >=, not <="),
        ("size<=3ms", "cannot read '3ms' as the value of size"),
        ("size<=", "cannot read ''"),
        ("size", "cannot read 'size'"),
        ("size<=3MB,,wer<=3", "cannot read ''"),
        ("p95<=3,p95<=4", "bounded twice"),
        ("wer<=nan", "cannot read 'nan'"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, told: str) -> None:
    with pytest.raises(BudgetError, match="budget") as problem:
        parse_budget(text)
    assert told in str(problem.value)


def test_no_budget_is_no_bound() -> None:
    assert parse_budget(" ") == ()


def test_a_bound_is_met_on_its_edge() -> None:
    assert parse_budget("p95<=20ms")[0].met(20.0)
    assert not parse_budget("p95<=20ms")[0].met(20.1)
    assert parse_budget("speed>=2x")[0].met(2.0)
    assert not parse_budget("speed>=2x")[0].met(1.9)
