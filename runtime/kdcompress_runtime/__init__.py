"""Load a kdcompress bundle, stream audio through it, decode it.

Imports numpy and onnxruntime, nothing else.
"""

from __future__ import annotations

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
    KdcompressError,
    ManifestError,
    MissingDependencyError,
    ModelError,
    OptionsError,
    PicklingRefusedError,
    StreamStateError,
)
from kdcompress_runtime.manifest import ManifestEntry, read_manifest
from kdcompress_runtime.model import CtcModel, SessionOptions
from kdcompress_runtime.recognizer import Recognizer
from kdcompress_runtime.result import Result
from kdcompress_runtime.stream import Stream
from kdcompress_runtime.vocabulary import Vocabulary

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
    "ExternalDataError",
    "GreedyDecoder",
    "Hypothesis",
    "KdcompressError",
    "ManifestEntry",
    "ManifestError",
    "MissingDependencyError",
    "ModelError",
    "OptionsError",
    "PicklingRefusedError",
    "Recognizer",
    "Result",
    "SessionOptions",
    "Stream",
    "StreamStateError",
    "Vocabulary",
    "build_decoder",
    "read_audio",
    "read_manifest",
]
