"""Items that come as frames of features: their settings, and the frontend that hands them on.

What is made of a whole item (its mean, its deltas) is made where it is read, ``data.features``: a student is a pure
``step``, and cannot know the mean of what is still to come.
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


class FeaturesConfig(Settings):
    """Frames from files, ``(frames, feature_dim)``: what the network is given of them."""

    task: ClassVar[Literal["features"]] = "features"
    measure: ClassVar[str] = "s"
    longest: ClassVar[float] = 30.0
    counted_by: ClassVar[tuple[str, ...]] = ()
    augments: ClassVar[frozenset[str]] = frozenset({"lead_in_s", "speed", "spec"})

    kind: Literal["features"] = "features"
    """The frontend for items that are features already."""
    feature_dim: int = Field(ge=1, le=4096)
    """Values of a frame in the files."""
    frame_shift_ms: float = Field(default=10.0, gt=0, le=1000)
    """Time between frames; durations of manifests and ``data.max_duration`` are seconds."""
    mean: Literal["item", "none"] = "item"
    """``item`` takes the mean over an item from its frames, which needs the whole item; ``none`` leaves them alone."""
    deltas: int = Field(default=2, ge=0, le=2)
    """How often differences over time are appended: 2 for deltas and their deltas, three times ``feature_dim``."""

    @property
    def sample_rate(self) -> None:
        """None: these are no audio."""
        return

    @property
    def units_per_second(self) -> float:
        """Input units (frames) in a second."""
        return 1000 / self.frame_shift_ms

    @property
    def input_dim(self) -> int:
        """Values of a frame as the network gets it, deltas included."""
        return self.feature_dim * (1 + self.deltas)

    def grown(self, augment: AugmentConfig, units: int) -> int:
        """Return the most frames that an item of ``units`` frames becomes."""
        return augment.stretched(units, self.units_per_second)

    def exact_shift(self) -> Fraction:
        """Return the input time between features: one unit, since input time is in units where there is no audio."""
        return Fraction(1)


class FeatureFrontend(Frontend):
    """Frames ``(N, k, input_dim)`` as they are; no state, no delay."""

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.feature_dim = config.input_dim
        self.units_per_feature = 1

    def input_spec(self, subsampling_factor: int) -> InputSpec:
        """Describe the graph's input; no runtime feeds this kind yet."""
        return InputSpec("features", "features", subsampling_factor)

    def state_specs(self) -> tuple[StateSpec, ...]:
        """Return no state."""
        return ()

    def step(self, inputs: Tensor, states: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Hand on ``(N, k, F)`` float32."""
        del states
        return inputs, {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Hand on ``(N, k, F)`` in float32."""
        return inputs.float()
