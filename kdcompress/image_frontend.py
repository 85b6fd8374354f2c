"""Images of text lines: their settings, and the frontend that scales pixels.

A line is read from left to right: its columns are what samples are to speech, and a column of pixels is a feature. So
every network, loss and teacher that takes ``(N, T, F)`` takes lines.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from kdcompress.network import Frontend
from kdcompress.settings import Settings
from kdcompress_runtime.bundle import InputSpec

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.recipe import AugmentConfig
    from kdcompress_runtime.bundle import StateSpec

INPUT_NAME = "image"


class ImageConfig(Settings):
    """Images of text lines: what of them the network is given."""

    task: ClassVar[Literal["scene_text"]] = "scene_text"
    measure: ClassVar[str] = "columns"
    longest: ClassVar[float] = 2000.0
    counted_by: ClassVar[tuple[str, ...]] = ("height",)
    augments: ClassVar[frozenset[str]] = frozenset({"image", "spec"})

    kind: Literal["image"] = "image"
    """The frontend for images of text lines."""
    height: int = Field(default=32, ge=8, le=256)
    """Pixels of a column; images are resized to it, width in proportion."""
    channels: Literal[1, 3] = 1
    """1 for grey, 3 for colour."""

    @property
    def sample_rate(self) -> None:
        """None: these are no audio."""
        return

    @property
    def units_per_second(self) -> float:
        """Input units (columns) in a unit of length, which is a column."""
        return 1.0

    def grown(self, augment: AugmentConfig, units: int) -> int:
        """Return the most columns that a line of ``units`` columns becomes."""
        return augment.image.longest(units, self.height) if augment.image else units

    def exact_shift(self) -> Fraction:
        """Return the input time between features: one unit, since input time is in units where there is no audio."""
        return Fraction(1)


class ImageFrontend(Frontend):
    """Columns ``(N, k, height * channels)``, 0 to 255, to features -1 to 1; no state, no delay."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_dim = config.height * config.channels
        self.units_per_feature = 1

    def input_spec(self, subsampling_factor: int) -> InputSpec:
        """Describe the graph's input: uint8 columns."""
        return InputSpec(
            "image", INPUT_NAME, subsampling_factor, height=self.config.height, channels=self.config.channels
        )

    def state_specs(self) -> tuple[StateSpec, ...]:
        """Return no state."""
        return ()

    def step(self, inputs: Tensor, states: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Scale ``(N, k, F)``, uint8 or float32."""
        del states
        return self(inputs), {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Scale ``(N, k, F)`` to float32."""
        return inputs.float() * (1 / 127.5) - 1.0
