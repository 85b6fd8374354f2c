"""Tuning: a model whose log-probabilities are written into the audio, so that every right answer is known."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper

from kdcompress_export.decoder_tuning import COLUMNS, TuneOptions, tune_decoder
from kdcompress_export.errors import ExportError
from kdcompress_runtime import Bundle, BundleMetadata, ManifestError, OptionsError, Recognizer, Vocabulary
from kdcompress_runtime.bundle import InputSpec, ModelFile, sha256
from kdcompress_runtime.manifest import manifest_fingerprint

VOCABULARY = Vocabulary.from_symbols(["▁", *"abct"])
CLASSES = len(VOCABULARY)
SCALE = 8.0
QUICK = TuneOptions(beam_widths=(2, 4), search_width=4, trials=6)
LETTERS = {letter: VOCABULARY.symbols.index(letter) for letter in "▁abct"}


def graph() -> bytes:
    """log_softmax(SCALE * samples), one frame of CLASSES samples after the other."""
    nodes = [
        helper.make_node("Reshape", ["pcm", "shape"], ["frames"]),
        helper.make_node("Mul", ["frames", "scale"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
    ]
    constants = {"shape": np.array([0, -1, CLASSES]), "scale": np.array(SCALE, np.float32)}
    model = helper.make_graph(
        nodes,
        "written",
        [helper.make_tensor_value_info("pcm", TensorProto.FLOAT, ["N", "samples"])],
        [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["N", "k", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(model, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


@pytest.fixture
def bundle(tmp_path):
    """A bundle of that model, trained on nothing."""
    return write(tmp_path / "bundle")


def write(folder: Path, **fields) -> Path:
    contents = {"model.onnx": graph(), "tokens.txt": VOCABULARY.dumps().encode()}
    metadata = BundleMetadata(
        name="written",
        task="speech",
        input=InputSpec("pcm", "pcm", CLASSES, 8000),
        states=(),
        frame_shift_ms=0.75,
        subsampling_factor=1,
        lookahead_frames=0,
        chunk_frames=4,
        models=(ModelFile("float32", "model.onnx"),),
        default_precision="float32",
        parameters=0,
        blank_id=0,
        files={name: sha256(content) for name, content in contents.items()},
    )
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "bundle.json").write_text(replace(metadata, **fields).dumps(), encoding="utf-8")
    return folder


def say(text: str, rng: np.random.Generator, doubt: float) -> np.ndarray:
    """Audio of a text; in ``doubt`` of its words the b of "cab" is heard as a t a little louder than the b."""
    frames = []
    for index, word in enumerate(text.split()):
        unsure = rng.random() < doubt
        for letter in ("▁" if index else "") + word:
            frame = np.full(CLASSES, -0.6) + 0.05 * rng.standard_normal(CLASSES)
            frame[LETTERS[letter]] = 0.8
            if unsure and letter == "b":
                frame[LETTERS["t"]], frame[LETTERS["b"]] = 0.8, 0.75
            blank = np.full(CLASSES, -0.8)
            blank[0] = 0.9
            frames += [frame, blank]
    return np.clip(np.concatenate(frames or [np.zeros(CLASSES)]), -1, 1).astype(np.float32)


def write_manifest(folder: Path, name: str, *, items: int = 14, doubt: float = 0.4, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    lines = []
    (folder / name).mkdir(parents=True)
    for index in range(items):
        text = " ".join(rng.choice(["cab", "tab", "act", "at"], 4))
        path = folder / name / f"{index}.wav"
        soundfile.write(path, say(text, rng, doubt), 8000, subtype="FLOAT")
        row = {
            "audio_filepath": f"{name}/{index}.wav",
            "text": text,
            "id": f"{name}-{index}",
            "speaker": str(index % 5),
        }
        lines.append(json.dumps(row) + "\n")
    manifest = folder / f"{name}.jsonl"
    manifest.write_text("".join(lines), encoding="utf-8")
    return manifest


@pytest.fixture
def dev(tmp_path):
    """Recordings with doubtful words."""
    return write_manifest(tmp_path, "dev")


@pytest.fixture
def lm(tmp_path):
    """Unigrams and bigrams of the four words, as ARPA."""
    words = {"cab": -0.7, "tab": -0.7, "act": -0.7, "at": -0.7, "<unk>": -3.0, "</s>": -0.7}
    text = "\\data\\\nngram 1=7\nngram 2=1\n\n\\1-grams:\n-99\t<s>\t0\n"
    text += "".join(f"{value}\t{word}\t0\n" for word, value in words.items())
    path = tmp_path / "words.arpa"
    path.write_text(text + "\n\\2-grams:\n-0.6\tcab at\n\n\\end\\\n", encoding="utf-8")
    return path


def texts(bundle: Path, manifest: Path) -> list[str]:
    recognizer = Recognizer.from_dir(bundle, tail_seconds=0.0)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    return [recognizer.recognize(*soundfile.read(manifest.parent / row["audio_filepath"])).text for row in rows]


def wanted(manifest: Path) -> list[str]:
    return [json.loads(line)["text"] for line in manifest.read_text().splitlines()]


def test_the_graph_is_what_onnx_allows():
    onnx.checker.check_model(onnx.load_model_from_string(graph()))


def test_a_language_model_that_helps_goes_into_the_bundle_and_is_used(bundle, dev, lm, tmp_path):
    before = texts(bundle, dev)
    report = tune_decoder(bundle, dev, options=replace(QUICK, lm=lm))
    assert before != wanted(dev)
    assert texts(bundle, dev) == wanted(dev)
    test = write_manifest(tmp_path, "test", seed=1)
    assert texts(bundle, test) == wanted(test)
    opened = Bundle.open(bundle)
    settings = opened.metadata.decoder_settings
    assert settings.kind == "beam"
    assert settings.options["beam_width"] == 2  # no wider beam does better
    assert opened.read(settings.lm)
    assert (report.tried[0].name, report.chosen.name) == ("greedy, untuned", "beam 2")
    assert report.tried[0].rate.wer > 5
    assert report.chosen.rate.wer == 0
    assert report.difference.high < 0


def test_the_bundle_says_what_it_was_tuned_on_and_with(bundle, dev, lm, tmp_path):
    output = tmp_path / "tuned.zip"
    report = tune_decoder(bundle, dev, output, replace(QUICK, lm=lm))
    assert Bundle.open(bundle).metadata.decoder == {}
    metadata = Bundle.open(output).metadata
    assert metadata.provenance["data"]["tuning"]["fingerprint"] == manifest_fingerprint(dev) == report.fingerprint
    assert metadata.provenance["decoder"]["lm"]["sha256"] == metadata.files["lm.kdlm"]
    assert metadata.measured["decoder"]["tried"][-1]["rate"]["wer"] == 0
    assert json.loads(json.dumps(report.to_json()))["decoder"] == metadata.decoder


def test_without_help_greedy_stays_because_it_is_cheaper(bundle, dev):
    report = tune_decoder(bundle, dev, options=QUICK)
    assert Bundle.open(bundle).metadata.decoder_settings.kind == "greedy"
    assert report.lm is None
    assert "cheapest" in report.reason
    forced = tune_decoder(bundle, dev, options=replace(QUICK, kind="beam"))
    assert forced.decoder["kind"] == "beam"
    assert "alpha" not in forced.decoder


def test_tuning_again_leaves_nothing_of_the_first_time(bundle, dev, lm):
    tune_decoder(bundle, dev, options=replace(QUICK, lm=lm))
    tune_decoder(bundle, dev, options=replace(QUICK, kind="greedy"))
    assert sorted(file.name for file in bundle.iterdir()) == ["bundle.json", "model.onnx", "tokens.txt"]
    metadata = Bundle.open(bundle).metadata
    assert metadata.decoder_settings.lm is None
    assert metadata.provenance["decoder"] == {}


def write_quiet(folder: Path, step: int) -> Path:
    """A manifest in which the blank is a little louder than the letters in every ``step``-th of 20 items."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = []
    for index in range(20):
        audio = say("cab at", rng, 0).reshape(-1, CLASSES)
        if index % step == 0:
            audio[::2, 0] = 0.9
        soundfile.write(folder / f"{index}.wav", audio.reshape(-1), 8000, subtype="FLOAT")
        lines.append(json.dumps({"audio_filepath": f"{index}.wav", "text": "cab at"}) + "\n")
    (folder / "dev.jsonl").write_text("".join(lines))
    return folder / "dev.jsonl"


