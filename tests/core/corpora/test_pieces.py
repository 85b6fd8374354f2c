"""Pieces of long recordings and audio at another rate are written as FLAC; an interrupted run goes on with them."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest
import soundfile

from kdcompress.data.corpora import recordings, writing
from kdcompress.data.corpora.adapters import CORPORA
from kdcompress.data.corpora.base import ManifestRow, Unusable
from kdcompress.data.corpora.recordings import Recordings
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.errors import ManifestError, OptionsError
from tests.core.corpora import trees


def heard(made, row) -> np.ndarray:
    return soundfile.read(made.manifests["train"].parent / row["audio_filepath"], dtype="float32")[0]


def test_segments_are_the_samples_of_the_recording(tmp_path, prepare, rows):
    source = trees.kaldi_segments(tmp_path / "data")
    made = prepare("kaldi", source, dev_share=0, test_share=0)
    whole, _ = soundfile.read(source / "long.flac", dtype="float32")
    first, second = rows(made, "train")
    np.testing.assert_array_equal(heard(made, first), whole[2000:8000])
    np.testing.assert_array_equal(heard(made, second), whole[8000:])
    assert (first["duration"], second["duration"], first["recording"]) == (0.75, 2.0, "rec")


def test_a_channel_of_a_cut_is_that_channel(tmp_path, prepare, rows):
    source = trees.lhotse(tmp_path / "cuts")
    made = prepare("lhotse", source)
    piece, whole, right = rows(made, "train")
    np.testing.assert_allclose(
        heard(made, right), soundfile.read(source / "stereo.wav", dtype="float32")[0][:, 1], atol=1e-4
    )
    assert whole["audio_filepath"] == str(source / "long.flac")
    assert (piece["duration"], piece["gender"]) == (0.75, "F")


@pytest.mark.parametrize("check", ["none", "headers", "decode"])
def test_however_closely_files_are_looked_at_pieces_are_cut(tmp_path, prepare, rows, check):
    source = trees.nemo(tmp_path / "m")
    made = prepare("nemo", source, check=check)
    piece = rows(made, "train")[0]
    assert len(heard(made, piece)) == 6000
    # a duration alone is trusted where nothing is looked at
    start = rows(made, "train")[1]
    assert start["audio_filepath"].startswith("/") == (check == "none")


def test_another_rate_makes_a_folder_of_its_own(tmp_path, prepare, rows):
    source = trees.folder(tmp_path / "mine")
    made = prepare("folder", source, sample_rate=8000, dev_share=0, test_share=0, jobs=3)
    for row in rows(made, "train"):
        path = made.manifests["train"].parent / row["audio_filepath"]
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 8000, 1)
        original = source / f"{row['id']}.wav"
        if original.is_file():
            wanted, _ = read_audio(original, 8000)
            np.testing.assert_allclose(soundfile.read(path, dtype="float32")[0], wanted, atol=2e-4)
    with pytest.raises(ManifestError, match="has 16000 Hz, less than the 44100 Hz asked"):
        prepare("folder", source, tmp_path / "up", sample_rate=44100)


def test_threads_change_nothing(tmp_path, prepare):
    source = trees.kaldi(tmp_path / "data", speakers=20)
    one = prepare("kaldi", source, tmp_path / "one", sample_rate=8000)
    many = prepare("kaldi", source, tmp_path / "many", sample_rate=8000, jobs=4)
    for split, path in one.manifests.items():
        assert path.read_text() == many.manifests[split].read_text()
    assert one.report == many.report


def test_long_items_go_through_in_blocks(tmp_path, monkeypatch):
    """Whatever the size of a block, resampled pieces are the same."""
    row = ManifestRow("a", str(trees.sound(tmp_path / "a.wav", 1.3, 16000)), "", "here", duration=1.0, start=0.2)
    found = []
    for block in (1 << 16, 999):
        monkeypatch.setattr(recordings, "BLOCK", block)
        folder = tmp_path / str(block)
        placed = Recordings(folder, 8000).place(row)
        found.append(soundfile.read(folder / placed.path)[0])
    np.testing.assert_array_equal(*found)
    assert len(found[0]) == 8000


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-2000]), "cut short"),
        (lambda path: path.write_bytes(path.read_bytes()[:44]), "no samples|cut short"),
        (lambda path: soundfile.write(path, np.full(4000, np.nan, np.float32), 8000, subtype="FLOAT"), "NaN"),
    ],
)
def test_audio_that_training_would_refuse(tmp_path, make, words):
    path = trees.sound(tmp_path / "a.wav")
    make(path)
    row = ManifestRow("a", str(path), "", "here")
    for recorder in (Recordings(tmp_path, check="decode"), Recordings(tmp_path, sample_rate=8000)):
        problem = recorder.place(row)
        assert isinstance(problem, Unusable)
        assert problem.kind == "unreadable audio"
        assert problem.reason.startswith(str(path))


def test_a_cut_flac_is_found_by_decoding(tmp_path):
    path = trees.sound(tmp_path / "a.flac")
    path.write_bytes(path.read_bytes()[:-2000])
    row = ManifestRow("a", str(path), "", "here")
    assert not isinstance(Recordings(tmp_path).place(row), Unusable)
    assert isinstance(Recordings(tmp_path, check="decode").place(row), Unusable)
    assert isinstance(Recordings(tmp_path, sample_rate=8000).place(row), Unusable)


def test_a_channel_that_is_not_there(tmp_path):
    row = ManifestRow("a", str(trees.sound(tmp_path / "a.wav")), "", "here", channel=1)
    problem = Recordings(tmp_path).place(row)
    assert isinstance(problem, Unusable)
    assert "has 1 channel(s)" in problem.reason


def test_a_run_that_stops_keeps_what_it_wrote_and_goes_on(tmp_path, monkeypatch, caplog):
    source = trees.kaldi(tmp_path / "data", speakers=4)
    options = writing.PrepareOptions(sample_rate=8000, dev_share=0, test_share=0)
    place = Recordings.place
    written = []

    def counted(self, row):
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(row.id)
        return place(self, row)

    where = writing.Source(source)
    with monkeypatch.context() as patch:
        patch.setattr(Recordings, "place", counted)
        with pytest.raises(KeyboardInterrupt):
            writing.prepare_corpus("kaldi", CORPORA["kaldi"], where, tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()
    kept = sorted((tmp_path / ".out.partial").rglob("*.flac"))
    assert len(kept) == 5
    assert not list((tmp_path / ".out.partial").glob("*.jsonl"))
    assert "audio that is written is kept" in caplog.text
    half = kept[0].with_name(f".{kept[0].name}.1.2.tmp")
    half.write_bytes(b"half")  # as kill -9 leaves it
    times = {path.name: path.stat().st_mtime_ns for path in kept}
    made = writing.prepare_corpus("kaldi", CORPORA["kaldi"], where, tmp_path / "out", options=options)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.flac")}
    assert times.items() <= after.items()
    assert len(after) == made.report["splits"]["train"]["items"] == 8
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "audio",
        "report.json",
        "settings.json",
        "train.jsonl",
    ]
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert not (tmp_path / ".out.partial").exists()


def test_what_was_kept_of_other_settings_is_not_taken(tmp_path, monkeypatch, prepare):
    source = trees.kaldi(tmp_path / "data")

    def stopped(self, row):
        (self.folder / "audio").mkdir(exist_ok=True)
        (self.folder / "audio" / "old.flac").write_bytes(b"old")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recordings, "place", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare("kaldi", source, sample_rate=8000)
    prepare("kaldi", source, sample_rate=4000)
    assert not (tmp_path / "out" / "audio" / "old.flac").exists()


def test_a_full_disk_is_no_fault_of_the_recording(tmp_path, monkeypatch, prepare):
    """The error of writing comes out as such; no item is called unreadable."""
    source = trees.kaldi_segments(tmp_path / "data")

    def full(path, blocks, rate):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(recordings, "_write_flac", full)
        with pytest.raises(OSError, match="No space left"):
            prepare("kaldi", source, on_unusable="skip")
    assert not (tmp_path / "out").exists()
    assert prepare("kaldi", source, on_unusable="skip").report["unusable"]["count"] == 0


def test_two_processes_do_not_make_the_same_folder(tmp_path, prepare):
    fcntl = pytest.importorskip("fcntl")
    source = trees.kaldi(tmp_path / "data")
    (tmp_path / ".out.partial").mkdir()
    handle = os.open(tmp_path / ".out.partial", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(OptionsError, match="another process is preparing"):
        prepare("kaldi", source)
    os.close(handle)
    assert prepare("kaldi", source).report["splits"]["train"]["items"] == 6


def test_a_prepared_folder_is_used_again_until_the_corpus_or_a_setting_changes(tmp_path, prepare):
    source = trees.kaldi(tmp_path / "data")
    first = prepare("kaldi", source)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = prepare("kaldi", source, jobs=2)
    assert again.reused
    assert again.report == first.report
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    with pytest.raises(OptionsError, match="text is 'keep' there, 'lower' asked"):
        prepare("kaldi", source, text="lower")
    (source / "text").write_text((source / "text").read_text().replace("one", "two"))
    with pytest.raises(OptionsError, match="prepared with other settings"):
        prepare("kaldi", source)


def test_threads_may_write_the_same_piece(tmp_path):
    row = ManifestRow("a", str(trees.sound(tmp_path / "a.wav", 2.0)), "", "here", duration=1.0, start=0.5)
    recorder, found = Recordings(tmp_path / "out"), []
    threads = [threading.Thread(target=lambda: found.append(recorder.place(row))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(list((tmp_path / "out").rglob("*.*"))) == 1
