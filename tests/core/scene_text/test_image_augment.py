"""Distorted lines: random by the generator alone, arrays stay as they are, and columns are where it is said."""

import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from kdcompress.data.image_augment import BOUNDS, ImageAugment, augment_image

OFF = {name: {"probability": 0.0} for name in BOUNDS} | {"invert": 0.0, "probability": 1.0}


def line(height=32, width=120, channels=1):
    """Dark bars on light paper."""
    rng = np.random.default_rng(3)
    image = rng.integers(225, 256, (height, width, channels), dtype=np.uint8)
    for start in range(width // 8, width, 12):
        image[height // 4 : -max(1, height // 4), start : start + 3] = 20
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 120), (48, 400), (17, 30), (3, 2), (1, 1), (100, 4)])
def test_a_line_follows_from_its_generator_alone(size, channels):
    image = line(*size, channels)
    before = image.copy()
    for seed in range(25):
        first, second = (augment_image(image, ImageAugment(), np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first.image, second.image)
        assert first[1:] == second[1:]
        assert first.image.dtype == np.uint8
        assert first.image.shape[0] == size[0]
        assert first.image.shape[2] == channels
        assert first.image.shape[1] >= 1
        assert first.speed > 0
    assert np.array_equal(image, before)


def test_what_comes_back_is_the_callers():
    image = line()
    changed = augment_image(image, ImageAugment(probability=0), np.random.default_rng(1))
    assert np.array_equal(changed.image, image)
    assert not np.shares_memory(changed.image, image)
    plain = augment_image(image, ImageAugment(**OFF), np.random.default_rng(1))
    assert np.array_equal(plain.image, image)
    assert not np.shares_memory(plain.image, image)


@pytest.mark.parametrize("name", [*BOUNDS, "invert"])
def test_each_change_changes_alone(name):
    settings = {**OFF, name: 1.0 if name == "invert" else {"probability": 1.0}}
    changed = augment_image(line(), ImageAugment(**settings), np.random.default_rng(2))
    assert changed.image.shape != line().shape or not np.array_equal(changed.image, line())
    if name not in {"width", "border"}:
        assert changed[1:] == (1.0, 0.0)


@pytest.mark.parametrize("name", ["blur", "motion", "noise", "speckle", "salt", "scale", "jpeg", "shading", "strokes"])
@pytest.mark.parametrize("channels", [1, 3])
def test_defaults_leave_the_line_there(name, channels):
    config = ImageAugment(**{**OFF, name: {"probability": 1.0}})
    for seed in range(20):
        changed = augment_image(line(channels=channels), config, np.random.default_rng(seed)).image
        assert np.corrcoef(changed.reshape(-1), line(channels=channels).reshape(-1))[0, 1] > 0.5


@pytest.mark.parametrize("seed", range(20))
def test_columns_are_where_it_is_said(seed):
    image = np.full((32, 200, 1), 250, dtype=np.uint8)
    image[:, 60:63], image[:, 150:153] = 0, 0
    settings = {**OFF, "width": {"probability": 1.0}, "border": {"probability": 1.0, "strength": (-0.2, 0.5)}}
    changed = augment_image(image, ImageAugment(**settings), np.random.default_rng(seed))
    dark = 250 - changed.image.mean(axis=(0, 2))
    half = len(dark) // 2
    for part, start, middle in ((dark[:half], 0, 61.5), (dark[half:], half, 151.5)):
        place = start + (np.arange(len(part)) + 0.5) @ part / part.sum()
        assert changed.speed * place - changed.lead_in == pytest.approx(middle, abs=1.5)


def test_the_longest_line_is_foreseen():
    config = ImageAugment(width={"probability": 1.0}, border={"probability": 1.0, "strength": (0.1, 1.0)})
    longest = max(augment_image(line(), config, np.random.default_rng(seed)).image.shape[1] for seed in range(300))
    assert 120 < longest <= config.longest(120, 32)
    assert config.moves_time
    assert not ImageAugment(**OFF).moves_time
    assert ImageAugment(**OFF).longest(120, 32) <= 121


def test_strengths_in_pixels_grow_with_the_image():
    config = ImageAugment(**{**OFF, "blur": {"probability": 1.0, "strength": (1.0, 1.0)}})
    small, large = line(32, 120), line(32, 120).repeat(4, axis=0).repeat(4, axis=1)
    blurred = augment_image(large, config, np.random.default_rng(1)).image[2::4, 2::4]
    assert np.abs(blurred.astype(int) - augment_image(small, config, np.random.default_rng(1)).image).mean() < 12


def test_what_a_recipe_leaves_out_is_the_defaults():
    config = ImageAugment(blur={"probability": 0.9}, width={"strength": [0.7, 1.3]})
    assert config.blur.strength == ImageAugment().blur.strength
    assert config.width.probability == ImageAugment().width.probability
    assert config.width.strength == (0.7, 1.3)
    assert ImageAugment.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"blur": {"probability": 1.5}}, "less than or equal to 1"),
        ({"width": {"strength": [1.2, 0.8]}}, "strength runs from low to high"),
        ({"width": {"strength": [0.0, 1.0]}}, "width.strength lies between 0.3 and 3"),
        ({"jpeg": {"strength": [0, 50]}}, "jpeg.strength lies between 1 and 100"),
        ({"fog": {"probability": 0.5}}, "Extra inputs are not permitted"),
        ({"blur": {"sigma": 1}}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_settings_are_told(settings, said):
    with pytest.raises(ValidationError, match=said.replace(".", r"\.")):
        ImageAugment(**settings)


def test_the_table_of_the_page_is_true():
    page = (Path(__file__).parents[3] / "docs" / "scene-text.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| (?:(\S+) to (\S+) )?\|", page, flags=re.MULTILINE)
    defaults = ImageAugment()
    found = {name: (float(share), float(low), float(high)) for name, share, low, high in rows if low}
    assert found == {name: (getattr(defaults, name).probability, *getattr(defaults, name).strength) for name in BOUNDS}
    assert {name: float(share) for name, share, low, _ in rows if not low} == {
        "probability": defaults.probability,
        "invert": defaults.invert,
    }
