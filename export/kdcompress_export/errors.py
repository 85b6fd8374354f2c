"""Errors of the export room."""

from __future__ import annotations

from kdcompress_runtime.errors import KdcompressError


class ExportError(KdcompressError, ValueError):
    """A run cannot be exported as asked, or the output cannot be written there."""


class GraphError(ExportError):
    """An ONNX graph is not what was asked for: a name, dtype, dimension, operator or opset differs."""


class QuantizationError(ExportError):
    """The int8 graph is not quantized as planned."""


class ParityError(ExportError):
    """A model does not compute what the model it was made from computes."""


class TargetError(ExportError):
    """A bundle cannot be made into what was asked for: its graph does not fit there."""


class BudgetSyntaxError(ExportError):
    """A budget cannot be read."""


class BudgetNotMetError(ExportError):
    """No candidate is as small, as fast or as exact as was asked; the message names the nearest one."""


class ForeignModelError(ExportError):
    """A model from elsewhere is damaged, incomplete, or contradicts what was said about it."""


class UnsupportedModelError(ForeignModelError):
    """A model from elsewhere is of a kind that cannot be brought in."""


class MissingFieldsError(ForeignModelError):
    """What a model from elsewhere is fed, or answers, can neither be read from its file nor was it said."""
