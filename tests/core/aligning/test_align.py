"""Aligning a manifest: what comes out, what is left out, and going on after a stop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import soundfile

from kdcompress.aligning import align
from kdcompress.aligning.align import AlignmentFolder, AlignOptions, align_manifest
from kdcompress.aligning.aligned import Alignments, read_alignments, read_header
from kdcompress.aligning.segments import SegmentOptions
from kdcompress.errors import AlignmentError, RunError, VocabularyError
from kdcompress.run import load_run
from kdcompress_runtime.errors import AudioError, OptionsError
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest

SKIP = AlignOptions(on_unusable="skip")


@pytest.fixture(scope="session")
def student(runs):
    return load_run(runs["student"])


@pytest.fixture
def broken(corpus, tmp_path):
    """Six items: good, too much text, no audio, an unknown letter, empty, good."""
    good = next(iter(read_manifest(corpus["train"])))
    soundfile.write(tmp_path / "short.wav", np.zeros(800), 8000)
    (tmp_path / "no.wav").write_text("no audio")
    rows = [
        {"audio_filepath": good.input, "text": "ab", "id": "good"},
        {"audio_filepath": "short.wav", "text": "ab ab ab ab ab", "id": "long"},
        {"audio_filepath": "no.wav", "text": "ab", "id": "unreadable"},
        {"audio_filepath": good.input, "text": "axb", "id": "unknown"},
        {"audio_filepath": good.input, "text": "", "id": "empty"},
        {"audio_filepath": good.input, "text": "b a", "id": "last"},
    ]
    path = tmp_path / "broken.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["student", "conventional"])
def test_every_unit_has_its_place(runs, corpus, tmp_path, kind):
    run, done = load_run(runs[kind]), []
    found = align_manifest(run, corpus["train"], tmp_path, on_progress=lambda *told: done.append(told))
    entries = list(read_manifest(corpus["train"]))
    assert done == [(12, 12)]
    assert (found.items, found.skipped) == (12, ())
    assert not AlignmentFolder(tmp_path).work.exists()
    header = read_header(found.path)
    assert (header.kind, header.time, header.source["run"]) == ("characters", "seconds", f"tiny-{kind}")
    assert header.manifest == manifest_fingerprint(corpus["train"])
    items = list(read_alignments(found.path))
    assert [item.place for item in items] == list(range(12))
    assert found.units == sum(len(item.segments) for item in items)
    assert found.mean_score == pytest.approx(np.mean([item.score for item in items]))
    for item, entry in zip(items, entries, strict=True):
        assert item.id == entry.id
        assert item.words == tuple(entry.text.split())
        assert "".join(segment.unit for segment in item.segments) == entry.text.replace(" ", "▁")
        assert item.duration == pytest.approx(entry.duration, abs=1e-5)
        assert -20 < item.score < 0
        assert item.segments[-1].end <= item.duration + 1e-5
    assert len(Alignments.read(found.path, corpus["train"])) == 12


def test_it_does_not_matter_who_is_heard_together(student, corpus, tmp_path):
    one = align_manifest(student, corpus["train"], tmp_path / "1", AlignOptions(batch_size=1))
    all_at_once = align_manifest(student, corpus["train"], tmp_path / "12", AlignOptions(batch_size=12))
    for first, second in zip(read_alignments(one.path), read_alignments(all_at_once.path), strict=True):
        assert first.segments == second.segments
        assert first.score == pytest.approx(second.score, abs=1e-4)


def test_items_that_cannot_be_used_are_skipped_and_counted(student, broken, tmp_path):
    found = align_manifest(student, broken, tmp_path / "out", SKIP)
    assert [one.id for one in found.skipped] == ["long", "unreadable", "unknown"]
    assert [one.place for one in found.skipped] == [1, 2, 3]
    assert "the reference needs 14 frames, the input has" in found.skipped[0].problem
    assert "no.wav" in found.skipped[1].problem
    assert "'x' in 'axb' is not in the vocabulary" in found.skipped[2].problem
    lookup = Alignments.read(found.path, broken)
    assert [lookup.get(place) is None for place in range(6)] == [False, True, True, True, False, False]
    assert lookup.get(4).segments == ()
    # a finished one is as good as new
    assert align_manifest(student, broken, tmp_path / "out", SKIP) == found


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("long", (AlignmentError, "item long: the reference needs 14 frames.*--on-unusable skip")),
        ("unreadable", (AudioError, "no.wav")),
        ("unknown", (VocabularyError, "item unknown: 'x' in 'axb'")),
    ],
)
def test_or_are_errors(student, broken, tmp_path, bad, problem):
    lines = broken.read_text().splitlines(keepends=True)
    broken.write_text("".join(line for line in lines if f'"{bad}"' in line or '"good"' in line))
    with pytest.raises(problem[0], match=problem[1]):
        align_manifest(student, broken, tmp_path / "out")
    assert not AlignmentFolder(tmp_path / "out").alignment.exists()


def test_nothing_left(student, broken, tmp_path):
    lines = broken.read_text().splitlines(keepends=True)
    broken.write_text(lines[1])
    found = align_manifest(student, broken, tmp_path / "out", SKIP)
    assert (found.items, len(found.skipped), math.isnan(found.mean_score)) == (0, 1, True)
    assert found.suspects == ()


def test_a_stop_loses_no_finished_part(student, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(align, "PART_ITEMS", 5)
    whole = align_manifest(student, corpus["train"], tmp_path / "whole")

    def interrupt(done: int, total: int) -> None:
        assert total == 12
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align_manifest(student, corpus["train"], tmp_path / "again", on_progress=interrupt)
    folder = AlignmentFolder(tmp_path / "again")
    assert not folder.alignment.exists()
    kept = folder.part(1).stat().st_mtime_ns
    with pytest.raises(AlignmentError, match="unfinished, and of another run, manifest or other options"):
        align_manifest(student, corpus["train"], folder.path, SKIP)
    with pytest.raises(AlignmentError, match="unfinished, and of another"):
        align_manifest(student, corpus["dev"], folder.path)
    assert folder.part(1).stat().st_mtime_ns == kept
    again = align_manifest(student, corpus["train"], folder.path)
    assert again.path.read_bytes() == whole.path.read_bytes()
    assert not folder.work.exists()


def test_a_folder_that_holds_another_alignment(student, runs, corpus, tmp_path):
    align_manifest(student, corpus["dev"], tmp_path)
    with pytest.raises(AlignmentError, match=r"is another alignment \(other manifest\); give another folder"):
        align_manifest(student, corpus["train"], tmp_path)
    with pytest.raises(AlignmentError, match=r"another alignment \(other source\)"):
        align_manifest(load_run(runs["conventional"]), corpus["dev"], tmp_path)
    options = AlignOptions(SegmentOptions(blank_penalty=1))
    with pytest.raises(AlignmentError, match=r"another alignment \(other source\)"):
        align_manifest(student, corpus["dev"], tmp_path, options)


def test_an_oracle_does_not_listen(runs, corpus, tmp_path):
    with pytest.raises(RunError, match="oracle teacher sees the reference"):
        align_manifest(load_run(runs["oracle"]), corpus["dev"], tmp_path)


def test_impossible_options():
    with pytest.raises(OptionsError, match="on_unusable is error or skip"):
        AlignOptions(on_unusable="ignore")


def test_a_score_far_below_the_others_is_told():
    items = [(-0.1 - 0.001 * number, f"good{number}", number) for number in range(50)]
    assert align._suspects(items) == ()
    assert [one.id for one in align._suspects([*items, (-3.0, "bad", 50), (-2.0, "odd", 51)])] == ["bad", "odd"]
