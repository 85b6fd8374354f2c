"""The changes that ``ImageAugment`` asks for, in the order of the world: paper, light, camera, file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcompress.data.rendering.optics import blurred, jpeg, noisy, rescaled, strokes
from kdcompress.data.rendering.tone import Tone, ground_of, shade, toned
from kdcompress.data.rendering.warp import Warp, warped

if TYPE_CHECKING:
    from kdcompress.data.image_augment import Change, ImageAugment
    from kdcompress.data.rendering.tone import Pixels

REFERENCE_HEIGHT = 32
"""Pixels of the lines that strengths in pixels are meant for."""


def distorted(image: Pixels, config: ImageAugment, rng: np.random.Generator) -> tuple[Pixels, float, float]:
    """Return the fields of ``Distorted``; see ``augment_image``."""
    if rng.random() >= config.probability:
        return image.copy(), 1.0, 0.0
    unit = image.shape[0] / REFERENCE_HEIGHT
    ground = ground_of(image)
    warp = _warp(image.shape[0], image.shape[1], config, rng)
    changed, speed = warped(image, warp, ground, rng)
    if spread := _drawn(config.strokes, rng, 0.0):
        changed = strokes(changed, spread * unit)
    changed = toned(changed, _tone(config, rng), ground)
    if dark := _drawn(config.shading, rng, 0.0):
        changed = shade(changed, dark, rng)
    changed = _camera(changed, config, rng, unit)
    return image.copy() if changed is image else changed, speed, warp.left


def _drawn(change: Change, rng: np.random.Generator, otherwise: float) -> float:
    """Strength of a change, or what changes nothing."""
    if rng.random() >= change.probability:
        return otherwise
    low, high = change.strength
    return low + (high - low) * rng.random()


def _either(change: Change, rng: np.random.Generator) -> float:
    """Do the same, to one of two sides."""
    found = _drawn(change, rng, 0.0)
    return found if found and rng.random() < 0.5 else -found


def _warp(height: int, width: int, config: ImageAugment, rng: np.random.Generator) -> Warp:
    low, high = config.border.strength
    sides: tuple[float, ...] = (0.0,) * 4
    if rng.random() < config.border.probability:
        least = -width / 4  # of a narrow image half must stay
        left, right, top, bottom = (rng.uniform(low, high, 4) * height).tolist()
        sides = (max(left, least), max(right, least), top, bottom)
    corners = _drawn(config.perspective, rng, 0.0) * height
    return Warp(
        width=_drawn(config.width, rng, 1.0),
        left=sides[0],
        right=sides[1],
        top=sides[2],
        bottom=sides[3],
        degrees=_either(config.rotation, rng),
        shear=_either(config.shear, rng) * height,
        corners=tuple(float(corner) for corner in rng.uniform(-corners, corners, 4)) if corners else (0.0,) * 4,
        elastic=_drawn(config.elastic, rng, 0.0) * height,
    )


def _tone(config: ImageAugment, rng: np.random.Generator) -> Tone:
    return Tone(
        contrast=_drawn(config.contrast, rng, 1.0),
        brightness=_drawn(config.brightness, rng, 0.0),
        gamma=_drawn(config.gamma, rng, 1.0),
        invert=rng.random() < config.invert,
    )


def _camera(image: Pixels, config: ImageAugment, rng: np.random.Generator, unit: float) -> Pixels:
    """Blur, resolution, noise and compression."""
    sigma, length = _drawn(config.blur, rng, 0.0) * unit, _drawn(config.motion, rng, 0.0) * unit
    if sigma or length:
        image = blurred(image, sigma, length, rng.random() * np.pi)
    if (factor := _drawn(config.scale, rng, 1.0)) > 1:
        image = rescaled(image, factor, rng)
    noise, speckle, salt = (_drawn(change, rng, 0.0) for change in (config.noise, config.speckle, config.salt))
    if noise or speckle or salt:
        image = noisy(image, noise, speckle, salt, rng)
    if quality := _drawn(config.jpeg, rng, 0.0):
        image = jpeg(image, round(quality))
    return image
