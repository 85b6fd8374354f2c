"""The top of the page: the right variant, what it costs, and what makes the answer wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdcompress_evaluation.answer import Answer, answer, focus_of, overlap_state, standing
from kdcompress_evaluation.bootstrap import Estimate
from kdcompress_evaluation.summary import Overlap, Summary
from kdcompress_evaluation.verdict import decide
from tests.evaluation.report_case import rich_summary

SHIPPED = "medium-oracle-int8"


def figure(found: Answer, name: str) -> str:
    one = next(f for f in found.figures if name in f.name)
    return f"{one.value} {one.unit} {one.against}"


def seen(summary: Summary, bundle: str, **changes: object) -> Answer:
    """The answer when ``bundle`` was made with a test item."""
    overlap = Overlap(bundle, "train", "sentences", "content", "64 items", 12, 3, 12)
    return answer(replace(summary, overlaps=(replace(overlap, **changes),)))


def test_what_ships_is_the_title_and_its_cost_stands_below() -> None:
    found = answer(rich_summary(12))
    assert (found.state, found.title, found.focus) == ("ships", f"Ship {SHIPPED}", SHIPPED)
    assert [f.value for f in found.figures][1:] == ["1.25", "4.03", "62"]
    assert figure(found, "Size") == "1.25 MB 9 % of 13.72 MB"
    assert "in real time, p95" in found.figures[2].name
    assert [d.state for d in found.demands] == ["holds"] * 4
    assert found.demands[1].bound == "dwer ≤ 0.5"
    assert "No other candidate" in found.lead[1]


def test_when_nothing_ships_the_nearest_is_shown() -> None:
    found = answer(rich_summary(9, budget="size<=1MB,dwer<=0.5,p95<=20ms"))
    assert (found.state, found.title) == ("stops", "Do not ship")
    assert found.focus == "medium-oracle-int8"
    assert found.focus in found.lead[0]
    assert [d.state for d in found.demands] == ["fails", "holds", "holds"]


def test_without_a_budget_the_headline_is_the_title() -> None:
    summary = rich_summary(12, budget="")
    found = answer(summary)
    assert (found.state, found.title, found.focus) == ("", summary.headline, summary.chosen)
    assert found.demands == ()


def test_a_budget_that_ships_another_than_the_trade_off_says_both() -> None:
    summary = replace(rich_summary(12), chosen="large-oracle-int8")
    found = answer(summary)
    assert found.focus == SHIPPED
    assert found.lead[1] == f"Without a budget: {summary.headline}"


def test_a_broken_candidate_is_not_the_nearest() -> None:
    summary = rich_summary(9, budget="size<=1MB,dwer<=0.5,p95<=20ms")
    assert focus_of(summary) == "medium-oracle-int8"
    verdict = decide(summary.run, summary.variants, summary.metrics, broken=("medium-oracle-int8",))
    assert focus_of(replace(summary, verdict=verdict)) != "medium-oracle-int8"


@pytest.mark.parametrize("bundle", ["medium-oracle", "large-labels"])
def test_test_items_in_what_the_answer_rests_on_come_first(bundle: str) -> None:
    found = seen(rich_summary(12), bundle)
    assert [alert.bad for alert in found.alerts] == [True, False, False]
    assert found.alerts[0].text.startswith(f"{bundle} was made with test items: 12 of sentences in its train set.")


def test_test_items_in_another_bundle_are_told_quietly() -> None:
    found = seen(rich_summary(12), "large-conventional")
    assert not any(alert.bad for alert in found.alerts)
    assert "large-conventional" in found.alerts[0].text


def test_sets_that_could_not_be_read_are_told() -> None:
    found = seen(rich_summary(12), "medium-oracle", inputs=None, evidence="none")
    assert "could not be checked" in found.alerts[0].text


@pytest.mark.parametrize(
    ("evidence", "inputs", "state"),
    [("content", 0, "clear"), ("content", 3, "shared"), ("fingerprint", None, "shared"), ("none", None, "unknown")],
)
def test_overlap_state(evidence: str, inputs: int | None, state: str) -> None:
    assert overlap_state(Overlap("b", "train", "m", evidence, "", inputs, None, 9)) == state


def test_a_difference_within_noise_is_called_so() -> None:
    summary = rich_summary(12)
    best = summary.variant(SHIPPED)
    noise = replace(best.pooled.differences["wer"], estimate=Estimate(0.001, -0.002, 0.004))
    calm = replace(best, pooled=replace(best.pooled, differences={"wer": noise}))
    variants = tuple(calm if v is best else v for v in summary.variants)
    found = answer(replace(summary, variants=variants))
    assert found.figures[0].against == "+0.10 points against 7.13 % (−0.20 to +0.40: within noise)"


def test_costs_that_are_not_known_are_left_out() -> None:
    summary = rich_summary(12)
    best = summary.variant(SHIPPED)
    bare = replace(best, speed=None, footprint=replace(best.footprint, memory=None))
    found = answer(replace(summary, variants=tuple(bare if v is best else v for v in summary.variants)))
    assert [f.name for f in found.figures] == ["Word error rate", "Size to ship"]


def test_a_baseline_that_does_not_stream_is_no_ratio() -> None:
    summary = rich_summary(12)
    base = summary.variants[0]
    assert base.speed is not None
    whole = replace(base, speed=replace(base.speed, chunk=None, paced=None))
    found = answer(replace(summary, variants=(whole, *summary.variants[1:])))
    assert figure(found, "chunk") == "4.03 ms baseline not known"


def test_standing_in_a_few_words() -> None:
    verdict = rich_summary(20).verdict
    assert verdict is not None
    told = {v.variant: standing(v, verdict.ships) for v in verdict.variants}
    assert told[SHIPPED] == "ships"
    assert told["medium-conventional-int8"] == "would do"
    assert told["teacher-float32"] == "fails 3 of 4"
    assert told["cloud"] == "unclear 3 of 4"
