"""Audio files and resampling."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_runtime import AudioError, AudioFileNotFoundError, MissingDependencyError, OptionsError, read_audio
from kdcompress_runtime.resample import Resampler, resample


@pytest.fixture
def tone():
    return (0.4 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_formats_are_read_as_float32_mono(tmp_path, tone, name):
    soundfile.write(tmp_path / name, tone, 16_000)
    samples, rate = read_audio(tmp_path / name)
    assert (samples.dtype, samples.shape, rate) == (np.float32, (16_000,), 16_000)
    assert np.abs(samples - tone).max() < (1e-4 if name in {"a.wav", "a.flac"} else 0.2)


def test_channels_are_averaged(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", np.stack([tone, -tone, tone], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav")[0], tone / 3, atol=1e-6)


def test_a_rate_can_be_asked_for(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", tone, 16_000, subtype="FLOAT")
    samples, rate = read_audio(tmp_path / "a.wav", 8000)
    assert (samples.shape, rate) == ((8000,), 8000)
    np.testing.assert_allclose(samples[500:-500], tone[1000:-1000:2], atol=1e-3)
    with pytest.raises(OptionsError, match="sample_rate"):
        read_audio(tmp_path / "a.wav", -1)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_truncated_file_is_refused_by_name(tmp_path, tone, suffix, share):
    whole = tmp_path / f"whole{suffix}"
    soundfile.write(whole, tone, 16_000)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(AudioError, match=f"cut{suffix}"):
        read_audio(cut)


def test_a_wav_written_to_a_pipe_is_read(tmp_path, tone):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone, 16_000)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    assert len(read_audio(path)[0]) == 16_000


def test_files_that_are_no_audio_are_refused(tmp_path, tone):
    (tmp_path / "text.wav").write_text("hello, I am not audio" * 50)
    with pytest.raises(AudioError, match=r"text\.wav: cannot be read as audio"):
        read_audio(tmp_path / "text.wav")
    soundfile.write(tmp_path / "empty.wav", tone[:0], 16_000)
    with pytest.raises(AudioError, match=r"empty\.wav: no samples"):
        read_audio(tmp_path / "empty.wav")
    tone[7] = np.nan
    soundfile.write(tmp_path / "nan.wav", tone, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan\.wav: holds NaN"):
        read_audio(tmp_path / "nan.wav")


def test_a_missing_file_and_a_folder_are_not_found(tmp_path):
    for path in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(AudioFileNotFoundError, match="audio file not found"):
            read_audio(path)
    assert issubclass(AudioFileNotFoundError, (AudioError, FileNotFoundError))


@settings(max_examples=30, deadline=None)
@given(
    rates=st.sampled_from([(44_100, 16_000), (8000, 16_000), (16_000, 8000), (11_025, 8000)]),
    cuts=st.lists(st.integers(0, 5000), max_size=10),
)
def test_resampling_in_pieces_equals_resampling_whole(rates, cuts):
    samples = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    resampler = Resampler(*rates)
    parts = [resampler.process(part) for part in np.split(samples, np.minimum(np.cumsum(cuts, dtype=int), 20_000))]
    parts.append(resampler.process(samples[:0], last=True))
    np.testing.assert_array_equal(np.concatenate(parts), resample(samples, *rates))


def test_equal_rates_pass_through_without_soxr(monkeypatch, tone):
    monkeypatch.setitem(sys.modules, "soxr", None)
    np.testing.assert_array_equal(resample(tone, 8000, 8000), tone)
    with pytest.raises(MissingDependencyError, match=r"kdcompress\[audio\]"):
        resample(tone, 16_000, 8000)


def test_without_soundfile_the_message_names_the_extra(monkeypatch, tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingDependencyError, match=r"kdcompress\[audio\]"):
        read_audio(tmp_path / "a.wav")
