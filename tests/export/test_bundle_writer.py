"""Only a bundle is replaced, and never by half of one."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest

from kdcompress_export import ExportError, bundle_writer, interrupts
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_runtime import Bundle, BundleCorruptError, BundleNotFoundError, Vocabulary
from kdcompress_runtime.bundle import BundleMetadata, InputSpec, ModelFile, sha256


def make_contents(name="tiny-4", model=b"weights" * 3000):
    """A bundle as far as the writer is concerned: it never runs the model."""
    vocabulary = Vocabulary.from_symbols(["a", "b"])
    files = {"tokens.txt": vocabulary.dumps().encode(), "model.onnx": model}
    metadata = BundleMetadata(
        name=name,
        task="speech",
        input=InputSpec("pcm", "pcm", 320, 8000),
        states=(),
        frame_shift_ms=40.0,
        subsampling_factor=4,
        lookahead_frames=0,
        chunk_frames=8,
        models=(ModelFile("float32", "model.onnx"),),
        default_precision="float32",
        parameters=1,
        blank_id=0,
        files={file: sha256(content) for file, content in files.items()},
    )
    return {"bundle.json": metadata.dumps().encode(), **files}


@pytest.fixture
def contents():
    return make_contents()


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


NAMES = ["bundle", "bundle.zip"]


def interrupted_at(line, call):
    """Run ``call`` and press Ctrl-C at the ``line``-th line of the writer; False when it has fewer lines."""
    passed = 0

    def trace(frame, event, _):
        nonlocal passed
        if frame.f_code.co_filename not in {bundle_writer.__file__, interrupts.__file__}:
            return None
        if event == "line":
            passed += 1
            if passed == line:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        pass
    else:
        assert passed < line, "Ctrl-C was lost"
    finally:
        sys.settrace(before)
    return passed >= line


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("replaces", [False, True])
def test_ctrl_c_at_any_line_leaves_the_old_or_the_new_and_nothing_else(tmp_path, contents, name, replaces):
    handler = signal.getsignal(signal.SIGINT)
    new = make_contents("new", b"other" * 2000)
    for line in range(1, 10_000):
        folder = tmp_path / str(line)
        output = folder / name
        folder.mkdir()
        if replaces:
            write_bundle(output, contents)
        more = interrupted_at(line, lambda output=output: write_bundle(output, new))
        assert signal.getsignal(signal.SIGINT) is handler
        assert [path.name for path in folder.iterdir()] in ([[name]] if replaces else [[], [name]]), line
        if output.exists():
            found = Bundle.open(output)
            assert found.metadata.name in ({"tiny-4", "new"} if replaces else {"new"})
            assert found.read("model.onnx") in (contents["model.onnx"], new["model.onnx"])
        if not more:
            break
    assert line > 50
    assert found.metadata.name == "new"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("room", [0, 100, 5000])
def test_a_full_disk_leaves_what_was_there(tmp_path, name, room):
    """The limit is the system's own: no file may grow beyond ``room``."""
    old, new = make_contents(), make_contents("new", os.urandom(50_000))
    write_bundle(tmp_path / name, old)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        for output in (tmp_path / name, tmp_path / f"fresh-{name}"):
            with pytest.raises(ExportError, match=r"cannot write the bundle .* make room"):
                write_bundle(output, new)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert Bundle.open(tmp_path / name).read("model.onnx") == old["model.onnx"]


@pytest.fixture
def dead():
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_export_left_is_cleaned_up_by_the_next(tmp_path, contents, dead):
    (tmp_path / f".bundle.{dead}.tmp").mkdir()
    (tmp_path / f".bundle.{dead}.tmp" / "model.onnx").write_bytes(b"half")
    kept = [f".bundle.{os.getppid()}.tmp", f".other.{dead}.tmp", ".bundle.x.tmp"]
    for name in kept:
        (tmp_path / name).write_text("not ours")
    write_bundle(tmp_path / "bundle", contents)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["bundle", *kept])


def test_a_bundle_that_a_killed_export_had_moved_aside_comes_back(tmp_path, contents, dead):
    write_bundle(tmp_path / f".bundle.{dead}.old", contents)
    with pytest.raises(BundleCorruptError):
        write_bundle(tmp_path / "bundle", {**contents, "model.onnx": b"other"})
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert Bundle.open(tmp_path / "bundle").read("model.onnx") == contents["model.onnx"]


def test_contents_without_a_file_that_they_name_are_refused(tmp_path, contents):
    del contents["model.onnx"]
    with pytest.raises(BundleNotFoundError, match=r"model\.onnx"):
        write_bundle(tmp_path / "bundle", contents)
    assert not list(tmp_path.iterdir())


def test_in_another_thread_it_writes_as_well(tmp_path, contents):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(write_bundle, tmp_path / "bundle", contents).result()
    assert Bundle.open(tmp_path / "bundle")
