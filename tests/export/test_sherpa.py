"""The sherpa-onnx target: graphs against the bundle, the folder's checks, what is refused, and the real wheel."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import onnx
import pytest

from kdcompress.data.digits import read_index, read_recordings
from kdcompress.run import load_student
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.convert import convert
from kdcompress_export.errors import ParityError, TargetError
from kdcompress_export.from_run import describe
from kdcompress_export.quantization.static import quantize
from kdcompress_export.signature import geometry
from kdcompress_export.streams import speech_like_noise
from kdcompress_export.targets import sherpa
from kdcompress_export.targets.sherpa_document import check_bundle
from kdcompress_export.targets.sherpa_features import LOG_FLOOR, kaldi_features
from kdcompress_export.targets.sherpa_layout import REQUIRED, state_tensors
from kdcompress_export.targets.sherpa_sessions import OfflineGraph, StreamingGraph
from kdcompress_runtime import Bundle, Recognizer
from kdcompress_runtime.bundle import METADATA_FILE, TOKENS_FILE, ModelFile, StateSpec, sha256
from kdcompress_runtime.errors import BundleError, BundleVersionError, OptionsError
from kdcompress_runtime.vocabulary import Vocabulary

RATE = 8000
DIGITS = Path(__file__).parents[2] / "data" / "fsdd"
WHEEL = Path(__file__).parent / "sherpa_wheel.py"


def write(folder: Path, network, vocabulary, metadata, *, small: bool) -> Path:
    """A bundle without what export measures; with a static int8 model where asked."""
    contents = {"model.onnx": convert(network, len(vocabulary), geometry(metadata, "float32"))}
    models = [ModelFile("float32", "model.onnx")]
    bundle = replace(metadata, models=tuple(models), default_precision="float32")
    if small:
        from kdcompress_runtime.model import CtcModel

        model = CtcModel(contents["model.onnx"], bundle, vocabulary)
        audio = [speech_like_noise(2.0, RATE, seed) for seed in range(4)]
        contents["model.int8.onnx"] = quantize(contents["model.onnx"], model, audio).content
        models.append(ModelFile("int8", "model.int8.onnx"))
    tokens = vocabulary.dumps().encode()
    hashes = {TOKENS_FILE: sha256(tokens), **{name: sha256(content) for name, content in contents.items()}}
    bundle = replace(bundle, models=tuple(models), files=hashes)
    write_bundle(folder, {METADATA_FILE: bundle.dumps().encode(), TOKENS_FILE: tokens, **contents})
    return folder


@pytest.fixture(scope="module")
def tiny(student, tmp_path_factory) -> Bundle:
    """The session's tiny student, float32 and int8."""
    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    metadata = describe(student, student.network)
    return Bundle.open(write(folder, student.network, student.vocabulary, metadata, small=True))


@pytest.fixture(scope="module")
def contents(tiny) -> dict[str, bytes]:
    return sherpa.files(tiny)


@pytest.fixture
def folder(contents, tmp_path) -> Path:
    """A folder that a test may damage."""
    write_bundle(tmp_path / "sherpa", contents)
    return tmp_path / "sherpa"


def rewrite(folder: Path, change) -> None:
    """Change ``sherpa-onnx.json``."""
    path = folder / sherpa.DOCUMENT
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def test_the_folder_says_what_sherpa_must_be_told_and_what_was_proven(tiny, contents):
    document = json.loads(contents[sherpa.DOCUMENT])
    assert document["target"] == "sherpa-onnx"
    assert (document["sample_rate"], document["feature_dim"]) == (RATE, 24)
    assert document["models"]["int8"] == {"offline": "offline.int8.onnx", "streaming": "streaming.int8.onnx"}
    assert document["files"] == {name: sha256(content) for name, content in contents.items() if name != sherpa.DOCUMENT}
    assert document["streaming"]["features_advanced"] == 4 * tiny.metadata.chunk_frames
    assert document["proof"]["float32"]["bundle"] < 1e-4
    assert contents[TOKENS_FILE].decode().splitlines()[0] == "<blk> 0"


def test_verify_repeats_the_proof_of_folder_and_zip(folder, contents, tmp_path):
    write_bundle(tmp_path / "sherpa.zip", contents)
    for place in (folder, tmp_path / "sherpa.zip"):
        checks = sherpa.verify(place)
        assert [check.detail for check in checks if not check.passed] == []
        names = [check.name for check in checks]
        assert names[0] == "hashes"
        assert {"metadata int8", "streaming equals offline int8", "int8 agrees with float32 on noise"} <= set(names)


@pytest.mark.parametrize(("kind", "lookahead"), [("cnn", 0), ("chunked_conformer", 3)])
def test_other_students_pass_the_proof_too(make_run, tmp_path, kind, lookahead):
    run = load_student(make_run(tmp_path, kind=kind, lookahead=lookahead))
    metadata = describe(run, run.network)
    bundle = Bundle.open(write(tmp_path / "bundle", run.network, run.vocabulary, metadata, small=False))
    proof = json.loads(sherpa.files(bundle)[sherpa.DOCUMENT])["proof"]["float32"]
    assert max(proof["bundle"], proof["streaming"], proof["batch"]) < 1e-4