def test_a_blank_that_wins_too_often_is_penalised(bundle, tmp_path):
    report = tune_decoder(bundle, write_quiet(tmp_path / "quiet", 3), options=QUICK)
    assert report.tried[0].rate.deletions > 20
    assert report.chosen.rate.wer == 0
    assert 0.5 < report.decoder["blank_penalty"] < 10


def test_what_wins_in_one_utterance_only_is_taken_for_chance(bundle, tmp_path):
    report = tune_decoder(bundle, write_quiet(tmp_path / "quiet", 20), options=QUICK)
    assert report.trials > 3
    assert report.decoder["blank_penalty"] == 0
    assert report.chosen.rate.wer == report.tried[0].rate.wer > 0


def test_a_lexicon_goes_along_and_forbids_other_words(bundle, dev, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("cab\ntab\nact\nat\n")
    report = tune_decoder(bundle, dev, options=replace(QUICK, lexicon=path))
    assert report.lexicon["words"] == 4
    assert texts(bundle, dev) == wanted(dev)
    assert Bundle.open(bundle).metadata.decoder_settings.lexicon == "lexicon.txt"


def test_confidences_become_honest(bundle, tmp_path):
    dev = write_manifest(tmp_path, "dev", items=60)
    report = tune_decoder(bundle, dev, options=QUICK)
    found = report.confidence
    assert found.words > 200
    assert found.halves == "speakers"
    assert found.ece < 0.05 < found.ece_raw
    sure = Recognizer.from_dir(bundle, tail_seconds=0.0).recognize(say("act", np.random.default_rng(0), 0), 8000)
    unsure = Recognizer.from_dir(bundle, tail_seconds=0.0).recognize(say("cab", np.random.default_rng(0), 1), 8000)
    assert [(word.text, word.confidence > 0.9) for word in (*sure.words, *unsure.words)] == [
        ("act", True), ("cat", False),
    ]  # fmt: skip


def test_too_few_words_are_not_calibrated_and_the_report_says_so(bundle, tmp_path):
    dev = write_manifest(tmp_path, "dev", items=3)
    report = tune_decoder(bundle, dev, options=QUICK)
    assert report.decoder["confidence"] is None
    assert report.confidence is None
    assert any("not calibrated" in note and "larger manifest" in note for note in report.notes())


def test_the_table_has_a_row_for_each_and_the_chosen_one_last(bundle, dev, lm):
    report = tune_decoder(bundle, dev, options=replace(QUICK, lm=lm))
    table = report.table()
    assert [row[0] for row in table] == ["greedy, untuned", "greedy", "beam 4", "beam 2 (chosen)"]
    assert all(len(row) == len(COLUMNS) for row in table)
    assert table[-1][1] == "0.00"


@pytest.mark.parametrize("seen", ["train", "calibration"])
def test_recordings_that_the_model_has_seen_are_refused(tmp_path, seen):
    train, other = write_manifest(tmp_path, "train", items=4), write_manifest(tmp_path, "other", items=4, seed=1)
    data = {seen: {"manifest": str(train), "fingerprint": manifest_fingerprint(train)}}
    bundle = write(tmp_path / "b", provenance={"data": data, "run": {"data": 3}})
    with pytest.raises(ExportError, match=f"items of the bundle's {seen} set"):
        tune_decoder(bundle, train)
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(other.read_text() + train.read_text().splitlines()[0] + "\n")
    with pytest.raises(ExportError, match=r"1 items .* are in"):
        tune_decoder(bundle, mixed)
    assert tune_decoder(bundle, other, options=replace(QUICK, kind="greedy")).utterances == 4


def test_an_interrupted_search_goes_on_where_it_was(bundle, dev, lm, tmp_path, monkeypatch):
    options = replace(QUICK, lm=lm, work=tmp_path / "work")
    whole = tune_decoder(bundle, dev, tmp_path / "once", replace(options, work=None))

    def stop_at(label, limit):
        def progress(name, done, count):
            if name.startswith(label) and done == limit:
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt):
        tune_decoder(bundle, dev, tmp_path / "out", options, stop_at("Reading", 5))
    assert len(list(options.work.glob("*.npy"))) == 5
    with pytest.raises(KeyboardInterrupt):
        tune_decoder(bundle, dev, tmp_path / "out", options, stop_at("Trying", 5))
    assert not (tmp_path / "out").exists()
    next(options.work.glob("*.npy")).write_bytes(b"damaged")
    kept = len(list(options.work.glob("trial-*.json")))
    assert kept > 4
    resumed = tune_decoder(bundle, dev, tmp_path / "out", options)
    assert (resumed.decoder, resumed.trials) == (whole.decoder, whole.trials)
    monkeypatch.setattr("kdcompress_export.decoder_tuning.trials.build_decoder", None)
    with pytest.raises(TypeError):  # every trial was kept; only the words of the chosen one are judged again
        tune_decoder(bundle, dev, tmp_path / "out", options)


