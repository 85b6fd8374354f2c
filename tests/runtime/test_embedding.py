"""What an app that embeds the runtime relies on: few imports, no output, flat memory."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import kdcompress_runtime
from kdcompress_runtime import DecoderOptions, Recognizer, SessionOptions

LAZY = ("soundfile", "soxr", "pyctcdecode", "torch", "onnx", "scipy", "pydantic", "typer", "rich")


def run_python(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_importing_brings_nothing_beyond_numpy_and_onnxruntime():
    script = (
        "import json, sys, numpy, onnxruntime\n"
        "before = set(sys.modules)\n"
        "import kdcompress_runtime\n"
        "print(json.dumps([sorted(before), sorted(sys.modules)]))"
    )
    before, after = (set(names) for names in json.loads(run_python(script)))
    brought = {name.partition(".")[0] for name in after - before} - {"kdcompress_runtime", "numpy"}
    assert brought <= set(sys.stdlib_module_names)
    assert not any(name.startswith("importlib.metadata") for name in after - before)
    assert not set(LAZY) & {name.partition(".")[0] for name in after - before}


def test_recognising_brings_nothing_either(bundle_path):
    script = (
        "import sys, numpy, kdcompress_runtime as k\n"
        f"r = k.Recognizer.from_dir({str(bundle_path)!r}, decoder=k.DecoderOptions('beam'))\n"
        "r.recognize(numpy.zeros(4000, numpy.float32), 8000)\n"
        f"print([name for name in {LAZY!r} if name in sys.modules])"
    )
    assert run_python(script).strip() == "[]"


def test_the_public_names_exist_and_are_sorted():
    names = kdcompress_runtime.__all__
    assert list(names) == sorted(names, key=lambda n: (n[0].islower(), n))
    assert all(getattr(kdcompress_runtime, name).__doc__ for name in names)


def test_errors_print_nothing(bundle_path):
    script = (
        "import numpy, kdcompress_runtime as k\n"
        f"bundle = k.Bundle.open({str(bundle_path)!r})\n"
        "model = k.CtcModel.from_bundle(bundle)\n"
        "states = model.init_states() | {'gain': numpy.zeros((1, 99), numpy.float32)}\n"
        "for make in (lambda: model.step(numpy.zeros((1, 80), numpy.float32), states),\n"
        "             lambda: k.CtcModel(b'garbage', bundle.metadata, bundle.vocabulary)):\n"
        "    try: make()\n"
        "    except k.ModelError: print('refused')"
    )
    assert run_python(script).split() == ["refused", "refused"]


def test_options_can_be_overridden_without_changing_answers(bundle_path, audio):
    plain = Recognizer.from_dir(bundle_path).recognize(audio, 8000)
    options = SessionOptions(
        intra_op_threads=2, allow_spinning=True, enable_cpu_mem_arena=True, enable_mem_pattern=True
    )
    assert Recognizer.from_dir(bundle_path, session_options=options).recognize(audio, 8000).text == plain.text


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_memory_is_flat_over_minutes_of_streaming(bundle_path, audio, kind):
    """After a warm-up, five more minutes of audio grow the process by less than 4 MiB."""
    psutil = pytest.importorskip("psutil")
    stream = Recognizer.from_dir(bundle_path, decoder=DecoderOptions(kind, beam_width=4)).create_stream()
    piece = np.tile(audio, 4)[:32_000]  # 4 s

    def feed(seconds):
        for _ in range(seconds // 4):
            for part in np.split(piece, 40):
                stream.accept_waveform(part, 8000)
        return psutil.Process().memory_info().rss

    before = feed(60)
    after = feed(300)
    assert stream.frames_decoded > 35_000
    assert (after - before) / 2**20 < 4


MANY_LENGTHS = """
import sys, numpy, psutil
from kdcompress_runtime import Recognizer

recognizer = Recognizer.from_dir(sys.argv[1])
long = numpy.tile(numpy.load(sys.argv[2]), 40)
held = []
for seed in range(24):
    for length in numpy.random.default_rng(seed).integers(100, len(long), 12):
        recognizer.recognize(long[:length], 8000)
    held.append(psutil.Process().memory_info().rss)
print((max(held[12:]) - max(held[:12])) / 2**20)
"""


def test_whole_recordings_of_many_lengths_leave_memory_flat(bundle_path, audio, tmp_path):
    """In a process of its own: what other libraries of the tests do to the allocator is not ours."""
    pytest.importorskip("psutil")
    np.save(tmp_path / "audio.npy", audio)
    call = [sys.executable, "-c", MANY_LENGTHS, str(bundle_path), str(tmp_path / "audio.npy")]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    # what 12 turns were given is more than 100 MB
    assert float(done.stdout) < 16


def test_streams_of_many_threads_each_keep_their_own_state(recognizer, audio):
    def run(offset):
        clip = np.roll(audio, offset)
        stream = recognizer.create_stream()
        for part in np.array_split(clip, 20):
            stream.accept_waveform(part, 8000)
        stream.input_finished()
        return stream.result()

    offsets = list(range(0, 4000, 250))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, offsets))
    assert together == [run(offset) for offset in offsets]
    assert len({result.text for result in together}) > 1
