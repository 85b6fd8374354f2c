"""Finding the decoder that fits a bundle, with a calibration of its confidences. Needs neither torch nor onnx."""

from __future__ import annotations

from kdcompress_export.decoder_tuning.calibration import CalibrationReport
from kdcompress_export.decoder_tuning.options import TuneOptions
from kdcompress_export.decoder_tuning.report import COLUMNS, TriedDecoder, TuneReport
from kdcompress_export.decoder_tuning.tune import tune_decoder

__all__ = ["COLUMNS", "CalibrationReport", "TriedDecoder", "TuneOptions", "TuneReport", "tune_decoder"]
