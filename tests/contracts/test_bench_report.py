"""``benchmarks/bench_report.py`` on a toy bundle: the tables are written, and kills lose nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile


@pytest.mark.slow
def test_scale_and_kill(benchmark_script, toy_bundle, tmp_path, monkeypatch):
    rows = []
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", np.full(400, 0.1, np.float32), 8000)
        rows.append({"id": f"u{number}", "audio_filepath": f"{number}.wav", "text": "a b", "duration": 0.05})
    manifest = tmp_path / "some.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    script = benchmark_script("bench_report")
    command = ["--bundle", str(toy_bundle), "--manifest", str(manifest), "--sizes", "10", "40", "--kills", "1"]
    command += ["--kill-after", "1", "2", "--precision", "float32"]
    assert script.main([*command, "--work", str(tmp_path / "work"), "--save", str(tmp_path / "kept")]) == 0
    scale = json.loads((tmp_path / "kept" / "scale.json").read_text(encoding="utf-8"))
    assert [row["utterances"] for row in scale] == [10, 40]
    kill = json.loads((tmp_path / "kept" / "kill.json").read_text(encoding="utf-8"))
    assert kill[0]["rows lost"] == 0
    assert kill[-1]["rows after"] == 40
    assert kill[-1]["rows lost"] == "none: equal to an undisturbed run"
