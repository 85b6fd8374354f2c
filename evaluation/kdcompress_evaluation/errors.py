"""Errors of the evaluation room."""

from __future__ import annotations

from kdcompress_runtime.errors import KdcompressError


class PairingError(KdcompressError, ValueError):
    """Two systems were to be compared that did not recognise the same utterances."""


class RowsError(KdcompressError, ValueError):
    """The rows of a report folder are missing or were not written by this version."""


class BudgetError(KdcompressError, ValueError):
    """A budget that cannot be read."""


class PredictionsError(KdcompressError, ValueError):
    """A file with texts of another system that cannot be used."""


class WorkerLoadError(KdcompressError, RuntimeError):
    """A variant could not be loaded in a process of its own."""


class WorkerCrashError(KdcompressError, RuntimeError):
    """The process of a variant died."""


class WorkerTimeoutError(KdcompressError, TimeoutError):
    """The process of a variant took too long, and was ended."""
