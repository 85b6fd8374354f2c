"""``kdcompress prepare lines``: whole or absent, goes on where it stopped, one sentence for what is wrong."""

import errno
import json

import pytest
from PIL import Image

from kdcompress.cli import main
from kdcompress.data.rendering import line_set
from kdcompress_runtime.images import read_image
from kdcompress_runtime.manifest import read_manifest


def command(output, *options, count=7):
    return ["prepare", "lines", "-o", str(output), "--count", str(count), "--fonts", "builtin", *options]


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small_folders(monkeypatch):
    monkeypatch.setattr(line_set, "FOLDER_ITEMS", 3)


@pytest.mark.parametrize("options", [(), ("--format", "png", "--colour", "--height", "40", "--upper")])
def test_images_are_as_the_manifest_says(tmp_path, capsys, small_folders, options):
    assert main(command(tmp_path / "lines", *options)) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "lines" / "train.jsonl")
    entries = list(read_manifest(tmp_path / "lines" / "train.jsonl"))
    assert len(entries) == 7
    assert len(list((tmp_path / "lines" / "images").iterdir())) == 3
    for entry in entries:
        image = read_image(entry.input, 3)
        assert image.shape[:2] == (entry.extra["height"], entry.extra["width"])
        assert entry.text
        assert entry.extra["font"] == "builtin"
        assert image.shape[0] == (40 if options else 32)
    rows = (tmp_path / "lines" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert set(json.loads(rows[0])) == {"image_filepath", "text", "width", "height", "font"}
    assert {path.name for path in tmp_path.iterdir()} == {"lines"}


def test_a_stopped_command_goes_on_and_gives_the_same(tmp_path, capsys, small_folders, monkeypatch):
    assert main(command(tmp_path / "whole")) == 0
    save, written = line_set.save_line, []

    def stopping(line, path):
        if len(written) == 5:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(path)
        save(line, path)

    with monkeypatch.context() as patched:
        patched.setattr(line_set, "save_line", stopping)
        assert main(command(tmp_path / "lines")) != 0
    assert not (tmp_path / "lines").exists()
    drawn = []
    monkeypatch.setattr(line_set, "save_line", lambda line, path: (drawn.append(path), save(line, path)))
    assert main(command(tmp_path / "lines")) == 0
    assert len(drawn) == 4  # the first folder was whole
    assert files_of(tmp_path / "lines") == files_of(tmp_path / "whole")
    assert not (tmp_path / ".lines.partial").exists()
    assert main(command(tmp_path / "lines")) == 0  # it is there
    assert len(drawn) == 4
    capsys.readouterr()
    assert main(command(tmp_path / "lines", "--seed", "2")) == 1
    assert "seed is 1 there, 2 asked" in capsys.readouterr().err


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    assert main(command(tmp_path / "few", count=3)) == 0
    assert main(command(tmp_path / "many", count=5)) == 0
    few, many = files_of(tmp_path / "few"), files_of(tmp_path / "many")
    assert all(many[path] == content for path, content in few.items() if path.suffix == ".jpg")


def test_a_full_disk_is_told(tmp_path, capsys, monkeypatch):
    def full(line, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(line_set, "save_line", full)
    assert main(command(tmp_path / "lines")) == 1
    assert "No space left on device; free space" in capsys.readouterr().err
    assert not (tmp_path / "lines").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--count", "0"), "--count must be 1 to"),
        (("--seed", "-1"), "--seed must be 0 or more"),
        (("--height", "3"), "--height must be 8 to 256"),
        (("--charset", " "), "--charset names no character"),
        (("--charset", "漢"), "none can be drawn"),
        (("--texts", "nowhere.txt"), "no such file of texts"),
        (("--backgrounds", "nowhere"), "no such folder of backgrounds"),
        (("--fonts", "nowhere"), "no such folder of fonts"),
    ],
)
def test_bad_options_are_one_sentence_and_leave_nothing(tmp_path, capsys, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    assert main(command(tmp_path / "lines", *options)) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_another_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "mine.txt").write_text("keep", encoding="utf-8")
    assert main(command(tmp_path / "lines")) == 1
    assert "holds no prepared data" in capsys.readouterr().err
    assert (tmp_path / "lines" / "mine.txt").read_text(encoding="utf-8") == "keep"


def test_a_list_of_lines_becomes_a_manifest(tmp_path, capsys):
    (tmp_path / "words").mkdir()
    for number in range(3):
        Image.new("L", (20 + number, 12), 200).save(tmp_path / "words" / f"{number}.png")
    listing = tmp_path / "gt.txt"
    listing.write_text(
        '\ufeffwords/0.png, "Tiredness, kills"\nwords/1.png, "a \\"b\\""\n\nwords/2.png\tx y\n', encoding="utf-8"
    )
    command = ["prepare", "lines", "-o", str(tmp_path / "out"), "--from-gt", str(listing)]
    assert main(command) == 0
    entries = list(read_manifest(tmp_path / "out" / "train.jsonl"))
    assert [entry.text for entry in entries] == ["Tiredness, kills", 'a "b"', "x y"]
    assert [entry.extra["width"] for entry in entries] == [20, 21, 22]
    assert read_image(entries[2].input).shape == (12, 22, 1)
    assert main(command) == 1
    assert "is there; name another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such list"),
        (b"", "is empty"),
        (b"\xff\xfe", "no UTF-8 text"),
        (b"0.png Hello", "gt.txt, line 1: expected"),
        (b'0.png, "Hello"', "image file not found"),
    ],
)
def test_bad_lists_are_one_sentence(tmp_path, capsys, content, said):
    if content is not None:
        (tmp_path / "gt.txt").write_bytes(content)
    assert main(["prepare", "lines", "-o", str(tmp_path / "out"), "--from-gt", str(tmp_path / "gt.txt")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_lines_are_drawn_or_listed(tmp_path, capsys):
    assert main(["prepare", "lines", "-o", str(tmp_path / "out")]) == 1
    assert "either --count" in capsys.readouterr().err
