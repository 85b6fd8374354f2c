"""A bundle of ours as a teacher, run by onnxruntime as its users run it."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdcompress.errors import TeacherError
from kdcompress.teachers.foreign import ForeignTeacher, fingerprint, guess_units, side_by_side, to_log_probs
from kdcompress.teachers.teacher import Said, TeacherInfo
from kdcompress_runtime.bundle import TOKENS_FILE, Bundle
from kdcompress_runtime.errors import BundleError, ModelError
from kdcompress_runtime.model import CtcModel, SessionOptions

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

PRECISION = "float32"
"""The precision that teaches, where the bundle holds it."""


class BundleTeacher(ForeignTeacher):
    """The float32 model of a bundle, or the default one; a whole recording at once, its frames without the lag."""

    def __init__(self, path: Path) -> None:
        """Open a bundle folder or ``.zip``.

        Raises:
            TeacherError: it is damaged, or its model is not the one that it describes.
        """
        try:
            bundle = Bundle.open(path)
            held = {model.precision for model in bundle.metadata.models}
            model = bundle.metadata.model_file(PRECISION if PRECISION in held else None)
            options = SessionOptions(intra_op_threads=torch.get_num_threads())
            self._model = CtcModel.from_bundle(bundle, model.precision, options)
        except (BundleError, ModelError) as error:
            raise TeacherError(str(error)) from error
        metadata = self._metadata = bundle.metadata
        frame = _frame(bundle)
        settings = {
            "model": metadata.files[model.file],
            "tokens": metadata.files[TOKENS_FILE],
            "input": asdict(metadata.input),
            "states": [asdict(state) for state in metadata.states],
            "lookahead_frames": metadata.lookahead_frames,
        }
        self.info = TeacherInfo(
            source=path,
            name=metadata.name,
            kind="bundle",
            fingerprint=fingerprint([], settings),
            vocabulary=bundle.vocabulary,
            units=guess_units(bundle.vocabulary),
            frame=frame,
            sample_rate=metadata.input.sample_rate,
            gives=frozenset({"log_probs"}),
            lookahead=frame * metadata.lookahead_frames if metadata.streaming else None,
        )

    def hear(self, inputs: Tensor, input_lens: Tensor) -> Said:
        """See ``ForeignTeacher.hear``."""
        samples, counts = inputs.float().cpu().numpy(), input_lens.tolist()
        try:
            if self._metadata.streaming and self._model.batchable:
                rows = list(self._stream(samples, max(counts)))
            else:
                rows = [self._alone(row[:count]) for row, count in zip(samples, counts, strict=True)]
        except ModelError as error:
            raise TeacherError(str(error)) from error
        if self._metadata.streaming:
            units = self._metadata.input.units_per_frame
            lens = torch.tensor([-(-count // units) for count in counts])
        else:
            lens = torch.tensor([len(one) for one in rows])
        scores = side_by_side([torch.from_numpy(np.array(one)) for one in rows])
        tokens, source = len(self.info.vocabulary), self.info.source
        log_probs = to_log_probs(scores, lens, "log_probs", tokens=tokens, source=source)
        return Said(lens.to(inputs.device), log_probs.to(inputs.device))

    def _alone(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-probabilities ``(T, V)`` of one recording."""
        if self._metadata.streaming:
            return next(iter(self._stream(samples[None], len(samples))))
        short = max(0, self._metadata.input.min_units - len(samples))
        found: NDArray[np.float32] = self._model.step(np.pad(samples, (0, short))[None], {})[0][0]
        return found

    def _stream(self, samples: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """Log-probabilities ``(N, T, V)`` of ``(N, n)`` samples in one step, as the lag lets them come out."""
        units, lag = self._metadata.input.units_per_frame, self._metadata.lookahead_frames
        frames = -(-count // units) + lag
        fed = np.zeros((len(samples), frames * units), dtype=np.float32)
        fed[:, :count] = samples[:, :count]
        found: NDArray[np.float32] = self._model.step(fed, self._model.init_states(len(samples)))[0][:, lag:]
        return found


def _frame(bundle: Bundle) -> Fraction:
    """Time of one output frame: whole samples, wherever the input is audio."""
    source = bundle.metadata.input
    if source.sample_rate is None:
        return Fraction(source.units_per_frame)
    return Fraction(source.units_per_frame, source.sample_rate)
