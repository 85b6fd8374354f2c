"""Rendered lines: each follows from seed and number, shows its text, and fonts lack none of its characters."""

from itertools import islice

import numpy as np
import pytest
from PIL import Image

from kdcompress.data.rendering import fonts as fonts_module
from kdcompress.data.rendering import ink
from kdcompress.data.rendering.fonts import FontSet
from kdcompress.data.rendering.ink import Setting, drawn
from kdcompress.data.rendering.paper import Backgrounds
from kdcompress.data.rendering.phrases import PHRASES, SYMBOLS, phrase
from kdcompress.data.rendering.renderer import STRONG, RenderConfig, Renderer
from kdcompress.data.rendering.texts import ChosenTexts, FileTexts
from kdcompress_runtime.errors import OptionsError


@pytest.fixture(scope="module")
def fonts():
    return FontSet(["builtin"])


def text_file(path, *lines):
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("config", [RenderConfig(), RenderConfig(height=48, channels=3, looks="general", upper=True)])
def test_a_line_follows_from_seed_and_number(fonts, config):
    renderer, again = Renderer(config, fonts), Renderer(config, fonts)
    lines = [renderer(1, number) for number in range(20)]
    for number in reversed(range(20)):
        line, same = lines[number], again(1, number)
        assert np.array_equal(line.image, same.image)
        assert line[1:] == same[1:]
        assert line.image.shape[::2] == (config.height, config.channels)
        assert line.image.dtype == np.uint8
        assert line.image.std() > 2  # something is seen
        assert 0 < len(line.text) <= config.longest
        assert line.text == line.text.strip()
        assert not config.upper or line.text == line.text.upper()
    assert [line.text for line in islice(again.lines(1, 5), 3)] == [line.text for line in lines[5:8]]
    assert renderer(2, 0).text != lines[0].text
    assert len({line.text for line in lines}) > 15


def test_built_in_texts_hold_every_printable_character():
    rng = np.random.default_rng(1)
    seen = set("".join(phrase(rng) for _ in range(6000)))
    assert set(SYMBOLS) | set("abcxyzABCXYZ0123456789 ") <= seen
    assert seen <= {chr(code) for code in range(32, 127)}
    assert sum(share for _, share in PHRASES) == pytest.approx(1)


def test_texts_are_cut_at_words_and_kept_to_characters(fonts, tmp_path):
    path = text_file(tmp_path / "texts.txt", "one two three four five", "", "  six   seven ", "eight!", "nineteen")
    source = FileTexts(path, 10)
    rng = np.random.default_rng(1)
    runs = {source.draw(rng) for _ in range(300)}
    assert {"one two", "two three", "three four", "four five", "five", "six seven", "nineteen", "eight!"} >= runs
    assert len(runs) > 5
    texts = ChosenTexts(source, "oneturhfiv", 10, upper=False)
    assert {texts.draw(rng) for _ in range(100)} == {"three four", "four five", "five", "nineteen"}  # no w, x, g or !
    config = RenderConfig(upper=True, charset="NIETG!H")
    assert {line.text for line in islice(Renderer(config, fonts, source).lines(1), 12)} <= {"EIGHT!", "NINETEEN"}


def test_fonts_without_a_character_are_passed_over(fonts, tmp_path):
    mixed = FileTexts(text_file(tmp_path / "a.txt", "漢字", "Hello"), 45)
    assert {Renderer(RenderConfig(), fonts, mixed)(1, number).text for number in range(10)} == {"Hello"}
    with pytest.raises(OptionsError, match=r"no font has all of '漢字'"):
        Renderer(RenderConfig(), fonts, FileTexts(text_file(tmp_path / "b.txt", "漢字"), 45))(1, 0)
    with pytest.raises(OptionsError, match=r"the last one has .*name other characters with --charset"):
        Renderer(RenderConfig(charset="漢"), fonts)(1, 0)


def test_no_font_names_the_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts_module, "SYSTEM_FOLDERS", (tmp_path,))
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    with pytest.raises(OptionsError, match=r"apt-get install fonts-dejavu .*--fonts builtin"):
        FontSet()
    with pytest.raises(OptionsError, match="no such folder of fonts"):
        FontSet([tmp_path / "none"])


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file of texts"), (b"\xff\xfe", "no UTF-8"), (b" \n\n", "holds no text")]
)
def test_bad_files_of_texts_are_told(tmp_path, content, said):
    if content is not None:
        (tmp_path / "texts.txt").write_bytes(content)
    with pytest.raises(OptionsError, match=said):
        FileTexts(tmp_path / "texts.txt", 45)


@pytest.mark.parametrize("channels", [1, 3])
def test_lines_on_backgrounds(fonts, tmp_path, channels):
    with pytest.raises(OptionsError, match="no such folder of backgrounds"):
        Backgrounds(tmp_path / "none")
    with pytest.raises(OptionsError, match="no image"):
        Backgrounds(tmp_path)
    for number, size in enumerate([(500, 300), (10, 4)]):
        Image.effect_noise(size, 90).save(tmp_path / f"{number}.png")
    plain = RenderConfig(channels=channels, distort=STRONG.model_copy(update={"probability": 0.0}))
    printed = Renderer(plain, fonts, backgrounds=Backgrounds(tmp_path))
    bare = Renderer(plain, fonts)
    changed = [not np.array_equal(printed(1, number).image, bare(1, number).image) for number in range(12)]
    assert 2 < sum(changed) < 12


@pytest.mark.parametrize("text", ["i", "Hello, World", "." * 45])
def test_what_printers_do_leaves_ink(text):
    rng = np.random.default_rng(1)
    cover = drawn(text, Setting("builtin", 30, spacing=0.1, underline=0.05, above="xyz", below="ABC", overlap=0.1))
    assert cover.dtype == np.float32
    assert cover.min() == 0
    assert cover.max() == 1
    for worn in (
        ink.dotted(cover, 16, rng),
        ink.faded(cover, 0.8, rng),
        ink.streaked(cover, 0.2, rng),
        ink.combed(cover, 0.8, rng),
        ink.grainy(cover, 1.0, rng),
    ):
        assert worn.dtype == np.float32
        assert worn.ndim == 2
        assert worn.min() >= 0
        assert 0.05 < worn.max() <= 1
    assert drawn(text, Setting("builtin", 30)).shape[1] < cover.shape[1] or len(text) == 1
