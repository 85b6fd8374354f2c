"""Log-mel features against kaldi-native-fbank, and piece by piece."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kdcompress.frontend import LOG_FLOOR, TAIL_STATE, LogMel, LogMelConfig
from kdcompress.split_dft import best_radix, split_dft

RATES = [(8000, 40), (16000, 80)]


def kaldi(samples: np.ndarray, rate: int, bins: int) -> np.ndarray:
    """Features ``(T, bins)`` as sherpa-onnx computes them."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.frame_opts.window_type = "povey"
    options.mel_opts.num_bins = bins
    options.mel_opts.low_freq = 20.0
    options.mel_opts.high_freq = -400.0
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(rate, samples.tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])


def ours(samples: np.ndarray, rate: int, bins: int, way: str = "whole") -> np.ndarray:
    """Features ``(T, bins)`` as training computes them (whole), or as the exported graph does (step)."""
    frontend = LogMel(LogMelConfig(sample_rate=rate, num_mel_bins=bins))
    whole = torch.from_numpy(samples[: len(samples) // frontend.hop * frontend.hop])[None]
    if way == "step":
        return frontend.step(whole, {TAIL_STATE: torch.zeros(1, frontend.tail)})[0][0].numpy()
    return frontend(whole)[0].numpy()


def sound(rate: int, seconds: float = 1.0) -> np.ndarray:
    """A chirp, a loud burst, faint noise."""
    rng = np.random.default_rng(1)
    time = np.arange(int(rate * seconds)) / rate
    chirp = 0.3 * np.sin(2 * np.pi * (200 + 0.2 * rate * time) * time)
    chirp[len(time) // 2 : len(time) // 2 + rate // 20] += 0.5
    return (chirp + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.mark.parametrize("way", ["whole", "step"])
@pytest.mark.parametrize(("rate", "bins"), RATES)
def test_equals_kaldi_one_frame_later(rate, bins, way):
    """Kaldi centres window t on (t + 1/2) hops, so it is complete only in the next hop."""
    assert LogMel(LogMelConfig(sample_rate=rate, num_mel_bins=bins)).late_features == 1
    samples = sound(rate)
    found, expected = ours(samples, rate, bins, way), kaldi(samples, rate, bins)
    inner = slice(2, len(found) - 2)  # Kaldi mirrors the signal at both ends
    np.testing.assert_allclose(found[1:][inner], expected[:-1][inner], atol=2e-3)


@pytest.mark.parametrize("window_ms", [10.0, 20.0, 25.0, 32.0, 50.0])
def test_windows_of_other_lengths_are_kaldis_too(window_ms):
    frontend = LogMel(LogMelConfig(sample_rate=16000, num_mel_bins=16, window_ms=window_ms))
    for frame in (3, 4):
        start = frame * frontend.hop - frontend.past
        kaldis = (frame - frontend.late_features) * frontend.hop + frontend.hop // 2 - frontend.window // 2
        assert start == kaldis
        assert frame * frontend.hop < start + frontend.window <= (frame + 1) * frontend.hop


def test_the_comparison_with_kaldi_would_notice_a_shift_of_one_frame():
    samples = sound(8000)
    found = ours(samples, 8000, 40)
    assert np.abs(found[2:90] - kaldi(samples, 8000, 40)[2:90]).max() > 0.5


@pytest.mark.parametrize("way", ["whole", "step"])
@pytest.mark.parametrize(("rate", "bins"), RATES)
def test_frame_covers_its_hop_and_the_window_before_it(rate, bins, way):
    """Frame t is a function of samples [hop t - past, hop t - past + window), of all of them, and of no other."""
    frontend = LogMel(LogMelConfig(sample_rate=rate, num_mel_bins=bins))
    hop, window = frontend.hop, frontend.window
    assert (hop, window) == (rate // 100, rate // 40)
    samples, frame = sound(rate, 0.2), 7
    plain = ours(samples, rate, bins, way)[frame]
    first, last = hop * frame - frontend.past, hop * frame - frontend.past + window
    for position, inside in ((first - 1, False), (first + 3, True), (last - 3, True), (last, False)):
        moved = samples.copy()
        moved[position] += 0.9
        assert (np.abs(ours(moved, rate, bins, way)[frame] - plain).max() > 1e-3) == inside, position


@pytest.mark.parametrize(
    ("rate", "shift", "window_ms"),
    [
        (8000, 10, 25),
        (16000, 10, 25),
        (16000, 5, 50),
        (16000, 20, 10),
        (11025, 10, 25),
        (22050, 10, 20),
        (44100, 10, 25),
    ],
)
def test_the_exported_way_equals_the_fft(rate, shift, window_ms):
    """Hops with few factors of two, windows longer and shorter than a hop; on a loud offset, which Kaldi removes."""
    frontend = LogMel(LogMelConfig(sample_rate=rate, num_mel_bins=20, frame_shift_ms=shift, window_ms=window_ms))
    samples = 0.5 + 0.1 * torch.randn(2, 12 * frontend.hop, generator=torch.Generator().manual_seed(3))
    found, _ = frontend.step(samples, {TAIL_STATE: torch.zeros(2, frontend.tail)})
    torch.testing.assert_close(found, frontend(samples), atol=2e-3, rtol=0)


def test_an_offset_is_silence_to_the_exported_way():
    frontend = LogMel(LogMelConfig(sample_rate=16000, num_mel_bins=80))
    found, _ = frontend.step(torch.full((1, 1600), 0.4), {TAIL_STATE: torch.full((1, frontend.tail), 0.4)})
    torch.testing.assert_close(found, torch.full((1, 10, 80), float(np.log(LOG_FLOOR))))


@pytest.mark.parametrize(
    ("hop", "hops", "fft_size", "radix"), [(160, 3, 512, 8), (80, 3, 256, 8), (220, 3, 1024, 4), (441, 3, 2048, 1)]
)
def test_split_dft_is_the_dft_of_windowed_frames_without_their_offset(hop, hops, fft_size, radix):
    rng = np.random.default_rng(4)
    window = np.zeros(hop * hops)
    inside = slice(hop // 3, hop // 3 + min(fft_size, 2 * hop))
    window[inside] = rng.uniform(0.1, 1, window[inside].shape)
    split = split_dft(window, fft_size, hop)
    assert split.radix == best_radix(hop * hops, fft_size, hop) == radix
    frame, offset = rng.standard_normal(hop * hops), 0.7
    rows = np.concatenate([frame.reshape(hops, hop).T, np.full((1, hops), offset * split.offset_scale)])
    grouped = rows[split.rows].reshape(radix, -1)
    inner = np.einsum("gok,gk->go", split.first.reshape(radix, -1, grouped.shape[1]), grouped)
    found = (split.second @ inner.reshape(2 * radix, -1)).reshape(2, -1)
    whole = np.exp(-2j * np.pi * np.outer(np.arange(fft_size // 2), np.arange(hop * hops)) / fft_size)
    power = np.abs(whole @ ((frame - offset) * window)) ** 2
    used = split.bins >= 0
    assert sorted(split.bins[used]) == list(range(fft_size // 2))
    np.testing.assert_allclose((found**2).sum(axis=0)[used], power[split.bins[used]], atol=1e-9)


def test_silence_is_the_floor():
    frontend = LogMel(LogMelConfig(sample_rate=8000, num_mel_bins=40))
    features = frontend(torch.zeros(2, 800))
    assert features.shape == (2, 10, 40)
    torch.testing.assert_close(features, torch.full((2, 10, 40), float(np.log(LOG_FLOOR))))
    assert kaldi(np.zeros(800, np.float32), 8000, 40)[4] == pytest.approx(np.log(LOG_FLOOR))


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 9), min_size=1, max_size=12), seed=st.integers(0, 9))
def test_any_split_gives_the_same_features(cuts, seed):
    frontend = LogMel(LogMelConfig(sample_rate=8000, num_mel_bins=16))
    samples = 0.3 * torch.randn(2, sum(cuts) * frontend.hop, generator=torch.Generator().manual_seed(seed))
    states = {TAIL_STATE: torch.zeros(2, frontend.tail)}
    pieces = []
    for piece in samples.split([cut * frontend.hop for cut in cuts], dim=1):
        features, states = frontend.step(piece, states)
        assert features.shape == (2, piece.shape[1] // frontend.hop, 16)
        pieces.append(features)
    torch.testing.assert_close(torch.cat(pieces, dim=1), frontend(samples), atol=1e-4, rtol=1e-4)


def test_state_is_described_and_not_changed():
    frontend = LogMel(LogMelConfig(sample_rate=16000, num_mel_bins=80))
    (spec,) = frontend.state_specs()
    assert (spec.name, spec.shape, spec.dtype) == (TAIL_STATE, ("N", 321), "float32")  # two hops and a sample
    state = torch.full((1, 321), 0.25)
    _, following = frontend.step(torch.ones(1, 160), {TAIL_STATE: state})
    assert following[TAIL_STATE].shape == state.shape
    assert torch.equal(state, torch.full((1, 321), 0.25))
    assert torch.equal(following[TAIL_STATE], torch.cat([torch.full((1, 161), 0.25), torch.ones(1, 160)], dim=1))


def test_input_of_the_graph_is_described():
    spec = LogMel(LogMelConfig(sample_rate=8000)).input_spec(4)
    assert (spec.kind, spec.name, spec.units_per_frame, spec.sample_rate) == ("pcm", "pcm", 320, 8000)


def test_features_stay_float32_under_autocast():
    frontend = LogMel(LogMelConfig(sample_rate=8000, num_mel_bins=16))
    samples = 0.1 * torch.randn(1, 800, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = frontend(samples)
    assert features.dtype == torch.float32
    assert torch.equal(features, frontend(samples))


@pytest.mark.parametrize(("low", "high"), [(20.0, 4001.0), (3700.0, -400.0)])
def test_empty_or_impossible_filters_are_refused(low, high):
    with pytest.raises(ValidationError, match="empty or above half the rate"):
        LogMelConfig(sample_rate=8000, low_freq=low, high_freq=high)
