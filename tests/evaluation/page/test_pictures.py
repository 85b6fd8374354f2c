"""Plots and the small pictures in cells."""

from __future__ import annotations

import re
from itertools import combinations, pairwise

import pytest

from kdcompress_evaluation import words
from kdcompress_evaluation.bootstrap import Estimate
from kdcompress_evaluation.charts import pareto_chart
from kdcompress_evaluation.forest import WIDTH, Scale, forest, stack
from kdcompress_evaluation.frontier import charts, key
from kdcompress_evaluation.labels import Point
from tests.evaluation.page.html import Page
from tests.evaluation.report_case import rich_summary


def texts(svg: str) -> dict[str, tuple[float, float, float]]:
    """Left and right end and baseline of the labels of marks; a digit is about 6.5 wide."""
    found = {}
    groups = re.findall(r'<g class="label" data-variant="\d+">.*?<text ([^>]*)>([^<]+)</text>', svg, flags=re.DOTALL)
    for attributes, label in groups:
        anchor, x, y = re.findall(r'text-anchor: (\w+).* x="([\d.-]+)" y="([\d.-]+)"', attributes)[0]
        width = 6.5 * len(label)
        left = float(x) - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width
        found[label] = (left, left + width, float(y))
    return found


def test_numbers_of_many_marks_do_not_cover_each_other() -> None:
    summary = rich_summary(20)
    for chart in charts(summary, summary.chosen):
        places = texts(chart.svg)
        assert len(places) == len(summary.variants) - len(chart.missing)
        for (one, (a, b, y)), (other, (c, d, z)) in combinations(places.items(), 2):
            assert a > d or c > b or abs(y - z) > 9, (chart.title, one, other)


def test_every_measured_variant_is_a_mark_with_its_numbers() -> None:
    summary = rich_summary(12)
    found = charts(summary, summary.chosen)
    assert [chart.title for chart in found] == ["Against size", "Against latency", "Against memory"]
    assert [chart.missing for chart in found] == [("cloud",), ("zipformer-small-int8", "cloud"), ("cloud",)]
    page = Page(found[0].svg)
    assert sorted(int(mark["data-variant"]) for mark in page.marks) == list(range(1, 12))
    best = next(mark for mark in page.marks if mark["data-told"].startswith(summary.chosen))
    assert best["data-told"].split("\n")[1].startswith("WER 6.74 % (")
    assert "size 1.25 MB" in best["aria-label"]
    assert [mark["tabindex"] for mark in page.marks].count("0") == 1
    assert best["tabindex"] == "0"


def test_key_names_the_numbers_and_few_marks_carry_names() -> None:
    many, few = rich_summary(12), rich_summary(3)
    found = key(many, many.chosen)
    assert [(k.number, k.name) for k in found] == list(enumerate([v.info.name for v in many.variants], 1))
    assert next(k for k in found if k.name == many.chosen).state == "chosen"
    assert {k.shape for k in found} == {"o", "s", "D"}
    assert key(few, few.chosen) == []
    assert few.variants[1].info.name in texts(charts(few, few.chosen)[0].svg)


def test_colours_are_those_of_the_page() -> None:
    point = Point(1, "a<b>", 'told "x"\nline', 1.0, 5.0, 4.0, 6.0, front=False, chosen=False, marker="D")
    svg = pareto_chart([point, point], name="t", x_label="size", y_label="y", description='a "quoted" <chart>')
    assert svg.startswith('<svg class="chart" role="group" aria-label="a &#34;quoted&#34; &lt;chart&gt;"')
    assert not re.search("#0[1-5]0[1-5]", svg)
    assert "var(--page)" in svg
    assert "told &#34;x&#34;&#10;line" in svg


def test_an_interval_is_drawn_to_scale_and_cut_where_it_is_far_out() -> None:
    usual = [Estimate(0.0, -0.01, 0.01) for _ in range(9)]
    far = Estimate(0.5, 0.4, 0.6)
    scale = Scale.around([*usual, far, None], mark=0.005)
    assert scale.low == -0.01
    assert scale.high == pytest.approx(0.04)
    assert scale.place(far.value or 0) == scale.place(scale.high) < WIDTH
    assert 'class="arrow"' in forest(far, scale)
    assert "circle" not in forest(far, scale)
    assert 'class="arrow"' not in forest(usual[0], scale)
    assert 'class="bound"' in forest(None, scale)


def test_ratios_are_symmetric() -> None:
    scale = Scale.of_ratios([Estimate(0.25), Estimate(4.0)], band=(0.98, 1.02))
    assert scale.place(1.0) == pytest.approx(WIDTH / 2)
    assert scale.place(2.0) - scale.place(1.0) == pytest.approx(scale.place(1.0) - scale.place(0.5))
    assert 'class="band"' in forest(None, scale)


def test_parts_fill_the_width() -> None:
    widths = [float(w) for w in re.findall(r'width="([\d.]+)"', stack([("model", 3.0), ("decoder", 1.0)]))]
    assert widths == [0.75 * WIDTH, 0.25 * WIDTH]
    assert 'width="0.0"' in stack([("model", 0.0)])


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0042, "+0.42"), (-0.0042, "−0.42"), (-0.00001, "0.00"), (None, "–")]
)
def test_points(value: float | None, expected: str) -> None:
    assert words.points(value) == expected


@pytest.mark.parametrize(
    ("value", "baseline", "expected"),
    [(1.0, 10.0, "10 % of"), (1.0, 1000.0, "0.1 % of"), (1.001, 1.0, "the same as"), (1.4, 1.0, "1.40 times")],
)
def test_ratio(value: float, baseline: float, expected: str) -> None:
    assert words.ratio(value, baseline) == expected


@pytest.mark.parametrize(("value", "expected"), [(None, "–"), (0.0004, "< 0.001"), (0.0124, "0.012"), (1.0, "1.000")])
def test_p_value(value: float | None, expected: str) -> None:
    assert words.p_value(value) == expected


def test_marks_of_one_cost_stand_side_by_side_in_the_order_of_their_costs() -> None:
    points = [
        Point(n, str(n), "", x, y, y - 1, y + 1, front=False, chosen=False, marker="o")
        for n, (x, y) in enumerate([(1.0, 5.0), (1.0, 5.5), (1.001, 5.2), (1.002, 20.0), (3.0, 5.0)])
    ]
    svg = pareto_chart(points, name="t", x_label="x", y_label="y", description="")
    found = re.findall(r'<g id="t-mark-(\d)".*?<use [^>]*x="([\d.]+)"', svg, flags=re.DOTALL)
    places = {int(n): float(x) for n, x in found}
    near = sorted(places[n] for n in (0, 1, 2))
    assert min(b - a for a, b in pairwise(near)) > 9
    assert places[2] == near[-1]
    assert places[3] >= places[2] - 0.5
    assert places[4] > places[3] + 50
