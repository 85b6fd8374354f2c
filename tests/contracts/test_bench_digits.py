"""The noisy-digits benchmark end to end, with few updates: its table and its rows agree."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return benchmark_script("bench_digits")


@pytest.fixture
def noise(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for split in ("train", "test"):
        soundfile.write(tmp_path / f"{split}.flac", 0.1 * rng.standard_normal(16000), 8000)
        lines.append(json.dumps({"audio_filepath": f"{split}.flac", "noise_type": "hiss", "split": split}))
    (tmp_path / "noise.jsonl").write_text("\n".join(lines))
    return tmp_path / "noise.jsonl"


def test_without_noise_it_says_what_is_missing(bench, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(["--noise", str(tmp_path / "none.jsonl")])
    assert stop.value.code == 1
    assert "name one with --noise" in capsys.readouterr().err


def test_the_students_of_a_seed_differ_in_their_teacher_only(bench, noise, tmp_path):
    args = bench.parse(["--noise", str(noise), "--output", str(tmp_path / "out")])
    steps = {step.name: step for step in bench.plan(args, 2)}
    labels, taught = steps["digits-labels 2"], steps["digits-from-oracle 2"]
    assert labels.updates == taught.updates == args.student_steps
    assert set(taught.arguments) - set(labels.arguments) == {
        "distill",
        "digits-from-oracle",
        str(tmp_path / "out" / "seed2" / "digits-from-oracle"),
        f'distill.teachers="{tmp_path / "out" / "seed2" / "digits-oracle"}"',
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_table_and_rows_agree(bench, noise, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    save = tmp_path / "save"
    words = ["--noise", str(noise), "--output", str(tmp_path / "out"), "--save", str(save), "--seeds", "1", "2"]
    assert bench.main([*words, "--teacher-steps", "3", "--student-steps", "3"]) == 0
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert printed["lines"] == json.loads((save / "lines.json").read_text())
    assert {len(line["wer"]) for line in printed["lines"]} == {2}
    rows = [json.loads(line) for line in gzip.decompress((save / "rows.jsonl.gz").read_bytes()).splitlines()]
    assert len(rows) == 300 * len(printed["lines"]) * 2
