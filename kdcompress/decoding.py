"""How a command was asked to decode: the bundle's own decoder, or options, language model, lexicon and hotwords."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.bundle import Bundle
from kdcompress_runtime.decoders import DecoderOptions
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.recognizer import Recognizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kdcompress_runtime.endpoint import EndpointRules

HOTWORD_WEIGHT = 1.0
"""Nats for each letter of a hotword that names no weight."""


@dataclass(frozen=True)
class DecodingRequest:
    """What the command line says about decoding; nothing of it: as the bundle was tuned, greedy where it was not."""

    kind: str | None = None
    """``greedy``, ``beam`` or ``pyctcdecode``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``DecoderOptions`` that were named."""
    lm: Path | None = None
    """Language model."""
    lexicon: Path | None = None
    """Text file with the only words there may be."""
    hotwords: Mapping[str, float] = field(default_factory=dict)
    """Phrase -> nats for each letter."""

    def decoder_options(self) -> DecoderOptions | None:
        """Options where something was asked for; a beam is implied. None: the bundle's own.

        Raises:
            OptionsError: a value is outside its range.
        """
        named = {name: value for name, value in self.options.items() if value is not None}
        if self.kind is None and not named and self.lm is None and self.lexicon is None:
            return None
        return DecoderOptions(kind=self.kind or "beam", **named)

    def open(self, bundle: Path, *, precision: str | None = None, endpoint: EndpointRules | None = None) -> Recognizer:
        """Open a bundle to decode so.

        Raises:
            KdcompressError: see ``Recognizer.from_dir``; or the lexicon cannot be read.
        """
        options = self.decoder_options()
        if options is None and self.hotwords and not _searches(bundle):
            options = DecoderOptions(kind="beam")
        lexicon = None if self.lexicon is None else read_lexicon(self.lexicon)
        return Recognizer.from_dir(
            bundle, precision=precision, decoder=options, lm=self.lm, lexicon=lexicon, endpoint=endpoint
        )


def _searches(bundle: Path) -> bool:
    """Whether the bundle's own decoder keeps more than one hypothesis."""
    settings = Bundle.open(bundle).metadata.decoder_settings
    return settings is not None and settings.kind != "greedy"


def read_lexicon(path: Path) -> frozenset[str]:
    """Read the words of a UTF-8 text file.

    Raises:
        OptionsError: it cannot be read, or holds no word.
    """
    words = frozenset(_read(path, "lexicon").split())
    if not words:
        raise OptionsError(f"{path}: the lexicon holds no word; write one a line")
    return words


def parse_hotwords(phrases: Sequence[str], file: Path | None) -> dict[str, float]:
    """Hotwords of the command line and of a file with one a line: ``PHRASE`` or ``PHRASE=WEIGHT``.

    Raises:
        OptionsError: the file cannot be read, or a weight is no number.
    """
    lines = [(phrase, "--hotword") for phrase in phrases]
    if file is not None:
        found = _read(file, "hotwords").splitlines()
        lines += [(line, f"{file}, line {number}") for number, line in enumerate(found, start=1) if line.strip()]
    return dict(_hotword(line, where) for line, where in lines)


def _hotword(line: str, where: str) -> tuple[str, float]:
    phrase, equals, weight = line.rpartition("=")
    if not equals:
        return line.strip(), HOTWORD_WEIGHT
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise OptionsError(f"{where}: {weight.strip()!r} is no weight; write PHRASE, or PHRASE=NATS a letter")
    return phrase.strip(), value


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OptionsError(f"{path}: cannot read the {what} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise OptionsError(f"{path}: the {what} must be UTF-8 text") from error
