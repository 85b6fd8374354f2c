"""What the machine says of itself, peaks, bytes on disk and in memory, and the start of a process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kdcompress_evaluation.decoding import Decoding
from kdcompress_evaluation.footprint import ask
from kdcompress_evaluation.machine import describe_machine, is_virtual, parse_cpuinfo, read_cpu_settings
from kdcompress_evaluation.records import to_json
from kdcompress_evaluation.speed.roofline import GRAPHS, SIZE, measure_peaks
from kdcompress_evaluation.speed.sizes import installed_bytes, measure_sizes
from kdcompress_evaluation.systems import describe
from kdcompress_runtime.decoders import DecoderOptions

ROOT = Path(__file__).parents[3]


@pytest.fixture
def request_of(bundle, manifest):
    audio = manifest.parent / "test-0.wav"
    return {
        "variant": to_json(describe(bundle, "all")[0]),
        "decoding": Decoding().to_json(),
        "input": str(audio),
    }


@pytest.mark.parametrize(
    ("content", "name", "isa"),
    [
        ("model name\t: Fast CPU\nflags\t\t: fpu avx2 avx_vnni sse\n", "Fast CPU", ("avx2", "avx_vnni")),
        ("processor : 0\nFeatures\t: fp asimd asimddp i8mm\nHardware : Board\n", "Board", ("neon", "dotprod", "i8mm")),
        ("", "", ()),
    ],
)
def test_cpuinfo(content, name, isa):
    assert parse_cpuinfo(content) == (name, isa)


def test_a_hypervisor_is_told_where_the_kernel_tells():
    assert is_virtual("flags : fpu hypervisor avx2\n") is True
    assert is_virtual("flags : fpu avx2\n") is False
    assert is_virtual("Features : asimd\n") is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (None, None, None)),
        (
            {
                "cpu0/cache/index0/level": "1",
                "cpu0/cache/index0/size": "48K",
                "cpu0/cache/index3/level": "3",
                "cpu0/cache/index3/size": "32768K\n",
                "cpu0/cpufreq/scaling_governor": "powersave\n",
                "intel_pstate/no_turbo": "0",
            },
            (2**25, "powersave", True),
        ),
        ({"cpufreq/boost": "0"}, (None, None, False)),
        ({"intel_pstate/no_turbo": "1"}, (None, None, False)),
    ],
)
def test_clock_and_caches(tmp_path, files, expected):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    found = read_cpu_settings(tmp_path)
    assert (found.cache_bytes, found.governor, found.turbo) == expected


def test_the_machine_names_what_it_runs():
    machine = describe_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert {"numpy", "onnxruntime"} <= set(machine.versions)


def test_the_peak_graphs_are_those_that_the_tool_writes(tmp_path):
    spec = importlib.util.spec_from_file_location("make_peak_graphs", ROOT / "tools" / "make_peak_graphs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main(tmp_path)
    for kind in tool.KINDS:
        assert (tmp_path / f"{kind}.onnx").read_bytes() == (GRAPHS / f"{kind}.onnx").read_bytes()
        assert (GRAPHS / f"{kind}.onnx").stat().st_size < 300 < SIZE * SIZE


def test_peaks_are_those_of_a_real_machine():
    """A phone of ten years ago reaches the lower bounds, no single core the upper ones."""
    peaks = measure_peaks(2**20)
    assert 1e8 < peaks.float32 < 1e13
    assert 1e8 < peaks.int8 < 1e13
    assert 1e8 < peaks.memory < 1e12


def test_sizes_count_what_is_shipped_and_nothing_else(make_bundle, tmp_path):
    folder = make_bundle(tmp_path / "b", "b", {"float32": {}, "int8": {}}, padding=5000)
    info = describe(folder, "all")[0]
    shipped = ["float32.onnx", "tokens.txt", "bundle.json"]
    found = measure_sizes(info)
    assert found.compressed == sum(len(zlib.compress((folder / name).read_bytes(), 6)) for name in shipped)
    assert found.compressed < info.size_bytes
    assert found.lm == 0
    assert found.runtime == installed_bytes(("numpy", "numpy.libs", "onnxruntime/capi", "kdcompress_runtime"))


def test_installed_bytes_leave_out_tests_and_what_is_not_there():
    whole = installed_bytes(("kdcompress_runtime",))
    package = Path(importlib.util.find_spec("kdcompress_runtime").origin).parent
    sources = sum(path.stat().st_size for path in package.rglob("*.py"))
    assert sources <= whole < sources + 5_000_000
    assert installed_bytes(("no_such_package",)) is None
    assert installed_bytes(("numpy", "numpy.no_such_folder")) == installed_bytes(("numpy",))


def test_memory_does_not_count_this_process(request_of):
    ballast = bytearray(os.urandom(1)) * 200_000_000
    found, why = ask("footprint", request_of)
    assert why == ""
    assert found["imported"] <= found["loaded"] <= found["steady"] <= found["peak"] < len(ballast)
    if sys.platform == "linux":
        assert 0 < found["pss"] <= found["peak"]


def test_what_cannot_be_measured_says_why(request_of, tmp_path):
    found, why = ask("footprint", {**request_of, "input": str(tmp_path / "none.wav")})
    assert found is None
    assert "not found" in why
    found, why = ask("cold", {**request_of, "input": str(tmp_path / "none.npy")})
    assert found is None
    assert "none.npy" in why


@pytest.mark.parametrize("streaming", [True, False])
def test_a_cold_start_is_timed_in_three_parts(make_bundle, request_of, tmp_path, streaming):
    folder = make_bundle(tmp_path / "cold", "cold", streaming=streaming)
    samples, _ = soundfile.read(request_of["input"], dtype="float32")
    np.save(tmp_path / "audio.npy", samples)
    request = {**request_of, "variant": to_json(describe(folder, "all")[0]), "input": str(tmp_path / "audio.npy")}
    found, why = ask("cold", request)
    assert why == ""
    assert set(found) == {"imported", "loaded", "first"}
    assert 0.01 < found["imported"] < 60
    assert 0 < found["loaded"] < 60
    assert 0 < found["first"] < 60


def test_start_up_and_memory_are_not_those_of_the_report():
    """Neither process may import what only scoring and drawing need."""
    code = (
        "import sys, kdcompress_evaluation.footprint, kdcompress_evaluation.cold, kdcompress_evaluation.engines\n"
        "print(sorted({'scipy', 'jiwer', 'matplotlib', 'jinja2', 'sacrebleu'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_decoding_reaches_another_process_as_it_is(tmp_path):
    beam = Decoding(DecoderOptions(kind="beam", beam_width=7), tmp_path / "lm.arpa")
    for decoding in (Decoding(), beam):
        assert Decoding.from_json(json.loads(json.dumps(decoding.to_json()))) == decoding
