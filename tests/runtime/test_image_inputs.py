"""Bundles of images: any size, arrays and files, one by one and together; positions are pixels of the given image."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kdcompress_runtime import (
    Bundle,
    BundleError,
    CtcModel,
    DecoderOptions,
    EndpointRules,
    ImageError,
    ImageNotFoundError,
    ModelError,
    OptionsError,
    Recognizer,
)
from kdcompress_runtime.images import MAX_COLUMNS
from tests.runtime.small_bundles import COLUMNS, HEIGHT, VOCABULARY, image_bundle, image_model, line

TEXTS = ["ab", "ab c", "f", "dead bee", "ab", "cab"]
KINDS = ("greedy", "beam")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return image_bundle(tmp_path_factory.mktemp("lines"))


@pytest.fixture(scope="module")
def reader(path):
    return Recognizer.from_dir(path)


@pytest.fixture(scope="module", params=KINDS)
def any_reader(path, request):
    return Recognizer.from_dir(path, decoder=DecoderOptions(request.param))


@pytest.mark.parametrize("text", TEXTS)
def test_a_line_is_read(any_reader, text):
    assert any_reader.recognize(line(text)).text == text


@pytest.mark.parametrize("factor", [1, 3, 0.5])
def test_any_height_and_any_channels(reader, factor):
    image = line("abc", width=round(16 * factor), height=round(HEIGHT * factor))
    expected = reader.recognize(image)
    assert expected.text.replace(" ", "") == "abc"  # where it grows, the edges of bars are grey
    assert reader.recognize(image[:, :, None]) == expected
    assert reader.recognize(np.repeat(image[:, :, None], 3, axis=2)).text == expected.text


def test_positions_are_pixels_of_the_image_as_given(reader):
    plain = reader.recognize(line("ab ca", width=8))
    assert plain.timestamps == (0, 16, 32, 48, 64)
    assert plain.token_ends == (8, 24, 40, 56, 72)
    assert [(word.text, word.begin, word.end) for word in plain.words] == [("ab", 0, 24), ("ca", 48, 72)]
    tripled = reader.recognize(line("ab ca", width=24, height=3 * HEIGHT))
    np.testing.assert_allclose(tripled.timestamps, 3 * np.array(plain.timestamps), atol=3 * COLUMNS)
    assert all(0 < sure <= 1 for sure in tripled.token_confidences)
    assert len(tripled.token_confidences) == len(tripled.tokens)
    assert 0 < tripled.words[0].confidence <= 1


def test_no_position_lies_beyond_the_image(reader):
    bar = line("a", width=8)[:, :6]  # a frame and a half
    result = reader.recognize(bar)
    assert (result.text, result.timestamps, result.token_ends) == ("a", (0,), (6,))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_very_narrow_images_are_read(reader, width):
    column = line("d")[:, :width]
    assert reader.recognize(column).text == "d"
    assert reader.recognize(column).token_ends == (width,)
    assert reader.log_probs(column).shape == (-(-width // COLUMNS), len(VOCABULARY))


def test_an_image_too_narrow_for_the_graph_is_continued_with_its_last_column(tmp_path):
    source = {"kind": "image", "name": "image", "units_per_frame": 4, "height": 8, "channels": 1, "min_units": 9}
    reader = Recognizer.from_dir(image_bundle(tmp_path / "b", input=source))
    image = line("ab", width=4)[:, :5]
    image[:, 4] = line("c")[:, 0]
    assert len(reader.log_probs(image)) == 3
    assert reader.recognize(image).text == "ac"
    assert reader.recognize(image).token_ends == (4, 5)


def test_blank_paper_is_an_empty_result(reader):
    result = reader.recognize(np.zeros((20, 100), np.uint8))
    assert (result.text, result.tokens, result.words) == ("", (), ())


def test_files_are_read_as_arrays_are(reader, tmp_path):
    image = line("ab c", width=16, height=24)
    file = tmp_path / "line.png"
    Image.fromarray(image).save(file)
    expected = reader.recognize(image)
    assert reader.recognize(file) == reader.recognize(str(file)) == expected
    assert reader.recognize_batch([file, image, str(file)]) == [expected] * 3


def test_the_callers_image_is_not_changed(reader):
    image = line("ab", width=16, height=32)
    image.setflags(write=False)
    reader.recognize(image)
    assert reader.recognize(image[:, ::-1]).text == "ba"  # a view with a stride below 0


def test_a_batch_answers_as_one_by_one(any_reader):
    random = np.random.default_rng(1)
    images = [line(text, width=4 * random.integers(1, 4)) for text in TEXTS * 3]
    images += [random.integers(0, 256, (random.integers(8, 40), width), np.uint8) for width in (17, 40, 40, 40, 900)]
    together = any_reader.recognize_batch(images)
    for alone, found in zip(map(any_reader.recognize, images), together, strict=True):
        assert (found.text, found.tokens, found.timestamps) == (alone.text, alone.tokens, alone.timestamps)
        assert found.log_prob == pytest.approx(alone.log_prob, abs=1e-4)
    assert any_reader.recognize_batch([]) == []
    assert any_reader.recognize_batch(iter(images[:2])) == together[:2]


class Counting:
    """Stands in for a session, and counts the rows of each call."""

    def __init__(self, session):
        self.session, self.rows = session, []

    def run(self, names, feed):
        self.rows.append(len(feed["image"]))
        return self.session.run(names, feed)


@pytest.mark.parametrize(("batch", "rows"), [("N", [3, 1, 1]), (1, [1] * 5)])
def test_equal_widths_share_a_call_where_the_graph_takes_several(tmp_path, batch, rows):
    model = CtcModel.from_bundle(Bundle.open(image_bundle(tmp_path / "b", model=image_model(batch=batch))))
    model._session = session = Counting(model._session)
    found = Recognizer(model).recognize_batch([line(text) for text in ("ab", "abc", "cd", "ef", "f")])
    assert [one.text for one in found] == ["ab", "abc", "cd", "ef", "f"]
    assert session.rows == rows


def test_a_call_takes_no_more_than_fits(path):
    model = CtcModel.from_bundle(Bundle.open(path))
    model._session = session = Counting(model._session)
    Recognizer(model).recognize_batch([line("ab")] * 70)
    Recognizer(model).recognize_batch([np.zeros((HEIGHT, 7000), np.uint8)] * 3)
    assert session.rows == [32, 32, 6, 2, 1]


def test_colour(tmp_path):
    reader = Recognizer.from_dir(image_bundle(tmp_path / "b", channels=3))
    image = np.zeros((HEIGHT, 16, 3), np.uint8)
    image[:, :8, 1] = line("e")[0, 0]
    assert reader.recognize(image).text == "e"
    assert reader.recognize(line("e")).text == "e"
    Image.fromarray(image).save(tmp_path / "green.png")
    assert reader.recognize(tmp_path / "green.png").text == "e"


def test_beam_with_language_model_lexicon_and_hotwords(path, table_lm):
    lm = table_lm(("ab", "ad", "c"), seed=3)
    options = DecoderOptions("beam", alpha=0.5, beam_width=16)
    limited = Recognizer.from_dir(path, decoder=options, lm=lm, lexicon={"ab", "c"})
    assert limited.recognize(line("ab c")).text == "ab c"
    assert limited.recognize(line("ad c")).text != "ad c"
    plain = Recognizer.from_dir(path, decoder=DecoderOptions("beam"))
    blurred = line("ab")
    blurred[:, 16:20] = (int(line("b")[0, 0]) + int(line("c")[0, 0])) // 2 - 2  # between b and c, nearer to b
    blurred[:, 20:] = 0
    assert plain.recognize(blurred).text == "ab"
    assert plain.recognize(blurred, hotwords={"ac": 9.0}).text == "ac"
    assert plain.recognize_batch([blurred], hotwords={"ac": 9.0})[0].text == "ac"
    texts = [one.text for one in plain.nbest(blurred, 3)]
    assert texts[:2] == ["ab", "ac"]
    assert len(set(texts)) == 3
    with pytest.raises(OptionsError, match="hotwords"):
        Recognizer.from_dir(path).recognize(blurred, hotwords={"ac": 1.0})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((8, 8), np.float32), "uint8, 0 to 255, found float32"),
        (np.zeros((8, 8, 4), np.uint8), r"\(height, width, 3\), found \(8, 8, 4\)"),
        (np.zeros((8, 0), np.uint8), "empty"),
        (np.zeros(8, np.uint8), r"found \(8,\)"),
        ([[0, 1]], "found list"),
        (None, "found NoneType"),
        (np.zeros((8, MAX_COLUMNS + 1), np.uint8), "cut the line into parts"),
        ("no-such.png", "image file not found: no-such.png"),
        ("s3://bucket/a.png", "object store"),
    ],
)
def test_what_is_no_image_of_a_line_is_refused(reader, value, words):
    with pytest.raises(ImageError, match=words):
        reader.recognize(value)
    with pytest.raises(ImageError, match=rf"values\[1\]: .*{words}"):
        reader.recognize_batch([line("a"), value])


def test_the_error_of_a_missing_file_stays_what_it_is(reader, tmp_path):
    for ask in (reader.recognize, lambda value: reader.recognize_batch([value])):
        with pytest.raises(ImageNotFoundError, match=r"none\.png"):
            ask(tmp_path / "none.png")
        with pytest.raises(FileNotFoundError):
            ask(tmp_path / "none.png")


def test_what_is_for_audio_says_so(path, reader):
    asked = {
        "a stream": reader.create_stream,
        "streams": lambda: reader.decode_streams([]),
        "endpoint": lambda: Recognizer.from_dir(path, endpoint=EndpointRules()),
        "chunk_frames": lambda: Recognizer.from_dir(path, chunk_frames=4),
        "tail_seconds": lambda: Recognizer.from_dir(path, tail_seconds=0.0),
        "max_whole_seconds": lambda: Recognizer.from_dir(path, max_whole_seconds=9.0),
        "max_queue_seconds": lambda: Recognizer.from_dir(path, max_queue_seconds=9.0),
    }
    for what, call in asked.items():
        with pytest.raises(OptionsError, match=f"{what}: only for audio, and this bundle takes images"):
            call()
    for call in (lambda: reader.stream([], 8000), lambda: reader.stream_async([], 8000)):
        with pytest.raises(OptionsError, match="this bundle takes images"):
            call()
    with pytest.raises(OptionsError, match="images, and only audio has a sample rate"):
        reader.recognize(line("a"), 8000)
    with pytest.raises(OptionsError, match="takes a list of values"):
        reader.recognize_batch("line.png")


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((1, 8, HEIGHT), np.float32),
        np.zeros((1, 8, HEIGHT + 1), np.uint8),
        np.zeros((8, HEIGHT), np.uint8),
        np.zeros((1, 0, HEIGHT), np.uint8),
    ],
)
def test_arrays_that_do_not_fit_the_graph_are_model_errors(path, inputs):
    with pytest.raises(ModelError, match=rf"a step takes \(N, n, {HEIGHT}\) with n >= 1, uint8"):
        CtcModel.from_bundle(Bundle.open(path)).step(inputs, {})


def test_a_graph_of_another_height_is_refused(tmp_path):
    source = {"kind": "image", "name": "image", "units_per_frame": 4, "height": 16, "channels": 1}
    with pytest.raises(ModelError, match=r"'image' has shape .*not \['N', 'columns', 16\]"):
        Recognizer.from_dir(image_bundle(tmp_path / "b", input=source))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": 7}, "height of an input of kind image must be an integer, from 8 to 256, found 7"),
        ({"height": None}, "height of an input"),
        ({"channels": 2}, "channels of an input of kind image must be an integer, 1 or 3, found 2"),
        ({"channels": True}, "channels"),
        ({"sample_rate": 8000}, "sample_rate means nothing"),
        ({"frames_per_unit": 2}, "frames_per_unit means nothing"),
    ],
)
def test_metadata_that_describe_no_image_are_refused(tmp_path, changes, words):
    source = {"kind": "image", "name": "image", "units_per_frame": 4, "height": 8, "channels": 1}
    with pytest.raises(BundleError, match=words):
        Bundle.open(image_bundle(tmp_path / "b", input={**source, **changes}))


def test_images_are_taken_whole(tmp_path):
    with pytest.raises(BundleError, match="takes images takes them whole"):
        Bundle.open(image_bundle(tmp_path / "b", streaming=True))


def test_arrays_need_no_pillow_and_nobody_pays_for_kinds_not_used(path, tmp_path):
    code = (
        "import sys, numpy\nsys.modules['PIL'] = None\n"
        "import kdcompress_runtime as k\n"
        "lazy = {'kdcompress_runtime.images', 'kdcompress_runtime.source_text'}\n"
        "assert not lazy & {*sys.modules}, sys.modules\n"
        f"reader = k.Recognizer.from_dir({str(path)!r})\n"
        "print(reader.recognize(numpy.full((8, 8), 72, numpy.uint8)).text)\n"
        f"try: reader.recognize({str(tmp_path / 'a.png')!r})\n"
        "except k.MissingDependencyError as error: print(error)\n"
    )
    (tmp_path / "a.png").write_bytes(b"anything")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["a", "reading image files needs Pillow; install kdcompress[image]"]
