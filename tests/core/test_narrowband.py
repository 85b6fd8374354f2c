"""A teacher hears 16 kHz, its student 8 kHz of the same recording: the same moments in the same frames."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.data.speech import TrainingBatches, evaluation_batches, narrowed, speech_items
from kdcompress.distill import fit
from kdcompress.frontend import LogMel, LogMelConfig
from kdcompress.hearing import hear, masked_views
from kdcompress.run import build_network, load_run
from kdcompress.teachers.opening import open_teacher

WIDE = "frontend={sample_rate: 16000, num_mel_bins: 24}"
TAUGHT = "losses=[{kind: ctc, weight: 0.5}, {kind: frame_kl, weight: 0.5}]"
NARROW_FRONTEND = LogMel(LogMelConfig(sample_rate=8000, num_mel_bins=16))
WIDE_FRONTEND = LogMel(LogMelConfig(sample_rate=16000, num_mel_bins=24))


@pytest.fixture(scope="module")
def teachers(make_recipe, tmp_path_factory):
    """Runs: ``wide`` hears 16 kHz, ``bins`` 8 kHz with other features, ``own`` what the student hears."""
    folder = tmp_path_factory.mktemp("teachers")
    frontends = {"wide": [WIDE], "bins": ["frontend.num_mel_bins=12"], "own": []}
    for name, overrides in frontends.items():
        fit(make_recipe("conventional", *overrides, steps=2), folder / name)
    return {name: folder / name for name in frontends}


@pytest.fixture
def student(make_recipe, teachers):
    """``student("wide", "own", ...)``: recipe of a narrowband student of these teachers."""

    def make(*names, **train):
        several = ["distill.combine={kind: interpolation}"] if len(names) > 1 else []
        paths = ", ".join(str(teachers[name]) for name in names)
        return make_recipe("student", TAUGHT, f"distill.teachers=[{paths}]", *several, **train)

    return make


def load_teachers(recipe):
    return [open_teacher(path) for path in recipe.distill.teachers]


def batches_of(recipe, vocabulary, teachers):
    rates = [teacher.info.sample_rate for teacher in teachers]
    return TrainingBatches(recipe, vocabulary, units_per_frame=320, teacher_rates=rates)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5000), st.sampled_from([(16000, 8000), (48000, 16000), (44100, 8000), (22050, 16000), (8000, 8000)])
)
def test_any_length_gives_as_many_frames_on_both_sides(length, rates):
    high, low = rates
    found = narrowed(np.ones(length, np.float32), high, low)
    assert found.dtype == np.float32
    assert len(found) == -(-length * low // high)
    if high % 25 == low % 25 == 0:  # 40 ms are whole samples
        assert -(-len(found) // (low // 25)) == -(-length // (high // 25))


def powers(samples, frontend) -> np.ndarray:
    padded = np.pad(samples, (0, -len(samples) % (4 * frontend.hop)))
    return frontend(torch.from_numpy(padded)[None])[0].exp().sum(dim=1).numpy()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 15900), st.integers(16000, 17000), st.sampled_from(["click", "tone"]))
def test_what_is_heard_at_a_time_is_in_the_same_frame_on_both_sides(start, length, kind):
    samples = np.zeros(length, np.float32)
    time = np.arange(min(400 if kind == "tone" else 1, length - start))
    samples[start : start + len(time)] = 0.5 * np.sin(2 * np.pi * 900 / 16000 * time + 1)
    wide, narrow = powers(samples, WIDE_FRONTEND), powers(narrowed(samples, 16000, 8000), NARROW_FRONTEND)
    assert wide.shape == narrow.shape
    frames = np.arange(len(wide))
    centres = [10 * float(frames @ side / side.sum()) for side in (wide, narrow)]  # ms
    assert centres[0] == pytest.approx(centres[1], abs=0.5)  # in the last 6 ms the end cuts the filter: up to 3


def test_both_sides_hear_the_same_noise(make_recipe, vocabulary, tmp_path, teachers):
    """With noise far above the speech, what is left of the narrow side after the wide one is nothing."""
    soundfile.write(tmp_path / "hiss.wav", 0.1 * np.random.default_rng(1).standard_normal(9000), 16000)
    line = {"audio_filepath": "hiss.wav", "split": "train", "noise_type": "hiss"}
    (tmp_path / "noise.jsonl").write_text(json.dumps(line) + "\n")
    noise = f"augment.noise={{manifest: {tmp_path / 'noise.jsonl'}, snr_db: [-20, -20], probability: 1}}"
    recipe = make_recipe("student", TAUGHT, f"distill.teachers=[{teachers['wide']}]", noise)
    batch = batches_of(recipe, vocabulary, load_teachers(recipe))[0]
    as_heard = batch.at_rate(16000)
    for row, length in enumerate(as_heard.input_lens.tolist()):
        wide = as_heard.inputs[row, :length].numpy()
        narrow = batch.inputs[row, : int(batch.input_lens[row])].numpy()
        assert np.array_equal(narrowed(wide, 16000, 8000), narrow)
        assert wide.std() > 0.05


def test_both_sides_miss_the_same_moments(student, vocabulary):
    recipe = student("wide", "own")
    wide, _ = load_teachers(recipe)
    network = build_network(recipe, len(vocabulary))
    batch = batches_of(recipe, vocabulary, [wide])[0]

    def hidden(network, batch):
        """Frames in which every bin is masked, in both of two views."""
        made = masked_views(torch.zeros(4, 300, network.frontend.feature_dim) + 99, network, batch, recipe, 2)
        return (made != 99).all(dim=2)

    mine, theirs = hidden(network, batch), hidden(wide.network, batch.at_rate(16000))
    assert torch.equal(mine, theirs)
    assert mine.any(dim=1).sum() >= 6
    assert not torch.equal(mine[:4], mine[4:])


def test_a_teacher_answers_for_the_rate_it_hears(student, vocabulary):
    """Beside a wideband teacher, one with other features of the student's own rate still hears that rate."""
    recipe = student("wide", "bins")
    wide, bins = load_teachers(recipe)
    network = build_network(recipe, len(vocabulary))
    batch = batches_of(recipe, vocabulary, (wide, bins))[0]
    heard = hear(network, recipe, batch)
    frames = int(heard.frame_lens.max())
    for teacher, audio in ((wide, batch.at_rate(16000)), (bins, batch)):
        found = teacher.answer(heard).log_probs
        features = masked_views(teacher.network.features(audio.inputs), teacher.network, audio, recipe, 1)
        wanted = teacher.network(features, heard.frame_lens, heard.labels, heard.label_lens)
        assert found.shape == (4, frames, len(vocabulary))
        torch.testing.assert_close(found, wanted[:, :frames])


