"""The page: everything is on it, nothing is loaded, nobody's text is markup, both themes can be read."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np
import pytest
import soundfile

from kdcompress_evaluation import words
from kdcompress_evaluation.report import render_html
from tests.evaluation.page.html import Page
from tests.evaluation.report_case import rich_summary

if TYPE_CHECKING:
    from kdcompress_evaluation.summary import Summary

HOSTILE = "<script>alert('x')</script> & \"<img src=x onerror=alert(1)>"
TEMPLATES = Path(render_html.__code__.co_filename).with_name("templates")


@pytest.fixture(scope="module")
def summary() -> Summary:
    return rich_summary(12)


@pytest.fixture(scope="module")
def html(summary: Summary) -> str:
    return render_html(summary)


@pytest.mark.parametrize(
    ("count", "task", "budget"),
    [
        (12, "speech", "size<=3MB,dwer<=0.5,p95<=20ms,rss<=150MB"),
        (20, "speech", ""),
        (8, "translation", "chrf>=99"),
        (8, "scene_text", "size<=0.5x,dser<=1"),
        (2, "speech", ""),
        (1, "speech", "wer<=9"),
    ],
)
def test_page_is_whole_and_needs_nothing_from_outside(count: int, task: str, budget: str) -> None:
    html = render_html(rich_summary(count, task=task, budget=budget))
    page = Page(html)
    assert page.loads == []
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert page.tags.count("script") == 1
    assert len(page.ids) == len(set(page.ids))
    assert {target.removeprefix("#") for target in page.targets} <= set(page.ids)
    assert len(html) < 2_000_000
    assert page.tables
    for table in page.tables:
        assert set(table.rows) == {table.columns}
    assert not re.search(r"\b(None(?! of)|nan|Undefined)\b", page.text)


def test_text_of_others_is_not_markup(summary: Summary) -> None:
    worst = replace(summary.worst[summary.chosen][0], id=HOSTILE, reference=HOSTILE, input=HOSTILE, speaker=HOSTILE)
    hostile = replace(
        summary,
        headline=HOSTILE,
        run=replace(summary.run, command=HOSTILE, device_note=HOSTILE),
        worst={**summary.worst, summary.chosen: (worst,)},
        failures=tuple(replace(f, error=HOSTILE, id=HOSTILE) for f in summary.failures),
        notes=(HOSTILE,),
    )
    first = summary.variants[1]
    named = replace(first, info=replace(first.info, bundle_path=HOSTILE, provenance={HOSTILE: HOSTILE}))
    hostile = replace(hostile, variants=(summary.variants[0], named, *summary.variants[2:]))
    page = Page(render_html(hostile))
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert page.text.count("<script>") >= 8


def test_names_in_plots_are_not_markup() -> None:
    summary = rich_summary(2)
    name = "a&b<i>"
    last = summary.variants[1]
    renamed = replace(last, info=replace(last.info, name=name))
    summary = replace(
        summary,
        variants=(summary.variants[0], renamed),
        chosen=name,
        verdict=None,
        worst={},
        regressions={},
        improvements={},
        slices=(),
    )
    page = Page(render_html(summary))
    assert "i" not in page.tags
    assert [mark["data-told"].split("\n")[0] for mark in page.marks].count(name) == 3


def test_page_holds_the_numbers(summary: Summary, html: str) -> None:
    text = Page(html).text
    for variant in summary.variants:
        for accuracy in (variant.pooled, *variant.manifests.values()):
            for estimate in accuracy.metrics.values():
                assert words.percent(estimate.value) in text
            for difference in accuracy.differences.values():
                if difference is accuracy.differences.get("wer"):
                    assert words.points_interval(difference.estimate) in text
        assert all(digest in text for digest in variant.info.files.values())
        if variant.speed is not None and variant.speed.paced is not None:
            assert words.milliseconds(variant.speed.paced.highest) in text
        if variant.footprint.cold_start is not None:
            assert words.number(variant.footprint.cold_start.total, 0) in text
        if variant.comparison is not None:
            assert words.interval(variant.comparison.not_worse, 1) in text
    told = (
        summary.run.command,
        summary.run.manifests[0].fingerprint,
        "plain 1",
        "jiwer 4.0.0",
        "2,000 draws",
        "seed 0",
    )
    for expected in (*told, *summary.notes, *(item.reason for item in summary.broken), "0.981 to 1.022", "1 time-out"):
        assert expected in text
    assert summary.verdict is not None
    assert summary.verdict.sentence in text


def test_sections_that_have_nothing_are_left_out() -> None:
    summary = rich_summary(2)
    bare = replace(
        summary,
        variants=tuple(replace(v, streaming=None, speed=None) for v in summary.variants),
        slices=(),
        failures=(),
        broken=(),
        failure_count=0,
        speed_run=None,
        verdict=None,
    )
    page = Page(render_html(bare))
    assert not {"streaming", "speed", "slices", "failures"} & set(page.ids)
    assert {"frontier", "variants", "comparison", "footprint", "utterances", "identity", "method"} <= set(page.ids)


def test_recordings_are_inside_each_once(tmp_path: Path) -> None:
    small, big = tmp_path / "small.wav", tmp_path / "big.wav"
    soundfile.write(small, np.zeros(800), 8000)
    soundfile.write(big, np.zeros(200_000), 8000)
    html = render_html(rich_summary(4, inputs=(str(small), str(big))))
    page = Page(html)
    assert len(page.loads) == 1
    assert page.loads[0].startswith("data:audio/wav;base64,UklGR")
    assert "left out: 400 kB, more than 200" in page.text
    assert "the file could not be read" in page.text
    assert "recording above" in page.text


def test_images_and_source_sentences_are_shown(tmp_path: Path) -> None:
    image = tmp_path / "line.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    page = Page(render_html(rich_summary(4, task="scene_text", inputs=(str(image),))))
    assert page.loads == ["data:image/png;base64,iVBORw0KGgo="]
    assert "Han kom aldrig tillbaka." in Page(render_html(rich_summary(4, task="translation"))).text


def luminance(colour: str) -> float:
    full = "".join(2 * c for c in colour[1:]) if len(colour) == 4 else colour[1:]
    channels = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_text_can_be_read_in_both_themes(theme: int) -> None:
    """WCAG 2.2 AA: text has a contrast of 4.5 to what is behind it."""
    css = jinja2.Template((TEMPLATES / "report.css").read_text(encoding="utf-8")).render()
    blocks = re.findall(r"\{[^{}]*--page:[^{}]*\}", css)
    colours = dict(re.findall(r"(--[\w-]+): (#\w+)", blocks[theme]))
    for ink in ("ink", "muted", "accent", "good", "bad", "warn"):
        for paper in ("page", "tint"):
            assert contrast(colours[f"--{ink}"], colours[f"--{paper}"]) >= 4.5, (ink, paper)
    assert contrast(colours["--good"], colours["--good-tint"]) >= 4.5
    assert contrast(colours["--bad"], colours["--bad-tint"]) >= 4.5
    assert len(blocks) == 3
    assert blocks[1] == blocks[2]
