"""``kdcompress transcribe``: one file through the runtime, whole or as a stream."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from kdcompress import console
from kdcompress_runtime.audio import read_audio

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress_runtime import Recognizer, Result

PIECE_SECONDS = 0.1
"""What a microphone would deliver at a time."""


def transcribe_file(recognizer: Recognizer, file: Path, *, stream: bool, as_json: bool, named: bool) -> None:
    """Recognise ``file`` and print its text; with ``stream`` also every new partial text with its time.

    Args:
        recognizer: an open bundle.
        file: audio of any rate.
        stream: feed pieces of 100 ms and print partial results as they change.
        as_json: print one JSON object instead of text.
        named: put the file's name in front.

    Raises:
        AudioError: the file cannot be used.
    """
    samples, rate = read_audio(file)
    if not stream:
        _print(recognizer.recognize(samples, rate), file, as_json=as_json, named=named)
        return
    running = recognizer.create_stream()
    piece = max(1, round(PIECE_SECONDS * rate))
    before = ""
    for start in range(0, len(samples), piece):
        running.accept_waveform(samples[start : start + piece], rate)
        partial = running.partial_result().text
        if partial != before:
            before = partial
            seconds = min(start + piece, len(samples)) / rate
            line = json.dumps({"file": str(file), "at": seconds, "partial": partial}) if as_json else None
            console.stdout().print(line or f"[{seconds:6.2f} s] {partial}", markup=False)
    running.input_finished()
    _print(running.result(), file, as_json=as_json, named=named)


def _print(result: Result, file: Path, *, as_json: bool, named: bool) -> None:
    if as_json:
        console.stdout().print(json.dumps({"file": str(file), **asdict(result)}, ensure_ascii=False), markup=False)
    else:
        console.stdout().print(f"{file}: {result.text}" if named else result.text, markup=False)