def test_a_narrowband_student_of_a_broadband_teacher_trains_and_is_measured_at_its_own_rate(student, tmp_path):
    recipe = student("wide", steps=2)
    summary = fit(recipe, tmp_path / "run")
    assert summary["teachers"][0]["name"] == "tiny-conventional"
    assert summary["dev"]["wer"] > 0
    run = load_run(tmp_path / "run")
    assert run.network.units_per_frame == 320
    items = speech_items(recipe.data.dev, recipe, run.vocabulary, 320)
    for batch in evaluation_batches(items, recipe):
        assert not batch.others
        assert batch.input_lens.tolist() == [item.units for item in sorted(items, key=lambda item: -item.units)]


@pytest.mark.parametrize(
    "overrides",
    [
        ["frontend={sample_rate: 32000, num_mel_bins: 16}"],
        ["frontend={sample_rate: 8000, num_mel_bins: 16, frame_shift_ms: 20}", "model.subsampling_factor=2"],
    ],
    ids=["a higher rate than the teacher's", "features of another shift"],
)
def test_a_student_of_other_features_learns_from_the_same_teacher(make_recipe, teachers, tmp_path, overrides):
    recipe = make_recipe("student", TAUGHT, f"distill.teachers=[{teachers['wide']}]", *overrides, steps=1)
    assert fit(recipe, tmp_path / "run")["steps"] == 1
