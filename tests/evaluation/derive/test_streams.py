from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jiwer
import pytest

from kdcompress_evaluation.derive import summarise
from kdcompress_evaluation.percentiles import Percentiles
from kdcompress_evaluation.scoring import plain

if TYPE_CHECKING:
    from kdcompress_evaluation.summary import Streaming


def streaming(case: Any, rows: Any, references: list[str]) -> Streaming | None:
    folder = case.folder({"m": references}, ["only"])
    folder.write("only", "m", rows(folder))
    return summarise(folder.path).variants[0].streaming


def test_streams_are_compared_with_whole_recordings_on_what_was_streamed(case: Any) -> None:
    references = [text or "no" for text in case.sentences(40, 1)]
    whole, streamed = case.garble(references, 0.1, 1), case.garble(references, 0.3, 2)

    def rows(folder: Any) -> list[Any]:
        return [
            folder.row(
                "m",
                i,
                text,
                stream=case.stream(streamed[i], revised=i % 2, words=4) if i % 2 == 0 else None,
                split_text=streamed[i] if i % 8 == 0 else "other" if i % 8 == 4 else None,
            )
            for i, text in enumerate(whole)
        ]

    found = streaming(case, rows, references)
    assert found is not None
    even = range(0, 40, 2)
    rates = [jiwer.wer([plain(references[i]) for i in even], [plain(t[i]) for i in even]) for t in (streamed, whole)]
    assert found.utterances == 20
    assert found.difference.value == pytest.approx(rates[0] - rates[1])
    assert found.difference.low < found.difference.value < found.difference.high
    assert found.texts_equal == sum(whole[i] == streamed[i] for i in even)
    assert (found.splits, found.splits_equal) == (10, 5)
    assert found.revised == 0
    assert found.final == Percentiles(20, 10.0, 10.0, 10.0, 10.0)
    assert found.endpointing is None


def test_word_times_of_the_manifest_come_first(case: Any) -> None:
    told = [("manifest", (0.1, 0.3), 0.5), ("recogniser", (9.0,), 9.0), ("manifest", (0.2,), None), ("", (), None)]

    def rows(folder: Any) -> list[Any]:
        return [
            folder.row("m", i, "a", stream=case.stream("a", word_times=by, delays=delays, first_partial=first))
            for i, (by, delays, first) in enumerate(told)
        ]

    found = streaming(case, rows, ["a"] * 4)
    assert found is not None
    assert found.word_times == "manifest"
    assert found.emission is not None
    assert (found.emission.count, found.emission.p50, found.emission.highest) == (3, 0.2, 0.3)
    assert found.first_partial == Percentiles(1, 0.5, 0.5, 0.5, 0.5)


def test_endpoints_are_in_time_early_or_missed(case: Any) -> None:
    told = [("in time", 0.5), ("in time", 0.7), ("early", None), ("missed", None), ("missed", None), ("", None)]

    def rows(folder: Any) -> list[Any]:
        return [
            folder.row("m", i, "a", stream=case.stream("a", endpoint=kind, endpoint_wait=wait, revised=1))
            for i, (kind, wait) in enumerate(told)
        ]

    found = streaming(case, rows, ["a"] * 6)
    assert found is not None
    assert found.revised == 1.0
    ends = found.endpointing
    assert ends is not None
    assert (ends.utterances, ends.early, ends.missed) == (5, 1, 2)
    assert ends.wait is not None
    assert (ends.wait.count, ends.wait.p50) == (2, 0.6)


def test_no_endpoint_in_time_has_no_wait_and_no_stream_no_summary(case: Any) -> None:
    found = streaming(case, lambda f: [f.row("m", 0, "a", stream=case.stream("a", endpoint="missed"))], ["a"])
    assert found is not None
    assert found.endpointing is not None
    assert found.endpointing.wait is None
    lost = {"error": "broke", "error_kind": "model"}
    other = type(case)(case.path / "none")
    assert streaming(other, lambda f: [f.row("m", 0, "a"), f.row("m", 1, "", **lost)], ["a", "b"]) is None
