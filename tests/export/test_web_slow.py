"""The web bundle in the real onnxruntime-web: under Node, and on the page in headless Chromium (`make test-web`)."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from kdcompress.data.digits import prepare_digits
from kdcompress.distill import fit
from kdcompress.recipe import Recipe
from kdcompress_export import ExportOptions, SearchOptions, export_run
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.targets import web
from kdcompress_runtime import Bundle, Recognizer, read_audio, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "web"
SITE = ROOT / "examples" / "web"
PRECISIONS = ("float32", "int8")
RECORDINGS = 12
RATE = 8000
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def packages() -> Path:
    if not (SITE / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip(f"onnxruntime-web is not in {SITE}/node_modules; `make test-web` puts it there")
    return SITE


@pytest.fixture(scope="module")
def recordings(packages, tmp_path_factory) -> dict[str, Path]:
    strings = {"train": 400, "dev": 8, "test": RECORDINGS}
    return prepare_digits(ROOT / "data" / "fsdd", tmp_path_factory.mktemp("digits") / "digits", strings=strings)


@pytest.fixture(scope="module")
def audio(recordings) -> list[np.ndarray]:
    """The test recordings, float32 at the model's rate."""
    return [read_audio(entry.input, RATE)[0] for entry in read_manifest(recordings["test"])]


@pytest.fixture(scope="module")
def bundle(recordings, tmp_path_factory) -> Path:
    """A student that has begun to read digits, as a web bundle with both precisions."""
    folder = tmp_path_factory.mktemp("trained")
    tree = {
        "schema": 1,
        "name": "web",
        "data": {"train": str(recordings["train"]), "dev": str(recordings["dev"])},
        "frontend": {"sample_rate": RATE, "num_mel_bins": 40},
        "model": {"kind": "separable_conv", "preset": "tiny", "lookahead_frames": 8, "dropout": 0.0},
        "train": {"steps": 200, "batch_size": 24, "learning_rate": 3.0e-3, "eval_every": 200},
    }
    fit(Recipe.model_validate(tree), folder / "run")
    quantization = SearchOptions(quantize="static-u8s8-minmax-all")
    export_run(folder / "run", folder / "bundle", ExportOptions(quantization=quantization))
    write_bundle(folder / "web", web.files(Bundle.open(folder / "bundle"), precisions=PRECISIONS))
    return folder / "web"


@pytest.fixture(scope="module")
def expected(bundle, audio) -> dict[str, list[dict[str, object]]]:
    """What the Python runtime answers."""
    recognizers = {precision: Recognizer.from_dir(bundle, precision=precision) for precision in PRECISIONS}
    answers = {
        name: [plain(vars(recognizer.recognize(samples, RATE))) for samples in audio]
        for name, recognizer in recognizers.items()
    }
    spoken = [answer["text"] for answer in answers["float32"]]
    assert sum(bool(text) for text in spoken) > RECORDINGS / 2, "the student has learned nothing to compare"
    return answers


def plain(result: dict[str, object]) -> dict[str, object]:
    return {"text": result["text"], "tokens": [*result["tokens"]], "timestamps": [*result["timestamps"]]}


def run_node(script: str, *arguments: object) -> dict[str, object]:
    node = shutil.which("node")
    assert node is not None, "node is not on PATH; install Node.js 20 or later"
    command = [node, str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_under_node_whole_and_streamed_answers_are_those_of_python(bundle, packages, audio, expected, tmp_path):
    rows = []
    for index, samples in enumerate(audio):
        samples.astype("<f4").tofile(tmp_path / f"{index}.f32")
        rows.append({"file": str(tmp_path / f"{index}.f32"), "rate": RATE})
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"precisions": PRECISIONS, "recordings": rows, "rounds": 3}), encoding="utf-8")
    answer = run_node("run_bundle.mjs", bundle, packages, job)

    assert answer["version"] == web.web_runtime().version
    for precision, row in answer["precisions"].items():
        for kind in ("whole", "streamed"):
            assert [plain(result) for result in row[kind]] == expected[precision], (precision, kind)
    cost = {name: float(np.median(row["ms"])) for name, row in answer["precisions"].items()}
    load = {name: round(row["load_ms"]) for name, row in answer["precisions"].items()}
    print(f"\nonnxruntime-web under Node, one thread: ms a recording {cost}, load ms {load}")


def test_the_program_of_the_page_runs(bundle, packages, tmp_path):
    page = (ROOT / "docs" / "web.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```js\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "program.mjs").write_text(code, encoding="utf-8")
    (tmp_path / "bundle").symlink_to(bundle)
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    done = subprocess.run(["node", "program.mjs"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "true"


@pytest.fixture(scope="module")
def site(bundle, packages, audio, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The page served on this machine, with the bundle and the recordings; its address and its folder."""
    root = tmp_path_factory.mktemp("site")
    for name in ("index.html", "page.mjs", "microphone.mjs"):
        shutil.copy(SITE / name, root)
    (root / "node_modules").symlink_to(packages / "node_modules")
    shutil.copytree(bundle, root / "bundle")
    for index, samples in enumerate(audio):
        # Browsers scale 16-bit samples by 32767 where they are positive, so only float files are read alike.
        soundfile.write(root / f"{index}.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(root / "microphone.wav", audio[0], RATE, subtype="PCM_16")
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", root
        server.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def open_pages(site: tuple[str, Path], tmp_path: Path, pages: list[dict[str, object]]) -> dict[str, list[object]]:
    address, root = site
    named = [os.environ.get("CHROMIUM"), *map(shutil.which, BROWSERS)]
    browser = next((one for one in named if one), None)
    assert browser is not None, "no Chromium on PATH; install it or name it with CHROMIUM=..."
    (tmp_path / "profile").mkdir()
    job = {"chromium": browser, "profile": str(tmp_path / "profile"), "microphone": str(root / "microphone.wav")}
    job["pages"] = [{**page, "url": f"{address}/index.html{page.get('query', '')}"} for page in pages]
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return run_node("chromium.mjs", tmp_path / "job.json")


def test_the_page_in_chromium_answers_as_python_does(site, expected, tmp_path):
    wanted = [(index, precision) for index in range(4) for precision in PRECISIONS]
    pages = [{"query": f"?audio={index}.wav&precision={precision}"} for index, precision in wanted]
    answer = open_pages(site, tmp_path, pages)
    assert answer["logs"] == []
    for (index, precision), page in zip(wanted, answer["pages"], strict=True):
        assert (page["state"], page["problem"], page["overflow"]) == ("done", "", False)
        assert plain(page) == expected[precision][index], (index, precision)
        assert "one thread" in page["speed"]


def test_the_page_hears_the_microphone_and_names_what_is_wrong(site, expected, tmp_path):
    pages = [{"listen_ms": 6000, "query": "?precision=float32"}, {"query": "?bundle=nowhere"}]
    heard, lost = open_pages(site, tmp_path, pages)["pages"]
    assert heard["state"] == "done"
    # The browser resamples the microphone, which may move a token by a frame and cost or add a letter.
    assert len(heard["tokens"]) >= len(expected["float32"][0]["tokens"]) / 2
    assert lost["state"] == "failed"
    assert "no web bundle" in lost["problem"]
