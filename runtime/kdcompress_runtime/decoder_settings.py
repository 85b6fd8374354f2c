"""The field ``decoder`` of ``bundle.json``: how to decode, as ``kdcompress tune-decoder`` found it best."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.confidence import Calibration
from kdcompress_runtime.errors import BundleError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcompress_runtime.bundle import Bundle
    from kdcompress_runtime.decoders import DecoderOptions

LM_FILE = "lm.kdlm"
"""Usual name of a bundle's language model."""
LEXICON_FILE = "lexicon.txt"
"""Usual name of the words that a bundle may answer, one a line."""
KINDS = ("greedy", "beam")
"""Decoders that a bundle may ask for; others need packages that an app may not have."""
_MOST_BEAMS = 10_000
_NATS = (-1e4, 1e4)
_RANGES: dict[str, tuple[type, float, float]] = {
    "blank_penalty": (float, *_NATS),
    "beam_width": (int, 1, _MOST_BEAMS),
    "beam_prune_logp": (float, -1e4, 0.0),
    "token_min_logp": (float, -1e4, 0.0),
    "alpha": (float, 0.0, 1e4),
    "beta": (float, *_NATS),
    "unk_score": (float, *_NATS),
    "score_boundary": (bool, 0, 1),
    "blank_skip": (float, 1e-9, 1.0),
    "lookahead": (bool, 0, 1),
}
"""Options of a decoder: kind and range. A subset of ``DecoderOptions``, and a fixed one: it is part of the format."""
_FILES = ("lm", "lexicon")


@dataclass(frozen=True)
class DecoderSettings:
    """A decoder with everything it needs; ``BundleMetadata.decoder`` is its JSON object, or empty."""

    kind: str = "greedy"
    """One of ``KINDS``."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Options of ``DecoderOptions`` by name, those that differ from what a program would choose."""
    lm: str | None = None
    """File name of the packed language model in the bundle."""
    lexicon: str | None = None
    """File name of the words that may be answered; UTF-8, one a line."""
    confidence: Calibration | None = None
    """Makes the confidence of words a probability."""

    def decoder_options(self) -> DecoderOptions:
        """The options, those that the bundle leaves open at their defaults."""
        from kdcompress_runtime.decoders import DecoderOptions  # who only reads bundles needs no decoder

        options: dict[str, Any] = dict(self.options)
        return DecoderOptions(kind=self.kind, **options)

    def read_lexicon(self, bundle: Bundle) -> frozenset[str] | None:
        """Read the words that may be answered; None where the bundle does not limit them.

        Raises:
            BundleError: the file is missing, damaged, no UTF-8 text, or empty.
        """
        if self.lexicon is None:
            return None
        try:
            words = frozenset(bundle.read(self.lexicon).decode("utf-8").split())
        except UnicodeDecodeError as error:
            raise BundleError(f"{bundle.path}/{self.lexicon}: not UTF-8 text; tune the decoder again") from error
        if not words:
            raise BundleError(f"{bundle.path}/{self.lexicon}: holds no word; tune the decoder again")
        return words

    def to_json(self) -> dict[str, Any]:
        """Return the field ``decoder`` of ``bundle.json``."""
        row: dict[str, Any] = {"kind": self.kind, **self.options}
        row |= {name: getattr(self, name) for name in _FILES}
        return {**row, "confidence": None if self.confidence is None else self.confidence.to_json()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> DecoderSettings | None:
        """Read what ``to_json`` wrote; None where nothing is said about the decoder.

        Raises:
            OptionsError: a key is unknown, or a value of the wrong kind or outside its range.
        """
        if not row:
            return None
        unknown = sorted(set(row) - {"kind", *_RANGES, *_FILES, "confidence"})
        if unknown:
            raise OptionsError(f"decoder holds unknown {', '.join(map(repr, unknown))}")
        kind = row.get("kind")
        if kind not in KINDS:
            raise OptionsError(f"decoder kind {kind!r} is unknown; a bundle may ask for {' or '.join(KINDS)}")
        files = {name: _file(row, name) for name in _FILES}
        named = [name for name, file in files.items() if file is not None]
        if kind == "greedy" and named:
            raise OptionsError(f"decoder {kind} has no {' and no '.join(named)}; it needs a beam")
        options = {name: _option(name, row[name]) for name in _RANGES if name in row}
        confidence = row.get("confidence")
        calibration = None if confidence is None else Calibration.from_json(confidence)
        return cls(kind, options, **files, confidence=calibration)


def _file(row: Mapping[str, Any], name: str) -> str | None:
    file = row.get(name)
    if file is not None and not isinstance(file, str):
        raise OptionsError(f"decoder {name} must be a file name or null, found {file!r}")
    return file


def _option(name: str, value: object) -> float:
    kind, least, most = _RANGES[name]
    fits = isinstance(value, bool) == (kind is bool) and isinstance(value, (int, float) if kind is float else kind)
    if not fits or not isinstance(value, (int, float)) or not math.isfinite(value) or not least <= value <= most:
        what = "true or false" if kind is bool else f"{kind.__name__} from {least:g} to {most:g}"
        raise OptionsError(f"decoder {name} must be {what}, found {value!r}")
    return value
