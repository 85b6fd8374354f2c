"""Every student family x target x precision x shape of input: how far log-probabilities are from their origin."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdcompress.run import load_student
from kdcompress.students.base import Student
from kdcompress_export.agreement import split_differences
from kdcompress_export.prove import FLOAT
from kdcompress_export.streams import run_pieces
from kdcompress_export.targets.sherpa_document import file_names
from kdcompress_export.targets.sherpa_features import LOG_FLOOR
from kdcompress_export.targets.sherpa_sessions import OfflineGraph, StreamingGraph
from kdcompress_runtime import Bundle, CtcModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    LogProbs = NDArray[np.float32]

SPLITS = 200


@dataclass(frozen=True)
class Line:
    """A target's file of one precision; differences are the largest of a log-probability, in nats."""

    family: str
    target: str
    precision: str
    origin: str
    """What it is compared with: torch, or the int8 file of the ``onnxruntime`` bundle."""
    batch_1: float
    batch_4: float
    shortest: float
    long: float
    splits: float | None
    """Whole against ``SPLITS`` random splits; None where the target steps by a fixed size."""
    same_labels: float
    """Share of the frames, over all inputs, with the same best label."""


def cases(recordings: Sequence[Samples], frame: int, rate: int) -> dict[str, list[Samples]]:
    """Inputs by column: one recording, four of one length, one frame, a minute.

    All begin and end with silence, where Kaldi's mirrored edges do not show: a difference of frontends, not of graphs.
    """
    silence = np.zeros(4 * frame, np.float32)
    framed = [np.concatenate([silence, one, silence]) for one in recordings]
    length = -(-max(len(one) for one in framed[:4]) // frame) * frame
    minute = np.resize(np.concatenate(framed), 60 * rate // frame * frame)
    minute[-4 * frame :] = 0
    click = np.zeros(frame, np.float32)
    click[frame // 3 : frame // 3 + 20] = recordings[0][len(recordings[0]) // 2 :][:20]
    return {
        "batch_1": [framed[0]],
        "batch_4": [np.pad(one, (0, length - len(one))) for one in framed[:4]],
        "shortest": [click],
        "long": [minute],
    }


def parity_lines(family: str, run: Path, outputs: Path, recordings: Sequence[Samples]) -> Iterator[Line]:
    """Compare everything that was exported of one run: ``outputs`` holds a folder for each target."""
    student = load_student(run).network
    if not isinstance(student, Student):
        raise TypeError(f"{run} holds no student")
    bundle = Bundle.open(outputs / "onnxruntime")
    rate = bundle.metadata.input.sample_rate or 16000
    inputs = cases(recordings, student.units_per_frame, rate)
    torch_says = {name: _torch(student, batch) for name, batch in inputs.items()}
    small = [file.precision for file in bundle.metadata.models if file.precision != FLOAT]
    int8_says = {}
    for precision in small:
        model = CtcModel.from_bundle(bundle, precision)
        int8_says[precision] = {name: _step(model, batch) for name, batch in inputs.items()}
    for target in ("onnxruntime", "mobile", "web"):
        opened = Bundle.open(outputs / target)
        for file in opened.metadata.models:
            model = CtcModel.from_bundle(opened, file.precision)
            found = {name: _step(model, batch) for name, batch in inputs.items()}
            first = target == "onnxruntime" or file.precision == FLOAT
            expected = torch_says if first else int8_says[file.precision]
            splits = split_differences(model, inputs["long"][0], seed=1, splits=SPLITS)
            origin = "torch" if first else f"{file.precision} for onnxruntime"
            line = _line((family, target, file.precision, origin), found, expected)
            yield replace(line, splits=splits.max_abs_diff)
    for precision in (FLOAT, *small):
        expected = torch_says if precision == FLOAT else int8_says[precision]
        origin = "torch" if precision == FLOAT else f"{precision} for onnxruntime"
        for name, run_graph in _sherpa(outputs / "sherpa-onnx", precision).items():
            found = {case: run_graph(_features(student, batch)) for case, batch in inputs.items()}
            yield _line((family, f"sherpa-onnx {name}", precision, origin), found, expected)


def _line(
    named: tuple[str, str, str, str], found: dict[str, list[LogProbs]], expected: dict[str, list[LogProbs]]
) -> Line:
    """Compare every case; ``named`` are the first four fields of the line."""
    worst = {case: _largest(found[case], expected[case]) for case in found}
    same = np.concatenate(
        [
            one[: len(other)].argmax(1) == other[: len(one)].argmax(1)
            for case in found
            for one, other in zip(found[case], expected[case], strict=True)
        ]
    )
    return Line(*named, **worst, splits=None, same_labels=float(same.mean()))


def _largest(found: list[LogProbs], expected: list[LogProbs]) -> float:
    """Largest difference where the origin says more than -10 nats."""
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        frames = min(len(one), len(other))
        one, other = one[:frames], other[:frames]  # noqa: PLW2901
        worst = max(worst, float(np.abs(one - other)[other > -10.0].max(initial=0.0)))
    return worst


def _torch(student: Student, batch: list[Samples]) -> list[LogProbs]:
    lag, units = student.lookahead_frames, student.units_per_frame
    padded = torch.from_numpy(np.stack([np.pad(one, (0, -len(one) % units + lag * units)) for one in batch]))
    with torch.no_grad():
        log_probs, _ = student.step(padded, student.init_states(len(batch)))
    return list(log_probs[:, lag:].numpy())


def _step(model: CtcModel, batch: list[Samples]) -> list[LogProbs]:
    if len(batch) == 1:
        return [run_pieces(model, batch[0])]
    lag, units = model.metadata.lookahead_frames, model.metadata.input.units_per_frame
    padded = np.stack([np.pad(one, (0, -len(one) % units + lag * units)) for one in batch])
    return list(model.step(padded, model.init_states(len(batch)))[0][:, lag:])


def _features(student: Student, batch: list[Samples]) -> list[NDArray[np.float32]]:
    """Features as sherpa-onnx computes them: not delayed by the frontend."""
    late, hop = student.frontend.late_features, student.frontend.units_per_feature
    units = student.units_per_frame
    padded = [np.pad(one, (0, -len(one) % units + late * hop)) for one in batch]
    with torch.no_grad():
        return [student.frontend(torch.from_numpy(one)[None])[0, late:].numpy() for one in padded]


def _sherpa(folder: Path, precision: str) -> dict[str, Callable[[list[NDArray[np.float32]]], list[LogProbs]]]:
    names = file_names(precision)
    offline = OfflineGraph((folder / names["offline"]).read_bytes())
    streaming = StreamingGraph((folder / names["streaming"]).read_bytes())
    return {"offline": offline.log_probs, "streaming": lambda batch: streaming.log_probs(batch, LOG_FLOOR)}


def markdown(lines: Sequence[Line]) -> str:
    """The parity table."""
    rows = [
        "| student | target | precision | against | batch 1 | batch 4 | one frame | 60 s | 200 splits | same labels |"
    ]
    rows += ["| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    for one in lines:
        numbers = (one.batch_1, one.batch_4, one.shortest, one.long, one.splits)
        cells = ["fixed step" if value is None else f"{value:.1e}" for value in numbers]
        cells.append(f"{100 * one.same_labels:.2f} %")
        rows.append(f"| {one.family} | {one.target} | {one.precision} | {one.origin} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def dumps(lines: Sequence[Line]) -> str:
    """The same as JSON."""
    return json.dumps([asdict(one) for one in lines], indent=1) + "\n"
