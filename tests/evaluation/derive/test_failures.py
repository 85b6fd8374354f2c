from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest

from kdcompress_evaluation import table
from kdcompress_evaluation.broken import add_broken
from kdcompress_evaluation.derive import summarise
from kdcompress_evaluation.errors import PairingError, RowsError
from kdcompress_evaluation.rows import ROWS, RUN, Row, iterate_rows
from kdcompress_evaluation.summary import BrokenVariant, Failure


def test_failures_and_time_outs_are_deletions(case: Any) -> None:
    folder = case.folder({"m": ["a b", "c d", "e", "f g", ""]}, ["base", "new"])
    folder.write_texts("base", {"m": ["a b", "c d", "", "f g", ""]})
    late = {"error": "20 s", "error_kind": "timeout"}
    missing = {"error": "no file", "error_kind": "input"}
    rows = [
        folder.row("m", 0, "", **late),
        folder.row("m", 1, "", **missing),
        folder.row("m", 2, "e"),
        folder.row("m", 3, ""),
        folder.row("m", 4, ""),
    ]
    folder.write("new", "m", [replace(row, duration=None) if row.error else row for row in rows])
    summary = summarise(folder.path)
    base, new = (variant.pooled for variant in summary.variants)
    assert (new.utterances, new.failures, new.timeouts, new.empty) == (5, 2, 1, 1)
    assert (new.words.deletions, new.words.hits, new.metrics["wer"].value) == (6, 1, pytest.approx(6 / 7))
    assert (base.failures, base.empty) == (0, 1)
    # Of what was recognised; rows that failed do not know how long the recording is.
    assert new.audio_seconds == 3.0 + 4.0 + 5.0
    assert summary.failures == (
        Failure("m", "u0", "timeout", "20 s", ("new",)),
        Failure("m", "u1", "input", "no file", ("new",)),
    )
    assert summary.failure_count == 2
    assert "2 utterances could not be recognised" in summary.notes[0]
    assert "1 time the reason was that it took too long" in summary.notes[0]
    # What failed is listed as such, not among the misheard; but it is worse than the baseline.
    assert [one.id for one in summary.worst["new"]] == ["u3"]
    assert summary.variants[1].comparison is not None
    assert summary.variants[1].comparison.worse == 3


def test_many_failures_are_counted_and_the_first_are_told_once_a_reason(case: Any) -> None:
    folder = case.folder({"a": ["x"] * 60, "b": ["x"] * 20}, ["one", "two"])
    for name in ("one", "two"):
        for manifest, count in (("a", 60), ("b", 20)):
            rows = [
                folder.row(manifest, i, "", error="gone" if i % 2 else f"{name} broke", error_kind="model")
                for i in range(count)
            ]
            folder.write(name, manifest, rows[::-1])
    summary = summarise(folder.path)
    assert summary.failure_count == 80
    assert len(summary.failures) == 50
    assert summary.failures[:3] == (
        Failure("a", "u0", "model", "one broke", ("one",)),
        Failure("a", "u0", "model", "two broke", ("two",)),
        Failure("a", "u1", "model", "gone", ("one", "two")),
    )
    # Two reasons for every even utterance, one for every odd one.
    assert summary.failures[-1].id == "u32"


@pytest.fixture
def half(case: Any) -> Any:
    """Three variants; the smallest is perfect, and gave up after 20 of 30 utterances."""
    references = {"m": case.sentences(30, 1)}
    variants = ["base", case.variant("small", size_bytes=500_000), case.variant("tiny", size_bytes=100_000)]
    folder = case.folder(references, variants, budget="size<=0.6MB")
    folder.write_texts("base", {"m": case.garble(references["m"], 0.1, 1)})
    folder.write_texts("small", {"m": case.garble(references["m"], 0.1, 1)})
    lost = {"error": "crashed 3 times in a row", "error_kind": "not attempted"}
    rows = [folder.row("m", i, t if i < 20 else "", **({} if i < 20 else lost)) for i, t in enumerate(references["m"])]
    folder.write("tiny", "m", rows)
    return folder


def test_a_variant_that_gave_up_is_reported_and_never_chosen(half: Any) -> None:
    summary = summarise(half.path)
    tiny = summary.variants[2]
    assert summary.broken == (BrokenVariant("tiny", "10 of 30 utterances were not attempted"),)
    assert (tiny.pooled.failures, tiny.pooled.utterances) == (10, 30)
    assert tiny.pooled.metrics["wer"].value == pytest.approx(tiny.pooled.words.deletions / tiny.pooled.words.reference)
    assert tiny.fronts == {"size": None, "latency": None, "memory": None}
    assert summary.variants[1].fronts["size"] is True
    assert summary.chosen == "small"
    assert summary.verdict is not None
    assert summary.verdict.ships == "small"
    assert [one.ships for one in summary.verdict.variants] == [False, True, False]
    assert "small is the smallest that holds the budget" in summary.headline
    assert summary.notes[0].startswith("tiny was not evaluated to the end")


