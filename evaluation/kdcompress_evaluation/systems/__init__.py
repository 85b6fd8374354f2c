"""Systems under test: our bundles, Hugging Face exports, sherpa-onnx models, texts of other systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress_evaluation.systems import bundle, huggingface, predictions, seq2seq, sherpa
from kdcompress_evaluation.systems.base import Item, LiveStream, Recognised, System, Word
from kdcompress_runtime.errors import BundleError, BundleNotFoundError

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from kdcompress_evaluation.decoding import Decoding
    from kdcompress_evaluation.variants import VariantInfo

__all__ = ["KINDS", "Item", "LiveStream", "Recognised", "System", "Word", "describe", "open_system"]

KINDS: dict[str, ModuleType] = {
    "bundle": bundle,
    "seq2seq": seq2seq,  # before the CTC models of Hugging Face, which are folders with a config.json, too
    "huggingface": huggingface,
    "sherpa-onnx": sherpa,
    "predictions": predictions,
}
"""Each has ``matches(path)``, ``describe(path, precisions)`` and ``load(info, decoding)``; the first match counts."""


def describe(path: Path, precisions: str) -> list[VariantInfo]:
    """List the variants that lie at a path, without names that are unique.

    Args:
        path: folder or file.
        precisions: ``default`` (one), ``all``, or the name of one precision.

    Raises:
        BundleError: nothing that could be evaluated lies there, or it cannot be used.
        KdcompressError: see the modules of the kinds.
    """
    if not path.exists():
        raise BundleNotFoundError(f"{path} does not exist; check the path")
    kind = next((kind for kind in KINDS.values() if kind.matches(path)), None)
    if kind is None and path.suffix == ".zip":
        kind = bundle  # which says what is wrong with it
    if kind is not None:
        found: list[VariantInfo] = kind.describe(path, precisions)
        return found
    raise BundleError(
        f"{path} is nothing that can be evaluated: no bundle of kdcompress (bundle.json), no Hugging Face export "
        "(config.json and ONNX files), no sherpa-onnx model (tokens.txt and ONNX files), no .jsonl with predictions"
    )


def open_system(info: VariantInfo, decoding: Decoding) -> System:
    """Load a variant, with one thread.

    Raises:
        KdcompressError: it cannot be used, or needs a package that is not installed.
    """
    system: System = KINDS[info.kind].load(info, decoding)
    return system
