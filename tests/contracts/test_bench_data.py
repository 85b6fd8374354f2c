"""``benchmarks/bench_data.py`` on little: every part runs and its tables are written."""

from __future__ import annotations

import json


def test_index_plan_and_reads(benchmark_script, tmp_path, monkeypatch, capsys):
    script = benchmark_script("bench_data")
    monkeypatch.setattr(script, "alone", lambda measure, *arguments: measure(*arguments))  # no process of its own
    command = ["--lines", "300", "1200", "--files", "6", "--seconds", "0.2", "--rounds", "1"]
    assert script.main([*command, "--work", str(tmp_path / "work"), "--save", str(tmp_path / "kept")]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["lines"] for row in found["index"]] == [300, 1200]
    assert all(row["index, bytes a line"] < 32 for row in found["index"])
    assert [row["batches an epoch"] for row in found["plan"]][::2] == [9, 37]
    assert [row["what"] for row in found["reads"]][-1] == "packing"
    for name, rows in found.items():
        assert json.loads((tmp_path / "kept" / f"{name}.json").read_text(encoding="utf-8")) == rows
        assert len((tmp_path / "kept" / f"{name}.md").read_text(encoding="utf-8").splitlines()) == len(rows) + 2
