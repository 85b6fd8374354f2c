"""A trained student in the sherpa-onnx wheel: the same texts around silent edges, as many errors everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jiwer
import numpy as np
import pytest

from kdcompress.data.digits import prepare_digits
from kdcompress.distill import fit
from kdcompress.recipe import Recipe
from kdcompress_export import ExportOptions, SearchOptions, export_run
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.targets import sherpa
from kdcompress_runtime import Bundle, Recognizer, read_audio, read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[2]
WHEEL = Path(__file__).parent / "sherpa_wheel.py"
RATE, RECORDINGS = 8000, 40
WORSE_POINTS = 2.0
"""Word error rate; about four words of the test set."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> dict[str, Path]:
    strings = {"train": 400, "dev": 8, "test": RECORDINGS}
    return prepare_digits(ROOT / "data" / "fsdd", tmp_path_factory.mktemp("digits") / "digits", strings=strings)


@pytest.fixture(scope="module")
def bundle(recordings, tmp_path_factory) -> Bundle:
    """A student that has begun to read digits, float32 and static int8."""
    folder = tmp_path_factory.mktemp("trained")
    tree = {
        "schema": 1,
        "name": "sherpa",
        "data": {"train": str(recordings["train"]), "dev": str(recordings["dev"])},
        "frontend": {"sample_rate": RATE, "num_mel_bins": 40},
        "model": {"kind": "separable_conv", "preset": "tiny", "lookahead_frames": 8, "dropout": 0.0},
        "train": {"steps": 200, "batch_size": 24, "learning_rate": 3.0e-3, "eval_every": 200},
    }
    fit(Recipe.model_validate(tree), folder / "run")
    quantization = SearchOptions(quantize="static-u8s8-minmax-all")
    export_run(folder / "run", folder / "bundle", ExportOptions(quantization=quantization))
    return Bundle.open(folder / "bundle")


def in_wheel(bundle: Bundle, folder: Path, precision: str, audio: list[np.ndarray]) -> dict[str, list[str]]:
    """Texts of sherpa-onnx by way, cut where the recordings end: it decodes the padding, too."""
    write_bundle(folder / "sherpa", sherpa.files(bundle))
    np.savez(folder / "audio.npz", **{f"{i:03}": one for i, one in enumerate(audio)})
    command = [sys.executable, str(WHEEL), str(folder / "sherpa"), precision, str(folder / "audio.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    units = bundle.metadata.input.units_per_frame
    ends = [-(-len(samples) // units) * 0.04 - 0.01 for samples in audio]
    return {
        way: [
            " ".join("".join(token for token, at in zip(tokens, times, strict=True) if at < end).split())
            for (_, tokens, times), end in zip(found, ends, strict=True)
        ]
        for way, found in json.loads(done.stdout.splitlines()[-1]).items()
    }


def test_float32_reads_the_same_where_the_edges_are_silent(bundle, recordings, tmp_path):
    """Kaldi mirrors the edges, where our frontend hears silence; around silence the features are the same."""
    silence = np.zeros(RATE // 10, dtype=np.float32)
    entries = list(read_manifest(recordings["test"]))
    audio = [np.concatenate([silence, read_audio(entry.input, RATE)[0], silence]) for entry in entries]
    recognizer = Recognizer.from_dir(bundle.path, precision="float32", tail_seconds=0.0)
    ours = [recognizer.recognize(samples, RATE).text for samples in audio]
    assert sum(map(bool, ours)) > RECORDINGS / 2, "the student has learned nothing to compare"
    for way, texts in in_wheel(bundle, tmp_path, "float32", audio).items():
        assert texts == ours, way


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_recordings_as_they_are_give_as_many_errors(bundle, recordings, tmp_path, precision):
    """Texts may differ there, in int8 often: the same audio 0.01 % louder changes as many in our own runtime."""
    entries = list(read_manifest(recordings["test"]))
    audio = [read_audio(entry.input, RATE)[0] for entry in entries]
    spoken = [entry.text for entry in entries]
    recognizer = Recognizer.from_dir(bundle.path, precision=precision, tail_seconds=0.0)
    ours = 100 * jiwer.wer(spoken, [recognizer.recognize(samples, RATE).text for samples in audio])
    for way, texts in in_wheel(bundle, tmp_path, precision, audio).items():
        assert abs(100 * jiwer.wer(spoken, texts) - ours) <= WORSE_POINTS, way
