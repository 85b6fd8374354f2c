"""Manifests of images: any size and mode, buckets of columns, and one clear sentence for every bad line."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdcompress.cli import main
from kdcompress.data.scene_text import LineBatches, line_items, read_columns
from kdcompress.data.text import character_vocabulary
from kdcompress.image_frontend import ImageConfig
from kdcompress.recipe_file import load_recipe
from kdcompress_runtime.images import read_image, to_columns
from kdcompress_runtime.manifest import read_manifest

RECIPE = """schema: 1
name: tiny
task: scene_text
data: {train: train.jsonl, dev: dev.jsonl}
frontend: {kind: image, height: 16}
augment: {spec: null}
model: {kind: full_context, encoder: {width: 8, depth: 1, kernel: 3, channels: [4, 4]}}
train: {steps: 3, batch_size: 2}
"""


def row(name, text="ab", **more):
    return {"image_filepath": name, "text": text, **more}


def write(folder, rows, split="train"):
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")


@pytest.fixture
def place(tmp_path):
    """A folder with images 0.png to 7.png, 20 to 90 columns wide at height 16, manifests and a recipe."""
    rng = np.random.default_rng(1)
    for number in range(8):
        pixels = rng.integers(0, 256, (16, 20 + 10 * number), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    write(tmp_path, [row(f"{number}.png") for number in range(8)])
    write(tmp_path, [row("0.png"), row("5.png", "ba")], "dev")
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def sets(place, *more):
    return [f"data.{split}={place / split}.jsonl" for split in ("train", "dev")] + list(more)


def train(place, *more):
    options = [word for one in sets(place, *more) for word in ("--set", one)]
    return main(["train", str(place / "recipe.yaml"), "-o", str(place / "run"), *options])


def batches(place, *more):
    recipe = load_recipe(place / "recipe.yaml", sets(place, *more))
    return LineBatches(recipe, character_vocabulary(["ab"]), units_per_frame=4)


def test_images_of_every_mode_become_columns(tmp_path):
    grey = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (16, 1))
    colour = np.stack([grey, grey // 2, 255 - grey], axis=2)
    see_through = np.dstack([colour, np.full(grey.shape, 255, np.uint8)])
    see_through[:, :10, 3] = 0
    pictures = {
        "L": Image.fromarray(grey),
        "RGB": Image.fromarray(colour),
        "P": Image.fromarray(grey).convert("P"),
        "RGBA": Image.fromarray(see_through),
        "LA": Image.fromarray(grey).convert("LA"),
        "1": Image.fromarray(grey).convert("1"),
        "I;16": Image.fromarray(grey.astype(np.uint16) * 257),
        "CMYK": Image.fromarray(colour).convert("CMYK"),
    }
    for mode, picture in pictures.items():
        path = tmp_path / f"{mode.replace(';', '')}.{'tif' if mode == 'CMYK' else 'png'}"
        picture.save(path)
        for channels in (1, 3):
            columns = to_columns(read_image(path, channels), 16, channels)
            assert columns.shape == (40, 16 * channels), mode
            if mode in {"L", "P", "LA", "I;16"}:
                assert np.abs(columns[:, 0].astype(int) - grey[0]).max() <= 1, mode
    assert (read_image(tmp_path / "RGBA.png")[:, :10] == 255).all()


def test_the_orientation_that_a_camera_noted_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("L", (50, 20), 200).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (20, 50, 1)


def test_length_is_that_of_the_columns_whether_the_line_tells_it_or_not(place):
    Image.new("L", (301, 57), 200).save(place / "large.png")
    Image.new("L", (1, 300), 200).save(place / "thin.png")
    write(place, [row("large.png"), row("large.png", width=301, height=57), row("thin.png", "")])
    recipe = load_recipe(place / "recipe.yaml", sets(place))
    items = line_items(place / "train.jsonl", recipe, character_vocabulary(["ab"]), 4)
    read = [read_columns(entry, ImageConfig(height=16)) for entry in read_manifest(place / "train.jsonl")]
    assert [item.units for item in items] == [len(columns) for columns in read] == [84, 84, 1]


def test_batches_of_columns_hold_as_many_lines_as_fit(place):
    write(place, [row(f"{number}.png") for number in range(8)] * 20)
    found = batches(place, "train.batch_seconds=200", "augment.speed=[1.0]", "train.steps=60")
    padded = [tuple(found[step].inputs.shape) for step in range(60)]
    assert all(items * columns <= 200 for items, columns, _ in padded)
    assert len({items for items, _, _ in padded}) > 2  # more of the short ones
    by_items = batches(place)
    assert by_items[0].inputs.shape[0] == 2
    assert by_items[0].inputs.shape[2] == 16


def test_distorted_batches_follow_from_the_step(place):
    plain, first, second = (batches(place, *more) for more in ((), ("augment.image={}",), ("augment.image={}",)))
    for step in range(6):
        one, two = first[step], second[step]
        assert one.inputs.equal(two.inputs)
        assert one.times.equal(two.times)
        ends = one.times[:, 0] * one.input_lens - one.times[:, 1]
        assert ends.tolist() == pytest.approx(plain[step].input_lens.tolist())  # the end of the item is its end
    assert any(not first[step].inputs.equal(plain[step].inputs) for step in range(6))
    assert all((plain[step].times.numpy() == [1.0, 0.0]).all() for step in range(6))


def test_a_line_is_not_squeezed_below_its_text(place):
    write(place, [row("0.png", "ababa")] * 4)  # 20 columns: 5 frames
    squeeze = "augment.image={probability: 1.0, width: {probability: 1.0, strength: [0.4, 0.5]}}"
    found = batches(place, squeeze)
    assert all((found[step].input_lens == 20).all() for step in range(3))


def test_lines_train(place):
    write(place, [row(f"{number}.png") for number in range(8)])
    assert train(place, "augment.image={}", "train.batch_seconds=200") == 0
    assert (place / "run" / "run.json").is_file()


def _empty_png():
    """An image 0 pixels wide."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 0, 16, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("told", [{}, {"width": 60, "height": 16}])
