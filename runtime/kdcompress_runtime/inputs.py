"""Whole values, to what a model takes: an image to columns, a sentence to ids; and positions back to their measure.

One class for each kind of input that is not audio; audio comes in pieces and has ``intake`` and ``feed``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from kdcompress_runtime.errors import OptionsError, SourceTextError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.model import CtcModel
    from kdcompress_runtime.source_text import SourceTable


class Given(NamedTuple):
    """One input as the model takes it."""

    units: NDArray[Any]
    """``(n, ...)``, ``n`` at least ``min_units``: columns ``(n, height * channels)`` uint8, or ids ``(n,)`` int64."""
    unit: float
    """One unit in the value's own measure: pixels of the image as given for a column, 1 for a source token."""
    size: float
    """The whole value in that measure: the width of the image, the number of its source tokens."""


class Intake(Protocol):
    """Takes the values of one kind."""

    def take(self, value: Any) -> Given:  # noqa: ANN401 - whatever the caller gave
        """Turn a value into units.

        Raises:
            InputError: it cannot be used.
        """


class ImageIntake:
    """Arrays ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)`` uint8, and paths of image files."""

    def __init__(self, metadata: BundleMetadata) -> None:
        self._height, self._channels = metadata.input.height or 1, metadata.input.channels or 1
        self._least = metadata.input.min_units

    def take(self, value: Any) -> Given:  # noqa: ANN401 - as in ``Intake``
        """See ``Intake.take``.

        Raises:
            ImageError: no image, empty, or more columns than ``images.MAX_COLUMNS``.
            MissingDependencyError: a path, and Pillow is not installed.
        """
        from kdcompress_runtime.images import read_image, to_columns

        image = read_image(os.fspath(value), self._channels) if isinstance(value, (str, os.PathLike)) else value
        columns = to_columns(image, self._height, self._channels)
        width, missing = image.shape[1], max(self._least - len(columns), 0)
        padded = np.pad(columns, [(0, missing), (0, 0)], mode="edge") if missing else columns
        return Given(padded, width / len(columns), width)


class SentenceIntake:
    """Sentences."""

    def __init__(self, metadata: BundleMetadata, table: SourceTable | None) -> None:
        self._table, self._least = table, metadata.input.min_units

    def take(self, value: Any) -> Given:  # noqa: ANN401 - as in ``Intake``
        """See ``Intake.take``.

        Raises:
            SourceTextError: no text, empty, or more tokens than ``source_text.MAX_TOKENS``.
        """
        if self._table is None:
            raise SourceTextError("the model was loaded without its table of source tokens; use CtcModel.from_bundle")
        ids = self._table.encode(value)
        return Given(np.pad(ids, (0, max(self._least - len(ids), 0))), 1.0, len(ids))


_INTAKES: Mapping[str, Callable[[CtcModel], Intake]] = {
    "image": lambda model: ImageIntake(model.metadata),
    "tokens": lambda model: SentenceIntake(model.metadata, model.source_table),
}


def intake_of(model: CtcModel) -> Intake:
    """Return what takes the values of a model whose input is no audio.

    Raises:
        OptionsError: it is audio.
    """
    kind = model.metadata.input.kind
    if kind not in _INTAKES:
        raise OptionsError(f"inputs of kind {kind} come in pieces; open a stream for them")
    return _INTAKES[kind](model)


def place_of(given: Given, metadata: BundleMetadata) -> Callable[[float], float]:
    """Return what turns the number of a frame into the position where it begins, in the value's own measure."""
    step = metadata.frame_shift_ms / 1000 * given.unit

    def place(frame: float) -> float:
        return min(frame * step, given.size)

    return place
