"""``kdcompress transcribe``: one file through the runtime, whole or as a stream."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kdcompress import console
from kdcompress_runtime.audio import read_audio

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_runtime import Recognizer, Result
    from kdcompress_runtime.endpoint import EndpointRules

PIECE_SECONDS = 0.1
"""What a microphone would deliver at a time."""


@dataclass(frozen=True)
class TranscribeOptions:
    """What to print."""

    stream: bool = False
    """Feed pieces of 100 ms and print partial results as they change."""
    endpoint: EndpointRules | None = None
    """Cut the recording into utterances by these rules, a line each."""
    as_json: bool = False
    """JSON objects instead of text."""
    words: bool = False
    """Also each word with its times and confidence."""
    nbest: int = 1
    """Hypotheses of a whole recording, best first."""
    named: bool = False
    """Put the file's name in front."""
    hotwords: Mapping[str, float] = field(default_factory=dict)
    """Phrases to listen for."""


def transcribe_file(recognizer: Recognizer, file: Path, options: TranscribeOptions) -> None:
    """Recognise ``file`` and print what ``options`` ask for.

    Raises:
        AudioError: the file cannot be used.
        OptionsError: hotwords that the decoder does not know or cannot spell.
    """
    samples, rate = read_audio(file)
    if options.stream or options.endpoint is not None:
        _stream(recognizer, file, samples, rate, options)
        return
    if options.nbest == 1:  # in one large step
        _print(recognizer.recognize(samples, rate, hotwords=options.hotwords), file, options)
        return
    stream = recognizer.create_stream(hotwords=options.hotwords)
    stream.accept_waveform(samples, rate)
    stream.input_finished()
    for result in stream.nbest(options.nbest):
        _print(result, file, options)


def _stream(recognizer: Recognizer, file: Path, samples: NDArray[Any], rate: int, options: TranscribeOptions) -> None:
    """Print events as they come; the time of a partial result is that of the audio which had come."""
    piece = max(1, round(PIECE_SECONDS * rate))
    heard = 0

    def microphone() -> Iterator[NDArray[Any]]:
        nonlocal heard
        for start in range(0, len(samples), piece):
            heard = min(start + piece, len(samples))
            yield samples[start : start + piece]

    before = ""
    events = recognizer.stream(microphone(), rate, hotwords=options.hotwords, endpoint=options.endpoint)
    for event in events:
        if event.is_final:
            before = ""
            _print(event.result, file, options)
        elif options.stream and event.result.text != before:
            before = event.result.text
            row = {"file": str(file), "at": heard / rate, "partial": before, "stable": event.result.stable_text}
            line = json.dumps(row, ensure_ascii=False) if options.as_json else f"[{heard / rate:6.2f} s] {before}"
            console.stdout().print(line, markup=False)


def _print(result: Result, file: Path, options: TranscribeOptions) -> None:
    out = console.stdout()
    if options.as_json:
        out.print(json.dumps({"file": str(file), **asdict(result)}, ensure_ascii=False), markup=False)
        return
    out.print(f"{file}: {result.text}" if options.named else result.text, markup=False)
    for word in result.words if options.words else ():
        sure = "" if word.confidence is None else f"  {word.confidence:.2f}"
        out.print(f"  {word.begin:8.2f} {word.end:8.2f}{sure}  {word.text}", markup=False)
