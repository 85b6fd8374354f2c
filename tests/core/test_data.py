"""Batches are a function of seed and step; augmentation keeps its bounds; bad data is named."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch

from kdcompress.data.augment import augment_waveform, mask_features
from kdcompress.data.batch import collate
from kdcompress.data.noise import Noise
from kdcompress.data.plan import BUCKET_BATCHES
from kdcompress.data.speech import TrainingBatches, evaluation_batches, speech_items
from kdcompress.data.text import character_vocabulary, encode, frames_needed
from kdcompress.errors import TargetTooLongError, VocabularyError
from kdcompress.recipe import AugmentConfig, SpecAugment
from kdcompress_runtime.errors import AudioError, AudioFileNotFoundError, InputError, KdcompressError, ManifestError

UNITS = 320


@pytest.fixture
def batches(make_recipe, vocabulary):
    """``batches("augment.speed=[1]", rank=1, world=2)``: training batches of the student's recipe."""

    def make(*overrides, rank=0, world=1, streams=1, teachers=(), units=UNITS, **train):
        recipe = make_recipe("student", *overrides, **train)
        shares = {"rank": rank, "world": world, "streams": streams, "teacher_rates": teachers}
        return TrainingBatches(recipe, vocabulary, units_per_frame=units, **shares)

    return make


@pytest.fixture
def manifest(tmp_path):
    """``manifest({"text": ...}, ...)``: path of a manifest of such lines, over one second of audio."""
    soundfile.write(tmp_path / "second.wav", 0.1 * np.random.default_rng(1).standard_normal(8000), 8000)

    def make(*rows):
        lines = [row if isinstance(row, str) else json.dumps({"audio_filepath": "second.wav", **row}) for row in rows]
        (tmp_path / "manifest.jsonl").write_text("\n".join(lines) + "\n")
        return tmp_path / "manifest.jsonl"

    return make


def same(one, two) -> bool:
    tensors = ("inputs", "input_lens", "labels", "label_lens")
    return all(torch.equal(getattr(one, name), getattr(two, name)) for name in tensors) and (
        (one.texts, one.seeds) == (two.texts, two.seeds)
    )


def test_a_batch_follows_from_seed_and_step(batches):
    first, again, other = batches(), batches(), batches("seed=2")
    order = [3, 0, 7, 3]
    assert all(same(first[step], again[step]) for step in order)
    assert not same(first[0], first[3])
    assert not same(first[0], other[0])
    assert len({seed for step in range(8) for seed in first[step].seeds}) == 8 * 4


def test_the_same_item_is_augmented_otherwise_in_the_next_epoch(batches):
    made = batches("augment.speed=[1.0]", batch_size=12)
    one, two = made[0], made[1]
    assert sorted(one.texts) == sorted(two.texts)
    index = one.texts.index("abc"), two.texts.index("abc")
    length = int(one.input_lens[index[0]])
    assert int(two.input_lens[index[1]]) == length
    assert not torch.equal(one.inputs[index[0], :length], two.inputs[index[1], :length])


def planned(made, step):
    """Items of a batch; without several streams all of them are of stream 0."""
    assert {stream for _, stream in made.plan(step)} == {0}
    return [item for item, _ in made.plan(step)]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 12])
def test_an_epoch_holds_every_item_once(batches, batch_size):
    made = batches(batch_size=batch_size)
    steps = 12 // batch_size
    for epoch in range(2):
        seen = Counter(item.entry.id for step in range(steps) for item in planned(made, epoch * steps + step))
        assert set(seen.values()) == {1}
        assert len(seen) == 12


@pytest.mark.parametrize("streams", [2, 3])
def test_an_epoch_of_several_streams_holds_every_item_once_a_stream(batches, streams):
    made, steps = batches(batch_size=4, streams=streams), 12 * streams // 4
    for epoch in range(2):
        copies = [copy for step in range(steps) for copy in made.plan(epoch * steps + step)]
        assert len({(item.entry.id, stream) for item, stream in copies}) == len(copies) == 12 * streams
        assert {stream for _, stream in copies} == set(range(streams))
    assert any(len({stream for _, stream in made.plan(step)}) > 1 for step in range(steps))  # shuffled together


