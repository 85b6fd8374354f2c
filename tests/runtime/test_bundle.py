"""Bundles: opened whole or zipped; damage is named, never guessed around."""

from __future__ import annotations

import json
import shutil
import zipfile

import pytest

from kdcompress_runtime import (
    Bundle,
    BundleCorruptError,
    BundleError,
    BundleNotFoundError,
    BundleVersionError,
    Recognizer,
    Vocabulary,
)
from kdcompress_runtime.bundle import BundleMetadata

PCM = {"kind": "pcm", "name": "pcm", "units_per_frame": 80, "sample_rate": 8000}


@pytest.fixture
def folder(bundle_path, tmp_path):
    """A bundle that a test may damage."""
    return shutil.copytree(bundle_path, tmp_path / "bundle")


def change(folder, **fields):
    path = folder / "bundle.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    row.update(fields)
    path.write_text(json.dumps(row), encoding="utf-8")


def zipped(folder, target, skip=()):
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.iterdir():
            if file.name not in skip:
                archive.write(file, file.name)
    return target


def test_a_zip_gives_the_same_answers_as_the_folder(folder, tmp_path, audio):
    path = zipped(folder, tmp_path / "bundle.zip")
    result = Recognizer.from_dir(path).recognize(audio, 8000)
    assert result == Recognizer.from_dir(folder).recognize(audio, 8000)
    assert Bundle.open(path).size() == sum(file.stat().st_size for file in folder.iterdir())


def test_metadata_survives_writing_and_reading(folder):
    metadata = Bundle.open(folder).metadata
    assert BundleMetadata.loads(metadata.dumps()) == metadata
    assert metadata.states[1].initial == 0.5


def test_a_missing_bundle_is_not_found(tmp_path):
    for path in (tmp_path / "none", tmp_path / "none.zip"):
        with pytest.raises(BundleNotFoundError, match="bundle not found"):
            Recognizer.from_dir(path)
    with pytest.raises(FileNotFoundError):
        Recognizer.from_dir(tmp_path)


@pytest.mark.parametrize("file", ["bundle.json", "tokens.txt", "model.onnx"])
def test_a_missing_file_is_named(folder, tmp_path, file):
    path = zipped(folder, tmp_path / "b.zip", skip=(file,))
    with pytest.raises(BundleNotFoundError, match=file):
        Recognizer.from_dir(path)
    (folder / file).unlink()
    with pytest.raises(BundleNotFoundError, match=file):
        Recognizer.from_dir(folder)


@pytest.mark.parametrize("file", ["tokens.txt", "model.onnx"])
@pytest.mark.parametrize("position", [0, 0.5, -1])
def test_one_flipped_bit_is_refused_by_name(folder, file, position):
    content = bytearray((folder / file).read_bytes())
    content[int(position * len(content)) if position > 0 else position] ^= 1
    (folder / file).write_bytes(bytes(content))
    with pytest.raises(BundleCorruptError, match=f"{file}.*SHA-256"):
        Recognizer.from_dir(folder)


def test_any_flipped_bit_of_bundle_json_is_refused_by_name(folder):
    path = folder / "bundle.json"
    content = Bundle.open(folder).metadata.dumps().encode()
    path.write_bytes(content)
    Bundle.open(folder)
    for position in [*range(0, len(content), 5), *range(len(content) - 80, len(content))]:
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(bytes(flipped))
        with pytest.raises(BundleError, match=r"bundle\.json"):
            Bundle.open(folder)


def test_a_changed_bundle_json_says_so_unless_its_checksum_is_taken_out(folder):
    text = Bundle.open(folder).metadata.dumps()
    changed = text.replace('"chunk_frames": 4', '"chunk_frames": 5')
    (folder / "bundle.json").write_text(changed, encoding="utf-8")
    with pytest.raises(BundleCorruptError, match=r"bundle\.json.*SHA-256.*removes the field 'checksum'"):
        Bundle.open(folder)
    row = json.loads(changed)
    for broken in ("", "0" * 64, row["checksum"].upper(), 7, None):
        (folder / "bundle.json").write_text(json.dumps({**row, "checksum": broken}), encoding="utf-8")
        with pytest.raises(BundleCorruptError):
            Bundle.open(folder)
    del row["checksum"]
    (folder / "bundle.json").write_text(json.dumps(row), encoding="utf-8")
    assert Bundle.open(folder).metadata.chunk_frames == 5


def test_another_version_is_refused(folder):
    for version in (0, 5, "2", True, None):
        change(folder, format_version=version)
        with pytest.raises(BundleVersionError, match=f"bundle format {version!r}, this runtime reads 1, 2, 3, 4"):
            Bundle.open(folder)