def test_a_state_may_begin_at_any_value(tiny, tmp_path):
    def begin(state: StateSpec) -> StateSpec:
        return replace(state, initial=0.7) if state.name.startswith("block") else state

    metadata = replace(tiny.metadata, states=tuple(map(begin, tiny.metadata.states)))
    whole = {name: tiny.read(name) for name in tiny.metadata.files}
    write_bundle(tmp_path / "b", {METADATA_FILE: metadata.dumps().encode(), **whole})
    plain, moved = (OfflineGraph(sherpa.files(Bundle.open(p))["offline.onnx"]) for p in (tiny.path, tmp_path / "b"))
    x = [kaldi_features(speech_like_noise(1.0, RATE, 1), RATE, 24)]
    assert np.abs(plain.log_probs(x)[0] - moved.log_probs(x)[0]).max() > 1e-2


def test_chunks_of_another_size_give_the_same_answer(tiny, contents):
    other = sherpa.files(tiny, precisions=["float32"], chunk_frames=11)
    assert "offline.int8.onnx" not in other
    x = [kaldi_features(speech_like_noise(seconds, RATE, 1), RATE, 24) for seconds in (0.05, 1.3)]
    expected = StreamingGraph(contents["streaming.onnx"]).log_probs(x, LOG_FLOOR)
    for one, found in zip(expected, StreamingGraph(other["streaming.onnx"]).log_probs(x, LOG_FLOOR), strict=True):
        np.testing.assert_allclose(found, one, atol=1e-4)
    with pytest.raises(OptionsError, match="chunk_frames"):
        sherpa.files(tiny, chunk_frames=0)


def test_what_stands_behind_an_item_of_a_batch_is_not_heard(contents):
    graph = OfflineGraph(contents["offline.onnx"])
    x = [kaldi_features(speech_like_noise(seconds, RATE, 3), RATE, 24) for seconds in (0.4, 2.0)]
    np.testing.assert_allclose(graph.log_probs(x)[0], graph.log_probs(x[:1])[0], atol=1e-5)


@pytest.mark.parametrize(("rate", "bins", "count"), [(8000, 40, 3), (16000, 80, 7001), (22100, 23, 9000)])
def test_features_are_those_of_kaldi(rate, bins, count):
    samples = speech_like_noise(count / rate, rate, 5)
    options = knf.FbankOptions()
    options.frame_opts.dither, options.frame_opts.snip_edges, options.frame_opts.samp_freq = 0, False, rate
    options.mel_opts.num_bins, options.mel_opts.high_freq = bins, -400
    extractor = knf.OnlineFbank(options)
    extractor.accept_waveform(rate, samples.tolist())
    extractor.input_finished()
    expected = np.array([extractor.get_frame(i) for i in range(extractor.num_frames_ready)]).reshape(-1, bins)
    np.testing.assert_allclose(kaldi_features(samples, rate, bins), expected, atol=2e-3)


@pytest.mark.parametrize("name", ["tokens.txt", "offline.onnx", "streaming.int8.onnx"])
def test_a_flipped_bit_is_found_by_name(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    (check,) = sherpa.verify(folder)
    assert not check.passed
    assert name in check.detail


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_metadata_is_found_before_sherpa_dies_of_it(folder, key):
    model = onnx.load(folder / "streaming.onnx")
    kept = [entry for entry in model.metadata_props if entry.key != key]
    assert len(kept) == len(model.metadata_props) - 1
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    content = model.SerializeToString()
    (folder / "streaming.onnx").write_bytes(content)
    rewrite(folder, lambda document: document["files"].update({"streaming.onnx": sha256(content)}))
    failed = [check for check in sherpa.verify(folder) if not check.passed]
    assert [check.name for check in failed] == ["metadata float32"]
    assert key in failed[0].detail


def test_lists_of_metadata_must_be_as_long_as_each_other(contents):
    properties = {entry.key: entry.value for entry in onnx.load_from_string(contents["streaming.onnx"]).metadata_props}
    assert len(state_tensors(properties)) == 8
    with pytest.raises(TargetError, match="differ in length"):
        state_tensors(properties | {"num_heads": "1,1"})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda document: document.update(format_version=2), BundleVersionError, "format 2"),
        (lambda document: document.update(target="web"), BundleError, "not written by"),
        (lambda document: document.pop("files"), BundleError, "missing or malformed"),
        (lambda document: document["files"].update({"../x": "0"}), BundleError, "leaves the folder"),
    ],
)
def test_a_strange_document_is_refused(folder, change, error, message):
    rewrite(folder, change)
    with pytest.raises(error, match=message):
        sherpa.verify(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subsampling_factor": 8}, "times every model by 4"),
        ({"streaming": False}, "cannot stream"),
        ({"provenance": {"target": "mobile"}}, "bundle for mobile"),
        ({"frontend": {}}, "not described"),
        ({"window_ms": 20.0}, "window_ms 20"),
        ({"frame_shift_ms": 12.5}, "frame_shift_ms 12.5"),
        ({"low_freq": 0.0}, "low_freq 0"),
        ({"high_freq": 3800.0}, "high_freq"),
        ({"late_features": None}, "export the run again"),
    ],
)
def test_what_sherpa_cannot_run_is_refused_with_the_reason(tiny, change, message):
    name = next(iter(change))
    if name in tiny.metadata.frontend:
        change = {"frontend": {**tiny.metadata.frontend, **change}}
    with pytest.raises(TargetError, match=message):
        check_bundle(replace(tiny, metadata=replace(tiny.metadata, **change)))


