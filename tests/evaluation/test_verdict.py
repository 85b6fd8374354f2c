"""The verdict: a bound holds, fails or cannot be told; what cannot be told does not ship."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdcompress_evaluation.bootstrap import Estimate
from kdcompress_evaluation.budget import FIGURES
from kdcompress_evaluation.summary import Difference, Summary, VariantSummary, Verdict
from kdcompress_evaluation.verdict import decide
from tests.evaluation.report_case import rich_summary

SUMMARY = rich_summary(6)
BASELINE = SUMMARY.run.baseline
STUDENT = next(v.info.name for v in SUMMARY.variants if not v.info.anchor and v.info.name != BASELINE)


def judge(budget: str, variants: tuple[VariantSummary, ...] = SUMMARY.variants, **changes: object) -> Verdict:
    verdict = decide(replace(SUMMARY.run, budget=budget, **changes), variants, SUMMARY.metrics)
    assert verdict is not None
    return verdict


def with_difference(estimate: Estimate, summary: Summary = SUMMARY) -> tuple[VariantSummary, ...]:
    """The summary's variants, the student's difference being this."""
    return tuple(
        replace(v, pooled=replace(v.pooled, differences={"wer": Difference(estimate, None, None)}))
        if v.info.name == STUDENT
        else v
        for v in summary.variants
    )


def state(verdict: Verdict, variant: str = STUDENT) -> str:
    return next(v for v in verdict.variants if v.variant == variant).checks[0].state


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (Estimate(0.001, -0.002, 0.004), "holds"),
        (Estimate(0.001, -0.002, 0.006), "unclear"),
        (Estimate(0.006, 0.004, 0.009), "unclear"),
        (Estimate(0.009, 0.006, 0.012), "fails"),
        (Estimate(0.001), "unclear"),
        (Estimate(None), "unclear"),
    ],
)
def test_the_whole_interval_counts(estimate: Estimate, expected: str) -> None:
    verdict = judge("dwer<=0.5", with_difference(estimate), candidates=(STUDENT,))
    assert state(verdict) == expected
    assert verdict.ships == (STUDENT if expected == "holds" else None)
    assert verdict.sentence.startswith("Ship" if expected == "holds" else f"Do not ship {STUDENT}")


def test_of_those_that_hold_the_smallest_ships() -> None:
    verdict = judge("size<=100MB")
    candidates = [v for v in SUMMARY.variants if not v.info.anchor and v.info.name != BASELINE]
    assert verdict.ships == min(candidates, key=lambda v: v.footprint.size_bytes or 0).info.name
    assert f"{len(candidates) - 1} other variants would do as well" in verdict.sentence


def test_baseline_and_anchors_are_judged_but_do_not_ship() -> None:
    verdict = judge("size<=1000MB", tuple(replace(v, info=replace(v.info, anchor=True)) if v.info.name == STUDENT else v
                                          for v in SUMMARY.variants))  # fmt: skip
    told = {v.variant: v for v in verdict.variants}
    assert not told[BASELINE].candidate
    assert not told[STUDENT].candidate
    assert told[STUDENT].checks[0].state == "holds"
    assert not told[STUDENT].ships


def test_a_variant_alone_is_its_own_candidate_and_no_worse_than_itself() -> None:
    alone = tuple(v for v in SUMMARY.variants if v.info.name == BASELINE)
    verdict = judge("dwer<=0,dcer<=0,speed>=1x,not_worse>=100%", alone)
    assert verdict.ships == BASELINE


def test_what_gave_up_half_way_never_ships() -> None:
    run = replace(SUMMARY.run, budget="size<=100MB", candidates=(STUDENT,))
    verdict = decide(run, SUMMARY.variants, SUMMARY.metrics, broken=(STUDENT,))
    assert verdict is not None
    assert verdict.ships is None
    assert "could be evaluated to the end" in verdict.sentence


def test_what_was_not_measured_is_unclear() -> None:
    bare = tuple(replace(v, speed=None) for v in SUMMARY.variants)
    for bound in ("p95<=20ms", "paced_p95<=20ms", "rtf<=1", "speed>=0.1x", "macs<=100000M", "bleu>=1", "dbleu>=-99"):
        verdict = judge(bound, bare)
        assert state(verdict) == "unclear", bound
        assert verdict.ships is None


def test_size_against_the_baselines() -> None:
    sizes = {v.info.name: v.footprint.size_bytes or 0 for v in SUMMARY.variants}
    share = sizes[STUDENT] / sizes[BASELINE]
    assert state(judge(f"size<={share + 0.01}x")) == "holds"
    assert state(judge(f"size<={share - 0.01}x")) == "fails"


OTHER_TASKS = {f"{sign}{name}" for name in ("chrf", "bleu", "exact", "copied") for sign in ("", "d")}


@pytest.mark.parametrize("figure", [name for name in FIGURES if name not in OTHER_TASKS])
def test_every_figure_can_be_judged(figure: str) -> None:
    bound = f"{figure}<=1000000000000" if FIGURES[figure].most else f"{figure}>=0"
    assert state(judge(bound)) == "holds"


def test_scores_are_bounded_from_below() -> None:
    summary = rich_summary(6, task="translation")
    value = summary.variant(STUDENT).pooled.metrics["chrf"]
    assert value.low is not None
    for bound, expected in ((100 * value.low - 0.1, "holds"), (100 * (value.high or 1) + 0.1, "fails")):
        run = replace(summary.run, budget=f"chrf>={bound}", candidates=(STUDENT,))
        verdict = decide(run, summary.variants, summary.metrics)
        assert verdict is not None
        assert state(verdict) == expected


def test_no_budget_no_verdict() -> None:
    assert decide(replace(SUMMARY.run, budget=""), SUMMARY.variants, SUMMARY.metrics) is None


def test_the_nearest_is_the_one_that_misses_by_least() -> None:
    sizes = {v.info.name: v.footprint.size_bytes or 0 for v in SUMMARY.variants if not v.info.anchor}
    smallest = min((name for name in sizes if name != BASELINE), key=sizes.__getitem__)
    verdict = judge(f"size<={sizes[smallest] - 1}B")
    assert (verdict.ships, verdict.nearest) == (None, smallest)
    assert f"Nearest is {smallest}: size<=" in verdict.sentence
