from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from kdcompress_evaluation import words
from kdcompress_evaluation.markdown import render_markdown
from kdcompress_evaluation.metrics import MetricInfo
from kdcompress_evaluation.overlap import WHY

if TYPE_CHECKING:
    from kdcompress_evaluation.summary import Summary

SMALL = "small-int8"
SECTIONS = [
    "Budget",
    "Comparison with base-float32",
    "Trade-offs",
    "Accuracy on all test sets",
    "Accuracy on clean",
    "Accuracy on noisy",
    "Streaming",
    "Speed",
    "Footprint",
    "Slices",
    f"Worst utterances of {SMALL}",
    f"Worse than with the baseline: {SMALL}",
    f"Better than with the baseline: {SMALL}",
    "Failures",
    "Are the test sets unseen?",
    "Identity",
    "Method",
]


def parts(text: str) -> dict[str, str]:
    """Sections by heading; the top under an empty one."""
    pieces = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {"": pieces[0], **dict(zip(pieces[1::2], pieces[2::2], strict=True))}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def rows(section: str, name: str) -> list[list[str]]:
    """Rows of the section's tables whose first cell holds the name."""
    return [cells(line) for line in section.splitlines() if line.startswith("|") and name in cells(line)[0]]


def test_the_answer_comes_first_and_fits_a_pull_request(summary: Summary) -> None:
    top = parts(render_markdown(summary))[""]
    assert top.startswith("# Ship small-int8\n")
    assert top.index(summary.headline) < top.index("| variant |")
    assert top.rstrip().endswith("---")
    assert len(top) < 3500
    assert top.count("\n|---") == 1
    assert rows(top, SMALL) == [
        ["**small-int8**", "7.15 (6.15 to 8.40)", "+0.03 (−0.27 to +0.40)", "0.048", "1.70", "15.75", "176", "ships"]
    ]
    (tiny,) = rows(top, "tiny")
    assert tiny[-1] == "fails 2 of 4"
    (cloud,) = rows(top, "cloud")
    assert cloud[4:7] == ["–", "–", "–"]
    assert "- holds: `dwer ≤ 0.5` (" in top
    assert "402 of noisy" in top
    assert "corrected for 2 comparisons" in top


def test_sections_are_those_of_the_page_in_order(summary: Summary) -> None:
    assert list(parts(render_markdown(summary)))[1:] == SECTIONS


def test_do_not_ship_says_so_and_keeps_the_trade_off(summary: Summary) -> None:
    from kdcompress_evaluation.verdict import decide

    run = replace(summary.run, budget="size<=1KB")
    refused = replace(summary, run=run, verdict=decide(run, summary.variants, summary.metrics))
    top = parts(render_markdown(refused))[""]
    assert top.startswith("# Do not ship\n")
    assert f"Without a budget: {summary.headline}" in top
    assert "**fails**: `size ≤ 1KB`" in top


def test_without_a_budget_the_headline_is_the_answer(summary: Summary) -> None:
    found = parts(render_markdown(replace(summary, verdict=None, run=replace(summary.run, budget=""))))
    assert f"**{summary.headline}**" in found[""]
    assert "budget" not in found[""]
    assert "Budget" not in found


def test_every_number_of_the_tables_is_there(summary: Summary) -> None:
    found = parts(render_markdown(summary))
    small = next(v for v in summary.variants if v.info.name == SMALL)
    assert rows(found["Comparison with base-float32"], SMALL) == [
        [SMALL, "WER", "7.15 (6.15 to 8.40)", "+0.03 (−0.27 to +0.40)", "0.014", "0.048"],
        [SMALL, "CER", "2.38 (1.38 to 3.63)", "+0.01 (−0.19 to +0.26)", "< 0.001", "–"],
        [SMALL, "62", "700", "42", "94.80 (93.80 to 96.05)", "+0.42", "−0.26", "+0.14"],
    ]
    assert rows(found["Trade-offs"], SMALL) == [[SMALL, "front", "front", "–"]]
    (clean,) = rows(found["Accuracy on clean"], SMALL)
    assert clean[1] == f"{words.percent(small.manifests['clean'].metrics['wer'].value)} (4.00 to 6.25)"
    assert clean[4:] == ["422 / 232 / 142 of 9,666", "15", "13", "32"]
    (stream,) = rows(found["Streaming"], SMALL)
    assert stream[1:5] == ["+0.08 (−0.03 to +0.22)", "792 of 799", "92 of 100", "0.53 / 0.80"]
    assert stream[-2:] == ["2 of 98", "5 of 98"]
    times, shares = rows(found["Speed"], SMALL)
    assert times[1:5] == ["3.00 (2.96 to 3.05)", "0.03100", "0.03200", "7.00 / 10.50 / 12.25 / 17.50"]
    assert shares[1:] == ["0.24", "2.25", "0.07", "0.04", "50.4", "17.0 %", "3.1 %"]
    assert "noise floor (the baseline against a copy of itself): 1.00 (0.98 to 1.02)" in found["Speed"]
    (held,) = rows(found["Footprint"], SMALL)
    assert held[1:] == ["1.00", "1.70", "1.53", "0.00", "59", "52 / 55 / 176", "50", "142 + 22 + 9 = 174"]
    assert rows(found["Slices"], "2 to 4 s") == [
        ["2 to 4 s", "321", "6.26 (4.26 to 8.76)", "6.13 (4.13 to 8.63)", "+0.13 (−0.27 to +0.63)"]
    ]
    assert "machine: AMD EPYC 9B45, 2 cores" in found["Method"]
    assert "governor performance; turbo on; a virtual machine" in found["Method"]
    assert "over speakers, 2,000 draws, seed 17" in found["Method"]


