"""From real bundles to the files of a report; what is on the page stands in ``page/``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from kdcompress_evaluation import EvalOptions, Summary, evaluate, words
from kdcompress_evaluation.report import render_html
from tests.evaluation.conftest import ITEMS, write_bundle, write_manifest
from tests.evaluation.page.html import Page

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "<script>alert('x')</script> & <img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles, two precisions, two manifests, hostile texts and names, one missing file, a budget."""
    tmp_path = tmp_path_factory.mktemp("report")
    one = write_bundle(tmp_path / "one", "one", {"float32": {}, "int8": {"e": "d"}})
    two = write_bundle(tmp_path / "two", "two <b>", {"float32": {"c": "d"}}, padding=30_000)
    first = write_manifest(tmp_path / "data", "first", ITEMS)
    second = write_manifest(
        tmp_path / "data", "second", [(HOSTILE, "a"), ("b", "b"), ("c", "c")], speaker=[HOSTILE] * 3
    )
    (tmp_path / "data" / "second-2.wav").unlink()
    options = EvalOptions(
        precisions="all",
        baseline="two-b-float32",
        resamples=1000,
        speed_utterances=2,
        paced_seconds=0,
        budget="size<=1MB,dwer<=0.5",
        command="kdcompress eval <x>",
    )
    evaluate([one, two], {"first": first, "second": second}, tmp_path / "out", options)
    return tmp_path / "out"


def test_real_bundles_end_in_a_page(report: Path) -> None:
    summary = Summary.read(report / "report.json")
    html = (report / "report.html").read_text(encoding="utf-8")
    assert render_html(summary) == html
    page = Page(html)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert all(source.startswith("data:audio/wav;base64,") for source in page.loads)
    assert page.loads
    assert summary.verdict is not None
    assert summary.verdict.sentence in page.text
    assert "1 utterance failed" in page.text
    for variant in summary.variants:
        assert variant.info.model_sha256 in page.text
        assert words.interval(variant.pooled.metrics["wer"]) in page.text
    for told in ("kdcompress eval <x>", HOSTILE, summary.run.manifests[0].fingerprint):
        assert told in page.text


def test_worst_utterances_are_marked_in_text_too(report: Path) -> None:
    html = (report / "report.html").read_text(encoding="utf-8")
    assert "<del>ace</del>" in html
    assert "<ins>a</ins>" in html
    assert re.search(r'<span class="sub"><s>c</s> d</span>', html)


def test_every_kind_of_file_is_written(report: Path) -> None:
    assert {path.name for path in report.iterdir()} == {"report.html", "report.md", "report.json", "report.csv", "rows"}
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "<img" not in markdown
