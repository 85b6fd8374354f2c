"""Frames under an alignment: parts, pauses, memory by context; and what an alignment can be wrong in."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from kdcompress.aligning import Aligned, Segment
from kdcompress.errors import VocabularyError
from kdcompress.units.content import places
from kdcompress.units.senones import statistics
from kdcompress.units.senones.frames import audio_reader, cosine_transform, feature_reader
from kdcompress.units.senones.statistics import Division, aligned_frames, gathered, item_rows
from kdcompress_runtime.errors import ManifestError
from kdcompress_runtime.manifest import ManifestEntry
from tests.core.senones.cases import PHONES

IDS = places(PHONES)
SILENCE = len(PHONES)


def item(*segments: tuple[str, float, float], name: str = "a", place: int = 0) -> Aligned:
    found = tuple(Segment(unit, start, end, 0) for unit, start, end in segments)
    return Aligned(name, place, "phones", ("word",), found, found[-1].end if found else 0.0, -1.0)


def drawn(rng: np.random.Generator, place: int = 0) -> tuple[Aligned, np.ndarray]:
    edges = np.cumsum(rng.integers(1, 12, 21)) * 0.01
    phones = rng.choice(PHONES, 20)
    segments = [(str(phone), *edges[i : i + 2].tolist()) for i, phone in enumerate(phones) if rng.random() < 0.8]
    return item(*segments, place=place), rng.normal(size=(int(edges[-1] * 100) + 30, 4)).astype(np.float32)


@pytest.mark.parametrize("states", [1, 3])
def test_statistics_are_those_of_frames_counted_one_by_one(states):
    items = [drawn(np.random.default_rng(seed)) for seed in range(6)]
    division = Division(states=states, pause=0.03)
    expected: dict[tuple[int, ...], list[np.ndarray]] = {}
    visits: dict[tuple[int, ...], int] = {}
    for aligned, frames in items:
        for number, segment in enumerate(aligned.segments):
            before, after = aligned.segments[number - 1 : number], aligned.segments[number + 1 : number + 2]
            left = IDS[before[0].unit] if before and segment.start - before[0].end < 0.0299 else SILENCE
            right = IDS[after[0].unit] if after and after[0].start - segment.end < 0.0299 else SILENCE
            for state in range(states):
                visits[left, IDS[segment.unit], right, state] = (
                    visits.get((left, IDS[segment.unit], right, state), 0) + 1
                )
            for t, frame in enumerate(frames):
                share = ((t + 0.5) * 0.01 - segment.start) / (segment.end - segment.start)
                if 0 <= share < 1:
                    key = (left, IDS[segment.unit], right, int(share * states))
                    expected.setdefault(key, []).append(frame.astype(np.float64))
    found = gathered(items, PHONES, division)
    assert [tuple(key) for key in found.contexts.tolist()] == sorted(visits)
    assert dict(zip(map(tuple, found.contexts.tolist()), found.visits.tolist(), strict=True)) == visits
    for key, moments in zip(map(tuple, found.contexts.tolist()), found.moments, strict=True):
        mine = np.array(expected.get(key, np.zeros((0, 4)))).reshape(-1, 4)
        assert moments == pytest.approx(np.concatenate([[len(mine)], mine.sum(0), (mine**2).sum(0)]), abs=1e-9)


def test_rows_of_the_same_context_are_added_up_on_the_way(monkeypatch):
    items = [drawn(np.random.default_rng(seed)) for seed in range(12)]
    whole = gathered(items, PHONES, Division())
    monkeypatch.setattr(statistics, "ROWS", 20)
    piecewise = gathered(iter(items), PHONES, Division())
    assert (piecewise.contexts == whole.contexts).all()
    assert (piecewise.visits == whole.visits).all()
    assert piecewise.moments == pytest.approx(whole.moments)


def test_a_phone_is_divided_evenly_and_silence_is_at_ends_and_pauses():
    aligned = item(("B", 0.02, 0.08), ("IY", 0.08, 0.09), ("T", 0.29, 0.31))
    contexts, visits, moments = item_rows(aligned, np.ones((40, 2), np.float32), IDS, Division(states=3))
    b, iy, t = (IDS[phone] for phone in ("B", "IY", "T"))
    assert contexts[::3, :3].tolist() == [[SILENCE, b, iy], [b, iy, SILENCE], [SILENCE, t, SILENCE]]
    assert contexts[:, 3].tolist() == [0, 1, 2] * 3
    assert moments[:, 0].tolist() == [2, 2, 2, 0, 1, 0, 1, 0, 1]
    assert visits.tolist() == [1] * 9
    near = item_rows(aligned, np.ones((40, 2), np.float32), IDS, Division(pause=0.21))[0]
    assert near[:, :3].tolist() == [[SILENCE, b, iy], [b, iy, t], [iy, t, SILENCE]]


def test_an_item_without_segments_has_no_rows_and_others_count():
    frames = np.ones((40, 2), np.float32)
    found = gathered([(item(), frames), (item(("B", 0.0, 0.1)), frames)], PHONES, Division())
    assert found.frames.tolist() == [10]
    with pytest.raises(ManifestError, match=r"ali\.jsonl: no phone of any item is aligned"):
        gathered([(item(), frames)], PHONES, Division(), "ali.jsonl")


def test_a_phone_that_the_inventory_does_not_know_is_named():
    with pytest.raises(VocabularyError, match=r"ali\.jsonl, item a: 'ZH' is none of the 7 phones"):
        gathered([(item(("ZH", 0.0, 0.1)), np.ones((20, 2), np.float32))], PHONES, Division(), "ali.jsonl")


def test_an_alignment_longer_than_its_item_is_refused():
    with pytest.raises(ManifestError, match=r"item a: aligned up to 0\.5, but its 20 frames end at 0\.2"):
        gathered([(item(("B", 0.3, 0.5)), np.ones((20, 2), np.float32))], PHONES, Division())


def test_an_alignment_meets_its_manifest_and_no_other(tmp_path):
    manifest = tmp_path / "train.jsonl"
    rows = [{"audio_filepath": f"{name}.wav", "text": "B", "id": name} for name in "abc"]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def joined(*names: tuple[str, int]) -> list[str]:
        alignment = [item(("B", 0.0, 0.1), name=name, place=place) for name, place in names]
        read = np.zeros((20, 2), np.float32)
        found = aligned_frames(manifest, iter(alignment), lambda entry: read + ord(entry.id), "ali.jsonl")
        return [chr(int(frames[0, 0])) for _, frames in found]

    assert joined(("a", 0), ("b", 1), ("c", 2)) == ["a", "b", "c"]
    assert joined(("a", 0), ("c", 2)) == ["a", "c"]
    with pytest.raises(ManifestError, match=r"ali\.jsonl is of another manifest: its item 2 is c, and .* has b there"):
        joined(("a", 0), ("c", 1))
    with pytest.raises(ManifestError, match=r"item 8 is h, and .* has fewer items"):
        joined(("a", 0), ("h", 7))
    with pytest.raises(ManifestError, match=r"item a is not in the order"):
        joined(("b", 1), ("a", 0))


def test_audio_becomes_cepstra_without_mean_that_stand_where_the_sound_is(tmp_path):
    samples = np.zeros(16000, np.float32)
    samples[8000:8160] = 0.5 * np.sin(np.arange(160))  # frame 50
    soundfile.write(tmp_path / "click.wav", samples, 16000)
    entry = ManifestEntry("click", str(tmp_path / "click.wav"), "B")
    frames = audio_reader()(entry)
    assert frames.shape == (100, 39)
    assert frames[:, :13].mean(axis=0) == pytest.approx(np.zeros(13), abs=1e-3)
    assert int(np.argmax(frames[:, 0])) == 50
    assert audio_reader(cepstra=0)(entry).shape == (100, 3 * 80)
    assert audio_reader(8000)(entry).shape == (100, 39)


def test_cosine_transform_is_orthonormal():
    whole = cosine_transform(24, 24)
    assert whole @ whole.T == pytest.approx(np.eye(24), abs=1e-5)
    assert (cosine_transform(5, 24) == whole[:5]).all()


def test_features_from_files_do_as_well(tmp_path):
    frames = np.random.default_rng(0).normal(3.0, 1.0, (30, 5)).astype(np.float32)
    np.save(tmp_path / "a.npy", frames)
    entry = ManifestEntry("a", str(tmp_path / "a.npy"), "B", kind="features")
    read = feature_reader(5)(entry)
    assert read[:, :5] == pytest.approx(frames - frames.mean(axis=0), abs=1e-6)
    assert read.shape == (30, 15)
    with pytest.raises(ManifestError, match=r"item a is features, not audio"):
        audio_reader()(entry)
