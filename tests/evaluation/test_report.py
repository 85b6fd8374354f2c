from __future__ import annotations

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from kdcompress_evaluation import EvalOptions, evaluate, words
from kdcompress_evaluation.charts import pareto_chart
from kdcompress_evaluation.labels import Point
from kdcompress_evaluation.report import render_html
from kdcompress_evaluation.summary import Summary
from kdcompress_evaluation.variants import VariantInfo

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "<script>alert('x')</script> & <img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "data", "action", "srcset"} and not (value or "").startswith("#"):
                self.loads.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page


@pytest.fixture
def report(make_bundle: Any, make_manifest: Any, items: Any, tmp_path: Path) -> Path:
    """Two bundles, two precisions, two manifests, hostile texts and ids, one missing file."""
    one = make_bundle(tmp_path / "one", "one", {"float32": {}, "int8": {"e": "d"}})
    two = make_bundle(tmp_path / "two", "two <b>", {"float32": {"c": "d"}}, padding=30_000)
    first = make_manifest(tmp_path / "data", "first", items)
    second = make_manifest(tmp_path / "data", "second", [(HOSTILE, "a"), ("b", "b"), ("c", "c")], speaker=[HOSTILE] * 3)
    (tmp_path / "data" / "second-2.wav").unlink()
    options = EvalOptions(
        precisions="all", baseline="two-b-float32", resamples=1000, speed_utterances=2, command="kdcompress eval <x>"
    )
    evaluate([one, two], {"first": first, "second": second}, tmp_path / "out", options)
    return tmp_path / "out"


def test_page_needs_nothing_from_outside(report: Path) -> None:
    html = (report / "report.html").read_text(encoding="utf-8")
    page = parse(html)
    assert page.loads == []
    assert not {"link", "iframe", "object", "embed", "img"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert html.count('<svg class="chart"') == 2
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert "prefers-color-scheme: dark" in html


def test_page_escapes_hostile_text(report: Path) -> None:
    html = (report / "report.html").read_text(encoding="utf-8")
    assert parse(html).tags.count("script") == 1
    assert HOSTILE not in html
    assert "two &lt;b&gt;" in html
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "<img" not in markdown


def test_page_and_markdown_hold_the_numbers(report: Path) -> None:
    summary = Summary.read(report / "report.json")
    text = " ".join(" ".join(parse((report / "report.html").read_text(encoding="utf-8")).text).split())
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert summary.headline in text
    assert len(summary.variants) == 3
    for variant in summary.variants:
        for accuracy in (variant.pooled, *variant.manifests.values()):
            for value in (words.percent(accuracy.wer.value), words.interval(accuracy.wer)):
                assert value in text
                assert value in markdown
            if accuracy.difference is not None:
                assert words.points_interval(accuracy.difference) in text
        assert variant.info.model_sha256 in text
        assert variant.info.model_sha256 in markdown
        assert variant.info.method == "from digits-big (conventional)"
        assert variant.info.method in text
        assert variant.speed is not None
        assert words.milliseconds(variant.speed.chunk_p95_ms) in text
    for told in ("kdcompress eval <x>", "plain 1", "1,000 draws", "seed 0", summary.run.manifests[0].fingerprint):
        assert told in text
    assert "1 utterance failed" in text


ORACLE, BIG = {"name": "oracle", "kind": "oracle"}, {"name": "big", "kind": "conventional"}


@pytest.mark.parametrize(
    ("provenance", "method"),
    [
        ({"recipe": "r", "teachers": ["runs/o"], "run": {"teachers": [ORACLE]}}, "from oracle (oracle)"),
        ({"recipe": "r", "run": {"teachers": [ORACLE, BIG]}}, "from oracle (oracle) and big (conventional)"),
        ({"recipe": "r", "teachers": ["runs/one", "runs/two"], "run": {}}, "from one and two"),
        ({"recipe": "r", "teachers": [], "run": {"name": "r"}}, "labels only"),
        ({"recipe": "r", "teacher": "runs/o", "run": {"teacher": ORACLE}}, "from oracle (oracle)"),
        ({"recipe": "r", "teacher": "runs/o"}, "from o"),
        ({"recipe": "r", "teacher": None, "run": {}}, "labels only"),
        ({"recipe": "r", "run": {"losses": ["ctc"]}}, "labels only"),
        ({"recipe": "r", "run": {"losses": ["ctc", "in_place"]}}, "labels, with in_place"),
        ({"recipe": "r", "run": {"losses": ["inter_ctc", "ctc", "cr_ctc"]}}, "labels, with inter_ctc and cr_ctc"),
        (
            {"recipe": "r", "run": {"teachers": [BIG], "losses": ["ctc", "frame_kl"]}},
            "from big (conventional), by frame_kl",
        ),
        ({"recipe": "r", "run": {"teachers": [BIG], "losses": ["ctc"]}}, "from big (conventional)"),
        ({"recipe": "r", "run": {"teachers": [BIG], "losses": ["a", "b", "c"]}}, "from big (conventional)"),
        (
            {"recipe": "r", "teachers": ["runs/o"], "run": {"losses": ["ctc", "skd", "nbest"]}},
            "from o, by skd and nbest",
        ),
        ({"recipe": "r", "run": {"losses": "odd"}}, "labels only"),
        ({"losses": ["in_place"]}, "not stated"),
        ({"method": "fused", "run": {"teachers": [ORACLE]}}, "fused"),
        ({}, "not stated"),
        ({"run": {"teachers": ["odd", 3]}, "teachers": "odd"}, "not stated"),
    ],
)
def test_a_variant_says_from_whom_it_learned(provenance: dict[str, Any], method: str) -> None:
    """Also one of the first version, whose bundles name one ``teacher``."""
    nothing: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(VariantInfo))
    assert VariantInfo(**{**nothing, "provenance": provenance}).method == method


