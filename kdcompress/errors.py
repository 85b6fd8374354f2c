"""Errors of the training core; all inherit from the runtime's ``KdcompressError``."""

from __future__ import annotations

from kdcompress_runtime.errors import InputError, KdcompressError


class RecipeError(KdcompressError, ValueError):
    """A recipe is missing, is not YAML, or holds an unknown key or an impossible value."""


class RunError(KdcompressError, ValueError):
    """A run folder is missing, unfinished, or belongs to another recipe."""


class VocabularyError(KdcompressError, ValueError):
    """A text holds a symbol outside the vocabulary, or teacher and student do not share one."""


class TeacherError(KdcompressError, ValueError):
    """A teacher cannot be read, or answers with something that is no distribution over its tokens."""


class TextModelError(KdcompressError, ValueError):
    """A language model is missing, unfinished, damaged, of other units, or answers with no distribution over them."""


class AlignmentError(KdcompressError, ValueError):
    """A forced alignment is missing, damaged, of another manifest, or cannot be made."""


class MismatchError(KdcompressError, ValueError):
    """Teacher and student differ in something that nothing bridges."""


class LabelStoreError(KdcompressError, ValueError):
    """Stored teacher labels are missing, unfinished, damaged, or belong to other data or another teacher."""


class DamagedLabelsError(LabelStoreError):
    """A file of stored teacher labels is not what was written."""


class FeaturesError(InputError):
    """Frames of features that cannot be used: unreadable, empty, not finite, wrong dtype or shape."""


class FeaturesNotFoundError(FeaturesError, FileNotFoundError):
    """A file of features does not exist, or an archive lacks a member."""


class TargetTooLongError(KdcompressError, ValueError):
    """A reference needs more output frames than its input has; CTC cannot align it."""


class TrainingDivergedError(KdcompressError, ArithmeticError):
    """The loss is not finite any more."""


class StepError(KdcompressError, RuntimeError):
    """A step of several commands failed; its log says why."""


class DataNotFoundError(KdcompressError, FileNotFoundError):
    """A corpus that a command needs is not where it was looked for."""


class PackError(KdcompressError, ValueError):
    """Shards of recordings are damaged, of another manifest, or no tars that can be read in ranges."""