def test_a_batch_says_which_stream_each_of_its_items_is_of(batches):
    made = batches(batch_size=6, streams=2)
    shares = [batches(batch_size=6, streams=2, rank=rank, world=2) for rank in range(2)]
    for step in (0, 5):
        streams = [stream for _, stream in made.plan(step)]
        assert made[step].streams.tolist() == streams
        assert made[step].texts == tuple(item.entry.text for item, _ in made.plan(step))
        assert [share[step].streams.tolist() for share in shares] == [streams[::2], streams[1::2]]
    again = batches(batch_size=6, streams=2)  # as after a restart: no earlier step was asked for
    assert same(again[5], made[5])
    assert torch.equal(again[5].streams, made[5].streams)
    assert batches()[0].streams.tolist() == [0, 0, 0, 0]


def test_what_does_not_fill_a_batch_comes_in_another_epoch(batches):
    """12 items in batches of 5: each epoch leaves out two, and not always the same two."""
    made = batches(batch_size=5)
    epochs = [[item.entry.id for step in (0, 1) for item in planned(made, 2 * epoch + step)] for epoch in range(30)]
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    counts = Counter(name for epoch in epochs for name in epoch)
    assert len(counts) == 12
    assert min(counts.values()) >= 15


def test_epochs_and_seeds_shuffle_otherwise(batches):
    made = batches(batch_size=3)
    ids = [tuple(item.entry.id for item in planned(made, step)) for step in range(12)]
    epochs = [ids[:4], ids[4:8], ids[8:]]
    assert epochs[0] != epochs[1] != epochs[2]


def test_items_of_a_batch_are_alike_in_length(manifest, make_recipe, vocabulary):
    rng = np.random.default_rng(2)
    path = manifest(*({"text": "ab", "duration": float(d), "id": str(i)} for i, d in enumerate(rng.uniform(1, 20, 96))))
    recipe = make_recipe("student", f"data.train={path}", batch_size=4)
    made = TrainingBatches(recipe, vocabulary, units_per_frame=UNITS)
    spread = [max(lengths) - min(lengths) for lengths in ([i.units for i in planned(made, s)] for s in range(24))]
    assert np.mean(spread) < 0.1 * 19 * 8000  # drawn blindly it would be more than half of the range
    by_step = [planned(made, step)[0].units for step in range(24)]
    assert by_step != sorted(by_step)
    assert BUCKET_BATCHES * 4 < 96  # more than one pool was there


def test_two_processes_share_the_batch_of_one(batches):
    whole, parts = batches(), [batches(rank=rank, world=2) for rank in range(2)]
    for step in (0, 5):
        full, shares = whole[step], [part[step] for part in parts]
        for position in range(4):
            share, row = shares[position % 2], position // 2
            assert share.texts[row] == full.texts[position]
            assert share.seeds[row] == full.seeds[position]
            length = int(full.input_lens[position])
            assert int(share.input_lens[row]) == length
            assert torch.equal(share.inputs[row, :length], full.inputs[position, :length])
        assert [len(share.texts) for share in shares] == [2, 2]


def spectrogram(samples, scale):
    window = torch.hann_window(256 * scale)
    return torch.stft(samples, 256 * scale, 80 * scale, window=window, return_complex=True).abs()


