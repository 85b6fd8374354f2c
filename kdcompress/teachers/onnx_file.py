"""A CTC ONNX file of another toolkit as a teacher: fed samples, or features that are computed here."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch

from kdcompress.errors import TeacherError
from kdcompress.teachers.features import compute
from kdcompress.teachers.foreign import (
    SUM_ATOL,
    ForeignTeacher,
    fingerprint,
    guess_units,
    one_line,
    rehearsal,
    side_by_side,
    to_log_probs,
    unpadded,
)
from kdcompress.teachers.onnx_facts import read_facts
from kdcompress.teachers.teacher import Said, TeacherInfo
from kdcompress_runtime.errors import ExternalDataError, KdcompressError
from kdcompress_runtime.model import SessionOptions
from kdcompress_runtime.onnx_guard import refuse_external_data

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.teachers.foreign import Scores

EPSILON = 1e-7
"""What is added to the variance of a waveform before it is normalised, as Hugging Face's extractor does."""
_TRIED_UNITS = {True: (32000, 64000), False: (120, 360)}
"""Lengths tried to count frames, for samples and for feature frames: their distance is whole for usual factors."""


class OnnxTeacher(ForeignTeacher):
    """A model of whole recordings from NeMo, WeNet, icefall, Hugging Face or elsewhere; each item runs by itself."""

    def __init__(self, file: Path) -> None:
        """Open a file; what it does not tell must stand in ``teacher.yaml`` beside it.

        Raises:
            TeacherError: naming all that must be said; or the file is damaged, or no CTC model of whole recordings.
        """
        weights, self._session = _open(file)
        self._facts = facts = read_facts(file, self._session)
        said, rate = facts.said, facts.said.sample_rate or 16000
        short, long = (self._run(self._units(units)) for units in _TRIED_UNITS[facts.recipe is None])
        self._scores: Scores = said.scores or _kind(long)
        self._vocabulary = facts.vocabulary(long.shape[2])
        self._log_probs([short, long])
        factor = self._factor(short.shape[1], long.shape[1])
        settings = said.model_dump(mode="json", exclude={"name", "tokens"})
        self.info = TeacherInfo(
            source=file,
            name=said.name or file.stem,
            kind="onnx",
            fingerprint=fingerprint(
                weights, {**settings, "tokens": self._vocabulary.symbols, "factor": factor, "scores": self._scores}
            ),
            vocabulary=self._vocabulary,
            units=said.units or guess_units(self._vocabulary),
            frame=Fraction(factor * facts.unit, rate),
            sample_rate=rate,
            gives=frozenset({"log_probs"}),
        )

    def hear(self, inputs: Tensor, input_lens: Tensor) -> Said:
        """See ``ForeignTeacher.hear``."""
        items = unpadded(inputs.float(), input_lens, self._facts.said.sample_rate or 16000)
        said = self._log_probs([self._run(self._fed(item.cpu().numpy())) for item in items])
        return Said(
            said.frame_lens.to(inputs.device), None if said.log_probs is None else said.log_probs.to(inputs.device)
        )

    def _log_probs(self, scores: list[NDArray[np.float32]]) -> Said:
        """Scores ``(1, T_i, V)`` side by side."""
        lens = torch.tensor([one.shape[1] for one in scores])
        rows = side_by_side([torch.from_numpy(one[0]) for one in scores])
        tokens, source = len(self._vocabulary), self._facts.file
        return Said(lens, to_log_probs(rows, lens, self._scores, tokens=tokens, source=source))

    def _fed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the model takes, in the order of our axes: ``(1, n)`` or ``(1, T, F)``."""
        if self._facts.recipe is not None:
            return compute(self._facts.recipe, samples[None])
        if self._facts.said.normalize == "none":
            return samples[None]
        scaled = (samples - samples.mean()) / np.sqrt(samples.var() + EPSILON)
        return np.asarray(scaled[None], dtype=np.float32)

    def _run(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores ``(1, T, V)``, as the file gives them."""
        facts, turned = self._facts, inputs
        if inputs.ndim == 3:
            turned = inputs.transpose(0, 2, 1) if facts.said.layout == "NFT" else inputs
        elif facts.channel:
            turned = inputs[:, None]
        feed: dict[str, NDArray[Any]] = {facts.input: np.ascontiguousarray(turned)}
        if facts.lengths:
            feed[facts.lengths[0]] = np.full(1, inputs.shape[1], dtype=facts.lengths[1])
        if facts.mask:
            feed[facts.mask[0]] = np.ones(inputs.shape[:2], dtype=facts.mask[1])
        try:
            scores: NDArray[np.float32] = self._session.run([facts.output], feed)[0]
        except Exception as error:  # onnxruntime's have no common base
            raise TeacherError(f"{facts.file}: it fails on {turned.shape} ({one_line(error)})") from error
        if scores.ndim != 3 or len(scores) != 1 or scores.dtype != np.float32:
            shape = f"{scores.dtype} {scores.shape}"
            raise TeacherError(f"{facts.file}: {facts.output} is {shape}, not float32 scores (1, T, V)")
        return scores

    def _units(self, count: int) -> NDArray[np.float32]:
        """As many units of input, made from noise."""
        rate = self._facts.said.sample_rate or 16000
        samples = count if self._facts.recipe is None else self._facts.recipe.samples(count)
        return self._fed(rehearsal(rate, [samples / rate])[0].numpy()[:samples])

    def _factor(self, short: int, long: int) -> int:
        """Units of input for one output frame."""
        fewer, more = _TRIED_UNITS[self._facts.recipe is None]
        said, added = self._facts.said.subsampling_factor, long - short
        if said is None and added > 0 and (more - fewer) % added == 0:
            return (more - fewer) // added
        if said is None or abs(added * said - (more - fewer)) > said:
            unit = "samples" if self._facts.recipe is None else "feature frames"
            raise TeacherError(
                f"{self._facts.file}: {more - fewer} more {unit} give {added} more output frames, which is no whole "
                f"number of {unit} a frame, or not the one that was said; say subsampling_factor in teacher.yaml"
            )
        return said


def _open(file: Path) -> tuple[list[Path], Any]:
    """The files with weights, and a session over them."""
    weights = [file]
    try:
        refuse_external_data(file.read_bytes(), str(file))
    except ExternalDataError as error:
        weights += [one for one in (file.with_name(f"{file.name}{end}") for end in (".data", "_data")) if one.is_file()]
        if len(weights) == 1:
            raise TeacherError(
                f"{file} keeps weights in other files than {file.name}.data; save it as one: "
                "`onnx.save(onnx.load(FILE), FILE, save_as_external_data=False)`"
            ) from error
    except (OSError, KdcompressError) as error:
        raise TeacherError(f"{file}: cannot be read as an ONNX file ({one_line(error)}); export it again") from error
    options = SessionOptions(intra_op_threads=torch.get_num_threads()).build()
    try:
        return weights, onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no common base
        raise TeacherError(f"{file}: onnxruntime cannot load it ({one_line(error)}); export it again") from error


def _kind(scores: NDArray[np.float32]) -> Scores:
    """What scores are, by their sums."""
    rows = scores.astype(np.float64)
    if (rows >= 0).all() and np.allclose(rows.sum(-1), 1.0, atol=SUM_ATOL):
        return "probabilities"
    if (rows <= SUM_ATOL).all() and np.allclose(np.exp(rows).sum(-1), 1.0, atol=SUM_ATOL):
        return "log_probs"
    return "logits"
