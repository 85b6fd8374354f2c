"""A corpus of sentences becomes manifests: texts alike, phones through the lexicon, speakers apart, all or nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from kdcompress.cli import main
from kdcompress.data.lexicon import normalised, read_lexicon
from kdcompress.data.noise import active_power
from kdcompress.data.noisy_sets import NoiseConfig
from kdcompress.data.sentences import prepare_sentences
from kdcompress.errors import VocabularyError
from kdcompress_runtime.errors import AudioError, AudioFileNotFoundError, KdcompressError, ManifestError, OptionsError
from kdcompress_runtime.manifest import read_manifest

LEXICON = "A\tAH0\nA\tEY0\nCAT\tK AE1 T\nDON'T\tD OW1 N T\nRUNS  R AH1 N Z\nRUNS(2)  R UH N Z\n;;; a remark\n"
TEXTS = {"train": ("a cat", "The cat, runs", "don't"), "dev": ("cat", "A cat runs!"), "test": ("a", "runs", "cat")}


def rows(manifest) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def audio(manifest) -> list[np.ndarray]:
    return [soundfile.read(manifest.parent / row["audio_filepath"], dtype="float32")[0] for row in rows(manifest)]


@pytest.fixture
def corpus(tmp_path):
    """``corpus(dev=[{...}])``: a folder with three splits of half-second noises; keywords replace a split's lines."""
    rng = np.random.default_rng(1)

    def make(**lines):
        folder = tmp_path / "corpus"
        folder.mkdir(exist_ok=True)
        (folder / "lexicon.txt").write_text(LEXICON)
        (folder / "LICENSE.txt").write_text("yours")
        for split, texts in TEXTS.items():
            items = []
            for number, text in enumerate(texts):
                name = f"{split}{number}.wav"
                soundfile.write(folder / name, 0.1 * rng.standard_normal(8000 + 100 * number), 16000)
                items.append({"audio_filepath": name, "text": text, "speaker": split, "age": 9, "utt_id": name[:-4]})
            content = [item if isinstance(item, str) else json.dumps(item) for item in lines.get(split, items)]
            (folder / f"{split}.jsonl").write_text("\n".join(content) + "\n")
        return folder

    return make


@pytest.fixture
def noise(tmp_path):
    for split in ("train", "test"):
        hiss = np.random.default_rng(2).standard_normal(4000) * 0.01
        soundfile.write(tmp_path / f"{split}.wav", hiss, 16000)
    lines = [{"audio_filepath": f"{split}.wav", "noise_type": split, "split": split} for split in ("train", "test")]
    path = tmp_path / "noise.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return NoiseConfig(path, dev_snr_db=(5.0,), test_snr_db=(0.0, 10.0))


def test_manifests_hold_texts_and_audio_and_what_the_corpus_said(corpus, tmp_path):
    source = corpus()
    made = prepare_sentences(source, tmp_path / "out")
    assert list(made) == ["train", "dev", "test"]
    assert [row["text"] for row in rows(made["train"])] == ["a cat", "the cat runs", "don't"]
    assert [(e.id, e.speaker, e.extra) for e in read_manifest(made["dev"])] == [
        (f"dev{number}", "dev", {"age": 9}) for number in range(2)
    ]
    for number, entry in enumerate(read_manifest(made["train"])):
        info = soundfile.info(entry.input)
        assert (info.format, info.subtype, info.samplerate) == ("FLAC", "PCM_16", 16000)
        assert entry.duration == info.frames / 16000 == (8000 + 100 * number) / 16000
        wanted, _ = soundfile.read(source / f"train{number}.wav", dtype="float32")
        assert np.abs(soundfile.read(entry.input, dtype="float32")[0] - wanted).max() < 1e-4
    assert (tmp_path / "out" / "LICENSE.txt").read_text() == "yours"


