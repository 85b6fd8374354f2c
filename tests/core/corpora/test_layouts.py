"""Every corpus as its publishers lay it out becomes manifests that name all it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from kdcompress.cli import main
from kdcompress.data.corpora.adapters import CORPORA
from kdcompress.data.corpora.base import ManifestRow
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.errors import ManifestError
from kdcompress_runtime.manifest import read_manifest
from tests.core.corpora import trees

SPLITS = {
    "librispeech": {"train-clean-100": 2, "dev-clean": 2},
    "an4": {"train": 2, "test": 2},
    "speechocean762": {"train": 2, "test": 2},
    "common_voice": {"train": 2, "dev": 2, "test": 2},
    "nemo": {"train": 3, "dev": 1},
    "lhotse": {"train": 3},
}


@pytest.mark.parametrize("kind", [*SPLITS, "kaldi", "kaldi_segments", "folder"])
def test_every_item_can_be_read_back_and_its_length_is_true(tree, prepare, kind):
    made = prepare(kind.split("_segments")[0].replace("_", "-"), tree(kind))
    if kind in SPLITS:
        assert {split: row["items"] for split, row in made.report["splits"].items()} == SPLITS[kind]
    entries = [entry for path in made.manifests.values() for entry in read_manifest(path)]
    assert entries
    for entry in entries:
        samples, rate = read_audio(entry.input)
        assert entry.duration == pytest.approx(len(samples) / rate, abs=1e-9)
        assert entry.extra["sample_rate"] == rate
        assert entry.text
    assert made.report["unusable"]["count"] == 0


def test_librispeech_says_chapter_and_gender(tree, prepare, rows, tmp_path):
    source = tree("librispeech")
    made = prepare("librispeech", source)
    (row, _) = rows(made, "dev-clean")
    assert row["audio_filepath"] == str(source / "dev-clean/7/208/7-208-0000.flac")
    assert {name: row[name] for name in ("id", "speaker", "gender", "chapter", "text")} == {
        "id": "7-208-0000",
        "speaker": "7",
        "gender": "m",
        "chapter": "208",
        "text": "A CAT SAT ON 00",
    }
    assert list(made.manifests) == ["train-clean-100", "dev-clean"]
    assert (tmp_path / "out" / "LICENSE.TXT").read_text() == "yours\n"
    one = prepare("librispeech", source / "dev-clean", tmp_path / "one")
    assert rows(one, "dev-clean") == rows(made, "dev-clean")


@pytest.mark.parametrize("suffix", [".sph", ".wav"])
def test_an4_texts_without_marks(tmp_path, prepare, rows, suffix):
    made = prepare("an4", trees.an4(tmp_path / "an4", suffix))
    assert [row["text"] for split in ("train", "test") for row in rows(made, split)] == ["GO FORTY"] * 4
    assert [(row["speaker"], row["gender"]) for row in rows(made, "test")] == [("mblw", "m")] * 2


@pytest.mark.parametrize("kind", ["<i2", ">i2"])
def test_an4_samples_without_header_in_either_byte_order(tmp_path, prepare, rows, kind):
    source = trees.an4(tmp_path / "an4", ".wav")
    wave = (8000 * np.sin(np.arange(8000) / 9)).astype(np.int16)
    for path in source.glob("wav/*/*/*.wav"):
        path.with_suffix(".raw").write_bytes(wave.astype(kind).tobytes())
        path.unlink()
    made = prepare("an4", source)
    row = rows(made, "train")[0]
    assert not row["audio_filepath"].startswith("/")
    found, rate = soundfile.read(made.manifests["train"].parent / row["audio_filepath"], dtype="int16")
    assert rate == 16000
    np.testing.assert_array_equal(found, wave)


@pytest.mark.parametrize("sign", ["feat/an4_clstk/a.mfc", "train.npz"])
def test_an4_as_cepstra_is_no_audio(tmp_path, prepare, sign):
    path = tmp_path / "an4" / sign
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    with pytest.raises(ManifestError, match=r"cepstra, which is no audio.*an4_sphere"):
        prepare("an4", tmp_path / "an4")


def test_speechocean762_says_age_and_scores(tree, prepare, rows):
    source = tree("speechocean762")
    first, second = rows(prepare("speechocean762", source), "train")
    assert (first["age"], first["gender"], first["accuracy"], first["total"]) == ("6", "m", 8, 7)
    assert first["audio_filepath"] == str(source / "WAVE/SPEAKER0001/000100010.WAV")
    assert "total" not in second


def test_speechocean762_as_manifests(tmp_path, prepare, rows):
    for split in ("train", "test"):
        row = {"audio_filepath": "a.wav", "text": "we", "speaker": split, "utt_id": split, "age": 6}
        trees.manifest(tmp_path / "so" / f"{split}.jsonl", row)
    trees.sound(tmp_path / "so" / "a.wav")
    made = prepare("speechocean762", tmp_path / "so")
    assert [(row["id"], row["age"], row["duration"]) for row in rows(made, "test")] == [("test", 6, 0.5)]


def test_common_voice_keeps_quotes_and_drops_what_is_not_said(tree, prepare, rows, tmp_path):
    source = tree("common_voice")
    row = rows(prepare("common-voice", source), "train")[0]
    assert row["text"] == '"Hello," she said.'
    assert (row["accent"], row["language"], row["age"]) == ("Scottish", "en", "twenties")
    assert "gender" not in row
    validated = prepare("common-voice", source, tmp_path / "v", splits=("validated", "dev", "test"))
    assert [row["id"] for row in rows(validated, "validated")] == [
        "common_voice_en_train0",
        "common_voice_en_train1",
        "extra",
    ]


def test_kaldi_names_no_speaker_where_it_repeats_the_utterance(tmp_path, prepare, rows):
    source = trees.kaldi(tmp_path / "data", speakers=1)
    trees.write(source / "utt2spk", "s0-u0 s0-u0", "s0-u1 s0-u1")
    trees.write(source / "utt2lang", "s0-u0 en", "s0-u1 de")
    made = prepare("kaldi", source, dev_share=0.0, test_share=0.0)
    assert [(row.get("speaker"), row["language"]) for row in rows(made, "train")] == [(None, "en"), (None, "de")]
    assert made.report["splits"]["train"]["items_without_speaker"] == 2


def test_kaldi_folder_of_directories_is_splits(tmp_path, prepare, rows):
    for split in ("train_10h", "dev"):
        trees.kaldi(tmp_path / "data" / split, speakers=1)
        for table in ("wav.scp", "text", "utt2spk"):
            path = tmp_path / "data" / split / table
            path.write_text(path.read_text().replace("s0", split))
            for wave in (tmp_path / "data" / split / "audio").glob("s0*"):
                wave.rename(wave.with_name(wave.name.replace("s0", split)))
    made = prepare("kaldi", tmp_path / "data", splits=("dev",))
    assert [row["id"] for row in rows(made, "dev")] == ["dev-u0", "dev-u1"]
    assert list(made.manifests) == ["dev"]


def test_nemo_keeps_other_fields_and_pieces_have_names(tree, prepare, rows):
    piece, start, whole = rows(prepare("nemo", tree("nemo")), "train")
    assert (piece["id"], piece["duration"]) == ("long.wav#0.5+0.75", 0.75)
    assert (start["id"], start["duration"]) == ("start", 0.5)
    assert whole["lang"] == "en"
    assert "offset" not in piece


def test_folder_with_a_table(tmp_path, prepare, rows):
    source = tmp_path / "mine"
    trees.sound(source / "clips" / "a.wav")
    trees.write(source / "transcripts.csv", "file,text,speaker,mood", 'clips/a.wav,"one, two",anna,glad')
    (row,) = rows(prepare("folder", source, dev_share=0, test_share=0), "train")
    assert (row["id"], row["text"], row["speaker"], row["mood"]) == ("clips/a", "one, two", "anna", "glad")


def test_folder_speakers_come_from_folders_if_asked(tree, prepare, rows, tmp_path):
    source = tree("folder")
    named = prepare("folder", source, speaker_folders=True, dev_share=0.4, test_share=0)
    assert (
        named.report["splits"]["train"]["speakers"] + named.report["splits"].get("dev", {"speakers": 0})["speakers"]
        == 2
    )
    nameless = prepare("folder", source, tmp_path / "other", dev_share=0, test_share=0)
    assert nameless.report["splits"]["train"]["items_without_speaker"] == 6
    assert any("name no speaker" in warning for warning in nameless.report["warnings"])


def test_without_texts_needs_none(tree, prepare, rows):
    source = tree("folder")
    for path in source.glob("*/*.txt"):
        path.unlink()
    made = prepare("folder", source, without_texts=True, dev_share=0, test_share=0)
    assert {row["text"] for row in rows(made, "train")} == {""}
    assert not any("empty text" in warning for warning in made.report["warnings"])


def test_another_kind_of_corpus_needs_only_an_adapter(prepare, rows, tmp_path):
    """Images and sentence pairs go through the same writer, splits and report."""
    (tmp_path / "a.png").write_bytes(b"an image")

    def read(source):
        yield "train", ManifestRow("p1", str(tmp_path / "a.png"), "TOTAL 5", "here", input_field="image_filepath")
        yield "train", ManifestRow("p2", "a cat", "en katt", "there", input_field="source", text_field="target")

    made = prepare(read, tmp_path)
    assert rows(made, "train") == [
        {"image_filepath": str(tmp_path / "a.png"), "text": "TOTAL 5", "id": "p1"},
        {"source": "a cat", "target": "en katt", "id": "p2"},
    ]
    assert [entry.kind for entry in read_manifest(made.manifests["train"])] == ["image", "text"]
    assert made.report["splits"]["train"]["items_without_duration"] == 2
    assert made.report["outliers"]["median_characters_a_second"] is None


@pytest.mark.parametrize("kind", CORPORA)
def test_the_command_prints_a_table_and_the_manifests(tree, tmp_path, capsys, kind):
    source = tree(kind.replace("-", "_"))
    assert main(["prepare", kind, str(source), "-o", str(tmp_path / "out"), "--text", "lower"]) == 0
    told = capsys.readouterr().out
    paths = [line for line in told.splitlines() if line.startswith(str(tmp_path / "out"))]
    assert paths[-1].endswith("report.json")
    assert all(list(read_manifest(path)) for path in paths[:-1])
    assert "hours" in told
    assert "alphabet:" in told
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["kind"] == kind
