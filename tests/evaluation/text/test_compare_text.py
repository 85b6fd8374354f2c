from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kdcompress_evaluation import words
from kdcompress_evaluation.compare_text import WIDTH, plain_diff, render_comparison
from kdcompress_evaluation.metrics import MetricInfo
from kdcompress_evaluation.scoring import DiffPiece
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from kdcompress_evaluation.summary import Summary

BASE, SMALL = "base-float32", "small-int8"


def test_two_variants_side_by_side(summary: Summary) -> None:
    text = render_comparison(summary, BASE, SMALL)
    flat = " ".join(text.split())
    assert text.startswith(f"A  {BASE}\nB  {SMALL}\n")
    for told in (
        "WER % 7.12 7.15 +0.03 (−0.27 to +0.40) within noise, p 0.014",
        "CER % 2.37 2.38 +0.01 (−0.19 to +0.26) within noise, p < 0.001",
        "MB to ship 6.10 1.70 28 % of A",
        "paced p95 ms 7.88 15.75 2.0 times A",
        "peak memory MB 88 176",
        "times as fast 3.00 (2.96 to 3.05)",
        "A against itself: 0.98 to 1.02",
        "62 better with B, 700 the same, 42 worse; not worse: 94.8 % (93.8 to 96.0)",
        "+0.42 substitutions, −0.26 deletions, +0.14 insertions",
        "4 with A, 5 with B",
        "Ship small-int8: it holds all 4 bounds",
    ):
        assert told in flat, told


def test_regressions_and_improvements_show_both_texts(summary: Summary) -> None:
    lines = render_comparison(summary, BASE, SMALL).splitlines()
    worse = lines.index("Worse with B ([-left out-] {+put in+})")
    assert lines[worse + 1 : worse + 3] == [
        "  u0007 (clean): A 0, B 4 of 8 words wrong",
        "    A  please turn the kitchen lights down a little",
    ]
    assert "[-kitchen-]{+kitten+}" in lines[worse + 3]
    better = lines.index("Better with B ([-left out-] {+put in+})")
    assert lines[better + 1 : better + 4] == [
        "  u0008 (clean): A 3, B 0 of 6 words wrong",
        "    A  [-she-]{+he+} was [-nine-] by the sea {+see+}",
        "    B  she was nine by the sea",
    ]


def test_five_of_a_kind_at_most(summary: Summary) -> None:
    many = summary.regressions[SMALL] * 9
    text = render_comparison(replace(summary, regressions={SMALL: many}), BASE, SMALL)
    assert text.count("u0007 (clean)") == 5


@pytest.mark.parametrize("name", [SMALL, "tiny-int8", "teacher-float32", "cloud"])
def test_eighty_columns_and_nothing_for_the_terminal(summary: Summary, name: str) -> None:
    long = replace(
        summary.regressions[SMALL][0], id="i" * 90, hypothesis="x", baseline_hypothesis="a\x1b[31m " * 40, manifest="m"
    )
    text = render_comparison(replace(summary, regressions={name: (long,)}), BASE, name)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_better_and_worse_follow_the_metric(summary: Summary) -> None:
    """The same numbers, of an error rate and of a score."""
    assert "worse, p 0.015" in render_comparison(summary, BASE, "tiny-int8")
    assert "better, p 0.016" in render_comparison(summary, BASE, "teacher-float32")
    score = MetricInfo("wer", "chrF", "chrF", "", lower_is_better=False, scorer="s")
    turned = replace(summary, metrics=(score,), run=replace(summary.run, task="translation"))
    text = render_comparison(turned, BASE, "tiny-int8")
    assert "better, p 0.015" in text
    assert "reference words" not in text
    assert f"A {words.percent(1.0, 1)}, B" in text


def test_what_was_not_measured_is_a_dash(summary: Summary) -> None:
    lines = render_comparison(summary, BASE, "cloud").splitlines()
    assert [line.split() for line in lines if line.startswith("MB to ship")] == [["MB", "to", "ship", "6.10", "–", "–"]]
    bare = [replace(v, speed=None, footprint=replace(v.footprint, memory=None)) for v in summary.variants]
    text = render_comparison(replace(summary, variants=tuple(bare), speed_run=None), BASE, SMALL)
    assert "RTF" not in text
    assert "memory" not in text


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (BASE, "nobody", "no variant 'nobody'; choose among base-float32"),
        (SMALL, BASE, "the report compares with base-float32"),
        (BASE, BASE, "name another variant"),
    ],
)
def test_only_against_the_baseline(summary: Summary, a: str, b: str, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        render_comparison(summary, a, b)


def test_a_variant_that_broke_says_so(summary: Summary) -> None:
    broken = replace(summary.broken[0], name=SMALL, reason="crashed three times")
    assert f"{SMALL} was not evaluated to the end: crashed three times" in render_comparison(
        replace(summary, broken=(broken,)), BASE, SMALL
    )


def test_marks_of_a_diff() -> None:
    pieces = (DiffPiece("equal", "a b", "a b"), DiffPiece("delete", "c", ""), DiffPiece("insert", "", "d"))
    assert plain_diff(pieces) == "a b [-c-] {+d+}"
    assert plain_diff(()) == "(nothing)"
