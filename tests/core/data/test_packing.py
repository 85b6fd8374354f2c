"""Recordings in tars: read as if they were loose files, packed again after a kill, damage found and named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile

from kdcompress.cli import main
from kdcompress.commands.packing import parse_size
from kdcompress.data import packing
from kdcompress.data.foreign_tars import index_tars
from kdcompress.data.packing import check_shards, pack
from kdcompress.data.reading import read_bytes, read_samples
from kdcompress.data.speech import TrainingBatches
from kdcompress.errors import PackError
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.byte_range import ByteRange, parse_byte_range
from kdcompress_runtime.errors import (
    AudioError,
    AudioFileNotFoundError,
    ManifestError,
    MissingDependencyError,
    OptionsError,
)
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest


@pytest.fixture
def loose(tmp_path):
    """A manifest of seven recordings in three formats; two lines have an id, one no length."""
    rng, rows = np.random.default_rng(4), []
    for number, suffix in enumerate(["flac", "wav", "ogg", "flac", "wav", "flac", "wav"]):
        name = f"sub/{number}.{suffix}"
        (tmp_path / "loose/sub").mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "loose" / name, 0.1 * rng.standard_normal(3000 + 500 * number), 8000)
        row = {"audio_filepath": name, "text": f"täxt {number}", "duration": (3000 + 500 * number) / 8000, "snr": 5}
        rows.append({**row, "id": f"u{number}"} if number in {2, 5} else row)
    del rows[4]["duration"]
    path = tmp_path / "loose" / "some.jsonl"
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    return path


def members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as file:
        return {info.name: file.extractfile(info).read() for info in file}


@pytest.mark.parametrize("shard_bytes", [1, 30_000, 10**9])
def test_packed_recordings_are_read_as_loose_ones_are(loose, tmp_path, shard_bytes):
    folder = tmp_path / "packed"
    made = pack(loose, folder, shard_bytes=shard_bytes)
    before, after = list(read_manifest(loose)), list(read_manifest(made))
    assert manifest_fingerprint(made) == manifest_fingerprint(loose)
    for one, other in zip(before, after, strict=True):
        assert (other.id, other.text, other.extra) == (one.id, one.text, one.extra)
        assert read_bytes(other.input) == Path(one.input).read_bytes()
        samples, rate = read_audio(other.input)
        assert (samples.tobytes(), rate) == (read_audio(one.input)[0].tobytes(), 8000)
        assert np.array_equal(read_audio(other.input, 16000)[0], read_audio(one.input, 16000)[0])
    assert after[4].duration == 5000 / 8000  # read, because the line did not tell
    tars = sorted(folder.glob("*.tar"))
    assert len(tars) == {1: 7, 30_000: 3, 10**9: 1}[shard_bytes]
    assert all(tar.stat().st_size <= max(shard_bytes, 25_000) for tar in tars)
    assert [shard.items for shard in check_shards(folder)] == [len(members(tar)) // 2 for tar in tars]
    assert {path.name for path in folder.iterdir()} == {"manifest.jsonl", "index.json", *(tar.name for tar in tars)}


def test_tars_are_what_webdataset_reads(loose, tmp_path):
    pack(loose, tmp_path / "packed")
    found = members(tmp_path / "packed" / "audio-000000.tar")
    assert list(found)[:4] == ["00000000.flac", "00000000.json", "00000001.wav", "00000001.json"]
    assert json.loads(found["00000005.json"])["text"] == "täxt 5"
    assert json.loads(found["00000005.json"])["audio_filepath"] == "00000005.flac"
    assert found["00000001.wav"] == (loose.parent / "sub/1.wav").read_bytes()


def test_packing_again_changes_nothing_and_another_packing_is_refused(loose, tmp_path):
    folder = tmp_path / "packed"
    pack(loose, folder)
    state = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert pack(loose, folder) == folder / "manifest.jsonl"
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == state
    with pytest.raises(PackError, match="shards of another packing"):
        pack(loose, folder, shard_bytes=1000)
    with pytest.raises(PackError, match="is not empty and holds no shards"):
        pack(loose, loose.parent)


@pytest.mark.parametrize("stop", range(8))
def test_packing_goes_on_with_the_first_tar_that_is_not_whole(loose, tmp_path, monkeypatch, stop):
    wanted = tmp_path / "whole"
    pack(loose, wanted, shard_bytes=1)
    folder, read = tmp_path / "packed", []
    original = packing.read_bytes

    def reading(source):
        if len(read) == stop:
            raise KeyboardInterrupt
        read.append(source)
        return original(source)

    monkeypatch.setattr(packing, "read_bytes", reading)
    if stop < 7:
        with pytest.raises(KeyboardInterrupt):
            pack(loose, folder, shard_bytes=1)
        assert not (folder / "index.json").exists()
        with pytest.raises(PackError, match="another packing"):
            pack(loose, folder, shard_bytes=2)
    whole = len(list(folder.glob("*.tar"))) if folder.exists() else 0
    monkeypatch.setattr(packing, "read_bytes", lambda source: read.append(source) or original(source))
    read.clear()
    pack(loose, folder, shard_bytes=1)
    assert len(read) == 7 - whole
    assert whole == max(0, min(stop - 1, 7)) if stop < 7 else True
    for path in wanted.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_a_tar_that_was_cut_before_the_restart_is_written_again(loose, tmp_path, monkeypatch):
    folder = tmp_path / "packed"
    monkeypatch.setattr(packing, "_finish", lambda *_: None)
    pack(loose, folder, shard_bytes=1)
    monkeypatch.undo()
    (folder / "audio-000004.tar").write_bytes(b"")
    pack(loose, folder, shard_bytes=1)
    assert [shard.items for shard in check_shards(folder)] == [1] * 7


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda tar: tar.write_bytes(tar.read_bytes()[:700]), r"outside the file, which holds 188 of these \d+ bytes"),
        (lambda tar: tar.write_bytes(b""), r"outside the file, which holds 0 of these"),
        (lambda tar: tar.write_bytes(bytes(tar.stat().st_size)), "cannot be read as audio"),
        (lambda tar: tar.unlink(), "file not found: .*audio-000000.tar"),
    ],
    ids=["cut", "empty", "zeros", "missing"],
)
def test_a_damaged_or_missing_tar_is_named(loose, tmp_path, harm, words):
    made = pack(loose, tmp_path / "packed")
    harm(tmp_path / "packed" / "audio-000000.tar")
    entry = next(iter(read_manifest(made)))
    with pytest.raises(AudioError, match=words) as problem:
        read_audio(entry.input)
    assert f"audio-000000.tar:512:{Path(loose.parent / 'sub/0.flac').stat().st_size}" in str(problem.value)
    assert isinstance(problem.value, AudioFileNotFoundError) == ("not found" in words)
    with pytest.raises(PackError, match=r"audio-000000.tar: is (missing|not what was written)"):
        check_shards(tmp_path / "packed")


def test_a_flipped_bit_is_found_by_the_check(loose, tmp_path, capsys):
    folder = tmp_path / "packed"
    assert main(["pack", str(loose), "-o", str(folder), "--shard-size", "30kB"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "manifest.jsonl")
    assert main(["pack", "--check", str(folder)]) == 0
    assert "7 items in 3 tars" in capsys.readouterr().out
    content = bytearray((folder / "audio-000001.tar").read_bytes())
    content[5000] ^= 4
    (folder / "audio-000001.tar").write_bytes(bytes(content))
    assert main(["pack", "--check", str(folder)]) == 3
    assert "audio-000001.tar: is not what was written" in capsys.readouterr().err


def test_training_hears_packed_recordings_as_loose_ones(corpus, make_recipe, vocabulary, tmp_path):
    made = pack(corpus["train"], tmp_path / "packed", shard_bytes=50_000)
    loose, packed = (
        TrainingBatches(make_recipe("student", *more), vocabulary, units_per_frame=320)
        for more in ([], [f"data.train={made}"])
    )
    for step in (0, 4):
        assert loose[step].inputs.equal(packed[step].inputs)
        assert loose[step].texts == packed[step].texts


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_training_reads_ranges_from_object_stores(loose, tmp_path, scheme):
    base = "memory://bucket/folder" if scheme == "memory" else f"file://{tmp_path}/packed"
    made = pack(loose, tmp_path / "packed", shard_bytes=30_000, address=base)
    if scheme == "memory":
        store = fsspec.filesystem("memory")
        for tar in (tmp_path / "packed").glob("*.tar"):
            store.pipe(f"/bucket/folder/{tar.name}", tar.read_bytes())
            tar.unlink()
        store.pipe("/bucket/loose.wav", (loose.parent / "sub/1.wav").read_bytes())
        assert np.array_equal(read_samples("memory://bucket/loose.wav")[0], read_audio(loose.parent / "sub/1.wav")[0])
    for one, other in zip(read_manifest(loose), read_manifest(made), strict=True):
        assert other.input.startswith(f"{base}/audio-00000")
        assert np.array_equal(read_samples(other.input, 16000)[0], read_audio(one.input, 16000)[0])
    with pytest.raises(AudioError, match="is in an object store, which only training reads"):
        read_audio(other.input)
    with pytest.raises(AudioError, match="outside the file, which holds"):
        read_samples(f"{parse_byte_range(other.input).file}:1000:99999999")
    with pytest.raises(AudioFileNotFoundError, match="there is no such file; check the address"):
        read_samples(f"{base}/none.tar:0:10")


def test_a_store_that_nothing_reads_is_named(monkeypatch):
    with pytest.raises(AudioError, match="nothing reads nosuch:// addresses"):
        read_samples("nosuch://bucket/a.tar:0:10")

    def missing(name):
        raise ImportError("No module named 'fsspec'")

    monkeypatch.setattr("kdcompress.data.reading.import_module", missing)
    with pytest.raises(MissingDependencyError, match="reading s3:// needs fsspec and its package for s3"):
        read_samples("s3://bucket/a.tar:0:10")


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a.tar:1536:20480", ByteRange("a.tar", 1536, 20480)),
        ("C:\\audio\\a.tar:0:1", ByteRange("C:\\audio\\a.tar", 0, 1)),
        ("s3://b/a.tar:0:1", ByteRange("s3://b/a.tar", 0, 1)),
        ("C:\\audio\\a.wav", None),
        ("a.tar:12", None),
        ("a:b:c", None),
        ("host:80/a.wav", None),
    ],
)
def test_ranges_are_told_from_names(source, wanted):
    assert parse_byte_range(source) == wanted
    assert wanted is None or str(wanted) == source


def test_a_file_that_is_called_like_a_range_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(50), 8000)
    (tmp_path / "a.wav").rename(tmp_path / "a.wav:0:5")
    assert len(read_audio(tmp_path / "a.wav:0:5")[0]) == 50


def test_what_cannot_be_packed_is_named_with_its_line(loose, tmp_path):
    for row, error, words in (
        ({"audio_filepath": "none.wav", "text": "a"}, AudioFileNotFoundError, "line 15: file not found"),
        ({"source": "a sentence", "target": "b"}, ManifestError, "line 15: a sentence needs no packing"),
        ({"audio_filepath": "some.jsonl", "text": "a"}, AudioError, "line 15: cannot be read as audio"),
    ):
        other = loose.with_name("other.jsonl")
        other.write_text(loose.read_text() + json.dumps(row))
        folder = tmp_path / error.__name__
        with pytest.raises(error, match=words):
            pack(other, folder)
        assert not list(folder.glob("*.tar"))


def webdataset(path, samples):
    """A tar as others write it: folders, long names, members in any order."""
    with tarfile.open(path, "w") as tar:
        for name, content in samples:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def spoken(seed, samples=800):
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(seed).standard_normal(samples), 8000, format="FLAC")
    return file.getvalue()


def test_tars_of_others_are_indexed_where_they_lie(tmp_path):
    long = "speakers/" + "x" * 150
    one = webdataset(
        tmp_path / "one.tar",
        [
            ("d/a.txt", b" hello "),
            ("d/a.flac", spoken(1)),
            ("d/b.json", b'{"text": "b", "id": "B", "duration": 9}'),
            ("d/b.FLAC", spoken(2)),
            (f"{long}.flac", spoken(3, 1600)),
            (f"{long}.txt", b"c"),
            ("README", b"no audio"),
        ],
    )
    (tmp_path / "sub").mkdir()
    two = webdataset(tmp_path / "sub/two.tar", [("e.wav.flac", spoken(4)), ("f.flac", spoken(5)), ("f.txt", b"f")][1:])
    output = tmp_path / "some.jsonl"
    assert index_tars([one, two], output) == (4, 0)
    found = list(read_manifest(output))
    assert [(entry.id, entry.text) for entry in found] == [("d/a", "hello"), ("B", "b"), (long, "c"), ("f", "f")]
    assert [entry.duration for entry in found] == [0.1, 9, 0.2, 0.1]
    assert [read_bytes(entry.input) for entry in found] == [spoken(1), spoken(2), spoken(3, 1600), spoken(5)]
    assert json.loads(output.read_text().splitlines()[3])["audio_filepath"].startswith("sub/two.tar:")


def test_texts_of_a_nemo_manifest_are_joined_by_name(tmp_path, capsys):
    tar = webdataset(tmp_path / "audio_0.tar", [("a.flac", spoken(1)), ("b.flac", spoken(2)), ("c.flac", spoken(3))])
    rows = [{"audio_filepath": name, "text": name, "duration": 0.1, "shard_id": 0} for name in ("c.flac", "a.flac")]
    texts = tmp_path / "tarred_audio_manifest.json"
    texts.write_text("\n".join(json.dumps(row) for row in rows))
    command = ["pack", "--from-tars", str(tar), "-o", str(tmp_path / "some.jsonl")]
    assert main([*command, "--texts", str(texts)]) == 0
    assert "2 recordings in 1 tars; 1 that" in capsys.readouterr().out
    assert [(e.id, e.text) for e in read_manifest(tmp_path / "some.jsonl")] == [("a.flac", "a.flac"), ("c.flac",) * 2]
    assert main(command) == 1
    assert "a.flac: has no text" in capsys.readouterr().err


@pytest.mark.parametrize("harm", ["cut", "cut inside the audio", "header", "compressed", "no tar", "missing", "no end"])
def test_damaged_tars_of_others_are_refused(tmp_path, harm):
    tar = webdataset(tmp_path / "some.tar", [("a.flac", spoken(1)), ("a.txt", b"a"), ("b.flac", spoken(2))])
    content = tar.read_bytes()
    second = content.index(b"a.txt")
    changed = {
        "cut": content[: second + 100],
        "cut inside the audio": content[:700],
        "header": content[: second + 150] + b"zzzz" + content[second + 154 :],
        "no tar": b"hello" * 500,
        "no end": content[: second + 1024],
    }
    if harm == "compressed":
        import gzip

        tar.write_bytes(gzip.compress(content))
    elif harm == "missing":
        tar.unlink()
    else:
        tar.write_bytes(changed[harm])
    with pytest.raises(PackError, match=r"some\.tar: (cannot be read as a plain tar|damaged or cut|there is no such)"):
        index_tars([tar], tmp_path / "some.jsonl")
    assert not (tmp_path / "some.jsonl").exists()


@pytest.mark.parametrize(("text", "size"), [("1GB", 10**9), ("500 MB", 5 * 10**8), ("1.5k", 1500), ("77", 77)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0", "much", "-1GB", "1XB"])
def test_sizes_that_are_none(text):
    with pytest.raises(OptionsError, match="--shard-size"):
        parse_size(text)


def test_wrong_use_is_explained(loose, tmp_path, capsys):
    assert main(["pack", str(loose)]) == 1
    assert main(["pack", str(loose), str(loose), "-o", str(tmp_path / "x")]) == 1
    assert main(["pack", "--check", str(tmp_path)]) == 3
    assert main(["pack", str(tmp_path / "none.jsonl"), "-o", str(tmp_path / "x")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    for words in ("say with --output", "takes one manifest, found 2", "index.json: not found", "manifest not found"):
        assert words in said