def test_a_failed_search_leaves_the_bundle_as_it_was(bundle, dev, monkeypatch):
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    monkeypatch.setattr("kdcompress_export.decoder_tuning.tune.fit_calibration", None)
    with pytest.raises(TypeError):
        tune_decoder(bundle, dev, options=QUICK)
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before
    assert sorted(bundle.parent.iterdir()) == sorted([bundle, dev, dev.with_suffix("")])


def test_a_search_without_time_says_so(bundle, dev, lm):
    report = tune_decoder(bundle, dev, options=replace(QUICK, lm=lm, trials=1))
    assert report.out_of == "trials"
    assert any("ran out of trials" in note for note in report.notes())


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "no word"), ("two words\n", "'two words' is more than a word"), (None, "cannot be read")],
)
def test_a_lexicon_that_is_none_is_refused(bundle, dev, tmp_path, content, words):
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ExportError, match=words):
        tune_decoder(bundle, dev, options=replace(QUICK, lexicon=path))


def test_a_manifest_that_says_nothing_is_refused(bundle, tmp_path):
    (tmp_path / "dev.jsonl").write_text('{"audio_filepath": "a.wav", "text": " "}\n')
    with pytest.raises(ManifestError, match="nothing to tune on"):
        tune_decoder(bundle, tmp_path / "dev.jsonl")


def test_a_language_model_that_only_kenlm_reads_cannot_go_into_a_bundle(bundle, dev, monkeypatch):
    monkeypatch.setattr("kdcompress_runtime.lm.open_lm", lambda path, unit: object())  # noqa: ARG005
    with pytest.raises(ExportError, match=r"m\.bin is a KenLM binary.*ARPA file"):
        tune_decoder(bundle, dev, options=replace(QUICK, lm=Path("m.bin")))


def test_neither_torch_nor_onnx_is_loaded():
    program = "import sys, kdcompress_export.decoder_tuning; print({'torch', 'onnx', 'kdcompress'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "wide"},
        {"kind": "greedy", "lm": Path("a")},
        {"unit": "letter"},
        {"beam_widths": ()},
        {"beam_widths": (0,)},
        {"trials": 0},
        {"seconds": 0.0},
        {"limit": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(fields):
    with pytest.raises(OptionsError):
        TuneOptions(**fields)
