"""sherpa-onnx against our runtime on recordings as they are: same text, same times, error rates of both."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jiwer
import numpy as np

from kdcompress_runtime import Recognizer, read_audio
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcompress_runtime import Result

WHEEL = Path(__file__).parents[1] / "tests" / "export" / "sherpa_wheel.py"
"""Runs a folder in the wheel, in a process of its own: what sherpa-onnx does not like ends its process."""


@dataclass(frozen=True)
class Line:
    """One way to recognise with one precision."""

    precision: str
    way: str
    recordings: int
    same_text: int
    same_text_and_times: int
    their_wer: float
    our_wer: float


def sherpa_lines(bundle: Path, folder: Path, manifest: Path, count: int) -> Iterator[Line]:
    """Recognise the first ``count`` recordings with both; what sherpa-onnx decodes behind the recording is left out."""
    entries = [entry for _, entry in zip(range(count), read_manifest(manifest), strict=False)]
    for precision in [file.precision for file in Recognizer.from_dir(bundle).metadata.models]:
        recognizer = Recognizer.from_dir(bundle, precision=precision, tail_seconds=0.0)
        rate = recognizer.metadata.input.sample_rate or 16000
        recordings = [read_audio(entry.input, rate)[0] for entry in entries]
        ours = [recognizer.recognize(samples, rate) for samples in recordings]
        frames = [-(-len(samples) // recognizer.metadata.input.units_per_frame) for samples in recordings]
        references = [" ".join(entry.text.split()) for entry in entries]
        for way, answers in _in_wheel(folder, precision, recordings).items():
            theirs = [_inside(answer, count) for answer, count in zip(answers, frames, strict=True)]
            yield _line(precision, way, theirs, ours, references)


def _in_wheel(folder: Path, precision: str, recordings: Sequence[np.ndarray]) -> dict[str, list]:
    with tempfile.TemporaryDirectory() as room:
        audio = Path(room, "audio.npz")
        np.savez(audio, **{f"{index:05}": samples for index, samples in enumerate(recordings)})
        command = [sys.executable, str(WHEEL), str(folder), precision, str(audio)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"sherpa-onnx ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    found: dict[str, list] = json.loads(done.stdout.splitlines()[-1])
    return found


def _inside(answer: tuple[str, list[str], list[float]], frames: int) -> tuple[list[str], list[float]]:
    """Tokens and times before the end of the recording."""
    _, tokens, times = answer
    kept = sum(at < frames * 0.04 - 0.01 for at in times)
    return [token.replace(" ", "▁") for token in tokens[:kept]], times[:kept]


def _line(
    precision: str,
    way: str,
    theirs: Sequence[tuple[list[str], list[float]]],
    ours: Sequence[Result],
    references: Sequence[str],
) -> Line:
    text = [tokens == list(one.tokens) for (tokens, _), one in zip(theirs, ours, strict=True)]
    times = [
        same and np.allclose(at, one.timestamps, atol=1e-3)
        for same, (_, at), one in zip(text, theirs, ours, strict=True)
    ]
    said = [" ".join("".join(tokens).replace("▁", " ").split()) for tokens, _ in theirs]
    rates = [100 * jiwer.wer(list(references), texts) for texts in (said, [one.text for one in ours])]
    return Line(precision, way, len(ours), sum(text), sum(times), *rates)


def sherpa_markdown(name: str, lines: Sequence[Line]) -> str:
    """One table a folder."""
    rows = [
        f"{name}, {lines[0].recordings} recordings.\n",
        "| precision | sherpa-onnx | same text | and times | WER % | ours |",
    ]
    rows.append("| --- | --- | ---: | ---: | ---: | ---: |")
    for one in lines:
        rates = f"{one.their_wer:.2f} | {one.our_wer:.2f}"
        rows.append(f"| {one.precision} | {one.way} | {one.same_text} | {one.same_text_and_times} | {rates} |")
    return "\n".join(rows) + "\n"


def sherpa_json(lines: Sequence[Line]) -> str:
    """The same as JSON."""
    return json.dumps([asdict(one) for one in lines], indent=1) + "\n"
