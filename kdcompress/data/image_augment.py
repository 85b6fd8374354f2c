"""What happens to images of text lines in training: settings; ``rendering`` makes the changes.

Strengths that are lengths are shares of the height, or pixels of a line 32 high: they mean the same for images of any
size. The order is that of the world: the paper is bent and lit, then the camera blurs and adds noise, then JPEG.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple

import numpy as np  # noqa: TC002 (a NamedTuple shows it)
from numpy.typing import NDArray  # noqa: TC002 (a NamedTuple shows it)
from pydantic import Field, model_validator

from kdcompress.settings import Settings
from kdcompress_runtime.errors import MissingDependencyError


class Change(Settings):
    """How often a change happens, and how strongly."""

    probability: Annotated[float, Field(ge=0, le=1)]
    """Share of the items that it happens to."""
    strength: tuple[float, float]
    """Lowest and highest; drawn evenly between the two. What it measures is said where the change is."""

    @model_validator(mode="after")
    def _check(self) -> Change:
        if self.strength[0] > self.strength[1]:
            raise ValueError(f"strength runs from low to high, found {list(self.strength)}")
        return self


def _change(probability: float, low: float, high: float) -> Change:
    return Change(probability=probability, strength=(low, high))


BOUNDS = {
    "width": (0.3, 3.0),
    "border": (-0.3, 2.0),
    "rotation": (0.0, 20.0),
    "shear": (0.0, 1.0),
    "perspective": (0.0, 0.4),
    "elastic": (0.0, 0.2),
    "strokes": (-1.0, 1.0),
    "shading": (0.0, 1.0),
    "contrast": (0.05, 5.0),
    "brightness": (-1.0, 1.0),
    "gamma": (0.1, 10.0),
    "blur": (0.0, 10.0),
    "motion": (0.0, 30.0),
    "scale": (1.0, 10.0),
    "noise": (0.0, 128.0),
    "speckle": (0.0, 2.0),
    "salt": (0.0, 0.5),
    "jpeg": (1.0, 100.0),
}
"""Of strengths: outside of them nothing would be left to read, or the change means nothing."""


class ImageAugment(Settings):
    """Changes to images of text lines. What a change leaves out, probability or strength, is the default's."""

    probability: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the items that anything happens to; the others stay as they are."""
    width: Change = _change(0.5, 0.85, 1.15)
    """Horizontal stretch: width after over width before."""
    border: Change = _change(0.5, -0.06, 0.15)
    """Ground put on, or cut off where below 0, at each of the four sides; shares of the height."""
    rotation: Change = _change(0.3, 0.2, 2.0)
    """Degrees, to either side; never so many that an end of the line moves by over half the height."""
    shear: Change = _change(0.3, 0.02, 0.2)
    """How far the top moves against the bottom, to either side; a share of the height."""
    perspective: Change = _change(0.25, 0.02, 0.12)
    """How far each corner may move up or down; a share of the height."""
    elastic: Change = _change(0.2, 0.01, 0.04)
    """Standard deviation of smooth random shifts, one each half height; a share of the height."""
    strokes: Change = _change(0.3, -0.5, 0.6)
    """Ink spreads above 0, and thins below: 1 is a whole pixel of a line 32 high to each side."""
    shading: Change = _change(0.25, 0.05, 0.35)
    """How much light the darkest place of an uneven lighting lacks; a share."""
    contrast: Change = _change(0.5, 0.4, 1.3)
    """Factor on the distance of every pixel from the ground; below 1 ink fades."""
    brightness: Change = _change(0.3, -0.15, 0.15)
    """Added to every pixel; a share of the range."""
    gamma: Change = _change(0.3, 0.6, 1.7)
    """Exponent on pixels from 0 to 1."""
    invert: Annotated[float, Field(ge=0, le=1)] = 0.03
    """Share of the items whose dark and light change places."""
    blur: Change = _change(0.25, 0.3, 1.0)
    """Standard deviation of a Gaussian blur, in pixels of a line 32 high."""
    motion: Change = _change(0.12, 1.5, 4.0)
    """Length of a straight blur of any direction, in pixels of a line 32 high."""
    scale: Change = _change(0.25, 1.2, 2.0)
    """Factor the image is shrunk by before it is enlarged again."""
    noise: Change = _change(0.3, 2.0, 14.0)
    """Standard deviation of Gaussian noise, in grey levels of 255."""
    speckle: Change = _change(0.15, 0.03, 0.15)
    """Standard deviation of the factor that each pixel is multiplied by."""
    salt: Change = _change(0.08, 0.001, 0.01)
    """Share of the pixels that turn black or white."""
    jpeg: Change = _change(0.4, 25.0, 85.0)
    """Quality of JPEG, 1 to 100."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, found: Any) -> Any:  # noqa: ANN401 - whatever a recipe says
        """Put the default's probability or strength where a change leaves it out."""
        if not isinstance(found, dict):
            return found
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {
            name: {**defaults[name].model_dump(), **value}
            if isinstance(value, dict) and isinstance(defaults.get(name), Change)
            else value
            for name, value in found.items()
        }

    @model_validator(mode="after")
    def _check(self) -> ImageAugment:
        for name, (low, high) in BOUNDS.items():
            strength = getattr(self, name).strength
            if strength[0] < low or strength[1] > high:
                raise ValueError(f"{name}.strength lies between {low:g} and {high:g}, found {list(strength)}")
        return self

    @property
    def moves_time(self) -> bool:
        """Whether columns may end up elsewhere."""
        return bool(self.probability and (self.width.probability or self.border.probability))

    def longest(self, columns: int, height: int) -> int:
        """Return the most columns that so many of that height can become."""
        grown = max(0.0, self.border.strength[1] if self.border.probability else 0.0) * 2 * height
        return math.ceil((columns + grown) * max(1.0, self.width.strength[1] if self.width.probability else 1.0)) + 1


class Distorted(NamedTuple):
    """What became of an image. What is at column x is at ``speed * x - lead_in`` in the image as it was."""

    image: NDArray[np.uint8]
    """``(H, W, C)``; H as it was."""
    speed: float
    """Above 1 it became narrower."""
    lead_in: float = 0.0
    """Columns put in front, of the image as it was; cut off where below 0."""


def augment_image(image: NDArray[np.uint8], config: ImageAugment, rng: np.random.Generator) -> Distorted:
    """Return a changed copy of an image of a text line.

    Args:
        image: ``(H, W, 1)`` or ``(H, W, 3)`` uint8; not changed.
        config: what may happen, how often and how strongly.
        rng: what is random follows from it alone.

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    try:
        from kdcompress.data.rendering.distort import distorted
    except ImportError as error:
        raise MissingDependencyError("augment.image needs Pillow; install kdcompress[image]") from error
    return Distorted(*distorted(image, config, rng))
