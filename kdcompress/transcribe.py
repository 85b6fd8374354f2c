"""``kdcompress transcribe``: recordings, images of lines, sentences through the runtime; recordings as streams, too."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kdcompress import console
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.errors import InputError, InputNotFoundError, SourceTextError
from kdcompress_runtime.input_kinds import require_audio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime import Recognizer, Result
    from kdcompress_runtime.endpoint import EndpointRules

PIECE_SECONDS = 0.1
"""What a microphone would deliver at a time."""
TEXT_SUFFIX, STDIN = ".txt", "-"


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
    """Also each word with its positions and confidence."""
    nbest: int = 1
    """Hypotheses of a whole input, best first."""
    named: bool = False
    """Put the input's name in front."""
    hotwords: Mapping[str, float] = field(default_factory=dict)
    """Phrases to listen for."""


class Item(NamedTuple):
    """One input."""

    name: str
    """Of the file, or place and line of a sentence."""
    about: Mapping[str, str]
    """What JSON says of it."""
    value: Any
    """As ``Recognizer.recognize`` takes it."""
    sample_rate: int | None = None
    """Hz, for audio."""

    @property
    def place(self) -> str:
        """Where it stands, for messages; empty where it was given on the command line itself."""
        return "" if self.about.get("source") == self.name else self.name


def transcribe(recognizer: Recognizer, arguments: Sequence[str], options: TranscribeOptions) -> int:
    """Recognise what arguments name, and print what ``options`` ask for; what cannot be used is reported and skipped.

    Args:
        recognizer: of any bundle.
        arguments: audio files; image files; or sentences, ``.txt`` files with one a line, ``-`` for standard input.
        options: what to print.

    Returns:
        How many inputs could not be used.

    Raises:
        OptionsError: hotwords that the decoder does not know or cannot spell; streams of what is no audio.
    """
    if options.stream or options.endpoint is not None:
        require_audio(recognizer.metadata, "--stream and --endpoint", "leave them out")
    items_of = _ITEMS[recognizer.metadata.input.kind]
    failed: list[InputError] = []
    for argument in arguments:
        with _reported(failed):
            for item in items_of(argument):
                with _reported(failed, item.place):
                    _transcribe(recognizer, item, options)
    return len(failed)


@contextmanager
def _reported(failed: list[InputError], name: str = "") -> Iterator[None]:
    """Print what is wrong with an input, and go on."""
    try:
        yield
    except InputError as problem:
        message = str(problem)
        console.error(f"{name}: {message}" if name and name not in message else message)
        failed.append(problem)


def _recordings(argument: str) -> Iterator[Item]:
    yield Item(argument, {"file": argument}, *read_audio(argument))


def _images(argument: str) -> Iterator[Item]:
    yield Item(argument, {"file": argument}, argument)


def _sentences(argument: str) -> Iterator[Item]:
    """Sentences of a file or of standard input, a line each; or the argument itself.

    Raises:
        InputNotFoundError: there is no such file.
        SourceTextError: no text, or none in it.
    """
    if argument == STDIN:
        yield from _lines(sys.stdin, "standard input")
    elif argument.endswith(TEXT_SUFFIX):
        if not _is_file(argument):
            raise InputNotFoundError(f"text file not found: {argument}; check the path")
        with Path(argument).open(encoding="utf-8-sig") as file:
            yield from _lines(file, argument)
    elif _is_file(argument):
        raise SourceTextError(f"{argument}: a file, but no {TEXT_SUFFIX}; give sentences in one of these, a line each")
    else:
        yield Item(argument, {"source": argument}, argument)


def _is_file(argument: str) -> bool:
    try:
        return Path(argument).is_file()
    except (OSError, ValueError):  # a sentence may be longer than any name
        return False


def _lines(file: Iterable[str], name: str) -> Iterator[Item]:
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            sentence = line.strip()
            yield Item(f"{name}, line {number}", {"source": sentence}, sentence)
    except UnicodeDecodeError as error:
        raise SourceTextError(f"{name}: must be UTF-8 text; convert it") from error
    if not number:
        raise SourceTextError(f"{name}: holds no sentence; write one a line")


_ITEMS: Mapping[str, Callable[[str], Iterator[Item]]] = {
    "pcm": _recordings,
    "image": _images,
    "tokens": _sentences,
}


def _transcribe(recognizer: Recognizer, item: Item, options: TranscribeOptions) -> None:
    """Recognise one input and print the results."""
    if options.stream or options.endpoint is not None:
        _stream(recognizer, item, options)
        return
    value, rate, hotwords = item.value, item.sample_rate, options.hotwords
    if options.nbest == 1:
        results: Sequence[Result] = [recognizer.recognize(value, rate, hotwords=hotwords)]
    else:
        results = recognizer.nbest(value, options.nbest, rate, hotwords=hotwords)
    for result in results:
        _print(result, item, options)


def _stream(recognizer: Recognizer, item: Item, options: TranscribeOptions) -> None:
    """Print events as they come; the time of a partial result is that of the audio which had come."""
    samples, rate = item.value, item.sample_rate or 0
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
            _print(event.result, item, options)
        elif options.stream and event.result.text != before:
            before = event.result.text
            row = {**item.about, "at": heard / rate, "partial": before, "stable": event.result.stable_text}
            line = json.dumps(row, ensure_ascii=False) if options.as_json else f"[{heard / rate:6.2f} s] {before}"
            console.stdout().print(line, markup=False)


def _print(result: Result, item: Item, options: TranscribeOptions) -> None:
    out = console.stdout()
    if options.as_json:
        out.print(json.dumps({**item.about, **asdict(result)}, ensure_ascii=False), markup=False)
        return
    out.print(f"{item.name}: {result.text}" if options.named else result.text, markup=False)
    for word in result.words if options.words else ():
        sure = "" if word.confidence is None else f"  {word.confidence:.2f}"
        out.print(f"  {word.begin:8.2f} {word.end:8.2f}{sure}  {word.text}", markup=False)
