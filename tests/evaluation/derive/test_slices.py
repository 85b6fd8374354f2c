from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np
import pytest

from kdcompress_evaluation.derive import summarise
from kdcompress_evaluation.reuse import Rederive, rederive
from kdcompress_evaluation.sampling import Units, draw_manifests
from kdcompress_evaluation.scoring import plain

if TYPE_CHECKING:
    from kdcompress_evaluation.summary import Slice, Summary

COUNT = 120


def by_field(summary: Summary) -> dict[str, list[Slice]]:
    found: dict[str, list[Slice]] = {}
    for one in summary.slices:
        found.setdefault(one.field, []).append(one)
    return found


def evaluated(case: Any, **more: Any) -> tuple[Summary, list[str], list[str]]:
    references = [text or "no" for text in case.sentences(COUNT, 1)]
    folder = case.folder({"m": references}, ["base", "new"], **more)
    heard = case.garble(references, 0.2, 2)
    folder.write_texts("base", {"m": case.garble(references, 0.1, 1)})
    folder.write_texts("new", {"m": heard})
    return summarise(folder.path), references, heard


def test_slices_hold_the_rates_of_their_utterances(case: Any) -> None:
    def extra(_: str, i: int) -> dict[str, Any]:
        return {"snr": i % 40 / 2, "room": ("hall", "car")[i % 2], "noise": i % 3, "loud": i % 5 == 0, "tags": ["x"]}

    summary, references, heard = evaluated(case, extra=extra)
    found = by_field(summary)
    assert list(found) == ["duration", "loud", "noise", "room", "snr"]
    assert [s.value for s in found["duration"]] == ["up to 1 s", "1 to 2 s", "2 to 4 s", "4 to 8 s"]
    assert [s.value for s in found["room"]] == ["car", "hall"]
    assert [s.value for s in found["noise"]] == ["0", "1", "2"]
    assert [s.value for s in found["loud"]] == ["no", "yes"]
    assert [s.value for s in found["snr"]] == ["up to 4.875", "4.875 to 9.75", "9.75 to 14.62", "over 14.62"]
    for name, wanted in {
        "room": lambda i, value: ("hall", "car")[i % 2] == value,
        "noise": lambda i, value: str(i % 3) == value,
        "duration": lambda i, value: {1: "up", 2: "1", 3: "2", 4: "2"}.get(1 + i % 7, "4") == value.split(" ")[0],
    }.items():
        assert sum(s.utterances for s in found[name]) == COUNT
        for one in found[name]:
            index = [i for i in range(COUNT) if wanted(i, one.value)]
            expected = jiwer.process_words([plain(references[i]) for i in index], [plain(heard[i]) for i in index])
            rate = one.rates["new"]
            assert one.utterances == len(index)
            assert one.reference == expected.hits + expected.substitutions + expected.deletions
            assert rate.estimate.value == pytest.approx(expected.wer)
            assert rate.estimate.low < rate.estimate.value < rate.estimate.high
            assert rate.difference is not None
            assert rate.difference.value == pytest.approx(expected.wer - one.rates["base"].estimate.value)
            assert one.rates["base"].difference is None


def test_fields_of_many_words_are_sliced_only_when_asked_for(case: Any) -> None:
    def extra(_: str, i: int) -> dict[str, Any]:
        return {"file": f"f{i}", "city": f"c{min(i, 20)}", "one": "same"}

    plainly, _, _ = evaluated(case, extra=extra)
    assert set(by_field(plainly)) == {"duration"}
    asked, _, _ = evaluated(case, extra=extra, name="asked", slices=("city", "one", "nowhere"))
    found = by_field(asked)
    assert found["city"][0].value == "c20"
    assert found["city"][-1].value == "9 other values"
    assert [s.utterances for s in found["city"]] == [100, *[1] * 11, 9]
    assert [s.utterances for s in found["one"]] == [COUNT]
    assert "No utterance has a field 'nowhere' to slice by." in asked.notes
    assert found["city"][1].rates["new"].estimate.low is None


def test_speakers_are_slices_and_of_many_the_best_and_worst(case: Any) -> None:
    few, _, _ = evaluated(case, speaker=lambda _, i: f"s{i % 12:02}")
    assert few.resampled_by == "speaker"
    assert [s.value for s in by_field(few)["speaker"]] == [f"s{i:02}" for i in range(12)]
    many, _, _ = evaluated(case, name="many", speaker=lambda _, i: f"s{i % 61}")
    (field,) = (name for name in by_field(many) if name.startswith("speaker"))
    assert field == "speaker, the 5 best and worst of 61 for base"
    rates = [s.rates["base"].estimate.value for s in by_field(many)[field]]
    assert len(rates) == 10
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_a_speaker_of_two_manifests_is_drawn_once() -> None:
    rng = np.random.default_rng(0)
    statistics = np.stack([rng.integers(0, 4, 60), np.full(60, 4)], axis=1).astype(float)
    names = [f"s{i % 15}" for i in range(60)]
    twice, each = draw_manifests([statistics, statistics], Units.of("speaker", [names, names]), resamples=500, seed=1)
    assert np.array_equal(twice.draws, 2 * each[0].draws)
    assert np.array_equal(twice.total, 2 * statistics.sum(axis=0))
    assert twice.units == each[0].units == 15
    strangers, _ = draw_manifests(
        [statistics, statistics], Units.of("speaker", [names, [f"t{name}" for name in names]]), resamples=500, seed=1
    )
    spread = [float((one.draws[:, 0] / one.draws[:, 1]).std()) for one in (twice, strangers)]
    assert spread[0] > 1.2 * spread[1]
    assert strangers.units == 29


def test_what_hangs_together_is_named_by_a_field(case: Any) -> None:
    def extra(_: str, i: int) -> dict[str, Any]:
        return {"receipt": i % 15, "shop": f"s{i % 3}"}

    plainly, _, _ = evaluated(case, extra=extra)
    drawn, _, _ = evaluated(case, extra=extra, name="drawn", resample_by="receipt")
    assert (plainly.resampled_by, drawn.resampled_by) == ("utterance", "receipt")
    spoken, _, _ = evaluated(case, extra=extra, name="spoken", speaker=lambda _, i: str(i % 15))
    ends = [one.variant("base").pooled.metrics["wer"] for one in (drawn, spoken, plainly)]
    assert ends[0] == ends[1] != ends[2]
    few = rederive([case.path / "drawn"], case.path / "few", Rederive(resample_by="shop"))
    assert few.resampled_by == "utterance"
    assert any("to be drawn by 'shop'" in note for note in few.notes)
    rederive([case.path / "few"], case.path / "again", Rederive(resample_by="receipt"))
    for name in ("report.html", "report.md"):
        assert "bootstrap over receipts" in (case.path / "again" / name).read_text(encoding="utf-8")


def test_utterances_are_resampled_where_speakers_are_unknown_or_few(case: Any) -> None:
    unknown, _, _ = evaluated(case, speaker=lambda _, i: f"s{i % 20}" if i else None)
    assert unknown.resampled_by == "utterance"
    assert any("Errors of one speaker hang together" in note for note in unknown.notes)
    few, _, _ = evaluated(case, name="few", speaker=lambda _, i: f"s{i % 9}")
    assert few.resampled_by == "utterance"
