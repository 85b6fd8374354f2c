"""The benchmark of the export: its tables say what the lines hold, and the parity part runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def test_inputs_are_silent_at_both_ends_and_of_the_lengths_named(benchmark_script):
    parity = benchmark_script("export_parity")
    recordings = [np.full(1000 + 70 * index, 0.5, np.float32) for index in range(5)]
    inputs = parity.cases(recordings, frame=320, rate=8000)
    assert [len(batch) for batch in inputs.values()] == [1, 4, 1, 1]
    assert len({len(one) for one in inputs["batch_4"]}) == 1
    assert len(inputs["shortest"][0]) == 320
    assert len(inputs["long"][0]) == 60 * 8000
    for batch in inputs.values():
        for one in batch:
            assert one.any()
            assert not one[:100].any()
            assert not one[-100:].any()


def test_the_parity_table_has_a_row_a_line(benchmark_script):
    parity = benchmark_script("export_parity")
    line = parity.Line("cnn", "web", "int8", "torch", 1e-6, 2e-6, 3e-6, 4e-6, None, 0.995)
    table = parity.markdown([line, line])
    assert table.count("| cnn | web | int8 | torch | 1.0e-06 |") == 2
    assert "fixed step | 99.50 %" in table
    assert json.loads(parity.dumps([line]))[0]["splits"] is None


def test_the_table_of_quantization_awareness_shows_every_model_and_the_mean(benchmark_script):
    aware = benchmark_script("export_aware")
    names = ("before float32", "before int8", "seed 1 int8", "seed 2 int8")
    interval = {"points": -0.5, "low": -1.0, "high": 0.1}
    found = {
        "utterances": 2,
        "words": 10,
        "scheme": "dynamic",
        "steps": 3,
        "rates": {name: {"wer": 10.0 + index} for index, name in enumerate(names)},
        "minus float32 before": dict.fromkeys(names, interval),
        "minus int8 before": dict.fromkeys(names, interval),
    }
    table = aware.aware_markdown(found)
    assert all(f"| {name} |" in table for name in names)
    assert "**after, int8, 2 seeds** | 12.50 ± 0.71" in table
    assert "-0.50 (-1.00 to +0.10)" in table


@pytest.mark.slow
def test_parity_runs_from_the_command(benchmark_script, tmp_path, monkeypatch, capsys):
    script = benchmark_script("bench_export")
    monkeypatch.chdir(ROOT)
    options = ["--parts", "parity", "--steps", "2", "--work", str(tmp_path / "w"), "--output", str(tmp_path / "o")]
    monkeypatch.setattr(sys, "argv", ["bench_export.py", *options])
    assert script.main() == 0
    lines = json.loads((tmp_path / "o" / "parity.json").read_text())
    assert {line["family"] for line in lines} == set(script.FAMILIES)
    assert all(line["batch_1"] < 1e-4 for line in lines if line["origin"] == "torch" and line["precision"] == "float32")
    assert "| student | target |" in capsys.readouterr().out


def test_tokens_behind_the_recording_do_not_count(benchmark_script):
    sherpa = benchmark_script("export_sherpa")
    kept, times = sherpa._inside(("a b", ["a", " b", "c"], [0.0, 0.04, 0.12]), frames=3)
    assert (kept, times) == (["a", "▁b"], [0.0, 0.04])
    line = sherpa.Line("int8", "streaming", 4, 3, 2, 12.345, 12.0)
    assert "| int8 | streaming | 3 | 2 | 12.35 | 12.00 |" in sherpa.sherpa_markdown("x", [line])