def test_phones_come_from_the_first_pronunciation_without_stress(corpus, tmp_path):
    source = corpus(train=[{"audio_filepath": "train0.wav", "text": "A cat don't runs", "speaker": "x"}])
    (row,) = rows(prepare_sentences(source, tmp_path / "out", units="phones")["train"])
    assert row["text"] == "AH K AE T D OW N T R AH N Z"
    assert row["words"] == "a cat don't runs"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  Hello,  WORLD. ", "hello world"),
        ("well-known—he said: “don’t!”", "well known he said don't"),
        ("dogs' ' tails", "dogs' tails"),
        ("a/b (c)", "a b c"),
    ],
)
def test_texts_are_made_alike(text, words):
    assert normalised(text) == words


@pytest.mark.parametrize(
    ("text", "word"), [("route 66", "'6'"), ("you & me", "'&'"), ("café", "'é'"), (" ?", "no word")]
)
def test_what_is_said_is_never_dropped(text, word):
    with pytest.raises(VocabularyError, match=word):
        normalised(text)


def test_a_word_outside_the_lexicon_is_named_or_left_out_and_counted(corpus, tmp_path, caplog):
    source = corpus()
    with pytest.raises(VocabularyError, match=r"train\.jsonl, item train1: no pronunciation of 'the'.*skip"):
        prepare_sentences(source, tmp_path / "out", units="phones")
    assert not (tmp_path / "out").exists()
    made = prepare_sentences(source, tmp_path / "out", units="phones", on_unusable="skip")
    assert [row["id"] for row in rows(made["train"])] == ["train0", "train2"]
    assert "left out 1 of 3" in caplog.text
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["left_out"] == {"train": 1, "dev": 0, "test": 0}


def test_noise_goes_to_dev_and_test_and_does_not_depend_on_units(corpus, noise, tmp_path):
    source = corpus()
    clean = prepare_sentences(source, tmp_path / "clean")
    noisy = prepare_sentences(source, tmp_path / "noisy", noise=noise)
    phones = prepare_sentences(source, tmp_path / "phones", noise=noise, units="phones", on_unusable="skip")
    assert rows(noisy["train"]) == rows(clean["train"])
    assert [(row["snr_db"], row["noise_type"]) for row in rows(noisy["test"])] == [
        (0.0, "test"), (10.0, "test"), (0.0, "test")
    ]  # fmt: skip
    assert {(row["snr_db"], row["noise_type"]) for row in rows(noisy["dev"])} == {(5.0, "train")}
    for plain, mixed, row in zip(audio(clean["test"]), audio(noisy["test"]), rows(noisy["test"]), strict=True):
        ratio = 10 * np.log10(active_power(plain, 320) / np.mean((mixed - plain) ** 2))
        assert ratio == pytest.approx(row["snr_db"], abs=0.1)
    assert all(np.array_equal(one, two) for one, two in zip(audio(noisy["dev"]), audio(phones["dev"]), strict=True))


def test_another_rate_is_written_but_none_is_invented(corpus, tmp_path):
    source = corpus()
    made = prepare_sentences(source, tmp_path / "narrow", sample_rate=8000)
    assert [row["duration"] for row in rows(made["train"])] == [0.5, 0.50625, 0.5125]
    assert soundfile.info(made["train"].parent / rows(made["train"])[0]["audio_filepath"]).samplerate == 8000
    with pytest.raises(AudioError, match=r"train0\.wav: has 16000 Hz, less than the 22050"):
        prepare_sentences(source, tmp_path / "wide", sample_rate=22050)