def test_a_variant_that_gave_up_is_not_chosen_however_good_it_was(case: Any) -> None:
    references = {"m": ["one two three four"] * 200}
    folder = case.folder(references, ["base", case.variant("tiny", size_bytes=100_000)], tolerance=0.1)
    folder.write_texts("base", {"m": ["one two three"] * 200})
    lost = {"error": "given up", "error_kind": "not attempted"}
    rows = [folder.row("m", i, "one two three four") for i in range(199)]
    folder.write("tiny", "m", [*rows, folder.row("m", 199, "", **lost)])
    summary = summarise(folder.path)
    assert summary.variants[1].pooled.differences["wer"].estimate.high < 0
    assert summary.chosen == "base"


def test_what_the_run_noted_is_told_and_what_could_not_be_opened_too(half: Any) -> None:
    add_broken(half.path, BrokenVariant("tiny", "segmentation fault"))
    add_broken(half.path, BrokenVariant("/bundles/odd", "no bundle.json"))
    summary = summarise(half.path)
    assert summary.broken == (
        BrokenVariant("tiny", "segmentation fault"),
        BrokenVariant("/bundles/odd", "no bundle.json"),
    )
    assert summary.notes[1] == "/bundles/odd could not be evaluated: no bundle.json"


def test_nothing_is_compared_with_a_baseline_that_gave_up(case: Any) -> None:
    folder = case.folder({"m": ["a b", "c d"]}, ["base", "new"])
    lost = {"error": "cannot be loaded", "error_kind": "not attempted"}
    folder.write("base", "m", [folder.row("m", i, "", **lost) for i in range(2)])
    folder.write_texts("new", {"m": ["a b", "c"]})
    summary = summarise(folder.path)
    assert summary.chosen == "new"
    assert "baseline base could not be evaluated to the end" in summary.headline
    assert "new" in summary.headline


def test_missing_rows_name_the_variant_the_count_and_the_remedy(case: Any) -> None:
    folder = case.folder({"m": ["a"] * 9}, ["base", "new"])
    folder.write_texts("base", {"m": ["a"] * 9})
    rows = [folder.row("m", i, "a") for i in range(9)]
    folder.write("new", "m", rows[0::3], (1, 3))
    folder.write("new", "m", rows[2::3], (3, 3))
    message = (
        r"new on m: 3 rows of 9 are missing, the first of utterance 2; run the same `kdcompress eval` again .* shards"
    )
    with pytest.raises(RowsError, match=message):
        summarise(folder.path)
    folder.write("new", "m", rows[1::3], (2, 3))
    assert summarise(folder.path).variants[1].pooled.utterances == 9
    folder.write("new", "m", [replace(rows[0], index=9)], (4, 4))
    with pytest.raises(RowsError, match="number 10 of 9"):
        summarise(folder.path)


def test_other_utterances_are_refused(case: Any) -> None:
    folder = case.folder({"m": ["a", "b", "c"]}, ["base", "new"])
    folder.write_texts("base", {"m": ["a", "b", "c"]})
    rows = [folder.row("m", i, "a") for i in range(3)]
    folder.write("new", "m", [rows[0], replace(rows[1], reference="other"), replace(rows[2], id="x")])
    with pytest.raises(PairingError, match=r"new and base .* of m: 2 have another id .* number 2"):
        summarise(folder.path)


def test_a_folder_without_a_run_or_of_another_version_is_refused(case: Any) -> None:
    folder = case.folder({"m": ["a"]}, ["base"], schema=1)
    with pytest.raises(RowsError, match="schema 1"):
        summarise(folder.path)
    (folder.path / ROWS / RUN).unlink()
    with pytest.raises(RowsError, match=r"run\.json is missing"):
        summarise(folder.path)


def test_texts_do_not_pile_up_in_memory(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows there are, those of a batch and the few that are shown are alive."""
    count = 2000
    references = {"m": ["a b c d"] * count}
    folder = case.folder(references, ["base", "new"])
    for seed, name in enumerate(("base", "new")):
        folder.write_texts(name, {"m": case.garble(references["m"], 0.5, seed)})
    alive: weakref.WeakSet[Row] = weakref.WeakSet()
    most = 0

    def watched(*arguments: Any) -> Any:
        nonlocal most
        for row in iterate_rows(*arguments):
            alive.add(Tracked(row))
            most = max(most, len(alive))
            yield Tracked.last

    class Tracked:
        """A row that is known by itself, not by its content."""

        last: Any

        def __init__(self, row: Row) -> None:
            self.__dict__.update(row.__dict__)
            Tracked.last = self

    monkeypatch.setattr(table, "iterate_rows", watched)
    gc.collect()
    summary = summarise(folder.path)
    assert summary.variants[1].pooled.utterances == count
    assert 256 <= most < 2 * 256 + 100