def test_teachers_of_other_rates_hear_the_same_items_and_as_many_frames(batches):
    own = "frontend={sample_rate: 4000, num_mel_bins: 16, high_freq: -100}"
    both = batches(own, teachers=[8000, 4000], units=160)[0]
    as_wide = batches()[0]
    assert both.texts == as_wide.texts
    assert list(both.others) == [8000]
    heard = both.at_rate(8000)
    assert torch.equal(heard.inputs, as_wide.inputs)
    assert torch.equal(heard.input_lens, as_wide.input_lens)
    assert torch.equal(-(-both.input_lens // 160), -(-heard.input_lens // 320))
    assert (heard.seeds, heard.sample_rate) == (both.seeds, 8000)
    # the same moment at the same time: up to 1,500 Hz both spectrograms agree, frame by frame
    high, low = spectrogram(heard.inputs, 2), spectrogram(both.inputs, 1)
    frames = min(high.shape[2], low.shape[2])
    pair = torch.stack([half[:, :96, :frames].flatten() for half in (high, low)])
    assert torch.corrcoef(pair)[0, 1] > 0.99
    assert not as_wide.others
    assert as_wide.at_rate(8000) is as_wide
    with pytest.raises(KeyError):
        as_wide.at_rate(16000)


def test_a_teacher_of_a_lower_rate_hears_what_is_left_of_the_student_s(batches):
    batch = batches(teachers=[4000, 16000])[0]
    assert sorted(batch.others) == [4000, 16000]
    lengths = {rate: batch.at_rate(rate).input_lens for rate in (4000, 8000, 16000)}
    assert torch.equal(-(-lengths[16000] // 2), lengths[8000])
    assert torch.equal(-(-lengths[16000] // 4), lengths[4000])


def test_times_say_where_a_moment_is_in_the_recording(batches):
    """A click of the recording at second t is heard where ``speed * heard - lead_in`` gives t again."""
    made = batches("augment.speed=[0.8, 1.25]", "augment.lead_in_s=[0.1, 0.3]", batch_size=12)
    batch, length = made[0], {item.number: item.units for item, _ in made.plan(0)}
    speeds, lead_ins = batch.times.T
    assert set(speeds.tolist()) == {0.8, 1.25}
    assert lead_ins.min() >= 0.1
    assert lead_ins.max() <= 0.3
    ends = speeds * batch.input_lens / 8000 - lead_ins
    wanted = torch.tensor([length[number] / 8000 for number in batch.items.tolist()])
    assert torch.allclose(ends, wanted.double(), atol=0.001)


def test_evaluation_reads_every_item_once_and_unchanged(make_recipe, vocabulary):
    recipe = make_recipe("student", batch_size=3)
    items = speech_items(recipe.data.train, recipe, vocabulary, UNITS)
    made = list(evaluation_batches(items, recipe))
    assert sorted(text for batch in made for text in batch.texts) == sorted(item.entry.text for item in items)
    longest = max(items, key=lambda item: item.units)
    samples, _ = soundfile.read(longest.entry.input, dtype="float32")
    assert np.array_equal(made[0].inputs[0, : len(samples)].numpy(), samples)
    assert vocabulary.text(made[0].labels[0, : made[0].label_lens[0]].tolist()) == longest.entry.text


def test_padding_is_zero_and_lengths_are_kept():
    batch = collate([np.ones(5, np.float32), np.ones(2, np.float32)], [(1,), ()], ["a", ""], [7, 8], items=[0, 1])
    assert batch.inputs.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert (batch.input_lens.tolist(), batch.labels.tolist()) == ([5, 2], [[1], [0]])
    assert (batch.label_lens.tolist(), batch.labels.dtype) == ([1, 0], torch.int64)


SPEECH = (0.2 * np.sin(np.arange(8000) / 3)).astype(np.float32)


def augmented(seed=1, *, noises=(), min_samples=0, samples=SPEECH, **settings):
    config = AugmentConfig.model_validate({"speed": [1.0], "gain_db": [0, 0], **settings})
    rng = np.random.default_rng(seed)
    return augment_waveform(samples, 8000, config, noises=noises, rng=rng, min_samples=min_samples).samples


def test_lead_in_is_quiet_noise_of_a_drawn_length_before_the_item():
    made = [augmented(seed, lead_in_s=[0.1, 0.5]) for seed in range(20)]
    lengths = np.array([len(samples) - len(SPEECH) for samples in made])
    assert lengths.min() >= 800
    assert lengths.max() <= 4000
    assert lengths.std() > 300
    for samples, length in zip(made, lengths, strict=True):
        assert np.array_equal(samples[length:], SPEECH)
        assert 0.0005 < samples[:length].std() < 0.002
        assert np.count_nonzero(samples[:length] == 0) == 0


def test_augmentation_leaves_its_input_alone():
    kept = SPEECH.copy()
    noise = Noise(np.random.default_rng(1).standard_normal(900).astype(np.float32), "hiss", "x")
    made = augmented(speed=[1.0], gain_db=[6, 6], noises=[noise], noise={"manifest": "x", "probability": 1})
    assert np.array_equal(SPEECH, kept)
    assert made.dtype == np.float32
    assert np.abs(made).max() <= 1
    plain = augmented()
    assert np.array_equal(plain, SPEECH)
    assert not np.shares_memory(plain, SPEECH)


@pytest.mark.parametrize(("speed", "length"), [(0.5, 16000), (0.8, 10000), (1.0, 8000), (1.25, 6400), (2.0, 4000)])
def test_speed_changes_length_and_pitch(speed, length):
    made = augmented(speed=[speed])
    assert abs(len(made) - length) <= 1
    crossings = int((np.diff(np.sign(made)) != 0).sum())
    assert crossings == pytest.approx(8000 / 3 / np.pi, rel=0.02)  # as many periods as before, in another time


def test_a_speed_that_leaves_no_room_for_the_reference_is_not_used():
    assert len(augmented(speed=[1.25], min_samples=6398)) == 6400
    assert len(augmented(speed=[1.25], min_samples=6400)) == 8000
    assert len(augmented(speed=[0.8], min_samples=8000)) == 10000


def test_gain_is_drawn_between_its_bounds():
    ratios = [float(np.abs(augmented(seed, gain_db=[-6, 3])).max() / np.abs(SPEECH).max()) for seed in range(40)]
    decibels = 20 * np.log10(ratios)
    assert -6.01 < decibels.min() < -4
    assert 1 < decibels.max() < 3.01


def test_noise_is_mixed_at_the_ratio_asked_and_as_often():
    noise = Noise(np.random.default_rng(1).standard_normal(9000).astype(np.float32), "hiss", "x")
    settings = {"noises": [noise], "noise": {"manifest": "x", "snr_db": [10, 10], "probability": 0.5}}
    differences = [augmented(seed, **settings) - SPEECH for seed in range(60)]
    mixed = [difference for difference in differences if np.abs(difference).max() > 0]
    assert 18 <= len(mixed) <= 42
    ratio = 10 * np.log10(np.mean(SPEECH**2) / np.mean(mixed[0] ** 2))
    assert ratio == pytest.approx(10, abs=0.5)


SPEC = SpecAugment(freq_masks=2, freq_fraction=0.25, time_masks=2, time_frames=6, time_fraction=0.5)


def test_feature_masks_stay_inside_and_repeat_with_their_seed():
    features = torch.randn(3, 40, 16, generator=torch.Generator().manual_seed(1))
    kept, fill, lengths = features.clone(), torch.full((16,), 99.0), torch.tensor([40, 21, 1])
    masked = mask_features(features, lengths, fill, SPEC, (1, 2, 3))
    assert torch.equal(features, kept)
    assert torch.equal(masked, mask_features(features, lengths, fill, SPEC, (1, 2, 3)))
    changed = masked != features
    assert (masked[changed] == 99).all()
    for row, length in zip(changed, lengths.tolist(), strict=True):
        assert not row[length:].any()
    alone = mask_features(features[1:2, :30], lengths[1:2], fill, SPEC, (2,))
    assert torch.equal(alone[0], masked[1, :30])  # whatever stands beside it in the batch
    assert not torch.equal(changed, mask_features(features, lengths, fill, SPEC, (4, 5, 6)) != features)


def test_feature_masks_are_bands_no_wider_than_asked():
    features, fill, lengths = torch.zeros(60, 40, 16), torch.ones(16), torch.full((60,), 40)
    widths = []
    for kind, limit in (("freq", 4), ("time", 6)):
        off = "time" if kind == "freq" else "freq"
        config = SPEC.model_copy(update={f"{kind}_masks": 1, f"{off}_masks": 0})
        masked = mask_features(features, lengths, fill, config, range(60))
        line = masked[:, 0] if kind == "freq" else masked[:, :, 0]
        whole = masked.amin(dim=1) if kind == "freq" else masked.amin(dim=2)
        assert torch.equal(line, whole)
        widths.append(line.sum(dim=1).int().tolist())
        assert max(widths[-1]) == limit
        for row in line:
            where = row.nonzero()[:, 0].tolist()
            assert where == list(range(where[0], where[-1] + 1)) if where else True
    assert min(widths[0]) == min(widths[1]) == 0


@pytest.mark.parametrize(
    ("text", "frames"), [("", 0), ("a", 1), ("aa", 3), ("ab", 2), ("aab b", 6), ("a  a", 3), (" b ", 1)]
)
def test_frames_that_a_text_needs(text, frames):
    vocabulary = character_vocabulary(["ab a"])
    assert frames_needed(encode(text, vocabulary)) == frames


def test_vocabulary_is_sorted_and_texts_come_back():
    vocabulary = character_vocabulary(["c a", "ba"])
    assert vocabulary.symbols == ("<blk>", "a", "b", "c", "▁")
    assert vocabulary.text(encode("  ab   c ", vocabulary)) == "ab c"
    with pytest.raises(VocabularyError, match="all empty"):
        character_vocabulary(["", " "])


def load(make_recipe, vocabulary, path, *overrides):
    recipe = make_recipe("student", f"data.train={path}", *overrides)
    return TrainingBatches(recipe, vocabulary, units_per_frame=UNITS)


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([{"text": "ab", "id": "x1"}, {"text": "abd", "id": "x2"}], VocabularyError, ["item x2", "'d'", "'abd'"]),
        ([{"text": "abcab" * 6, "id": "long"}], TargetTooLongError, ["item long", "30 frames", "25", "on_unusable"]),
        ([{"text": "aa" * 7, "id": "twins"}], TargetTooLongError, ["item twins", "27 frames", "25"]),
        ([{"text": "a", "duration": 31.0, "id": "slow"}], InputError, ["item slow", "31.0 s", "data.max_duration"]),
        ([{"text": "a"}, '{"text": "a"'], ManifestError, ["line 2", "JSON"]),
        ([{"text": "a"}, {"audio_filepath": 3, "text": "a"}], ManifestError, ["line 2", "audio_filepath"]),
        ([{"transcript": "a"}], ManifestError, ["line 1", "text"]),
        ([""], ManifestError, ["empty"]),
        ([{"text": "a", "audio_filepath": "none.wav"}], AudioFileNotFoundError, ["none.wav", "not found"]),
    ],
)
def test_bad_data_is_one_sentence_that_names_the_place(make_recipe, vocabulary, manifest, rows, *, error, words):
    with pytest.raises(error) as problem:
        load(make_recipe, vocabulary, manifest(*rows))
    assert isinstance(problem.value, KdcompressError)
    message = str(problem.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_missing_manifest(make_recipe, vocabulary, tmp_path):
    with pytest.raises(ManifestError, match=r"not found.*nowhere\.jsonl"):
        load(make_recipe, vocabulary, tmp_path / "nowhere.jsonl")


def test_a_target_that_just_fits_is_taken(make_recipe, vocabulary, manifest):
    (item,) = load(make_recipe, vocabulary, manifest({"text": "abcab" * 5})).items
    assert (len(item.labels), item.min_units, item.units) == (25, 8000, 8000)


def test_unusable_items_can_be_left_out(make_recipe, vocabulary, manifest, caplog):
    path = manifest({"text": "abcab" * 6}, {"text": "ab", "id": "good"}, {"text": "a", "duration": 31.0})
    made = load(make_recipe, vocabulary, path, "data.on_unusable=skip")
    assert [item.entry.id for item in made.items] == ["good"]
    assert "left out 2 of 3" in caplog.text
    path = manifest({"text": "abcab" * 6})
    with pytest.raises(ManifestError, match="no item is left; all 1"):
        load(make_recipe, vocabulary, path, "data.on_unusable=skip")


def test_a_broken_audio_file_is_named_when_its_batch_comes(make_recipe, vocabulary, manifest, tmp_path):
    (tmp_path / "text.wav").write_text("no audio at all")
    made = load(make_recipe, vocabulary, manifest({"text": "a", "audio_filepath": "text.wav", "duration": 1.0}))
    with pytest.raises(AudioError, match=r"text\.wav"):
        made[0]


def test_other_rates_are_resampled(make_recipe, vocabulary, manifest, tmp_path):
    soundfile.write(tmp_path / "wide.wav", np.zeros((32000, 2)) + 0.1, 16000)
    path = manifest({"text": "a", "audio_filepath": "wide.wav"})
    made = load(make_recipe, vocabulary, path, "augment.speed=[1.0]", "augment.gain_db=[0, 0]")
    assert made.items[0].units == 16000
    assert int(made[0].input_lens[0]) == 16000
    assert float(made[0].inputs[0, 8000]) == pytest.approx(0.1, abs=1e-3)
