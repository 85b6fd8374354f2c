"""Images and sentences are timed whole, one at a time; recordings against the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kdcompress_evaluation import EvalOptions, evaluate_tasks
from kdcompress_evaluation.inputs import facts_of, read_input, restore_input, save_input
from kdcompress_evaluation.records import load
from kdcompress_evaluation.speed import SpeedRecord

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_and_sentences_a_second(tasks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdcompress_evaluation.speed.run.COLD_STARTS", 1)
    two = {name: tasks.manifests[name] for name in ("lines", "pairs")}
    options = EvalOptions(
        resamples=1000, speed_utterances=2, speed_rounds=2, paced_seconds=5.0, budget="rate>=0.001,whole<=100s,p95<=1ms"
    )
    output = tmp_path / "out"
    report = evaluate_tasks([tasks.lines, tasks.pairs], two, output, options)
    for summary in report.tasks:
        (variant,) = summary.variants
        speed, footprint = variant.speed, variant.footprint
        assert speed is not None
        assert (speed.rtf_total, speed.chunk, speed.paced, speed.audio_seconds) == (None, None, None, 0.0)
        assert speed.per_second is not None
        assert speed.per_second > 0
        assert speed.whole is not None
        assert speed.whole.count == 4
        assert speed.parts is not None
        assert speed.parts.model > 0
        assert speed.work is not None
        assert footprint.memory is not None
        assert footprint.cold_start is not None
        assert (footprint.compressed_bytes or 0) > 0
        assert summary.verdict is not None
        assert [check.bound for check in summary.verdict.variants[0].checks] == ["rate>=0.001", "whole<=100s"]
        assert summary.verdict.ships == variant.info.name
        record = load(SpeedRecord, output / summary.run.task / "rows" / "speed.json")
        assert record.paced == ()
        assert all(utterance.duration is None for utterance in record.utterances)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Lines<small>a second</small>" in page
    assert "Sentences<small>a second</small>" in page


@pytest.mark.parametrize("value", ["a\r\nb \u00e5", np.arange(24, dtype=np.uint8).reshape(2, 4, 3)])
def test_inputs_go_to_another_process_as_they_are(value: Any, tmp_path: Path) -> None:
    found = restore_input(save_input(value, tmp_path))
    assert type(found) is type(value)
    assert np.array_equal(found, value)


def test_inputs_say_what_they_are(tasks: Any) -> None:
    image = read_input("image", str(tasks.manifests["lines"].parent / "line0.png"), 1)
    assert facts_of("image", image) == {"image width": 192, "image height": 32}
    assert facts_of("text", "a b  c") == {"source words": 3}
    assert facts_of("audio", np.zeros(3, np.float32)) == {}