def test_worst_utterances_are_marked_in_text_too(report: Path) -> None:
    html = (report / "report.html").read_text(encoding="utf-8")
    assert "<del>ace</del>" in html
    assert "<ins>a</ins>" in html
    assert re.search(r'<span class="sub"><s>c</s> d</span>', html)


def test_page_is_a_function_of_the_summary(report: Path) -> None:
    summary = Summary.read(report / "report.json")
    assert render_html(summary) == (report / "report.html").read_text(encoding="utf-8")


def test_smaller_bundle_within_tolerance_is_the_headline(make_bundle: Any, make_manifest: Any, tmp_path: Path) -> None:
    big = make_bundle(tmp_path / "big", "big", padding=50_000)
    small = make_bundle(tmp_path / "small", "small")
    poor = make_bundle(tmp_path / "poor", "poor", {"float32": {"a": "b"}})
    manifest = make_manifest(tmp_path / "data", "m", [("a b", "a b"), ("c d", "c e")] * 5)
    options = EvalOptions(resamples=1000, speed_utterances=0)
    summary = evaluate([big, small, poor], {"m": manifest}, tmp_path / "out", options)
    assert summary.chosen == "small-float32"
    assert summary.headline.startswith("small-float32 is the best trade-off: ")
    assert "within noise: 0.00 points" in summary.headline
    assert "poor-float32, of the same size, it is better" in summary.reason
    worse = evaluate([big, poor], {"m": manifest}, tmp_path / "out2", options)
    assert worse.headline.startswith("No smaller bundle is shown to stay within +0.5 points of big-float32")
    assert "for a higher word error rate: +25.00 points" in worse.headline


def test_chart_labels_do_not_touch() -> None:
    points = [
        Point(f"variant-{i}", 1.0 + 0.01 * i, 5.0 + 0.3 * i, 4.0 + 0.3 * i, 6.0 + 0.3 * i, i == 0, i == 0, i % 2 == 0)
        for i in range(5)
    ]
    svg = pareto_chart(points, name="t", x_label="size", description='a "quoted" <chart>')
    assert svg.startswith('<svg class="chart" role="img" aria-label="a &quot;quoted&quot; &lt;chart>"')
    places = re.findall(r'x="([\d.-]+)" y="([\d.-]+)"[^>]*>variant-\d', svg)
    heights = sorted(float(y) for _, y in places)
    assert len(heights) == 5
    assert min(b - a for a, b in itertools.pairwise(heights)) > 9
    assert not re.search("#0[1-5]0[1-5]", svg)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0042, "+0.42"), (-0.0042, "\u22120.42"), (-0.00001, "0.00"), (None, "–")]
)
def test_points(value: float | None, expected: str) -> None:
    assert words.points(value) == expected
