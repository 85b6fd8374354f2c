"""The benchmark of the decoders: its tables say what the rows hold, and it runs on a toy."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import soundfile

from kdcompress_runtime.decoders.native import library

ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-1.5\t<unk>\t0
0\t<s>\t-0.3
-0.7\t</s>\t0
-0.6\taab\t-0.2
-0.8\tb\t-0.1

\\2-grams:
-0.2\taab b
-0.3\tb </s>

\\end\\
"""


def row(script, engine, identity, errors, seconds, **labels):
    configuration = {"bundle": "toy", "beam": 64, "lm": True, "hotwords": 0, **labels}
    timed = (100, 300) if engine == "native" else ()
    weights = {"alpha": 0.5, "beta": 1.5}
    return script.Row(
        **configuration, **weights, engine=engine, id=identity, words=4, errors=errors, seconds=seconds, frame_ms=40.0,
        text="", chunk_us=timed,
    )  # fmt: skip


def test_the_ratio_is_that_of_utterances_a_second(benchmark_script):
    script, tables = benchmark_script("bench_decoder"), benchmark_script("decoder_tables")
    rows = [row(script, "native", name, 1, 0.001) for name in "abcd"]
    rows += [row(script, "pyctcdecode", name, 1 + (name == "a"), 0.02) for name in "abcd"]
    rows += [row(script, "native", "a", 0, 9.0, lm=False), row(script, "pyctcdecode", "a", 0, 1.0, beam=16)]
    lines = tables.lines_of(rows)
    found = tables.summary(rows, lines)
    assert found["ratio"] == pytest.approx(20.0)
    toy = found["models"]["toy"]
    assert toy["native"]["utterances_a_second"] == pytest.approx(1000.0)
    assert toy["native"]["chunk_ms"] == pytest.approx({"p50": 0.2, "p95": 0.3})
    assert toy["pyctcdecode"]["wer"] == pytest.approx(100 * 5 / 16)
    assert toy["wer_minus_rival"]["value"] == pytest.approx(-100 / 16)
    assert toy["met"]
    assert "| toy | 64 | yes | 0 | native | 1000.0 | 20.0 | 25.00 | 0.200 / 0.300 |" in tables.markdown(lines)


def test_faster_and_worse_does_not_meet_the_budget(benchmark_script):
    script, tables = benchmark_script("bench_decoder"), benchmark_script("decoder_tables")
    for errors, seconds, met in ((2, 0.001, False), (1, 0.001, True), (1, 0.01, False)):
        rows = [row(script, "native", name, errors, seconds) for name in "abcd"]
        rows += [row(script, "pyctcdecode", name, 1, 0.02) for name in "abcd"]
        assert tables.summary(rows, tables.lines_of(rows))["models"]["toy"]["met"] is met


def test_the_rarest_words_are_the_hotwords(benchmark_script):
    script = benchmark_script("bench_decoder")
    assert script.rare_words(["a b c", "a b", "a"], 2) == ("c", "b")
    assert script.rare_words(["a a"], 5) == ("a",)


def test_it_runs_from_the_command(benchmark_script, toy_bundle, tmp_path, capsys):
    script = benchmark_script("bench_decoder")
    frames = np.repeat(np.array([1, 1, 0, 1, 2, 3, 0, 2], np.float32), 4)
    soundfile.write(tmp_path / "letters.wav", np.tile(frames, 3), 8000, subtype="FLOAT")
    entry = {"id": "one", "audio_filepath": str(tmp_path / "letters.wav"), "text": "aab b", "duration": 0.01}
    (tmp_path / "test.jsonl").write_text(json.dumps(entry) + "\n")
    (tmp_path / "words.arpa").write_text(ARPA)
    files = {"manifest": "test.jsonl", "dev": "test.jsonl", "lm": "words.arpa", "output": "results"}
    options = [part for name, file in files.items() for part in (f"--{name}", str(tmp_path / file))]
    assert script.main([
        f"--bundle=toy={toy_bundle}", *options, "--beams", "4", "--hotwords", "0", "1", "--rounds", "1",
        "--alphas", "0.5", "0.1", "--betas", "1", "--engines", "native", "python",
    ]) == 0  # fmt: skip
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["benchmark"] == "decoder"
    content = gzip.decompress((tmp_path / "results" / "rows.jsonl.gz").read_bytes()).decode()
    rows = [json.loads(line) for line in content.splitlines()]
    engines = {"native", "python"} if library.is_there() else {"python"}
    assert len(rows) == len(engines) * 2 * 2
    assert {one["engine"] for one in rows} == engines
    assert len({(one["lm"], one["hotwords"], one["text"]) for one in rows}) == 4
    assert "| toy | 4 | yes | 1 | python |" in (tmp_path / "results" / "table.md").read_text()
    assert json.loads((tmp_path / "results" / "lines.json").read_text())["machine"]["cores"] > 0
