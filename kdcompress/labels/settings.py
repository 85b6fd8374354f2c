"""What ``kdcompress label`` stores of a teacher's answers: the ``label`` section of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kdcompress.settings import Settings


class FullLabels(Settings):
    """All posteriors, float16."""

    kind: Literal["full"]
    """Selects this."""


class TopKLabels(Settings):
    """The most probable tokens of each frame with their float16 log-probabilities; what is left is the tail."""

    kind: Literal["top_k"] = "top_k"
    """Selects this."""
    top_k: int = Field(default=8, ge=1)
    """Tokens kept in each frame."""


class OccupancyLabels(Settings):
    """Which label of the reference each frame belongs to, softly."""

    kind: Literal["occupancy"]
    """Selects this."""


class CodebookLabels(Settings):
    """A block of the teacher, quantised: one byte a codebook and frame (Guo et al., arXiv 2211.00508)."""

    kind: Literal["codebook"]
    """Selects this."""
    teacher_layer: int = -1
    """Block of the teacher, from 0; negative ones count from the end."""
    codebooks: int = Field(default=8, ge=1)
    """Indices of each frame."""
    entries: int = Field(default=64, ge=2, le=256)
    """Values of each index."""


class NbestLabels(Settings):
    """The teacher's N best texts with their scores."""

    kind: Literal["nbest"]
    """Selects this."""
    size: int = Field(default=4, ge=1)
    """Texts for each item."""
    beam_width: Annotated[int, Field(ge=1)] = 8
    """Prefixes kept in the search for them."""


class TextLabels(Settings):
    """What a language model says of the text of each item; its sound is not looked at."""

    kind: Literal["units"]
    """Selects this."""
    top_k: int = Field(default=16, ge=1)
    """Units kept in the place of each; the others share what is left."""
    states: bool = False
    """Keep the states of the model, too, for ``representation``."""


AnyLabels = Annotated[
    FullLabels | TopKLabels | OccupancyLabels | CodebookLabels | NbestLabels | TextLabels, Field(discriminator="kind")
]
"""Every kind of stored label; ``label.kind`` selects."""
