"""Errors of the ground floor. Each also inherits the built-in a caller would already catch."""

from __future__ import annotations


class KdcompressError(Exception):
    """Base of every error raised by kdcompress; the message says what is wrong, where, and what to do."""


class BundleError(KdcompressError, ValueError):
    """A bundle cannot be used."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """The bundle, or a file that it names, is missing."""


class BundleVersionError(BundleError):
    """The bundle was written in a format version this runtime does not read."""


class BundleCorruptError(BundleError):
    """A file of the bundle does not have the SHA-256 that ``bundle.json`` records."""


class BundleUnsafeError(BundleError):
    """The bundle holds what no bundle needs: paths that lead elsewhere, links, entries that unpack to gigabytes."""


class ForeignVocabularyError(KdcompressError, ValueError):
    """The token table of a model from elsewhere is missing, damaged, or does not fit the model."""


class SeveralLanguagesError(ForeignVocabularyError):
    """The token table of a model from elsewhere is one of several languages."""


class ModelError(KdcompressError, RuntimeError):
    """The model of a bundle cannot be loaded or run."""


class ForkedProcessError(ModelError):
    """A model with threads of its own is used in a process that was forked after it was loaded."""


class ExternalDataError(ModelError, BundleError):
    """The model of a bundle asks for data outside of its file."""


class InputError(KdcompressError, ValueError):
    """The input of an item cannot be used; what it is made of says why."""


class InputNotFoundError(InputError, FileNotFoundError):
    """The file of an input does not exist."""


class AudioError(InputError):
    """Audio that cannot be used: unreadable, empty, not finite, wrong dtype or shape."""


class AudioFileNotFoundError(AudioError, InputNotFoundError):
    """An audio file does not exist."""


class AudioTooLongError(AudioError):
    """More audio than a model that takes whole recordings is given at once."""


class ImageError(InputError):
    """An image that cannot be used: unreadable, empty, too large, wrong dtype or shape."""


class ImageNotFoundError(ImageError, InputNotFoundError):
    """An image file does not exist."""


class SourceTextError(InputError):
    """A source text that cannot be used: no text, or too long."""


class StreamStateError(KdcompressError, RuntimeError):
    """A stream was used out of order, for example fed after ``input_finished``."""


class StreamOverflowError(StreamStateError):
    """More audio waits in a stream than it may hold; decode it, or reset the stream at its endpoint."""


class OptionsError(KdcompressError, ValueError):
    """An option has a value outside its range, or options contradict each other."""


class ManifestError(KdcompressError, ValueError):
    """A manifest is missing, empty, or has a line that cannot be read."""


class MissingDependencyError(KdcompressError, ImportError):
    """An optional package is needed for what was asked; the message names the extra that brings it."""


class PicklingRefusedError(KdcompressError, TypeError):
    """An object that lives in one process was pickled or copied."""


class LanguageModelError(KdcompressError, ValueError):
    """A language model cannot be used, or cannot be estimated."""


class LanguageModelNotFoundError(LanguageModelError, FileNotFoundError):
    """The file of a language model does not exist."""


class LanguageModelFormatError(LanguageModelError):
    """The file of a language model is damaged, cut off, or not in a format that is read; the message names the line."""
