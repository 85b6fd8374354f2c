"""``benchmarks/bench_labels.py`` on tones: the tables are written, and sizes are those of the kinds."""

from __future__ import annotations

import json

from kdcompress.cli import main


def test_steps_and_sizes(benchmark_script, folder, tmp_path):
    twin = tmp_path / "twin"
    assert main(["train", str(folder / "twin.yaml"), "-o", str(twin)]) == 0
    command = ["--run", str(twin), "--recipe", str(folder / "student.yaml"), "--steps", "2", "--items", "6"]
    command += ["--kinds", "top_k", "full", "--set", "train.batch_size=3"]
    script = benchmark_script("bench_labels")
    assert script.main([*command, "--work", str(tmp_path / "work"), "--save", str(tmp_path / "kept")]) == 0
    sizes = json.loads((tmp_path / "kept" / "sizes-5-tokens.json").read_text(encoding="utf-8"))
    assert [(row["labels"], row["items"], row["tokens"]) for row in sizes] == [("top_k", 6, 5), ("full", 6, 5)]
    assert all(row["bytes a frame"] > 10 for row in sizes)
    steps = json.loads((tmp_path / "kept" / "steps-5-tokens.json").read_text(encoding="utf-8"))
    assert [row["targets"] for row in steps] == ["no teacher", "top_k", "full", "the teacher itself"]
    assert steps[0]["ratio"] == 1
    assert (tmp_path / "kept" / "steps-5-tokens.md").read_text(encoding="utf-8").startswith("| targets | ms a step |")