def test_the_upper_edge_may_be_given_in_either_way(tiny):
    frontend = {**tiny.metadata.frontend, "high_freq": RATE / 2 - 400}
    check_bundle(replace(tiny, metadata=replace(tiny.metadata, frontend=frontend)))


@pytest.mark.parametrize(
    ("symbols", "message"), [(("a b",), "white space"), (("SIL",), "leaves out"), (("a", "ƙ"), "byte pieces")]
)
def test_tokens_that_sherpa_would_misread_are_refused(tiny, symbols, message):
    with pytest.raises(TargetError, match=message):
        check_bundle(replace(tiny, vocabulary=Vocabulary.from_symbols(symbols)))


def test_features_of_another_frontend_are_refused_by_measurement(tiny, tmp_path):
    metadata = replace(tiny.metadata, models=tiny.metadata.models[:1], default_precision="float32")
    model = onnx.load_from_string(tiny.read("model.onnx"))
    for node in model.graph.node:
        if node.op_type == "Log":
            node.op_type = "Sqrt"
    changed = model.SerializeToString()
    files = {**tiny.metadata.files, "model.onnx": sha256(changed)}
    del files["model.int8.onnx"]
    documents = {METADATA_FILE: replace(metadata, files=files).dumps().encode(), TOKENS_FILE: tiny.read(TOKENS_FILE)}
    write_bundle(tmp_path / "b", {**documents, "model.onnx": changed})
    with pytest.raises(ParityError, match="Kaldi"):
        sherpa.files(Bundle.open(tmp_path / "b"))


def in_wheel(folder: Path, precision: str, audio: Path) -> dict[str, list]:
    """What sherpa-onnx answers, in a process of its own."""
    command = [sys.executable, str(WHEEL), str(folder), precision, str(audio)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def spoken_digits(count: int) -> list[np.ndarray]:
    """Recordings of different lengths out of the embedded corpus, a tenth of a second of silence around each."""
    index = read_index(DIGITS)[:: 3000 // count][:count]
    audio = read_recordings(DIGITS, index)
    silence = np.zeros(RATE // 10, dtype=np.float32)
    recordings = [np.tile(audio[row.name], 1 + number % 3) for number, row in enumerate(index)]
    return [np.concatenate([silence, one, silence]).astype(np.float32) for one in recordings]


@pytest.mark.parametrize(("precision", "least"), [("float32", 1.0), ("int8", 0.9)])
def test_the_wheel_prints_our_text_and_times(tiny, folder, tmp_path, *, precision, least):
    """In int8 the last bits of a feature can move a label of this untrained student; which, depends on the CPU."""
    recordings = spoken_digits(6)
    np.savez(tmp_path / "audio.npz", **{f"{i:03}": one for i, one in enumerate(recordings)})
    answers = in_wheel(folder, precision, tmp_path / "audio.npz")
    recognizer = Recognizer.from_dir(tiny.path, precision=precision, tail_seconds=0.0)
    units = tiny.metadata.input.units_per_frame
    theirs, ours = [], []
    for way, found in answers.items():
        for number, (samples, (text, tokens, times)) in enumerate(zip(recordings, found, strict=True)):
            said = recognizer.recognize(samples, RATE)
            end = -(-len(samples) // units) * 0.04 - 0.01
            inside = [at for at in times if at < end]  # sherpa-onnx decodes the padding, too
            pairs = zip(tokens, inside, strict=False)
            theirs += [(way, number, token.replace(" ", "▁"), round(at / 0.04)) for token, at in pairs]
            ours += [(way, number, t, round(at / 0.04)) for t, at in zip(said.tokens, said.timestamps, strict=True)]
            if precision == "float32" and len(inside) == len(times):
                assert " ".join(text.split()) == said.text
    assert len(theirs) > 40, "the student said too little to compare"
    assert SequenceMatcher(None, theirs, ours, autojunk=False).ratio() >= least


def test_metadata_really_ends_the_process(folder, tmp_path):
    """Why ``verify`` looks for it: no exception comes out of the wheel."""
    model = onnx.load(folder / "streaming.onnx")
    del model.metadata_props[:]
    onnx.save(model, folder / "streaming.onnx")
    np.savez(tmp_path / "audio.npz", a=np.zeros(RATE, dtype=np.float32))
    command = [sys.executable, str(WHEEL), str(folder), "float32", str(tmp_path / "audio.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
