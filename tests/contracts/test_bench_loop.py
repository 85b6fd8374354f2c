"""``benchmarks/bench_loop.py`` on tones: every variant does its updates, on one process or two."""

from __future__ import annotations

import json

import pytest


@pytest.mark.slow
def test_every_variant_has_a_row(benchmark_script, folder, tmp_path):
    script = benchmark_script("bench_loop")
    command = ["--recipe", str(folder / "student.yaml"), "--name", "tones", "--rounds", "2", "--updates", "1"]
    command += ["--batches", "1", "--work", str(tmp_path / "work"), "--save", str(tmp_path / "kept")]
    assert script.main(command) == 0
    rows = json.loads((tmp_path / "kept" / "tones.json").read_text(encoding="utf-8"))
    assert [row["variant"] for row in rows] == list(script.VARIANTS)
    assert rows[0]["ratio"] == 1
    assert len({row["parameters"] for row in rows}) == 1
    assert all(row["ms an update"] > 0 for row in rows)
    assert (tmp_path / "kept" / "tones.md").read_text(encoding="utf-8").count("\n") == 2 + len(rows)
