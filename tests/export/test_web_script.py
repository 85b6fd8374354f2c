"""kdcompress.mjs under Node: its own tests with a made-up onnxruntime-web, and the answers of the Python runtime."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest

from kdcompress_runtime import GreedyDecoder, Vocabulary
from kdcompress_runtime.bundle import READABLE_VERSIONS
from kdcompress_runtime.tail import faint_noise

HERE = Path(__file__).parent / "web"


@pytest.fixture(scope="module")
def node() -> str:
    """The program. Without it the JavaScript of web bundles goes untested, and the summary of warnings says so too."""
    found = shutil.which("node")
    if found is None:
        message = "node is not on PATH: the JavaScript of web bundles was NOT tested; install Node.js 20 or later"
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    return found


def test_the_script_passes_its_own_tests(node):
    command = [node, "--test", "--test-reporter=tap", str(HERE / "script_test.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    passed = re.search(r"^# pass (\d+)$", done.stdout, flags=re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= 30


def test_it_decodes_and_spells_as_the_runtime_does(node, tmp_path):
    rng = np.random.default_rng(1)
    cases, expected = [], []
    for index in range(40):
        classes, penalty = int(rng.integers(2, 9)), float(rng.choice([0.0, 0.7]))
        blank = int(rng.integers(classes))
        logits = rng.integers(-3, 3, (int(rng.integers(0, 30)), classes)).astype(np.float32)  # ties are common
        log_probs = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)
        if index % 7 == 0:
            log_probs[::3] = -1e30
        pieces = np.array_split(log_probs, int(rng.integers(1, 5)))
        decoder = GreedyDecoder(classes, blank, blank_penalty=penalty)
        state = decoder.init_state()
        for piece in pieces:
            state = decoder.advance(state, piece)
        expected.append(decoder.best(state))
        flat = [piece.ravel().tolist() for piece in pieces]
        cases.append({"classes": classes, "blank": blank, "penalty": penalty, "pieces": flat})
    symbols = ["▁", "▁a", "b▁", "é", "x y", "\u00a0", "\ufeff", "\x1f"]
    vocabulary = Vocabulary.from_symbols(symbols)
    rows = [rng.integers(1, len(vocabulary), 9).tolist() for _ in range(30)]
    texts = [{"tokens": vocabulary.dumps(), "ids": row} for row in rows]
    job = tmp_path / "cases.json"
    job.write_text(json.dumps({"cases": cases, "texts": texts}), encoding="utf-8")
    done = subprocess.run(
        [node, str(HERE / "agree.mjs"), str(job)], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)

    assert tuple(answer["versions"]) == READABLE_VERSIONS
    for found, wanted in zip(answer["decoded"], expected, strict=True):
        assert tuple(found["tokenIds"]) == wanted.token_ids
        assert tuple(found["frames"]) == wanted.frames
        assert found["logProb"] == wanted.log_prob
    for found, row in zip(answer["spelt"], rows, strict=True):
        assert (found["text"], found["blank"]) == (vocabulary.text(row), vocabulary.blank_id)
        assert tuple(found["symbols"]) == vocabulary.symbols


def test_the_noise_behind_a_recording_is_the_runtimes(node):
    script = "import { faintNoise } from './export/kdcompress_export/web/kdcompress.mjs';"
    script += "console.log(JSON.stringify(Array.from(faintNoise(5000))));"
    root = Path(__file__).parents[2]
    command = [node, "--input-type=module", "--eval", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert np.array_equal(np.array(json.loads(done.stdout), dtype=np.float32), faint_noise(5000))