def test_utterances_have_a_diff_and_the_baselines(summary: Summary) -> None:
    found = parts(render_markdown(summary))
    worse = found[f"Worse than with the baseline: {SMALL}"]
    assert "please turn the ~~kitchen~~ **kitten** lights" in worse
    assert "  - baseline: please turn the kitchen lights down a little" in worse
    better = found[f"Better than with the baseline: {SMALL}"]
    assert "0 of 6 words wrong, baseline 3: she was nine by the sea" in better
    assert "  - baseline: ~~she~~ **he** was ~~nine~~ by the sea **see**" in better


def test_failures_and_broken_variants_are_named(summary: Summary) -> None:
    failures = parts(render_markdown(summary))["Failures"]
    assert "- variant models/half.zip was not evaluated to the end: bundle.json is missing" in failures
    assert "- u0100 (clean), all variants, input: audio/u0100.flac: no such file" in failures
    assert "- u0101 (noisy), tiny-int8, timeout: not done after 60 s" in failures
    many = parts(render_markdown(replace(summary, failure_count=77)))["Failures"]
    assert "77 utterances failed and count as all wrong. Only the first 2 are listed." in many


def test_disjointness_is_told_once_for_what_is_alike(summary: Summary) -> None:
    section = parts(render_markdown(summary))["Are the test sets unseen?"]
    assert rows(section, "base") == [
        [
            "base", "train, calibration", "clean", "no, but speakers or texts", "0", "0", "14",
            "9,120 items of train.jsonl, one by one",
        ],
        ["base", "train", "noisy", "**not known**", "–", "–", "–", "train.jsonl is not here"],
    ]  # fmt: skip
    assert rows(section, "tiny")[0][3] == "**yes**"
    assert WHY in section
    assert "Nothing is known about the training sets of cloud" in section


def test_files_hashes_and_the_command_are_there(summary: Summary) -> None:
    text = render_markdown(summary)
    for info in summary.run.variants:
        assert all(f"`{digest}`" in text for digest in info.files.values())
    assert "```\nkdcompress eval runs/base -o 'report `x`'\n```" in text


def test_hostile_text_stays_text(summary: Summary) -> None:
    """A transcript with markup of HTML and Markdown, and a command with a fence in it."""
    run = replace(summary.run, command="kdcompress ```\n# head", device_note="a | <b>b</b>")
    text = render_markdown(replace(summary, run=run))
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    assert "<script" not in html
    assert "<b>" not in html
    assert 'href="http://e"' not in html
    assert "<h1>head" not in html
    assert "alert('x')" in html
    tables = [block.split("</table>")[0] for block in html.split("<table>")[1:]]
    for one in tables:
        counts = {row.count("<td") + row.count("<th") - row.count("<thead") for row in one.split("</tr>")[:-1]}
        assert len(counts) == 1
    assert len(tables) == text.count("\n|---")


@pytest.mark.parametrize("alone", [True, False])
def test_little_to_tell(summary: Summary, alone: bool) -> None:
    """One variant without speed, streams, slices, failures; a command is not known."""
    base = summary.variants[0]
    bare = replace(base, speed=None, streaming=None, footprint=replace(base.footprint, memory=None, cold_start=None))
    others = () if alone else (replace(summary.variants[4], comparison=None),)
    variants = (bare, *others)
    run = replace(
        summary.run,
        variants=tuple(replace(v.info, provenance={"data": {"train": {"fingerprint": "x"}}}) for v in variants),
        budget="",
        command="",
        manifests=summary.run.manifests[:1],
    )
    less = replace(
        summary, run=run, variants=variants, chosen=base.info.name, verdict=None, broken=(), slices=(), worst={},
        regressions={}, improvements={}, failures=(), failure_count=0, overlaps=(), speed_run=None, notes=(),
    )  # fmt: skip
    titles = list(parts(render_markdown(less)))[1:]
    compared = [] if alone else ["Comparison with base-float32", "Trade-offs"]
    assert titles == [*compared, "Accuracy on clean", "Footprint", "Identity", "Method"]


def test_a_translation_has_scores(summary: Summary) -> None:
    chrf = MetricInfo("wer", "chrF", "chrF", "", lower_is_better=False, scorer="sacrebleu")
    text = render_markdown(replace(summary, metrics=(chrf,), run=replace(summary.run, task="translation")))
    found = parts(text)
    assert "| chrF (95 % interval) |" in found[""]
    assert "chrF, baseline" in found[f"Worse than with the baseline: {SMALL}"]
    assert "source sentences" in found["Are the test sets unseen?"]