@pytest.mark.parametrize("name", ["missing.png", "cut.png", "nothing.png", "text.png", "empty.png"])
def test_images_that_cannot_be_read_are_one_sentence(place, capsys, name, told):
    contents = {
        "cut.png": (place / "0.png").read_bytes()[:200],
        "nothing.png": b"",
        "text.png": b"no image at all",
        "empty.png": _empty_png(),
    }
    if name in contents:
        (place / name).write_bytes(contents[name])
    write(place, [row(name, **told)] * 2)
    assert train(place) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert str(place / name) in error
    assert ("not found" if name == "missing.png" else "cannot be read as an image") in error


@pytest.mark.parametrize(
    ("bad", "settings", "said"),
    [
        ([row("0.png", "ab" * 20)], (), "the reference needs 40 frames, the input has 5"),
        ([row("7.png")], ("data.max_duration=80",), "90.0 columns is longer than data.max_duration 80.0 columns"),
        ([{"audio_filepath": "0.wav", "text": "ab"}], (), "is audio, and the task of the recipe takes image"),
        ([{"image_filepath": "0.png"}], (), "no reference; the line needs one of text, target"),
        ([{"text": "ab"}], (), "no input; the line needs one of"),
    ],
)
def test_lines_that_cannot_be_trained_on_are_one_sentence(place, capsys, bad, settings, said):
    write(place, [row("0.png"), *bad])
    assert train(place, *settings) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert str(place / "train.jsonl") in error


def test_a_text_outside_the_vocabulary_is_one_sentence(place, capsys):
    write(place, [row("0.png"), row("1.png", "aq")], "dev")
    assert train(place) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "dev.jsonl, item 1.png: 'q' in 'aq' is not in the vocabulary" in error


def test_the_sample_is_whole():
    """The lines that come with kdcompress."""
    folder = Path(__file__).parents[3] / "data" / "lines"
    texts = {}
    for split in ("train", "dev", "test"):
        entries = list(read_manifest(folder / f"{split}.jsonl"))
        texts[split] = [entry.text for entry in entries]
        for entry in entries:
            assert read_image(entry.input).shape[:2] == (entry.extra["height"], entry.extra["width"])
    assert [len(texts[split]) for split in texts] == [32, 4, 4]
    assert set("".join(texts["dev"] + texts["test"])) <= set("".join(texts["train"]))
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 150_000
