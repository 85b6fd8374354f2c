"""What each tensor of a float32 graph ranges over on real inputs; measured once, used by many schemes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from kdcompress_export.errors import QuantizationError
from kdcompress_export.streams import lengthened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from onnxruntime.quantization.calibrate import TensorsData

    from kdcompress_export.inputs import Units
    from kdcompress_runtime.model import CtcModel

CalibrationName = Literal["minmax", "entropy", "percentile"]
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
_CALIBRATION_FRAMES = 25
"""Frames of a calibration step, unless the student streams in longer chunks."""
_HISTOGRAM_RECORDINGS = 16
"""Recordings that make a histogram, spread evenly, for the sake of time. On a student of noisy digits 64 moved the
upper ends of percentile ranges (10 % at the median), hardly those of entropy, and agreed with float32 no better."""


class StepReader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime is not typed
    """Feeds recordings through the float32 model in chunks, so that caches are seen with real content.

    A model that takes whole inputs gets them whole.

    Raises:
        QuantizationError: there is none.
    """

    def __init__(self, model: CtcModel, recordings: Iterable[Units]) -> None:
        self.frames = 0
        feeds = self._run(model, recordings)
        first = next(feeds, None)
        if first is None:
            raise QuantizationError("nothing to calibrate on; give a manifest with at least one item")
        self._feeds = itertools.chain([first], feeds)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the feed of the next step, or None at the end."""
        return next(self._feeds, None)

    def _run(self, model: CtcModel, recordings: Iterable[Units]) -> Iterator[dict[str, NDArray[Any]]]:
        source, lag = model.metadata.input, model.metadata.lookahead_frames
        units = source.units_per_frame
        step = units * max(_CALIBRATION_FRAMES, model.metadata.chunk_frames)
        for samples in recordings:
            if not model.metadata.streaming:
                whole = lengthened(samples, source.min_units)
                self.frames += -(-len(whole) * source.frames_per_unit // units)
                yield {source.name: whole[None]}
                continue
            # Silence to whole steps: histograms need all steps alike.
            needed = len(samples) + lag * units
            padded = np.pad(samples, (0, needed - len(samples) + -needed % step))
            states = model.init_states()
            for start in range(0, len(padded), step):
                inputs = padded[None, start : start + step]
                self.frames += inputs.shape[1] // units
                yield {source.name: inputs, **states}
                _, states = model.step(inputs, states)


class Calibration:
    """Recordings, and what they showed: a graph that was measured before is not measured again."""

    def __init__(self, model: CtcModel, recordings: Iterable[Units]) -> None:
        """Keep the recordings.

        Args:
            model: the float32 model; its states feed the next step.
            recordings: training inputs, ``(units, ...)`` each.

        Raises:
            QuantizationError: there is no recording.
        """
        self.model = model
        """The float32 model."""
        self._recordings = list(recordings)
        self._found: dict[tuple[str, tuple[str, ...], str], TensorsData] = {}
        if not self._recordings:
            raise QuantizationError("nothing to calibrate on; give a manifest with at least one item")
        self.frames = 0
        """Output frames that the last measurement ran."""

    @property
    def recordings(self) -> Sequence[Units]:
        """The recordings."""
        return tuple(self._recordings)

    def ranges(self, graph: Path, operators: Sequence[str], method: CalibrationName) -> TensorsData:
        """Ranges of what the operators of these kinds read and write.

        Args:
            graph: file of the float32 graph, shapes inferred.
            operators: ONNX operator types.
            method: how a range follows from what was seen.
        """
        key = (hashlib.sha256(graph.read_bytes()).hexdigest(), tuple(operators), method)
        if key not in self._found:
            self._found[key] = self._measure(graph, operators, method)
        return self._found[key]

    def _measure(self, graph: Path, operators: Sequence[str], method: CalibrationName) -> TensorsData:
        frames = 0
        # Histograms keep every activation until they are told to count; so they count after each recording.
        step = 1 if method == "minmax" else -(-len(self._recordings) // _HISTOGRAM_RECORDINGS)
        chosen = self._recordings[::step]
        groups = [chosen] if method == "minmax" else [[one] for one in chosen]
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            calibrator = create_calibrator(
                str(graph), list(operators), str(Path(folder, "augmented.onnx")), METHODS[method]
            )
            for group in groups:
                reader = StepReader(self.model, group)
                calibrator.collect_data(reader)
                frames += reader.frames
            found = calibrator.compute_data()
            del calibrator
        self.frames = frames
        return found
