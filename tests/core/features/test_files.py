"""Frames in files: what is read, that nothing else is, and a sentence for each file that cannot be used."""

from __future__ import annotations

import io
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kdcompress.data import feature_files
from kdcompress.data.feature_files import FeatureFiles
from kdcompress.errors import FeaturesError, FeaturesNotFoundError
from kdcompress_runtime.errors import InputError, ManifestError
from kdcompress_runtime.manifest import parse_line
from tests.core.features.conftest import entry_of

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def npy(values) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "values",
    [VALUES, VALUES.astype(np.float64), VALUES.astype(np.float16), np.asfortranarray(VALUES), VALUES.astype(">f4")],
    ids=["float32", "float64", "float16", "fortran", "big endian"],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "deflated"])
def test_a_member_and_a_file_are_what_was_saved(values, save, tmp_path):
    np.save(tmp_path / "one.npy", values)
    save(tmp_path / "all.npz", **{"a/b#c": values, "other": VALUES + 1})
    files = FeatureFiles(3)
    for entry in (entry_of(tmp_path / "one.npy"), entry_of(tmp_path / "all.npz", "a/b#c")):
        found = files.read(entry)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, VALUES)
        assert files.frames(entry) == 4


def test_the_length_is_known_without_the_values(tmp_path):
    (tmp_path / "cut.npy").write_bytes(npy(VALUES)[:-5])
    files = FeatureFiles(3)
    assert files.frames(entry_of(tmp_path / "cut.npy")) == 4
    with pytest.raises(FeaturesError, match=r"cut\.npy: ends after 43 of 48 bytes"):
        files.read(entry_of(tmp_path / "cut.npy"))


def test_threads_do_not_read_headers_at_once(tmp_path, monkeypatch):
    """Python 3.11.7 and older may fail where two threads parse a header at one time (python/cpython#106905)."""
    np.save(tmp_path / "one.npy", VALUES)
    reading, most = [], []

    def slow(file):
        reading.append(file)
        time.sleep(0.005)
        most.append(len(reading))
        reading.remove(file)
        return np.lib.format.read_array_header_1_0(file)

    monkeypatch.setitem(feature_files._HEADERS, (1, 0), slow)
    with ThreadPoolExecutor(4) as pool:
        read = [
            pool.submit(files.read, entry_of(tmp_path / "one.npy")) for files in (FeatureFiles(3), FeatureFiles(3)) * 4
        ]
    for found in read:
        np.testing.assert_array_equal(found.result(), VALUES)
    assert most == [1] * len(read)


def test_a_few_archives_stay_open_for_many_threads(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(feature_files, "ZipFile", lambda path: opened.append(path) or zipfile.ZipFile(path))
    monkeypatch.setattr(feature_files, "OPEN_ARCHIVES", 2)
    for shard in range(4):
        np.savez_compressed(tmp_path / f"{shard}.npz", **{str(i): VALUES + 10 * shard + i for i in range(20)})
    asked = [(shard, i) for i in range(20) for shard in (0, 1)] + [(shard, i) for shard in (2, 3, 0) for i in range(20)]
    files = FeatureFiles(3)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: files.read(entry_of(tmp_path / f"{one[0]}.npz", str(one[1]))), asked))
    for (shard, i), values in zip(asked, found, strict=True):
        np.testing.assert_array_equal(values, VALUES + 10 * shard + i)
    assert len(opened) < 20  # and not once an item


BAD = {
    "nan": (np.full((2, 3), np.nan, np.float32), "holds NaN or infinity"),
    "too large for float32": (np.full((2, 3), 1e300), "holds NaN or infinity"),
    "another dimension": (np.zeros((4, 5), np.float32), r"has the shape \(4, 5\), not \(frames, 3\)"),
    "one axis": (np.zeros(3, np.float32), r"has the shape \(3,\)"),
    "empty": (np.zeros((0, 3), np.float32), "holds no frames"),
    "integers": (np.zeros((2, 3), np.int16), "holds int16; frames are float32"),
    "objects": (np.array([[{}, 1, 2]], dtype=object), "holds object"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_one_sentence(name, tmp_path):
    values, words = BAD[name]
    content = npy(values)
    (tmp_path / "bad.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("k.npy", content)
    for entry in (entry_of(tmp_path / "bad.npy"), entry_of(tmp_path / "bad.npz", "k")):
        with pytest.raises(FeaturesError, match=words):
            FeatureFiles(3).read(entry)


def test_what_is_missing_or_damaged_is_one_sentence(tmp_path):
    files = FeatureFiles(3)
    np.savez_compressed(tmp_path / "good.npz", a=np.random.default_rng(1).standard_normal((400, 3)))
    content = bytearray((tmp_path / "good.npz").read_bytes())
    content[2000:2020] = bytes(20)
    (tmp_path / "hurt.npz").write_bytes(content)
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "text.npy").write_text("no array")
    cases = [
        (entry_of(tmp_path / "no.npy"), FeaturesNotFoundError, "file not found: .*no.npy; check feature_filepath"),
        (entry_of(tmp_path / "no.npz", "a"), FileNotFoundError, "archive not found: .*no.npz"),
        (entry_of(tmp_path / "good.npz", "b"), FeaturesNotFoundError, r"good\.npz: holds no 'b'; check feature_key"),
        (entry_of(tmp_path / "text.npz", "a"), FeaturesError, "cannot be read as .npz"),
        (entry_of(tmp_path / "hurt.npz", "a"), FeaturesError, "hurt.npz#a: damaged"),
        (entry_of(tmp_path / "text.npy"), InputError, r"is no \.npy array"),
        (entry_of(tmp_path), FeaturesError, "cannot be read"),
    ]
    for entry, kind, words in cases:
        with pytest.raises(kind, match=words):
            files.read(entry)


def test_a_line_names_a_file_or_an_archive_and_a_key(tmp_path):
    def parse(line: str):
        return parse_line(line, where="m, line 1", folder=tmp_path)

    one = parse('{"feature_archive": "t.npz", "feature_key": "k", "num_frames": 9, "text": "yes", "speaker": "s"}')
    assert (one.id, one.kind, one.input) == ("k", "features", f"{tmp_path / 't.npz'}#k")
    assert one.extra["num_frames"] == 9
    other = parse('{"feature_filepath": "a/x.npy", "text": "yes", "duration": 2}')
    assert (other.id, other.kind, other.input) == ("a/x.npy", "features", str(tmp_path / "a/x.npy"))
    with pytest.raises(ManifestError, match="line 1: feature_archive needs feature_key"):
        parse('{"feature_archive": "t.npz", "text": "yes"}')