def test_version_1_is_read_as_streaming(folder):
    expected = Bundle.open(folder).metadata
    change(folder, format_version=1)
    metadata = Bundle.open(folder).metadata
    assert metadata == expected
    assert metadata.streaming
    assert metadata.input.min_units == 1
    assert BundleMetadata.loads(metadata.dumps()) == metadata


def test_version_3_is_read_as_knowing_audio_alone(folder):
    expected = Bundle.open(folder).metadata
    change(folder, format_version=3)
    assert Bundle.open(folder).metadata == expected
    assert expected.format_version == 4
    change(folder, input=PCM | {"height": None})
    with pytest.raises(BundleError, match=r"input\.height in format 3"):
        Bundle.open(folder)
    for kind in ("image", "tokens"):
        change(folder, input=PCM | {"kind": kind})
        with pytest.raises(BundleError, match=f"input.kind '{kind}' in format 3"):
            Bundle.open(folder)


def test_version_2_is_read_as_saying_nothing_about_the_decoder(folder):
    expected = Bundle.open(folder).metadata
    change(folder, format_version=2)
    assert Bundle.open(folder).metadata == expected
    assert expected.decoder == {}
    assert expected.decoder_settings is None
    change(folder, decoder={})
    with pytest.raises(BundleError, match="decoder in format 2"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "fields",
    [{"streaming": True}, {"input": {"min_units": 1}}, {"decoder": {}}, {"surprise": 1}, {"checksum": "0" * 64}],
)
def test_version_1_with_fields_it_did_not_know_is_refused(folder, fields):
    change(folder, format_version=1, **{**fields, "input": PCM | fields.get("input", {})})
    with pytest.raises(BundleError, match=r"streaming|min_units|decoder|surprise|checksum"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"surprise": 1}, "surprise"),
        ({"blank_id": 3}, "blank_id is 3"),
        ({"blank_id": -1}, "blank_id must be"),
        ({"chunk_frames": 0}, "chunk_frames must be"),
        ({"lookahead_frames": "2"}, "lookahead_frames must be"),
        ({"models": []}, "no model file"),
        ({"models": [{"precision": "float32", "file": "../model.onnx"}]}, "leaves the bundle"),
        ({"models": [{"precision": "float32", "file": "/etc/passwd"}]}, "leaves the bundle"),
        ({"models": [{"precision": "float32", "file": "other.onnx"}]}, "other.onnx has no SHA-256"),
        ({"states": [{"name": "history", "shape": [1, 5]}]}, "history"),
        ({"input": {"kind": "video", "name": "x", "units_per_frame": 8}}, "'video' is unknown; .* pcm, image, tokens"),
        ({"input": {"kind": ["pcm"], "name": "x", "units_per_frame": 8}}, "expected a text"),
        ({"input": PCM | {"height": 32}}, "height means nothing for an input of kind pcm"),
        ({"input": PCM | {"frames_per_unit": 2}}, "frames_per_unit means nothing"),
        ({"input": {"kind": "pcm", "name": "pcm", "units_per_frame": 80}}, "sample_rate"),
        ({"input": "pcm"}, "malformed"),
        ({"states": [{"name": "history", "shape": ["N", "many", 5]}]}, "sizes that are not integers"),
        ({"states": [{"name": "history", "shape": ["N", 12, 5], "dtype": "object"}]}, "'object'"),
        ({"states": [{"name": "history", "shape": ["N", 12, 5], "initial": "zero"}]}, "initial value"),
        ({"states": [{"name": "count", "shape": ["N"], "dtype": "int64", "initial": 0.5}]}, "cannot begin at 0.5"),
        ({"states": 3}, "malformed"),
        ({"states": [{"name": "history", "shape": ["N", 2**30, 2**30]}]}, "larger than any model"),
        ({"models": [{"precision": "float32", "file": "C:model.onnx"}]}, "leaves the bundle"),
        ({"models": [{"precision": "float32", "file": "a\\model.onnx"}]}, "leaves the bundle"),
        ({"files": {"tokens.txt\0": "0"}}, "leaves the bundle"),
        ({"files": 3}, "files must be a dict"),
        ({"files": {"tokens.txt": 3}}, "expected a text"),
        ({"frame_shift_ms": 0}, "frame_shift_ms"),
        ({"lookahead_frames": 10**30}, "at most"),
        ({"streaming": False}, "has no states"),
        ({"streaming": False, "states": []}, "lookahead_frames 0"),
        ({"streaming": "no"}, "streaming must be a bool"),
        ({"input": PCM | {"min_units": 0}}, "min_units must be"),
        ({"input": PCM | {"min_units": 81}}, "may be one frame, 80 units"),
        ({"decoder": []}, "decoder must be a dict"),
        ({"decoder": {"kind": "beam", "surprise": 1}}, "unknown 'surprise'"),
        ({"decoder": {"alpha": 1.0}}, "decoder kind None"),
        ({"decoder": {"kind": "pyctcdecode"}}, "'pyctcdecode' is unknown"),
        ({"decoder": {"kind": ["beam"]}}, "is unknown"),
        ({"decoder": {"kind": "beam", "alpha": "1"}}, "alpha must be float"),
        ({"decoder": {"kind": "beam", "alpha": True}}, "alpha must be float"),
        ({"decoder": {"kind": "beam", "beta": float("nan")}}, "beta must be float"),
        ({"decoder": {"kind": "beam", "beam_width": 16.0}}, "beam_width must be int"),
        ({"decoder": {"kind": "beam", "beam_width": 10**9}}, "beam_width must be int from 1"),
        ({"decoder": {"kind": "beam", "beam_prune_logp": float("-inf")}}, "beam_prune_logp must be"),
        ({"decoder": {"kind": "beam", "lookahead": 1}}, "lookahead must be true or false"),
        ({"decoder": {"kind": "beam", "blank_skip": 1.5}}, "blank_skip must be"),
        ({"decoder": {"kind": "beam", "lm": "lm.kdlm"}}, "'lm.kdlm' has no SHA-256"),
        ({"decoder": {"kind": "beam", "lm": "../lm.kdlm"}}, "'../lm.kdlm' has no SHA-256"),
        ({"decoder": {"kind": "beam", "lexicon": 3}}, "lexicon must be a file name"),
        ({"decoder": {"kind": "greedy", "lm": "tokens.txt"}}, "has no lm; it needs a beam"),
        ({"decoder": {"kind": "beam", "confidence": {"raw": [0.5]}}}, "raw and calibrated"),
        ({"decoder": {"kind": "beam", "confidence": {"raw": [2], "calibrated": [1]}}}, "from 0 to 1"),
    ],
)
def test_metadata_that_no_runtime_could_follow_is_refused(folder, fields, words):
    change(folder, **fields)
    with pytest.raises(BundleError, match=words):
        Bundle.open(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe{}", b'"text"', b"[" * 10**6, b"9" * 5000])
def test_a_broken_bundle_json_is_refused(folder, content):
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json.*export the bundle again"):
        Bundle.open(folder)


def test_a_damaged_zip_is_refused_or_still_whole(folder, tmp_path, audio):
    """Whatever bit is flipped: one of our errors, or exactly the content that was exported."""
    content = zipped(folder, tmp_path / "b.zip").read_bytes()
    opened = Bundle.open(folder)
    damaged, refused = tmp_path / "damaged.zip", 0
    for position in range(0, len(content), 97):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        damaged.write_bytes(flipped)
        try:
            bundle = Bundle.open(damaged)
            assert bundle.read("model.onnx") == opened.read("model.onnx")
        except BundleError:
            refused += 1
        else:
            assert bundle.vocabulary == opened.vocabulary
    assert refused > 20


def test_names_in_bundle_json_that_climb_are_refused(folder, tmp_path):
    change(folder, files={"../climbed.txt": "0" * 64, "tokens.txt": "0" * 64})
    for path in (folder, zipped(folder, tmp_path / "c.zip")):
        with pytest.raises(BundleError, match="leaves the bundle"):
            Bundle.open(path)


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    path = tmp_path / "b.zip"
    path.write_bytes(b"not a zip")
    with pytest.raises(BundleError, match=r"neither a folder nor a readable \.zip"):
        Bundle.open(path)


def test_a_precision_it_does_not_hold_is_refused_by_name(folder):
    with pytest.raises(BundleError, match="no int8 model; it holds: float32"):
        Recognizer.from_dir(folder, precision="int8")


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("a 0\nb 1\n", "no <blk>"),
        ("<blk> 0\na 2\n", "without a gap"),
        ("<blk> 0\na 0\n", "line 2: id 0 appears a second time"),
        ("<blk> 0\na\n", "line 2: expected 'symbol id'"),
        ("<blk> 0\na 1\na 2\n", "twice"),
    ],
)
def test_broken_token_tables_are_refused(tmp_path, bundle_writer, tokens, words):
    with pytest.raises(BundleError, match=words):
        Bundle.open(bundle_writer(tmp_path / "b", tokens=tokens))


def test_text_joins_symbols_at_word_separators():
    vocabulary = Vocabulary.from_symbols(["▁", "▁th", "ree", "a"])
    assert vocabulary.text([2, 3, 1, 1, 4, 1]) == "three a"
    assert vocabulary.text([4, 2, 4]) == "a tha"
    assert vocabulary.text([]) == ""
