"""``benchmarks/bench_scale.py`` on a few items: tables are written, and kills lose nothing."""

from __future__ import annotations

import json

import pytest


def test_the_table_has_a_column_for_each_quarter(benchmark_script):
    script = benchmark_script("bench_scale")
    found = script.row("label", 10, (2.0, [1e6, 2e6, 3e6, 2e6, 5e6, 4e6, 4e6, 4e6]))
    assert found["ms an item"] == 200
    assert [found[f"peak MB, quarter {number}"] for number in (1, 2, 3, 4)] == [2, 3, 5, 4]


def test_a_manifest_takes_the_recordings_in_turn(benchmark_script, tmp_path):
    script = benchmark_script("bench_scale")
    rows = [{"audio_filepath": f"{number}.wav", "text": "a", "duration": 1 + number} for number in range(3)]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--teacher", "t", "--manifest", str(tmp_path / "some.jsonl"), "--work", str(tmp_path / "work")]
    path = script.manifest(script.parse([*words, "--max-duration", "2"]), 5)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["audio_filepath"].rsplit("/", 1)[1] for line in lines] == [f"{n}.wav" for n in (0, 1, 0, 1, 0)]
    assert len({line["id"] for line in lines}) == 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_flat_and_kill(benchmark_script, folder, run, tmp_path):
    script = benchmark_script("bench_scale")
    recipe, manifest = folder / "student.yaml", folder / "train.jsonl"
    words = [
        "--teacher",
        str(run),
        "--recipe",
        str(recipe),
        "--manifest",
        str(manifest),
        "--sizes",
        "30",
        "--kills",
        "2",
        "--kill-size",
        "40",
    ]
    words += ["--kill-after", "2", "6", "--kill-steps", "6", "--work", str(tmp_path / "work"), "--max-duration", "9"]
    assert script.main([*words, "--save", str(tmp_path / "kept")]) == 0
    flat = json.loads((tmp_path / "kept" / "flat.json").read_text())
    assert [row["what"] for row in flat] == ["label", "train"]
    for part in ("label-kill", "train-kill"):
        rows = json.loads((tmp_path / "kept" / f"{part}.json").read_text())
        assert rows[-1]["kill"] == "to the end: equal to an undisturbed run"
