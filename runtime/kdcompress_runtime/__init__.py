"""Load a kdcompress bundle; stream audio through it, show it images, give it sentences; decode what it says.

Imports numpy and onnxruntime, nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.bundle import Bundle, BundleMetadata
from kdcompress_runtime.decoders import (
    BeamDecoder,
    Decoder,
    DecoderOptions,
    GreedyDecoder,
    Hypothesis,
    build_decoder,
)
from kdcompress_runtime.endpoint import EndpointRules
from kdcompress_runtime.errors import (
    AudioError,
    AudioFileNotFoundError,
    AudioTooLongError,
    BundleCorruptError,
    BundleError,
    BundleNotFoundError,
    BundleUnsafeError,
    BundleVersionError,
    ExternalDataError,
    ForkedProcessError,
    ImageError,
    ImageNotFoundError,
    InputError,
    InputNotFoundError,
    KdcompressError,
    LanguageModelError,
    LanguageModelFormatError,
    LanguageModelNotFoundError,
    ManifestError,
    MissingDependencyError,
    ModelError,
    OptionsError,
    PicklingRefusedError,
    SourceTextError,
    StreamOverflowError,
    StreamStateError,
)
from kdcompress_runtime.events import Event
from kdcompress_runtime.manifest import ManifestEntry, read_manifest
from kdcompress_runtime.model import CtcModel, SessionOptions
from kdcompress_runtime.recognizer import Recognizer
from kdcompress_runtime.result import Result, Word
from kdcompress_runtime.stream import Stream
from kdcompress_runtime.vad import Vad, VadRules
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from kdcompress_runtime.images import read_image
    from kdcompress_runtime.lm import LanguageModel, open_lm

__all__ = [
    "AudioError",
    "AudioFileNotFoundError",
    "AudioTooLongError",
    "BeamDecoder",
    "Bundle",
    "BundleCorruptError",
    "BundleError",
    "BundleMetadata",
    "BundleNotFoundError",
    "BundleUnsafeError",
    "BundleVersionError",
    "CtcModel",
    "Decoder",
    "DecoderOptions",
    "EndpointRules",
    "Event",
    "ExternalDataError",
    "ForkedProcessError",
    "GreedyDecoder",
    "Hypothesis",
    "ImageError",
    "ImageNotFoundError",
    "InputError",
    "InputNotFoundError",
    "KdcompressError",
    "LanguageModel",
    "LanguageModelError",
    "LanguageModelFormatError",
    "LanguageModelNotFoundError",
    "ManifestEntry",
    "ManifestError",
    "MissingDependencyError",
    "ModelError",
    "OptionsError",
    "PicklingRefusedError",
    "Recognizer",
    "Result",
    "SessionOptions",
    "SourceTextError",
    "Stream",
    "StreamOverflowError",
    "StreamStateError",
    "Vad",
    "VadRules",
    "Vocabulary",
    "Word",
    "build_decoder",
    "open_lm",
    "read_audio",
    "read_image",
    "read_manifest",
]


_LATER = {"LanguageModel": "lm", "open_lm": "lm", "read_image": "images"}
"""Modules that are imported on first use: who does without them does not pay for them."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Import what few need."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
