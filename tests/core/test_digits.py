"""Digit strings from the embedded corpus: disjoint, repeatable, complete or absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kdcompress.data.digits import SAMPLE_RATE, WORDS, prepare_digits, read_index
from kdcompress.data.noise import active_power, mix_at_snr, read_noises
from kdcompress.data.noisy_sets import NoiseConfig
from kdcompress_runtime.errors import AudioError, ManifestError, OptionsError
from kdcompress_runtime.manifest import read_manifest

FSDD = Path(__file__).parents[2] / "data" / "fsdd"
FEW = {"train": 24, "dev": 12, "test": 12}


def rows(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def takes(manifest: Path) -> set[tuple[str, int]]:
    names = [name.split("_") for row in rows(manifest) for name in row["recordings"]]
    return {(speaker, int(take)) for _, speaker, take in names}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepare_digits(FSDD, tmp_path_factory.mktemp("data") / "digits", strings=FEW)


@pytest.fixture
def noise_manifest(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for split, kind, level in (("train", "hum", 0.1), ("test", "hiss", 0.02)):
        # 16 kHz and shorter than the strings: must be resampled and looped.
        soundfile.write(tmp_path / f"{kind}.wav", level * rng.standard_normal(16000), 16000)
        lines.append(json.dumps({"audio_filepath": f"{kind}.wav", "noise_type": kind, "split": split}))
    path = tmp_path / "noise.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_index_holds_the_whole_corpus():
    index = read_index(FSDD)
    assert len(index) == len({row.name for row in index}) == 3000
    assert {row.take for row in index if row.official_split == "test"} == set(range(5))
    for speaker in {row.speaker for row in index}:
        here = [row for row in index if row.speaker == speaker]
        assert sum(row.length for row in here) == soundfile.info(FSDD / here[0].file).frames


def test_splits_share_no_recording(digits):
    used = {split: {n for row in rows(path) for n in row["recordings"]} for split, path in digits.items()}
    assert not used["train"] & used["dev"]
    assert not used["train"] & used["test"]
    assert not used["dev"] & used["test"]
    assert {take for _, take in takes(digits["test"])} <= set(range(5))
    assert {take for _, take in takes(digits["dev"])} <= set(range(5, 10))
    assert {take for _, take in takes(digits["train"])} <= set(range(10, 50))


def test_manifest_says_what_the_audio_is(digits):
    for split, path in digits.items():
        entries = list(read_manifest(path))
        assert len(entries) == FEW[split]
        for entry, row in zip(entries, rows(path), strict=True):
            info = soundfile.info(entry.input)
            assert (info.samplerate, info.subtype, info.channels) == (SAMPLE_RATE, "PCM_16", 1)
            assert entry.duration == info.frames / SAMPLE_RATE
            words = [WORDS[int(name.split("_")[0])] for name in row["recordings"]]
            assert entry.text == " ".join(words)
            assert 3 <= len(words) <= 7
            assert {name.split("_")[1] for name in row["recordings"]} == {entry.speaker}


def test_every_speaker_has_as_many_strings(digits):
    speakers = [row["speaker"] for row in rows(digits["train"])]
    assert {speakers.count(speaker) for speaker in speakers} == {4}


def test_levels_and_pauses(digits):
    for row in rows(digits["train"])[:12]:
        samples, _ = soundfile.read(digits["train"].parent / row["audio_filepath"], dtype="float64")
        assert np.abs(samples).max() < 1.0
        lead_in = samples[: int(0.1 * SAMPLE_RATE)]
        assert -62 < 10 * np.log10(np.mean(lead_in**2)) < -58
        speech = 10 * np.log10(active_power(samples.astype(np.float32)))
        assert -27 < speech < -17
        # No digital silence anywhere: no 10 ms are constant.
        frames = samples[: len(samples) // 80 * 80].reshape(-1, 80)
        assert (frames.std(axis=1) > 0).all()


def test_same_seed_same_samples_and_a_larger_set_begins_with_the_smaller(digits, tmp_path):
    more = prepare_digits(FSDD, tmp_path / "more", strings={"test": 18})
    assert rows(more["test"])[:12] == rows(digits["test"])
    for row in rows(digits["test"]):
        first, second = (
            soundfile.read(path.parent / row["audio_filepath"], dtype="int16")[0]
            for path in (digits["test"], more["test"])
        )
        assert np.array_equal(first, second)


def test_other_seed_other_strings(digits, tmp_path):
    other = prepare_digits(FSDD, tmp_path / "other", strings={"test": 12}, seed=2)
    assert [r["text"] for r in rows(other["test"])] != [r["text"] for r in rows(digits["test"])]


def test_same_settings_are_reused_and_others_refused(digits):
    folder = digits["train"].parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    calls = []
    again = prepare_digits(FSDD, folder, strings=FEW, on_progress=lambda *step: calls.append(step))
    assert again == digits
    assert not calls
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(OptionsError, match=r"seed is 1 there, 7 asked.*another folder"):
        prepare_digits(FSDD, folder, strings=FEW, seed=7)
    with pytest.raises(OptionsError, match="strings differs"):
        prepare_digits(FSDD, folder, strings={"test": 1})


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OptionsError, match="holds no prepared data"):
        prepare_digits(FSDD, tmp_path, strings={"test": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_interrupt_leaves_nothing(tmp_path):
    def stop(split: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_digits(FSDD, tmp_path / "digits", strings={"test": 6}, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once_do_no_harm(tmp_path):
    """The other one finishes while this one is still writing."""
    settings = {"strings": {"test": 2}}

    def other(split: str, done: int, total: int) -> None:
        if done == total:
            elsewhere = prepare_digits(FSDD, tmp_path / "elsewhere", **settings)["test"].parent
            elsewhere.rename(tmp_path / "digits")

    manifest = prepare_digits(FSDD, tmp_path / "digits", on_progress=other, **settings)["test"]
    assert len(rows(manifest)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_leaving_a_speaker_out(tmp_path):
    made = prepare_digits(FSDD, tmp_path / "loso", strings={**FEW, "test": 40}, test_speaker="theo")
    assert {speaker for speaker, _ in takes(made["test"])} == {"theo"}
    assert max(take for _, take in takes(made["test"])) >= 10
    for split in ("train", "dev"):
        assert "theo" not in {speaker for speaker, _ in takes(made[split])}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strings": {"test": 0}}, "at least 1"),
        ({"strings": {"exam": 3}}, "exam"),
        ({"strings": {}}, "train, dev, test"),
        ({"seed": -1}, "seed"),
        ({"test_speaker": "nobody"}, "george"),
    ],
)
def test_options_without_sense_are_refused(tmp_path, options, message):
    with pytest.raises(OptionsError, match=message):
        prepare_digits(FSDD, tmp_path / "digits", **options)
    assert not list(tmp_path.iterdir())


def test_missing_and_broken_sources(tmp_path):
    with pytest.raises(ManifestError, match="data/fsdd"):
        prepare_digits(tmp_path, tmp_path / "digits")
    index = (FSDD / "index.jsonl").read_text()
    (tmp_path / "index.jsonl").write_text(index + '{"file": "george.flac"}\n')
    with pytest.raises(ManifestError, match="line 3001"):
        prepare_digits(tmp_path, tmp_path / "digits")
    (tmp_path / "index.jsonl").write_text(index)
    with pytest.raises(AudioError):
        prepare_digits(tmp_path, tmp_path / "digits", strings={"test": 1})
    assert not (tmp_path / "digits").exists()


def test_noise_goes_to_dev_and_test_with_its_own_recordings(digits, noise_manifest, tmp_path):
    config = NoiseConfig(noise_manifest, dev_snr_db=(3.0,), test_snr_db=(0.0, 10.0))
    noisy = prepare_digits(FSDD, tmp_path / "noisy", strings=FEW, noise=config)
    assert rows(noisy["train"]) == rows(digits["train"])
    assert {(row["snr_db"], row["noise_type"]) for row in rows(noisy["dev"])} == {(3.0, "hum")}
    test = rows(noisy["test"])
    assert [row["snr_db"] for row in test] == [0.0] * 6 + [10.0] * 6
    assert {row["noise_type"] for row in test} == {"hiss"}
    assert [row["recordings"] for row in test] == [row["recordings"] for row in rows(digits["test"])]
    clean, _ = soundfile.read(digits["test"].parent / test[0]["audio_filepath"], dtype="float32")
    mixed, _ = soundfile.read(noisy["test"].parent / test[0]["audio_filepath"], dtype="float32")
    ratio = 10 * np.log10(active_power(clean) / np.mean((mixed - clean) ** 2))
    assert ratio == pytest.approx(0.0, abs=0.2)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
@pytest.mark.parametrize("noise_length", [300, 4000, 50000])
def test_snr_is_that_of_the_speech_and_not_of_its_pauses(snr_db, noise_length):
    rng = np.random.default_rng(3)
    speech = np.zeros(16000, np.float32)
    speech[4000:8000] = 0.02 * rng.standard_normal(4000)
    noise = (0.3 * rng.standard_normal(noise_length)).astype(np.float32)
    kept = speech.copy(), noise.copy()
    mixed = mix_at_snr(speech, noise, snr_db, np.random.default_rng(4))
    measured = 10 * np.log10(np.mean(speech[4000:8000] ** 2) / np.mean((mixed - speech) ** 2))
    assert measured == pytest.approx(snr_db, abs=0.1)
    assert (mixed.dtype, mixed.shape) == (np.float32, speech.shape)
    assert np.array_equal(speech, kept[0])
    assert np.array_equal(noise, kept[1])


def test_mixing_never_clips():
    rng = np.random.default_rng(5)
    speech = (0.5 * np.sin(np.arange(8000) / 5)).astype(np.float32)
    mixed = mix_at_snr(speech, rng.standard_normal(900).astype(np.float32), -20.0, rng)
    assert 0.9 < np.abs(mixed).max() <= 0.9901


def test_mixing_draws_other_offsets_and_repeats_with_a_seed():
    noise = np.random.default_rng(6).standard_normal(5000).astype(np.float32) * np.float32(0.01)
    speech = np.full(1000, 0.1, np.float32)
    first, again, other = (mix_at_snr(speech, noise, 10, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_mixing_without_a_ratio():
    speech = np.full(1000, 0.1, np.float32)
    rng = np.random.default_rng(1)
    assert np.array_equal(mix_at_snr(speech, np.zeros(10, np.float32), 0, rng), speech)
    assert not mix_at_snr(np.zeros(9, np.float32), speech, 0, rng).any()
    with pytest.raises(OptionsError, match="no samples"):
        mix_at_snr(speech, speech[:0], 0, rng)
    with pytest.raises(OptionsError, match="finite"):
        mix_at_snr(speech, speech, float("nan"), rng)


def test_noise_is_read_at_the_rate_asked(noise_manifest):
    (hum,) = read_noises(noise_manifest, "train", SAMPLE_RATE)
    assert (hum.noise_type, len(hum.samples)) == ("hum", 8000)


def test_bad_noise_manifests(noise_manifest):
    with pytest.raises(ManifestError, match="split 'dev'"):
        read_noises(noise_manifest, "dev", SAMPLE_RATE)
    with pytest.raises(ManifestError, match="not found"):
        read_noises(noise_manifest.with_name("none.jsonl"), "train", SAMPLE_RATE)
    noise_manifest.write_text('{"split": "train"}\n')
    with pytest.raises(ManifestError, match="line 1: needs audio_filepath"):
        read_noises(noise_manifest, "train", SAMPLE_RATE)
