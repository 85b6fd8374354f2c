"""The benchmarks of streaming: what they compute from their rows, and that each of them runs."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import soundfile

RATE = 8000


def levels(text, seed):
    """Audio that the toy bundle hears as ``text``: a level for each letter, and a little noise."""
    rows = [np.repeat([{"a": 1.0, "b": 2.0, " ": 3.0}[letter], 0.0], [400, 300]) for letter in text]
    clean = np.concatenate([np.zeros(2000), *rows, np.zeros(2000)])
    return (clean + 0.001 * np.random.default_rng(seed).standard_normal(len(clean))).astype(np.float32)


@pytest.fixture
def audio_file(tmp_path):
    path = tmp_path / "audio.npz"
    np.savez(path, **{f"{index:05}": levels(text, index) for index, text in enumerate(("ab", "ba b"))})
    return path


@pytest.fixture
def manifest(tmp_path):
    lines = []
    for index, text in enumerate(("ab a", "ba", "b b ab")):
        soundfile.write(tmp_path / f"{index}.wav", levels(text, index), RATE, subtype="FLOAT")
        lines.append(json.dumps({"audio_filepath": f"{index}.wav", "text": text}) + "\n")
    path = tmp_path / "levels.jsonl"
    path.write_text("".join(lines))
    return path


def turn(engine, round_index, wall, tokens=("a",)):
    """A row as ``bench_stream`` keeps it."""
    return {
        "bundle": "b",
        "precision": "int8",
        "chunk_ms": 160,
        "mode": "paced",
        "engine": engine,
        "round": round_index,
        "wall_us": wall,
        "cpu_us": [value // 2 for value in wall],
        "around_us": [1000, 500],
        "seconds": 1.0,
        "process_cpu_seconds": 0.25,
        "peak_mb": 50.0 + round_index,
        "loaded_mb": 40.0,
        "load_seconds": 0.1,
        "tokens": [list(tokens)],
    }


def test_the_ratio_is_ours_to_theirs_at_the_median(benchmark_script):
    tables = benchmark_script("stream_tables")
    rows = [turn("ours", index, [1000, 2000, 9000]) for index in range(3)]
    rows += [turn("sherpa", index, [4000, 4000, 4000], ("a", "b")) for index in range(3)]
    (line,) = tables.configurations(rows)
    assert line["ratio"] == {"p50": 0.5, "low": 0.5, "high": 0.5}
    assert line["ours"]["p50_ms"] == 2.0
    assert line["ours"]["cpu_p50_ms"] == 1.0
    assert line["ours"]["cpu_share"] == 0.25
    assert line["ours"]["peak_mb"] == 52.0
    # 36 ms of chunks and 3 ms around them for nine chunks of 160 ms.
    assert line["ours"]["real_time_factor"] == pytest.approx(0.039 / 1.44)
    assert line["same_tokens"] == 1.0  # what sherpa-onnx says behind the end is not counted
    ended = tables.summary({"configurations": [line]})
    assert ended["within_budget"] is True
    assert ended["ratio"] == ended["worst"] == pytest.approx(0.5)
    assert "**0.50** (0.50 to 0.50)" in tables.stream_markdown([line])


def test_a_ratio_above_one_misses_the_budget(benchmark_script):
    tables = benchmark_script("stream_tables")
    rows = [turn("ours", 0, [5000]), turn("sherpa", 0, [4000], ("b",))]
    (line,) = tables.configurations(rows)
    assert tables.summary({"configurations": [line]})["within_budget"] is False
    assert line["same_tokens"] == 0.0


def test_the_parts_of_a_chunk_add_up_to_the_whole(benchmark_script):
    parts = benchmark_script("stream_parts")
    timed = {"whole": 10.0, "graph": 6.0, "frontend": 1.0, "decoder": 2.0, "result": 0.5}
    shares = parts.split({name: {"wall": value, "cpu": value / 2} for name, value in timed.items()})
    assert {name: share["wall"] for name, share in shares.items()} == {
        "whole": 10.0,
        "frontend": 1.0,
        "model": 5.0,
        "decoder": 2.0,
        "result": 0.5,
        "glue": 1.5,
    }
    assert shares["glue"]["cpu"] == 0.75


@pytest.mark.parametrize("pace", [0.0, 0.001])
def test_a_worker_times_every_chunk_and_recognises_as_ever(benchmark_script, toy_bundle, audio_file, pace):
    from kdcompress_runtime import Recognizer

    bench = benchmark_script("bench_stream")
    settings = {"engine": "ours", "path": str(toy_bundle), "precision": "float32", "chunk_frames": 100, "rate": RATE}
    with bench.Worker({**settings, "size": 400, "audio": str(audio_file)}) as worker:
        row = worker.turn(pace, 2)
        assert worker.turn(pace, 1)["tokens"] == row["tokens"][:1]
    with np.load(audio_file) as stored:
        recordings = [stored[name] for name in sorted(stored.files)]
    assert len(row["wall_us"]) == len(row["cpu_us"]) == sum(len(one) // 400 for one in recordings)
    expected = [Recognizer.from_dir(toy_bundle).recognize(one[: len(one) // 400 * 400], RATE) for one in recordings]
    assert row["tokens"] == [list(one.tokens) for one in expected]
    assert row["tokens"][0] == ["a", "b"]
    assert row["peak_mb"] is None or row["peak_mb"] > 10
    assert row["seconds"] >= pace * len(row["wall_us"])


def test_a_cold_start_is_timed_step_by_step(benchmark_script, toy_bundle, tmp_path):
    cold = benchmark_script("bench_cold")
    np.save(tmp_path / "audio.npy", levels("ab", 0))
    settings = {"path": str(toy_bundle), "precision": "float32", "lm": None, "decoder": {}, "rate": RATE, "size": 400}
    row = cold.start({**settings, "variant": "ours", "audio": str(tmp_path / "audio.npy")}, dict(os.environ))
    bare = cold.start({"variant": "bare"}, dict(os.environ))
    assert set(row) == set(cold.STEPS)
    assert set(bare) == {"interpreter", "import_numpy_and_engine"}
    assert all(value > 0 for value in row.values())


def test_cold_starts_are_compared_with_the_engine_counted(benchmark_script):
    cold = benchmark_script("bench_cold")
    steps = dict.fromkeys(cold.STEPS, 10.0)
    rows = [{"name": "ours int8 greedy", **steps}, {"name": "sherpa int8 greedy", **steps, "load": 60.0}]
    rows.append({"name": "bare", "interpreter": 10.0, "import_numpy_and_engine": 8.0})
    lines = cold.summarise(rows)
    assert lines["ours int8 greedy"]["cold_start"] == 30.0
    ended = cold.conclude(lines, "int8")
    assert ended["ratio"] == 0.5
    assert ended["import_between_processes_ms"] == 12.0
    assert ended["within_budget"] == {"import": True, "cold_start": True}
    lines["ours int8 greedy"]["import"] = 31.0
    assert cold.conclude(lines, "int8")["within_budget"]["import"] is False


def said(text, begin):
    from kdcompress_runtime import Result
    from kdcompress_runtime.result import Word

    return Result(text, (text,), (begin,), 0.0, words=(Word(text, begin, begin + 0.1),))


def test_laps_that_drift_or_change_are_noticed(benchmark_script):
    laps = benchmark_script("soak").Laps(period=60.0)
    for lap, (text, late) in enumerate([("one", 0.0), ("one", 0.0), ("one", 0.02), ("two", 0.0)]):
        laps.hear(said(text, 60.0 * lap + 5.0 + late))
        laps.finish(lap)
    assert (laps.compared, laps.changed, laps.words) == (2, 1, 2)  # the first lap and the second are references
    assert laps.drift_ms == pytest.approx(20.0)


def test_memory_that_grows_has_a_slope_and_flat_memory_none(benchmark_script):
    soak = benchmark_script("soak")
    hours = np.arange(50) / 60
    noise = np.random.default_rng(0).normal(0, 0.05, 50)
    slope, low, high = soak.slope_of(hours, 100 + 3 * hours + noise)
    assert low < slope < high
    assert slope == pytest.approx(3, abs=0.2)
    flat, low, high = soak.slope_of(hours, 100 + noise)
    assert low <= 0 <= high or abs(flat) < 0.1


@pytest.mark.parametrize("streams", [1, 3])
def test_laps_agree_through_endpoints_flushes_and_batches(benchmark_script, toy_bundle, manifest, streams, monkeypatch):
    soak = benchmark_script("soak")
    monkeypatch.setattr(soak, "LAP_SECONDS", 3.0)
    way = {"decoder": "greedy", "streams": streams, "lm": None, "precision": "float32", "minutes": 1.3}
    monkeypatch.setattr(soak, "FLUSH_EVERY", 4)
    found = soak.soak({**way, "bundle": str(toy_bundle), "manifest": str(manifest)})
    assert found["laps_compared"] >= 8 * streams
    assert found["words_compared"] > 0
    assert found["utterances"] > 0
    assert (found["laps_changed"], found["drift_ms"] < 1e-6) == (0, True)
    told = soak.judge(found)
    assert told["memory_ratio"] > 0.5
    assert "| greedy |" in soak.markdown({"greedy": told})


def test_speech_is_found_where_it_is_loud_and_noise_is_as_loud_as_the_room(benchmark_script):
    audio = benchmark_script("stream_audio")
    rng = np.random.default_rng(1)
    samples = 0.001 * rng.standard_normal(3 * RATE)
    samples[RATE : 2 * RATE] += 0.3 * np.sin(np.arange(RATE))
    samples = samples.astype(np.float32)
    assert audio.speech_bounds(samples, RATE) == pytest.approx((1.0, 2.0), abs=0.03)
    noise = audio.room_noise(samples, 2.0, RATE, seed=3)
    assert len(noise) == 2 * RATE
    assert float(noise.std()) == pytest.approx(0.001, rel=0.3)
    assert np.array_equal(noise, audio.room_noise(samples, 2.0, RATE, seed=3))
    silent = np.concatenate([samples, np.zeros(RATE, np.float32)])
    assert audio.room_noise(silent, 1.0, RATE, seed=0).std() > 0.0005  # digital silence is no room
    samples[RATE + 4000 : RATE + 4400] = 0
    assert audio.quietest(samples, RATE, 1.2, 1.8) == pytest.approx(RATE + 4200, abs=200)


def test_endpoints_are_known_with_their_chunk_and_cut_where_speech_goes_on(benchmark_script, toy_bundle):
    from kdcompress_runtime import Bundle, CtcModel, EndpointRules

    endpoint = benchmark_script("endpoint_cases")
    model = CtcModel.from_bundle(Bundle.open(toy_bundle))  # frames of 0.5 ms, look-ahead 3, chunks of 5
    speech, silence = np.full(4, 0.01), np.array([0.97, 0.01, 0.01, 0.01])
    speech[1] = 0.97
    rows = [silence] * 3 + [speech] * 4 + [silence] * 6 + [speech] * 2 + [silence] * 30
    log_probs = np.log(np.array(rows)).astype(np.float32)

    def ended(silence_ms, ends, last, seconds=1.0):
        rules = EndpointRules(trailing_silence=silence_ms / 1000, confident_silence=silence_ms / 1000)
        case = endpoint.Case("", np.zeros(0), ends, log_probs, (3, 13), last, seconds)
        return endpoint.end_of(case, rules, model)

    early = ended(2, 0.2, 400)  # four silent frames: ends after 11, known with output 13, in the third chunk
    assert (early.frame, early.cut, early.lost) == (11, True, 1)
    assert early.latency == pytest.approx(15 * 0.0005 - 0.2)
    late = ended(5, 0.0075, 15)
    assert (late.frame, late.cut, late.lost) == (25, False, 0)
    assert late.latency == pytest.approx(30 * 0.0005 - 0.0075)
    assert ended(5, 0.0075, 15, seconds=29 * 0.0005) is None
    assert ended(50, 0.0075, 15) is None
    told = endpoint.rates([early, late, None])
    assert (told["cut_rate"], told["lost_rate"], told["never_rate"]) == (1 / 3, 1 / 3, 1 / 3)
    assert told["p50_ms"] == pytest.approx(7.5)


def test_the_rule_is_the_fastest_that_cuts_few_enough(benchmark_script):
    bench = benchmark_script("bench_endpoint")
    names = {"trailing_silence": 1.0, "confident_probability": 0.9}
    lines = [
        {**names, "confident_silence": 0.2, "p50_ms": 300, "p95_ms": 400, "cut_rate": 0.2},
        {**names, "confident_silence": 0.5, "p50_ms": 600, "p95_ms": 700, "cut_rate": 0.04},
        {**names, "confident_silence": 0.9, "p50_ms": 900, "p95_ms": 990, "cut_rate": 0.0},
    ]
    assert bench.choose(lines, 0.05).confident_silence == 0.5
    with pytest.raises(SystemExit, match="no rule cuts"):
        bench.choose([*lines[:1], {**lines[2], "p50_ms": float("nan")}], 0.05)
    assert bench.valid({"a": [float("nan"), 1.0], "b": "c"}) == {"a": [None, 1.0], "b": "c"}


@pytest.fixture(scope="module")
def exported(run, folder, tmp_path_factory):
    from kdcompress.cli import main

    path = tmp_path_factory.mktemp("bench") / "tiny-bundle"
    assert main(["export", str(run), "-o", str(path), "--quantize", "none"]) == 0
    return path


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


@pytest.mark.slow
def test_every_command_runs(benchmark_script, exported, folder, output, capsys):
    """Tiny: one round each; what they measure is another matter."""
    pytest.importorskip("sherpa_onnx")
    manifest, work = str(folder / "dev.jsonl"), ["--work", str(output / "work"), "--output", str(output)]
    benchmark_script("bench_stream").LEAST_SECONDS = 0.3  # the module goes with the fixture
    rounds = ["--rounds", "1", "--paced-rounds", "1", "--parts-rounds", "1", "--count", "2", "--paced-count", "1"]
    stream = ["--bundle", str(exported), "--manifest", manifest, "--chunks", "160", *rounds, *work]
    assert benchmark_script("bench_stream").main(stream) == 0
    told = last_line(capsys)
    assert set(told["ratios"]) == {f"tiny-bundle float32 160 ms {mode}" for mode in ("back-to-back", "paced")}
    cold = ["--bundle", str(exported), "--manifest", manifest, "--rounds", "1", *work]
    assert benchmark_script("bench_cold").main(cold) == 0
    assert last_line(capsys)["import_ms"] > 0
    soak = ["--bundle", str(exported), "--manifest", manifest, "--minutes", "0.5", "--streams", "1", *work[2:]]
    assert benchmark_script("soak").main([*soak, "--decoders", "greedy", "beam"]) == 0
    assert set(last_line(capsys)["ways"]) == {"greedy, 1 stream", "beam, 1 stream"}
    endpoint = ["--bundle", str(exported), "--dev", manifest, "--test", manifest, "--most-cut", "1", *work[2:]]
    assert benchmark_script("bench_endpoint").main(endpoint) == 0
    assert set(last_line(capsys)["rules"]) == {"default", "chosen on dev", "sherpa-onnx's"}
    assert (output / "endpoint-tiny.svg").is_file()
