"""How variants decode: each as its bundle says, or all alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.decoders import DecoderOptions
from kdcompress_runtime.errors import LanguageModelNotFoundError, OptionsError
from kdcompress_runtime.recognizer import Recognizer

if TYPE_CHECKING:
    from collections.abc import Mapping

BUNDLE = "bundle"
"""Stands for the kind where each bundle's own decoder is used."""


@dataclass(frozen=True)
class Decoding:
    """One way for every variant.

    Raises:
        OptionsError: a language model without options; bundles that bring decoders bring their own.
    """

    options: DecoderOptions | None = None
    """None: as each bundle was tuned (``kdcompress tune-decoder``), greedy where it was not."""
    lm: Path | None = None
    """Language model for all of them."""

    def __post_init__(self) -> None:
        if self.lm is not None and self.options is None:
            raise OptionsError("a language model for all bundles needs a decoder for all bundles; choose 'beam'")

    def open(self, bundle: Path, precision: str) -> Recognizer:
        """Load a bundle with the runtime's default session: one thread, spinning off.

        Raises:
            KdcompressError: the bundle, the decoder or the language model cannot be used.
        """
        return Recognizer.from_dir(bundle, precision=precision, decoder=self.options, lm=self.lm)

    def describe(self) -> dict[str, Any]:
        """Everything that decides what is recognised, for records; the bundles' own decoders are in their hashes.

        Raises:
            LanguageModelNotFoundError: there is no such file.
        """
        if self.options is None:
            return {"kind": BUNDLE}
        row = asdict(self.options)
        if self.lm is not None:
            try:
                row["lm"] = f"{self.lm.name} {sha256(self.lm.read_bytes()).hexdigest()[:16]}"
            except OSError as error:
                raise LanguageModelNotFoundError(f"{self.lm}: {error.strerror}; name a language model") from error
        return row

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads, for a process of its own."""
        return {
            "options": None if self.options is None else asdict(self.options),
            "lm": None if self.lm is None else str(self.lm),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Decoding:
        """Read what ``to_json`` gave."""
        options, lm = row["options"], row["lm"]
        return cls(None if options is None else DecoderOptions(**options), None if lm is None else Path(lm))