def test_the_same_settings_are_reused_and_others_refused(corpus, tmp_path):
    source = corpus()
    made = prepare_sentences(source, tmp_path / "out")
    steps = []
    assert prepare_sentences(source, tmp_path / "out", on_progress=lambda *step: steps.append(step)) == made
    assert not steps
    with pytest.raises(OptionsError, match="sample_rate is 16000 there, 8000 asked"):
        prepare_sentences(source, tmp_path / "out", sample_rate=8000)
    soundfile.write(source / "train0.wav", np.zeros(9000), 16000)
    with pytest.raises(OptionsError, match="audio_bytes"):
        prepare_sentences(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("lines", "error", "words"),
    [
        (
            {"dev": [{"audio_filepath": "dev0.wav", "text": "a", "speaker": "train"}]},
            ManifestError,
            r"'train', are in train\.jsonl and in dev\.jsonl",
        ),
        (
            {"dev": [{"audio_filepath": "dev0.wav", "text": "a"}]},
            ManifestError,
            r"dev\.jsonl, item dev0\.wav: no speaker",
        ),
        ({"test": ['{"text": "a"', "{}"]}, ManifestError, r"test\.jsonl, line 1: not valid JSON"),
        (
            {"test": [{"audio_filepath": "gone.wav", "text": "a", "speaker": "x"}]},
            AudioFileNotFoundError,
            r"gone\.wav.*check the manifest",
        ),
        ({"test": [{"audio_filepath": "lexicon.txt", "text": "a", "speaker": "x"}]}, AudioError, r"lexicon\.txt"),
        (
            {"dev": [{"audio_filepath": "dev0.wav", "text": "5", "speaker": "x"}]},
            VocabularyError,
            r"item dev0\.wav: '5'",
        ),
        ({"dev": [""]}, ManifestError, r"empty.*dev\.jsonl"),
    ],
)
def test_a_broken_corpus_is_one_sentence_and_leaves_nothing(corpus, tmp_path, lines, *, error, words):
    with pytest.raises(error, match=words) as problem:
        prepare_sentences(corpus(**lines), tmp_path / "out")
    assert isinstance(problem.value, KdcompressError)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_missing_folders_manifests_and_lexicons(corpus, tmp_path):
    with pytest.raises(ManifestError, match="no such folder"):
        prepare_sentences(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"needs train\.jsonl"):
        prepare_sentences(tmp_path / "empty", tmp_path / "out")
    source = corpus()
    (source / "lexicon.txt").write_text("CAT K AE1 T\nDOG\n")
    with pytest.raises(ManifestError, match="line 2: 'DOG' has no phones"):
        prepare_sentences(source, tmp_path / "out", units="phones")
    (source / "lexicon.txt").unlink()
    with pytest.raises(ManifestError, match="lexicon not found"):
        prepare_sentences(source, tmp_path / "out", units="phones")
    with pytest.raises(OptionsError, match="letters"):
        prepare_sentences(source, tmp_path / "out", units="letters")
    (source / "dev.jsonl").unlink()
    assert list(prepare_sentences(source, tmp_path / "out")) == ["train", "test"]


def test_every_word_skipped_is_an_error(corpus, tmp_path):
    source = corpus(dev=[{"audio_filepath": "dev0.wav", "text": "zebra", "speaker": "x"}])
    with pytest.raises(ManifestError, match=r"dev\.jsonl: the text of no item"):
        prepare_sentences(source, tmp_path / "out", units="phones", on_unusable="skip")


def test_a_lexicon_reads_as_the_cmu_dictionary_is_written(tmp_path):
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    lexicon = read_lexicon(tmp_path / "lexicon.txt")
    assert lexicon.pronunciations == {"a": "AH", "cat": "K AE T", "don't": "D OW N T", "runs": "R AH N Z"}


def test_an_interrupt_leaves_nothing(corpus, tmp_path):
    def stop(split: str, done: int, total: int) -> None:
        if (split, done, total) == ("dev", 1, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_sentences(corpus(), tmp_path / "out", on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_the_command_prepares_and_explains(corpus, noise, tmp_path, capsys):
    words = ["prepare", "sentences", "--source", str(corpus()), "-o", str(tmp_path / "out"), "--units", "phones"]
    assert main(words) == 1
    assert "'the'" in capsys.readouterr().err
    assert main([*words, "--on-unusable", "skip", "--noise", str(noise.manifest), "--sample-rate", "8000"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / f"{split}.jsonl") for split in TEXTS]
    assert [row["snr_db"] for row in rows(tmp_path / "out" / "test.jsonl")] == [5.0, 10.0, 15.0]
