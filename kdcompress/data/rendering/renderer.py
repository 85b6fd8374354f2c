"""Labelled images of text lines without end: line ``number`` of a seed follows from the two alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from kdcompress.data.image_augment import Change, ImageAugment, augment_image
from kdcompress.data.rendering import ink as printing
from kdcompress.data.rendering.fonts import FontSet, font_label
from kdcompress.data.rendering.ink import Setting, drawn
from kdcompress.data.rendering.paper import any_colours, plain, printed, receipt_colours
from kdcompress.data.rendering.texts import BuiltInTexts, ChosenTexts
from kdcompress.data.rendering.tone import to_pillow, to_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from numpy.typing import NDArray

    from kdcompress.data.rendering.ink import Ink
    from kdcompress.data.rendering.paper import Backgrounds
from kdcompress.data.rendering.texts import Texts

RENDERING_VERSION = 1
"""Raised whenever the same settings would give other images."""


def _change(probability: float, low: float, high: float) -> Change:
    return Change(probability=probability, strength=(low, high))


STRONG = ImageAugment(
    probability=0.97,
    width=_change(0.7, 0.65, 1.12),
    border=_change(0.3, -0.04, 0.1),
    rotation=_change(0.35, 0.2, 2.5),
    shear=_change(0.3, 0.02, 0.25),
    perspective=_change(0.25, 0.02, 0.12),
    elastic=_change(0.2, 0.01, 0.04),
    strokes=_change(0.4, -0.6, 0.8),
    shading=_change(0.15, 0.05, 0.35),
    contrast=_change(0.35, 0.55, 1.5),
    brightness=_change(0.3, -0.06, 0.2),
    invert=0.03,
    blur=_change(0.5, 0.3, 1.1),
    motion=_change(0.12, 1.5, 4.0),
    scale=_change(0.45, 1.2, 2.1),
    noise=_change(0.4, 2.0, 16.0),
    jpeg=_change(0.5, 20.0, 80.0),
)
"""Of rendered lines: what is drawn by a computer is cleaner than anything that is photographed."""


@dataclass(frozen=True)
class RenderConfig:
    """What lines look like."""

    height: int = 32
    """Pixels of every image."""
    channels: int = 1
    """1 for grey, 3 for colour."""
    looks: Literal["receipt", "general", "both"] = "both"
    """Dark print on paper; any colours and backgrounds; or each for half of the lines."""
    charset: str | None = None
    """Characters that texts may have, besides the blank; all when left out."""
    longest: int = 45
    """Characters of the longest text."""
    upper: bool = False
    """Whether all texts are in capitals."""
    distort: ImageAugment = STRONG
    """What happens to a line once it is printed."""


class Rendered(NamedTuple):
    """A line."""

    image: NDArray[np.uint8]
    """``(height, W, channels)``."""
    text: str
    font: str


class Renderer:
    """Draws lines: ``renderer(seed, number)``.

    Args:
        config: what they look like.
        fonts: fonts to choose from; those of the system when left out.
        texts: where texts come from; built in when left out.
        backgrounds: images that half of the lines are printed on; none when left out.

    Raises:
        OptionsError: there is no font.
    """

    def __init__(
        self,
        config: RenderConfig | None = None,
        fonts: FontSet | None = None,
        texts: Texts | None = None,
        backgrounds: Backgrounds | None = None,
    ) -> None:
        self.config = config or RenderConfig()
        self.fonts = fonts or FontSet()
        self.backgrounds = backgrounds
        source = texts or BuiltInTexts()
        self._texts = ChosenTexts(source, self.config.charset, self.config.longest, upper=self.config.upper)

    def __call__(self, seed: int, number: int) -> Rendered:
        """Draw line ``number`` of ``seed``, both 0 or more.

        Raises:
            OptionsError: no text can be drawn with these characters and fonts.
        """
        rng = np.random.default_rng((seed, number))
        font = ""

        def shows(text: str) -> bool:
            nonlocal font
            font = self.fonts.draw(text, rng) or ""
            return bool(font)

        text = self._texts.draw(rng, shows)
        config = self.config
        receipt = config.looks == "receipt" or (config.looks == "both" and rng.random() < 0.5)
        cover = drawn(text, self._neighbours(_setting(font, rng), rng))
        cover = _worn(cover, rng) if receipt else cover
        height, width = cover.shape
        colour, paper = (receipt_colours if receipt else any_colours)(config.channels, rng)
        sheet = plain(paper, height, width, rng)
        if self.backgrounds and rng.random() < 0.5:
            # half see-through: the text keeps enough contrast on any image
            sheet = (sheet + self.backgrounds.draw(height, width, config.channels, rng)) / 2
        changed = augment_image(printed(cover, colour, sheet), config.distort, rng).image
        columns = max(1, round(changed.shape[1] * config.height / changed.shape[0]))
        sized = to_pillow(changed).resize((columns, config.height), Image.Resampling.BILINEAR)
        return Rendered(to_pixels(sized), text, font_label(font))

    def lines(self, seed: int, start: int = 0) -> Iterator[Rendered]:
        """Yield lines without end, from line ``start`` on."""
        number = start
        while True:
            yield self(seed, number)
            number += 1

    def settings(self) -> dict[str, Any]:
        """Return all that lines follow from, besides seed and number; JSON values only."""
        looks = {**asdict(self.config), "distort": self.config.distort.model_dump(mode="json")}
        return {
            **looks,
            "fonts": self.fonts.fingerprint(),
            "texts": self._texts.fingerprint(),
            "backgrounds": self.backgrounds.fingerprint() if self.backgrounds else None,
        }

    def _neighbours(self, setting: Setting, rng: np.random.Generator) -> Setting:
        """Let the ends of other lines be seen, at times."""
        if rng.random() >= 0.15:
            return setting
        texts = [self._texts.draw(rng, lambda text: self.fonts.shows(setting.font, text)) for _ in range(2)]
        which = int(rng.integers(1, 4))
        overlap = float(rng.uniform(0.04, 0.2))
        left, top, right, bottom = setting.margins
        if which & 1:
            top = max(top, overlap + 0.03)  # neighbours are seen, and do not touch the line
        if which & 2:
            bottom = max(bottom, overlap + 0.03)
        return setting._replace(
            above=texts[0] * (which & 1),
            below=texts[1] * (which >> 1),
            overlap=overlap,
            margins=(left, top, right, bottom),
        )


def _setting(font: str, rng: np.random.Generator) -> Setting:
    """Draw how a line is set."""
    loose, tight = rng.random() < 0.18, rng.random() < 0.65
    low, high = (-0.06, 0.3) if tight else (-0.12, 0.12)
    sides, ends = rng.uniform(0.0, 0.35, 2), rng.uniform(low, high, 2)
    return Setting(
        font,
        size=int(rng.integers(18, 45)),
        spacing=float(rng.uniform(-0.04, 0.2)) if loose else 0.0,
        tight=tight,
        margins=(float(sides[0]), float(ends[0]), float(sides[1]), float(ends[1])),
        underline=float(rng.uniform(0.03, 0.1)) if rng.random() < 0.04 else 0.0,
    )


def _worn(cover: Ink, rng: np.random.Generator) -> Ink:
    """Print with needles or heat, worn ones at times."""
    if cover.shape[0] >= 16 and rng.random() < 0.15:
        cover = printing.dotted(cover, int(rng.integers(14, 21)), rng)
    if rng.random() < 0.25:
        cover = printing.faded(cover, float(rng.uniform(0.2, 0.75)), rng)
    if rng.random() < 0.15:
        cover = printing.streaked(cover, float(rng.uniform(0.02, 0.15)), rng)
    if rng.random() < 0.15:
        cover = printing.combed(cover, float(rng.uniform(0.2, 0.7)), rng)
    if rng.random() < 0.2:
        cover = printing.grainy(cover, float(rng.uniform(0.3, 1.0)), rng)
    return cover
