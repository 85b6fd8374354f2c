"""Only a bundle is replaced, and never by half of one."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from kdcompress_export import ExportError
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_runtime import Bundle, BundleCorruptError


@pytest.fixture
def contents(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_a_bundle_is_replaced_and_nothing_is_left_over(tmp_path, contents, name):
    for _ in range(2):
        write_bundle(tmp_path / name, contents)
        assert Bundle.open(tmp_path / name).metadata.name == "tiny-4"
        assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(ExportError, match="there already"):
        write_bundle(tmp_path / name, contents, overwrite=False)


def test_a_zip_is_the_same_every_time(tmp_path, contents):
    for name in ("a.zip", "b.zip"):
        write_bundle(tmp_path / name, contents)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_an_empty_folder_is_taken(tmp_path, contents):
    (tmp_path / "bundle").mkdir()
    write_bundle(tmp_path / "bundle", contents)
    assert Bundle.open(tmp_path / "bundle")


def test_what_is_no_bundle_is_never_replaced(tmp_path, contents):
    file, folder, rich = tmp_path / "notes.txt", tmp_path / "photos", tmp_path / "rich"
    file.write_text("mine")
    folder.mkdir()
    (folder / "cat.jpg").write_text("mine")
    write_bundle(rich, contents)
    (rich / "notes.txt").write_text("mine")
    for path, words in ((file, "is no bundle"), (folder, "is no bundle"), (rich, r"more than a bundle \(notes.txt\)")):
        with pytest.raises(ExportError, match=words):
            write_bundle(path, contents)
    assert file.read_text() == (folder / "cat.jpg").read_text() == (rich / "notes.txt").read_text() == "mine"


def test_contents_that_do_not_fit_their_hashes_are_not_written(tmp_path, contents):
    with pytest.raises(BundleCorruptError):
        write_bundle(tmp_path / "bundle", {**contents, "model.onnx": b"other"})
    assert not list(tmp_path.iterdir())


def test_a_parent_that_is_a_file_is_one_sentence(tmp_path, contents):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write the bundle"):
        write_bundle(tmp_path / "file" / "bundle", contents)


def test_a_failed_move_puts_the_old_bundle_back(tmp_path, contents, monkeypatch):
    output = tmp_path / "bundle"
    write_bundle(output, contents)
    real = type(output).replace

    def fail(self, target):
        if self.name.endswith(".tmp"):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(type(output), "replace", fail)
    with pytest.raises(ExportError, match="No space left"):
        write_bundle(output, contents)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert Bundle.open(output).read("model.onnx") == contents["model.onnx"]


def test_ctrl_c_between_the_two_renames_waits_for_the_second(tmp_path, contents, monkeypatch):
    output = tmp_path / "bundle"
    write_bundle(output, contents)
    shutil.copytree(output, tmp_path / "copy")
    real = type(output).rename

    def interrupted(self, target):
        moved = real(self, target)
        os.kill(os.getpid(), signal.SIGINT)
        return moved

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(type(output), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(output, contents)
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is handler
    assert Bundle.open(output).read("model.onnx") == contents["model.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "copy"]
