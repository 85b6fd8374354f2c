"""Variants whose errors are planted: every so many utterances a wrong word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from kdcompress_evaluation.cost import Memory
from kdcompress_evaluation.derive import summarise
from kdcompress_evaluation.pareto import measured_costs
from kdcompress_evaluation.records import dumps, write_text
from kdcompress_evaluation.rows import ROWS
from kdcompress_evaluation.speed.record import Pacing, SpeedRecord, TimedUtterance, Timing, VariantCosts
from kdcompress_evaluation.summary import Overlap

if TYPE_CHECKING:
    from kdcompress_evaluation.summary import Summary

COUNT = 300
TEXT = "one two three four"


def report(case: Any, wrong: dict[str, int], /, sizes: dict[str, int | None], **more: Any) -> Summary:
    """One word is wrong in every so many utterances, a prime of its own, so that differences vary."""
    anchors = more.pop("anchors", ())
    variants = [case.variant(n, size_bytes=sizes.get(n, 1_000_000), anchor=n in anchors) for n in wrong]
    folder = case.folder({"m": [TEXT] * COUNT}, variants, **more)
    for name, every in wrong.items():
        folder.write_texts(name, {"m": [TEXT.replace("two", "x") if i % every == 0 else TEXT for i in range(COUNT)]})
    return summarise(folder.path)


def test_the_smallest_that_is_shown_to_stay_within_the_tolerance_is_chosen(case: Any) -> None:
    found = report(case, {"base": 11, "good": 11, "tiny": 2}, {"good": 300_000, "tiny": 100_000}, tolerance=0.02)
    assert found.chosen == "good"
    assert found.headline == ("good is the best trade-off: 30 % of the size of base, and the same word error rate.")
    assert found.reason == ""


def test_what_is_not_shown_is_said_to_be_not_shown(case: Any) -> None:
    found = report(case, {"base": 11, "near": 5, "far": 2}, {"near": 300_000, "far": 100_000})
    assert found.chosen == "near"
    assert found.headline.startswith(
        "No smaller system is shown to stay within +0.5 points of base; the closest is near: 30 % of the size of base, "
        "for a higher word error rate: +2.67 points (95 % interval +"
    )


def test_of_one_size_the_lower_cost_wins_and_its_neighbour_is_named(case: Any) -> None:
    found = report(case, {"base": 3, "one": 7, "two": 30}, {"one": 300_000, "two": 310_000})
    assert found.chosen == "two"
    assert "with a lower word error rate: −" in found.headline
    assert found.reason.startswith("Against one, of the same size, it is better: −2.75 points (−")


def test_the_baseline_is_chosen_where_nothing_is_smaller(case: Any) -> None:
    found = report(case, {"base": 10, "big": 10}, {"big": 3_000_000})
    assert found.chosen == "base"
    assert "no smaller system is in the comparison; it has a word error rate of 2.50 % at 1.00 MB" in found.headline


def test_anchors_and_systems_of_unknown_size_are_shown_and_not_chosen(case: Any) -> None:
    found = report(
        case,
        {"base": 5, "new": 7, "teacher": 50, "cloud": 100},
        {"new": 300_000, "teacher": 200_000, "cloud": None},
        anchors=("teacher",),
    )
    assert found.chosen == "new"
    assert found.reason == "The best WER is 0.25 %, by cloud of unknown size."
    assert found.variant("cloud").fronts["size"] is None
    assert found.variant("teacher").fronts["size"] is True
    assert found.variant("new").fronts["size"] is False


def test_an_anchor_as_baseline_is_compared_with_and_not_chosen(case: Any) -> None:
    found = report(case, {"teacher": 100, "big": 5, "small": 4}, {"small": 950_000}, anchors=("teacher",))
    assert found.run.baseline == "teacher"
    assert found.chosen == "big"
    assert "nothing" not in found.headline
    assert found.headline.startswith("No system that may ship is smaller than teacher, or shown to be as good; the clo")


def test_only_candidates_are_chosen(case: Any) -> None:
    sizes: dict[str, int | None] = {"one": 300_000, "two": 100_000}
    assert report(case, {"base": 5, "one": 9, "two": 9}, sizes).chosen == "two"
    assert report(case, {"base": 5, "one": 9, "two": 9}, sizes, name="o", candidates=("one",)).chosen == "one"


def test_the_headline_is_about_what_the_verdict_ships(case: Any) -> None:
    """Without the budget the smaller one would be chosen."""
    wrong, sizes = {"base": 5, "one": 50, "two": 5}, {"one": 300_000, "two": 100_000}
    assert report(case, wrong, sizes).chosen == "two"
    found = report(case, wrong, sizes, name="o", budget="size<=0.5MB,wer<=2")
    assert found.verdict is not None
    assert found.verdict.ships == found.chosen == "one"
    assert found.headline.startswith(
        "one is the smallest that holds the budget: 30 % of the size of base, with a lower"
    )
    none = report(case, wrong, sizes, name="n", budget="size<=0.01MB")
    assert none.verdict is not None
    assert none.verdict.ships is None
    assert none.chosen == "two"


def test_worst_and_changed_utterances_are_in_order_with_both_texts(case: Any) -> None:
    references = {"m": ["a b c d e", "a b c", "a b", "f g", "a b c d e"], "n": ["x y"]}
    folder = case.folder(references, ["base", "new"])
    folder.write_texts("base", {"m": ["a b c d e", "", "x b", "f g", "x b c d e"], "n": ["x y"]})
    folder.write_texts("new", {"m": ["a x", "a b c", "a x", "f", "a b c d e"], "n": ["x"]})
    found = summarise(folder.path)
    assert [(w.manifest, w.id, w.errors, w.baseline_errors) for w in found.worst["new"]] == [
        ("m", "u0", 4, 0),
        ("m", "u2", 1, 1),
        ("m", "u3", 1, 0),
        ("n", "u0", 1, 0),
    ]
    assert [(w.id, w.errors, w.baseline_errors) for w in found.worst["base"]] == [
        ("u1", 3, None),
        ("u2", 1, None),
        ("u4", 1, None),
    ]
    assert [(w.manifest, w.id) for w in found.regressions["new"]] == [("m", "u0"), ("m", "u3"), ("n", "u0")]
    assert [w.id for w in found.improvements["new"]] == ["u1", "u4"]
    first = found.improvements["new"][0]
    assert (first.hypothesis, first.baseline_hypothesis, first.reference) == ("a b c", "", "a b c")
    assert found.worst["base"][0].baseline_hypothesis is None
    assert [p.kind for p in found.worst["new"][0].diff] == ["equal", "substitute", "delete"]


def test_leaks_are_told_from_overlaps(case: Any) -> None:
    folder = case.folder({"m": [TEXT] * 5}, ["base"])
    folder.write_texts("base", {"m": [TEXT] * 5})
    overlaps = [
        Overlap("base", "tuning", "m", "fingerprint", "the very same set", 5, None, 1),
        Overlap("base", "train", "m", "content", "by item", 2, None, 1),
        Overlap("base", "calibration", "m", "content", "by item", 0, 0, 0),
    ]
    write_text(folder.path / ROWS / "overlaps.json", dumps(overlaps))
    found = summarise(folder.path)
    assert found.overlaps == tuple(overlaps)
    leaks = [note for note in found.notes if "better than they will be elsewhere" in note]
    assert [note.split(":")[0] for note in leaks] == [
        "The decoder of base was tuned on m",
        "base was trained on 2 of the 5 utterances of m",
    ]
    assert any("rule of three" in note for note in found.notes)
    assert any(note.startswith("Only 5 utterances") for note in found.notes)
    assert json.loads(found.dumps())["schema"] == found.schema


def timed(factor: float, *, paced: bool) -> VariantCosts:
    """Ten utterances; everything takes ``factor`` times as long."""
    pacing = Pacing(chunks=(0.002 * factor,) * 4, cpu=0.1, wall=1.0)
    return VariantCosts(
        timings=tuple(Timing(whole=(0.1 * factor,), chunks=(0.001 * factor,) * 4, finals=(0.01,)) for _ in range(10)),
        pacings=(pacing,) if paced else (),
        memory=Memory(imported=1, loaded=2, steady=3, peak=int(1e8 * factor), pss=None),
    )


@pytest.mark.parametrize("paced", [True, False])
def test_speed_and_memory_are_taken_from_their_record(case: Any, paced: bool) -> None:
    folder = case.folder({"m": [TEXT] * 10}, ["base", case.variant("new", size_bytes=300_000)])
    for name in ("base", "new"):
        folder.write_texts(name, {"m": [TEXT] * 10})
    times = tuple(TimedUtterance("m", f"u{i}", "a.wav", 1.0) for i in range(10))
    costs = {"base": timed(3, paced=paced), "new": timed(1, paced=paced)}
    record = SpeedRecord({}, folder.run().machine, "base", times, times[:1], variants=costs, again=costs["base"])
    write_text(folder.path / ROWS / "speed.json", dumps(record))
    found = summarise(folder.path)
    base, new = found.variants
    assert new.speed is not None
    assert new.speed.speedup is not None
    assert new.speed.speedup.value == pytest.approx(3)
    assert new.speed.rtf_total == pytest.approx(0.1)
    assert (base.fronts, new.fronts) == tuple(dict.fromkeys(("size", "latency", "memory"), on) for on in (False, True))
    assert measured_costs(found.variants)["latency"] == pytest.approx([6, 2] if paced else [3, 1])
    assert "30 % of the size of base and 3.0x as fast, and the same word error rate" in found.headline
    assert found.speed_run is not None
    assert found.speed_run.noise is not None
    assert found.speed_run.noise.value == 1
    assert "Speed was not measured." not in found.notes


@pytest.mark.parametrize("text", ["", "!"])
def test_a_reference_without_words_counts_what_is_heard_there(case: Any, text: str) -> None:
    folder = case.folder({"m": [text, "a b"]}, ["base"])
    folder.write_texts("base", {"m": ["one two", "a b"]})
    found = summarise(folder.path)
    assert found.variants[0].pooled.metrics["wer"].value == 1.0
    assert found.variants[0].pooled.empty_references == 1
    assert found.worst["base"][0].errors == 2
    assert "1 reference without words: whatever is recognised there is an insertion." in found.notes
