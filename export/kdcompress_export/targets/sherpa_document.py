"""What ``sherpa-onnx.json`` is called and holds, and which bundles can be made into such a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress_export.errors import TargetError
from kdcompress_export.inputs import inputs_for
from kdcompress_export.prove import FLOAT
from kdcompress_export.targets.retarget import TARGET_KEY
from kdcompress_export.targets.sherpa_features import HIGH_FREQ, LOW_FREQ, SHIFT_MS, WINDOW_MS
from kdcompress_export.targets.sherpa_layout import LATE_FEATURES, SUBSAMPLING
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcompress_runtime.bundle import Bundle, BundleMetadata
    from kdcompress_runtime.vocabulary import Vocabulary

NAME = "sherpa-onnx"
DOCUMENT = "sherpa-onnx.json"
FORMAT_VERSION = 1
_BYTE_PIECES = 0xC6
"""Highest byte of sherpa-onnx's own alphabet for byte pieces, by which it recognises such a vocabulary."""


def file_names(precision: str) -> dict[str, str]:
    """Names of the two models of a precision."""
    middle = "" if precision == FLOAT else f".{precision}"
    return {kind: f"{kind}{middle}.onnx" for kind in ("offline", "streaming")}


def check_bundle(bundle: Bundle) -> None:
    """Refuse what sherpa-onnx would feed, time or spell wrongly.

    Raises:
        TargetError: naming everything that stands against it.
    """
    fed = inputs_for(bundle.metadata.input)
    if not fed.can_stream:
        raise TargetError(f"{bundle.path} cannot be made into a sherpa-onnx folder: it takes {fed.items}, not audio")
    problems = [*_wrong_model(bundle.metadata), *_wrong_frontend(bundle.metadata), *_wrong_tokens(bundle.vocabulary)]
    if problems:
        raise TargetError(f"{bundle.path} cannot be made into a sherpa-onnx folder: {'; '.join(problems)}")


def _wrong_model(metadata: BundleMetadata) -> Iterator[str]:
    target = metadata.provenance.get(TARGET_KEY, "onnxruntime")
    if target != "onnxruntime":
        yield f"it is a bundle for {target}; give the one it was made from"
    if not metadata.streaming:
        yield "its model hears whole recordings and cannot stream; distil a student from it"
    if metadata.subsampling_factor != SUBSAMPLING:
        factor = metadata.subsampling_factor
        yield f"its subsampling_factor is {factor}, and sherpa-onnx times every model by {SUBSAMPLING}"


def _wrong_frontend(metadata: BundleMetadata) -> Iterator[str]:
    frontend, rate = metadata.frontend, metadata.input.sample_rate or 0
    kind = frontend.get("kind", "not described")
    if kind != "log_mel":
        yield f"its frontend is {kind}; sherpa-onnx feeds Kaldi's log-mel features, which a log_mel frontend computes"
        return
    high = frontend.get("high_freq", 0.0)
    fixed: dict[str, tuple[Any, float]] = {
        "window_ms": (frontend.get("window_ms"), WINDOW_MS),
        "frame_shift_ms": (frontend.get("frame_shift_ms"), SHIFT_MS),
        "low_freq": (frontend.get("low_freq"), LOW_FREQ),
        "high_freq": (high - rate / 2 if high > 0 else high, HIGH_FREQ),
    }
    for name, (found, wanted) in fixed.items():
        if found != wanted:
            yield f"its frontend has {name} {found}, and sherpa-onnx computes features with {wanted:g}, which is fixed"
    if rate % 100:
        yield f"10 ms are no whole number of samples at {rate} Hz, so times would drift"
    late = frontend.get("late_features")
    if late != LATE_FEATURES:
        yield f"bundle.json says that features come {late} late, not {LATE_FEATURES}; export the run again"


def _wrong_tokens(vocabulary: Vocabulary) -> Iterator[str]:
    for symbol in vocabulary.symbols:
        if not symbol or any(letter.isspace() for letter in symbol):
            yield f"the token {symbol!r} holds white space, which ends sherpa-onnx's process; write {WORD_SEPARATOR}"
        elif symbol == "SIL":
            yield "sherpa-onnx leaves out the token SIL; give it another name"
    spelled = "".join(symbol.removeprefix(WORD_SEPARATOR) for symbol in vocabulary.symbols)
    if max(spelled.encode(), default=0) == _BYTE_PIECES:
        yield "its last letter is one of U+0180 to U+01BF: sherpa-onnx takes such a vocabulary for byte pieces"
