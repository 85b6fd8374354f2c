"""The shape of a line: stretch, borders, rotation, shear, perspective and elastic shifts, in one resampling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from kdcompress.data.rendering.tone import to_pillow, to_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress.data.rendering.tone import Pixels

    Points = NDArray[np.float64]


class Warp(NamedTuple):
    """What becomes of the shape; lengths are pixels of the image as it is. The defaults change nothing."""

    width: float = 1.0
    """Factor on the width."""
    left: float = 0.0
    """Ground put on at a side; cut off where below 0."""
    right: float = 0.0
    top: float = 0.0
    bottom: float = 0.0
    degrees: float = 0.0
    """Rotation about the middle; the view grows so that nothing is cut off."""
    shear: float = 0.0
    """How far the top moves to the right against the bottom."""
    corners: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    """How far the corners move down: top left, top right, bottom right, bottom left."""
    elastic: float = 0.0
    """Standard deviation of smooth random shifts."""


def warped(image: Pixels, warp: Warp, ground: tuple[int, ...], rng: np.random.Generator) -> tuple[Pixels, float]:
    """Warp an image ``(H, W, C)``: returns ``(H, W', C)`` and how many old columns a new one stands for.

    Args:
        image: not changed.
        warp: what happens.
        ground: what fills what was outside; one value a channel.
        rng: for elastic shifts.
    """
    height, width = image.shape[:2]
    if warp == Warp():
        return image, 1.0
    seen = max(1.0, width + warp.left + warp.right)
    columns = max(1, round(seen * warp.width))
    matrix = _homography(_box(columns, height), _corners(height, width, warp))
    if warp.elastic:
        method, data = Image.Transform.MESH, _mesh(columns, height, matrix, warp.elastic, rng)
    else:
        method, data = Image.Transform.PERSPECTIVE, matrix.reshape(-1)[:8].tolist()
    fill = ground[0] if len(ground) == 1 else ground
    changed = to_pillow(image).transform((columns, height), method, data, Image.Resampling.BICUBIC, fillcolor=fill)
    return to_pixels(changed), seen / columns


def _box(width: float, height: float) -> Points:
    """Corners of an image: top left, top right, bottom right, bottom left, as (x, y)."""
    return np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=np.float64)


def _corners(height: int, width: int, warp: Warp) -> Points:
    """Where the corners of the new image lie in the old one."""
    left, right = -warp.left, max(width + warp.right, 1 - warp.left)
    top, bottom = -warp.top, max(height + warp.bottom, height / 2)
    angle = math.radians(warp.degrees)
    steepest = math.atan2(height / 2, (right - left) / 2)
    angle = max(-steepest, min(steepest, angle))
    grow = abs(math.sin(angle)) * (right - left) / 2
    top, bottom = top - grow, bottom + grow
    points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    points[:, 1] -= np.array(warp.corners)
    points[:, 0] += np.array([-0.5, -0.5, 0.5, 0.5]) * warp.shear
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned: Points = (points - middle) @ turn.T + middle
    return turned


def _homography(start: Points, end: Points) -> Points:
    """3 x 3 matrix that moves four points to four others."""
    rows, values = np.zeros((8, 8)), end.reshape(-1)
    ones = np.column_stack([start, np.ones(4)])
    rows[0::2, 0:3], rows[1::2, 3:6] = ones, ones
    rows[0::2, 6:8], rows[1::2, 6:8] = -end[:, :1] * start, -end[:, 1:] * start
    return np.append(np.linalg.solve(rows, values), 1.0).reshape(3, 3)


def _mesh(
    width: int, height: int, matrix: Points, elastic: float, rng: np.random.Generator
) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Cells of half a height, corners moved by the matrix and shifted at random: what Pillow calls a mesh."""
    cell = max(4, height / 2)
    xs = np.linspace(0, width, max(2, 1 + round(width / cell))).round()
    ys = np.linspace(0, height, max(2, 1 + round(height / cell))).round()
    grid = np.stack([*np.meshgrid(xs, ys), np.ones((len(ys), len(xs)))], axis=2) @ matrix.T
    places = grid[:, :, :2] / grid[:, :, 2:] + rng.standard_normal((len(ys), len(xs), 2)) * elastic
    quads = np.stack([places[:-1, :-1], places[1:, :-1], places[1:, 1:], places[:-1, 1:]], axis=2)
    return [
        ((int(xs[x]), int(ys[y]), int(xs[x + 1]), int(ys[y + 1])), tuple(quads[y, x].reshape(-1).tolist()))
        for y in range(len(ys) - 1)
        for x in range(len(xs) - 1)
    ]
